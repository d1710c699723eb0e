"""Each way to be faster or smaller computes what the plain way computes, and none waits for a device inside
an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Cli
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.neurons import NEURONS
from snnkd.models.activation import LIF
from snnkd.models.blocks import enable_recompute
from snnkd.recipe import resolve_stage
from snnkd.schema.augment import OPERATIONS
from snnkd.schema.neuron import NeuronConfig
from snnkd.schema.run import DistillRecipe, ExecutionConfig
from snnkd.training import compiling
from snnkd.training.compiling import Mode, decide
from snnkd.training.ema import EMA

CPU = torch.device("cpu")
# torch's compiler looks at the attribute itself
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)


compiles = pytest.mark.skipif(compiling.compiler() is None, reason="no C++ compiler here")


def subject(*settings: str, compile: Mode = "off", loss: str = "hta-kl", T: int = 2) -> Subject:
    recipe = resolve_stage(
        "glyphs",
        "distill",
        loss=loss,
        T=T,
        batch_size=8,
        settings=["data.size=8", "model.width=4", *settings],
    )
    assert isinstance(recipe, DistillRecipe)
    return make_subject(make_stage(recipe, CPU), compile)


def losses(of: Subject, steps: int = 4) -> list[float]:
    return [
        sum(float(loss.value) for loss in parts) / len(parts) for parts in (of.step() for _ in range(steps))
    ]


@compiles
def test_compiled_neurons_change_nothing_but_last_digits() -> None:
    # T = 3 and this tau are compiled nowhere else in the suite
    plain, fast = (losses(subject("neuron.tau=2.5", compile=mode, T=3)) for mode in ("off", "neurons"))
    assert fast == pytest.approx(plain, abs=1e-4)


@compiles
def test_compiled_neurons_give_the_same_spikes_and_gradients() -> None:
    layer = LIF(NeuronConfig(surrogate="atan"))
    drive = [
        torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0)).mul(2).requires_grad_()
        for _ in range(2)
    ]
    spikes = []
    for x, on in zip(drive, (False, True), strict=True):
        layer.use_compiled(on)
        spikes.append(layer(x, 3))
        spikes[-1].square().cumsum(0).sum().backward()
    assert spikes[0].equal(spikes[1])
    assert drive[0].grad is not None
    assert torch.allclose(drive[0].grad, drive[1].grad, atol=1e-6)  # type: ignore[arg-type]


@compiles
def test_the_whole_network_compiled_is_the_network() -> None:
    """With a loss that looks at features, and the smallest student, for the time it takes."""
    plain, fast = (
        losses(subject("model.width=2", compile=mode, loss="kdsnn-feature"), 2) for mode in ("off", "on")
    )
    assert fast == pytest.approx(plain, abs=1e-4)


def test_a_compiler_that_fails_is_no_bug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(network: object, on: bool) -> None:
        raise TorchDynamoException("no\nluck")

    monkeypatch.setattr("snnkd.training.compiling.compile_neurons", fail)
    ended = cli("distill", *SMALL, "--loss", "none", "--out", "run")
    assert ended.code == 4
    assert ended.complaint.endswith(
        "torch.compile failed (TorchDynamoException: no); set execution.compile=off"
    )


def test_a_compiler_that_fails_by_an_assertion_is_no_bug_either(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch 2.14 does on neurons that are a loop over timesteps."""
    place = Path("torch/_dynamo/broken.py")
    place.parent.mkdir(parents=True)
    place.write_text("def fail(network, on):\n    raise AssertionError('not called on root')\n")
    names: dict[str, Any] = {}
    exec(compile(place.read_text(), str(place.resolve()), "exec"), names)
    monkeypatch.setattr("snnkd.training.compiling.compile_neurons", names["fail"])
    ended = cli("distill", *SMALL, "--loss", "none", "--out", "run")
    assert ended.code == 4
    assert "torch.compile failed (AssertionError: not called on root)" in ended.complaint


def test_bf16_is_near() -> None:
    plain, half = (
        losses(subject(f"execution.precision={precision}"), 2) for precision in ("float32", "bf16")
    )
    assert half == pytest.approx(plain, rel=0.05)
    assert half != plain


def test_activation_checkpointing_computes_the_same_bytes_and_statistics() -> None:
    plain, small = subject(loss="kl"), subject(loss="kl")
    assert enable_recompute(small.network) == 3
    assert losses(small) == losses(plain)
    ours, theirs = small.network.state_dict(), plain.network.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    assert int(ours["body.stages.0.0.norm1.num_batches_tracked"]) == 4


def test_activation_checkpointing_keeps_less() -> None:
    def kept(of: Subject) -> int:
        total = 0

        def pack(x: Tensor) -> Tensor:
            nonlocal total
            total += x.numel()
            return x

        images, _ = of.batch()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            of.network(images)
        return total

    plain, small = subject(), subject()
    enable_recompute(small.network)
    assert kept(small) < 0.5 * kept(plain)


def frozen_norm(of: Subject) -> Subject:
    """Micro-batches and whole batches differ for a norm that looks at the batch; not for this one."""
    of.network.requires_grad_(True)
    for module in of.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return of


@pytest.mark.parametrize("loss", ["hta-kl", "tet", "kdsnn-feature"])
def test_accumulated_micro_batches_are_the_batch(loss: str) -> None:
    whole, parts = frozen_norm(subject(loss=loss)), frozen_norm(subject("execution.accumulate=4", loss=loss))
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)


def test_accumulated_micro_batches_of_mixed_images_are_the_batch() -> None:
    mixed = "data.augment=[crop, cutmix, mixup]"
    whole, parts = frozen_norm(subject(mixed)), frozen_norm(subject(mixed, "execution.accumulate=4"))
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)


@pytest.mark.parametrize("loss", ["dist", "w2s", "bkdsnn", "ckdsnn"])
def test_what_looks_across_the_batch_is_not_cut(cli: Cli, loss: str) -> None:
    ended = cli("distill", "--loss", loss, "--set", "execution.accumulate=2")
    assert ended.code == 2
    assert "compares samples of a batch; set execution.accumulate to 1, not 2" in ended.complaint


class NoWaiting(TorchDispatchMode):
    """Fails where a value of a tensor is fetched, which on a GPU waits for all that was asked of it."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(function), "a value is fetched inside the step"
        assert "nonzero" not in str(function), "a size that depends on values is fetched inside the step"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", [entry.name for entry in LOSSES])
def test_no_step_waits_for_the_device(loss: str) -> None:
    of = subject("data.augment=[crop,flip]", loss=loss)
    of.step()
    with NoWaiting():
        (found,) = of.step()
    assert torch.isfinite(found.value)


def test_the_average_does_not_wait_for_the_device() -> None:
    of = subject()
    average = EMA(of.network, 0.9)
    of.step()
    with NoWaiting():
        average.update(of.network, 1)
        average.update(of.network, 2)


def test_no_augmentation_waits_for_the_device() -> None:
    every = f"data.augment=[{', '.join(OPERATIONS)}]"
    of = subject("data.channels=3", every, loss="kl")
    of.step()
    with NoWaiting():
        (found,) = of.step()
    assert torch.isfinite(found.value)


@pytest.mark.parametrize(
    "fetch", [Tensor.item, float, bool, Tensor.nonzero], ids=["item", "float", "bool", "nonzero"]
)
def test_waiting_would_be_noticed(fetch: Any) -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="inside the step"):
        fetch(torch.ones(1))


def test_the_loop_looks_at_values_only_where_it_checks_them(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once more than the steps of each epoch; on a GPU the checks after every step are left out."""
    from snnkd.training.epoch_metrics import EpochMetrics

    asked = []
    honest = EpochMetrics.check_finite
    monkeypatch.setattr(
        EpochMetrics, "check_finite", lambda self, epoch: asked.append(self.steps) or honest(self, epoch)
    )
    ended = cli("distill", *SMALL, "--loss", "none", "--T", 1, "--out", "run")
    assert ended.code == 0, ended.err
    assert asked == [1, 2, 3, 4, 5, 6, 6] * 2, (
        "after every step on a CPU, where it costs nothing, and at the end of the epoch"
    )


@compiles
def test_auto_compiles_neurons_where_the_run_is_long_enough() -> None:
    network = subject().network
    count = compiling.count_neurons(network)
    assert count == sum((4 * 64, 4 * 64, 4 * 64, 8 * 16, 8 * 16, 16 * 4, 16 * 4))
    enough = int(compiling.MIN_SAVED / (compiling.SECONDS_SAVED * count * 2)) + 1
    auto, off = ExecutionConfig(), ExecutionConfig(compile="off")
    assert [decide(auto, network, images, CPU) for images in (enough - 2, enough)] == ["off", "neurons"]
    assert decide(off, network, 100 * enough, CPU) == "off"
    assert decide(ExecutionConfig(compile="on"), network, 1, CPU) == "on"
    assert decide(auto, network, enough, torch.device("cuda")) == "off"


@compiles
@pytest.mark.parametrize("name", [entry.name for entry in NEURONS])
def test_auto_compiles_what_spikingjelly_has_as_one_function(name: str) -> None:
    network = subject(f"neuron.name={name}").network
    fused = name in ("lif", "plif", "if", "qif", "eif", "izhikevich")
    assert decide(ExecutionConfig(), network, 10**12, CPU) == ("neurons" if fused else "off")
    assert decide(ExecutionConfig(compile="neurons"), network, 1, CPU) == "neurons"


def test_without_a_compiler_auto_is_off_and_on_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert decide(ExecutionConfig(), subject().network, 10**12, CPU) == "off"
    ended = cli("distill", *SMALL, "--loss", "none", "--set", "execution.compile=neurons", "--out", "run")
    assert ended.code == 2
    assert "needs a C++ compiler" in ended.complaint


@compiles
def test_the_decision_is_kept_when_the_run_continues(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["distill", *SMALL, "--loss", "none", "--T", 2, "--out", "run"]
    monkeypatch.setattr(compiling, "MIN_SAVED", 0.0)
    assert cli(*words, "--max-time", "0s").code == 75
    monkeypatch.setattr(compiling, "MIN_SAVED", 1e9)
    found = []
    honest = compiling.compile_neurons
    monkeypatch.setattr(
        "snnkd.training.compiling.compile_neurons",
        lambda network, on: found.append(on) or honest(network, on),
    )
    assert cli(*words).code == 0
    assert found == [True, False], "and plain again to be measured"
    other = cli(*words[:-1], "other", "--max-time", "0s")
    assert other.code == 75
    refused = cli(*words[:-1], "other", "--set", "execution.compile=on")
    assert refused.code == 2
    assert "started with compile = 'off', here it is 'on'" in refused.complaint


def test_the_average_follows_its_formula_and_is_the_result(cli: Cli) -> None:
    of = subject("train.ema=0.75", loss="none")
    average = EMA(of.network, 0.75)
    wanted: Tensor | None = None
    for n in range(1, 40):
        of.step()
        average.update(of.network, n)
        assert int(average.n_averaged) == n
        now = of.network.state_dict()["body.head.weight"].clone()
        d = min(0.75, n / (n + 9))
        wanted = now if wanted is None else d * wanted + (1 - d) * now
    held = average.module.state_dict()
    assert wanted is not None
    assert torch.allclose(held["body.head.weight"], wanted, atol=1e-6)
    now = of.network.state_dict()
    assert not held["body.norm.running_mean"].equal(now["body.norm.running_mean"]), (
        "statistics are averaged, too"
    )
    assert int(held["body.norm.num_batches_tracked"]) == int(now["body.norm.num_batches_tracked"]) == 39


def test_weights_that_layers_share_are_averaged_once() -> None:
    network: Any = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    average = EMA(network, 0.5)
    for n, value in ((1, 0.0), (2, 11.0)):
        nn.init.constant_(network[0].weight, value)
        average.update(network, n)
    assert torch.allclose(
        average.module.state_dict()["1.weight"], torch.tensor(9.0)
    )  # d is 2/11 at the second step


def test_an_averaged_run_stopped_after_every_step_ends_with_the_same_bytes(cli: Cli) -> None:
    words = ["distill", *SMALL, "--epochs", 1, "--loss", "none", "--T", 1, "--set", "train.ema=0.9"]
    assert cli(*words, "--out", "whole").code == 0
    for _ in range(20):
        stopped = cli(*words, "--out", "parts", "--max-time", "0s")
        assert stopped.code == 75
        if "before measuring" in stopped.err:
            break
    assert Path("parts/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    plain = cli(*words[:-2], "--out", "plain")
    assert plain.code == 0
    assert Path("plain/model.safetensors").read_bytes() != Path("whole/model.safetensors").read_bytes()
