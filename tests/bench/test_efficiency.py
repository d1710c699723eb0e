"""FLOPs of a step's convolutions by hand, and what a network without any reports."""

import pytest
import torch
from torch import nn

from snnkd.bench.efficiency import _convolution_flops, measure_efficiency
from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.recipe import resolve_stage
from snnkd.schema.run import DistillRecipe


def subject(*settings: str) -> Subject:
    settings = ("model.width=2", "data.size=8", "train.batch_size=4", *settings)
    recipe = resolve_stage("glyphs", "distill", settings=settings)
    assert isinstance(recipe, DistillRecipe)
    return make_subject(make_stage(recipe, torch.device("cpu")), "off")


def _macs(network: nn.Module, size: int) -> tuple[int, int]:
    """Of an image: all convolutions, and the first alone."""
    macs: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, _, output: macs.append(
                    module.weight.numel() * output.shape[2] * output.shape[3] * (len(output) // size)
                )
            )
    with torch.no_grad():
        network(torch.zeros(size, 1, 8, 8))
    return sum(macs), macs[0]


@pytest.mark.parametrize("T", [1, 3])
def test_flops_of_a_step(T: int) -> None:
    """The teacher forward once; the student forward and two gradients, of which the stem has one and one
    timestep."""
    subject_ = subject(f"model.T={T}", "data.augment=[]")
    assert subject_.teacher.network is not None
    teacher, _ = _macs(subject_.teacher.network, 1)
    student, stem = _macs(subject_.network, 1)
    assert _convolution_flops(subject_) == 2 * 4 * (teacher + 2 * stem + 3 * (student - stem))


def test_a_network_without_convolutions_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnkd.bench.efficiency._convolution_flops", lambda subject: 0)
    assert measure_efficiency(subject(), 2) == {}
