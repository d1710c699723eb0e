"""A step as a GPU would make it, where there is none: torch's fake tensors have its device, shapes and types,
and no numbers.

They refuse tensors of different devices in one operation, and every look at a value. The fetch back, which
autograd
refuses without a driver, is left to test_on_a_gpu.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.neurons import NEURONS, build_neuron
from snnkd.data.augment import geometry, operations, policies
from snnkd.data.augment.rng import BatchRng
from snnkd.data.loader import TrainBatches
from snnkd.data.split import Split
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.models.activation import ReLU, SpikingLayer, make_neuron
from snnkd.recipe import resolve_stage
from snnkd.schema.augment import MIXING, OPERATIONS
from snnkd.schema.run import DistillRecipe

GPU = torch.device("cuda", 0)
B = 8
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: test_on_a_gpu.py")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    # what autocast asks
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    for kept in (
        geometry._source_indices,
        operations._table,
    ):  # no other test may find tensors without numbers there
        kept.cache_clear()


def subject(loss: str, *settings: str, model: str = "resnet8") -> Subject:
    words = ["data.size=8", "data.channels=3", "data.augment=[]", "model.width=4", *settings]
    recipe = resolve_stage("glyphs", "distill", loss=loss, model=model, T=3, batch_size=B, settings=words)
    assert isinstance(recipe, DistillRecipe)
    with unset_fake_temporarily():
        return make_subject(make_stage(recipe, torch.device("cpu")), "off")


def moved(module: nn.Module) -> nn.Module:
    """The module with weights without numbers on the GPU."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(
                    torch.empty_like(weight, device=GPU), weight.requires_grad
                )
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer, device=GPU)
    return module


def seen_on_a_gpu(of: Subject) -> tuple[BatchOutputs, Loss]:
    """What a step of it sees."""
    moved(of.train_step)
    assert of.stage.teacher is not None
    moved(of.stage.teacher.network)
    seen: list[BatchOutputs] = []
    of.objective.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images, labels = torch.empty(B, 3, 8, 8, device=GPU), torch.empty(B, dtype=torch.int64, device=GPU)
    loss = of.loss(images, labels)
    return seen[0], loss


@pytest.mark.parametrize("loss", [entry.name for entry in LOSSES])
def test_every_loss_stays_on_the_device(fake: FakeTensorMode, loss: str) -> None:
    seen, found = seen_on_a_gpu(subject(loss, "execution.precision=bf16"))
    assert isinstance(found.total, FakeTensor)
    assert {
        x.device for x in (seen.student, found.total, found.value, found.logits, *found.scalars.values())
    } == {GPU}
    assert {seen.student.dtype, found.total.dtype} == {torch.float32}, (
        "bf16 logits would have steps of 1/16 above 8"
    )


def test_what_is_left_behind_or_looked_at_is_noticed(fake: FakeTensorMode) -> None:
    here, there = torch.ones(2), torch.ones(2, device=GPU)
    with pytest.raises(RuntimeError, match="on the same device"):
        here + there
    with pytest.raises(RuntimeError, match="_local_scalar_dense"):
        float(there.sum())


class Casts(TorchDispatchMode):
    """Notes to what types tensors of more than a number are converted."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.dtype] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and made.numel() > 1:
            self.found.append(made.dtype)
        return made


FUSED = ("lif", "plif", "if", "qif", "eif", "izhikevich")


@pytest.mark.parametrize("name", [entry.name for entry in NEURONS])
def test_fused_neurons_read_bf16_as_it_is(fake: FakeTensorMode, name: str) -> None:
    """A copy of their input in float32, and of their spikes, would be more memory to move than they move
    themselves."""
    with unset_fake_temporarily():
        layer = make_neuron(build_neuron(name), 3)
    moved(layer)
    x = torch.empty(3 * B, 4, 6, 6, dtype=torch.bfloat16, device=GPU).contiguous(
        memory_format=torch.channels_last
    )
    with Casts() as casts, torch.no_grad():
        spikes = layer(x, 3)
    assert (spikes.dtype, spikes.device, spikes.shape) == (x.dtype, GPU, x.shape)
    assert spikes.is_contiguous(memory_format=torch.channels_last)
    assert bool(casts.found) == (name not in FUSED), "those that run timestep by timestep convert"


def test_between_the_layers_all_is_bf16(fake: FakeTensorMode) -> None:
    of = subject("kl", "execution.precision=bf16", model="resnet20")
    found: dict[str, set[torch.dtype]] = {}

    def note(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
        found.setdefault(type(module).__name__, set()).update(x.dtype for x in (given[0], made))

    assert of.stage.teacher is not None
    for network in (of.network, of.stage.teacher.network):
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm2d, SpikingLayer, ReLU)):
                module.register_forward_hook(note)
    seen_on_a_gpu(of)
    assert found.keys() == {"BatchNorm2d", "LIF", "ReLU"}
    assert all(types == {torch.bfloat16} for types in found.values()), found


@pytest.mark.parametrize("mixed", [False, True])
def test_every_augmentation_stays_on_the_device(
    fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch, mixed: bool
) -> None:
    # real numbers, where something is decided by them on the CPU
    decided = [(BatchRng, name) for name in ("choices", "fractions", "beta")]
    for where, name in [
        *decided,
        *((policies, name) for name in ("autoaugment", "randaugment", "trivialaugment")),
    ]:
        monkeypatch.setattr(where, name, _really(getattr(where, name)))
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: x)  # fake tensors cannot be pinned
    names = [name for name in OPERATIONS if (name in MIXING) == mixed]
    settings = [f"data.augment=[{', '.join(names)}]", "data.channels=3"]
    chosen = resolve_stage("glyphs", "teach", settings=settings).data.augment
    with unset_fake_temporarily():
        split = Split(torch.zeros(4 * B, 3, 32, 32, dtype=torch.uint8), torch.zeros(4 * B, dtype=torch.int64))
        batches = TrainBatches(split, B, chosen, 0, torch.device("cpu"), 10)
        batches.batch(0, 0)  # tables of magnitudes are made once, on the CPU
    batches._split = split.to(GPU)
    batches._colour = None if batches._colour is None else batches._colour.to(GPU)
    images, labels = batches.batch(0, 1)
    assert (images.device, images.shape, images.dtype) == (GPU, (B, 3, 32, 32), torch.float32)
    assert (labels.device, labels.shape) == (GPU, (B, 10) if mixed else (B,))


def _really(function: Any) -> Any:
    def really(*given: Any) -> Any:
        with unset_fake_temporarily():
            return function(*given)

    return really
