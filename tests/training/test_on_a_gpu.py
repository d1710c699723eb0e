"""What only a GPU can show: the same losses, neurons and runs as on a CPU, and that no step waits. Skipped
where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli
from torch import Tensor

from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.neurons import NEURONS
from snnkd.environment import gpu_has_bf16
from snnkd.losses.hta_kl import hta_kl_with_stats
from snnkd.models.activation import SpikingLayer, make_neuron
from snnkd.recipe import resolve_stage
from snnkd.schema.run import DistillRecipe
from snnkd.training.compiling import Mode

DEVICE, CPU = torch.device("cuda"), torch.device("cpu")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    # torch's compiler looks at the attribute itself
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
DRAWN = {"bkdsnn", "ckdsnn", "enof"}
"""Losses that draw random numbers on the device: other ones than on a CPU."""


@pytest.fixture(autouse=True)
def _float32_means_float32() -> Iterator[None]:
    """And the same twice."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def subject(
    device: torch.device, *settings: str, loss: str = "hta-kl", compile: Mode = "off", T: int = 2
) -> Subject:
    words = ["data.size=8", "data.augment=[]", "model.width=4", "execution.precision=float32", *settings]
    recipe = resolve_stage("glyphs", "distill", loss=loss, T=T, batch_size=16, settings=words)
    assert isinstance(recipe, DistillRecipe)
    return make_subject(make_stage(recipe, device), compile)


def losses(of: Subject, steps: int = 3) -> list[float]:
    return [float(of.step()[0].value) for _ in range(steps)]


@pytest.mark.parametrize("loss", [entry.name for entry in LOSSES])
def test_every_loss_is_that_of_a_cpu(loss: str) -> None:
    """As near as a spike more or less lets them be; one step, before they part."""
    (ours,), (theirs,) = (losses(subject(device, loss=loss), 1) for device in (DEVICE, CPU))
    assert ours == pytest.approx(theirs, rel=0.5 if loss in DRAWN else 0.02, abs=1e-3)


@pytest.mark.parametrize(
    "settings", [[], ["execution.precision=bf16"], ["data.augment=[crop, autoaugment, cutout]"]]
)
@pytest.mark.parametrize("loss", [entry.name for entry in LOSSES])
def test_no_step_waits_for_the_device(loss: str, settings: list[str]) -> None:
    of = subject(DEVICE, "data.channels=3", *settings, loss=loss)
    losses(of, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        (found,) = of.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(found.value)


@pytest.mark.parametrize("head", ["top1", "strict", "cover"])
def test_hta_kl_with_ties_is_that_of_a_cpu(head: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 12, generator=generator).mul(3)
    teacher[:32] = teacher[:32].div(2).round()
    found = []
    for device in (DEVICE, CPU):
        logits = student.to(device).requires_grad_()
        loss, stats = hta_kl_with_stats(logits, teacher.to(device), temperature=2.0, head=head)  # type: ignore[arg-type]
        loss.backward()
        assert logits.grad is not None
        found.append([x.detach().cpu() for x in (loss, logits.grad, *stats.values())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def run_of(layer: SpikingLayer, x: Tensor, T: int) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    spikes = layer(x, T)
    spikes.float().square().cumsum(0).sum().backward()
    assert x.grad is not None
    return spikes.detach().cpu(), x.grad.cpu()


@pytest.mark.parametrize("name", [entry.name for entry in NEURONS])
def test_every_neuron_is_that_of_a_cpu(name: str) -> None:
    T = 4
    config = resolve_stage("glyphs", "distill", loss="none", neuron=name, T=T).neuron  # type: ignore[union-attr]
    torch.manual_seed(0)
    layer = make_neuron(config, T)
    x = torch.randn(T * 8, 3, 5, 5, generator=torch.Generator().manual_seed(0)).mul(2)
    theirs, their_gradient = run_of(layer, x, T)
    ours, our_gradient = run_of(layer.to(DEVICE), x.to(DEVICE), T)
    assert 0 < theirs.mean() < 1
    assert (ours != theirs).double().mean() < 1e-3, (
        "a membrane that rounding moves over its threshold is rare"
    )
    near = torch.isclose(our_gradient, their_gradient, rtol=1e-3, atol=1e-4).double().mean()
    assert near > 0.99


@pytest.mark.parametrize("mode", ["neurons", "on"])
def test_compiled_it_computes_the_same(mode: Mode) -> None:
    plain, fast = losses(subject(DEVICE)), losses(subject(DEVICE, compile=mode))
    assert fast == pytest.approx(plain, rel=0.02)


def test_bf16_is_near_and_is_the_default() -> None:
    plain, half, auto = (
        losses(subject(DEVICE, f"execution.precision={key}")) for key in ("float32", "bf16", "auto")
    )
    assert half == pytest.approx(plain, rel=0.05)
    assert half != plain
    assert auto == pytest.approx(half if gpu_has_bf16(DEVICE) else plain, rel=1e-3)


def test_a_run_is_stopped_continued_and_measured_on_both(cli: Cli) -> None:
    on = ["--device", DEVICE.type]
    taught = cli("teach", *SMALL, *on, "--epochs", 4, "--out", "teacher")
    assert taught.code == 0, taught.err
    words = ["distill", *SMALL, *on, "--teacher", "teacher", "--allow-weak-teacher", "--T", 2]
    assert cli(*words, "--out", "whole").code == 0
    for _ in range(5):
        assert cli(*words, "--out", "parts", "--max-time", "0s").code == 75
    assert cli(*words, "--out", "parts").code == 0
    whole, parts = (
        [json.loads(line)["loss"] for line in Path(f"{run}/metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    )
    assert parts == pytest.approx(whole, rel=0.05)
    assert json.loads(Path("whole/result.json").read_text())["hardware"]["device"] == DEVICE.type
    here, there = (cli("eval", "whole", "--device", device, "--json").json for device in (DEVICE.type, "cpu"))
    for ours, theirs in zip(here["curve"], there["curve"], strict=True):
        assert ours["top1"] == pytest.approx(theirs["top1"], abs=3)


def test_the_baseline_loop_and_the_ablations_run(cli: Cli) -> None:
    words = ["--batch-size", 8, "--T", 2, "--set", "data.size=8", "--set", "model.width=4", "--rounds", 2]
    ended = cli("bench", *words, "--device", DEVICE.type, "--baseline", "--ablations", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["hardware"]["device"] == DEVICE.type
    assert ended.json["baseline"]["ratio"]["median"] > 0
