"""The timestep curve: one pass gives every t, energy adds up, a teacher has one entry."""

import pytest
import torch
from torch import nn

from snnkd.cli.text import curve_rows
from snnkd.measure.curve import accuracy, measure_curve, running_means
from snnkd.measure.energy import energy_mj
from snnkd.measure.quality import quality
from snnkd.measure.result import make_result
from snnkd.models import Specification, build_network
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

T, WIDTH, CLASSES = 4, 4, 10
STEM, HEAD = 9 * 3 * WIDTH * 16 * 16, 4 * WIDTH * CLASSES


def network(kind="snn"):
    """Untrained, but its layers fire; float64, so that no rounding flips a spike."""
    torch.manual_seed(0)
    snn = kind == "snn"
    model = ResNetConfig(name="resnet8", width=WIDTH, T=T if snn else None)
    made = build_network(
        Specification(model=model, neuron=NeuronConfig() if snn else None, classes=CLASSES, shape=(3, 16, 16))
    )
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.4)
    return made.double().eval()


def data(count=11):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 16, 16, generator=generator, dtype=torch.float64), torch.randint(
        CLASSES, (count,), generator=generator
    )


def batches(size=4):
    images, labels = data()
    return zip(images.split(size), labels.split(size), strict=True)


@torch.inference_mode()
def test_one_pass_gives_every_t():
    made, (images, _) = network(), data()
    means = running_means(made(images, T).float())
    assert means.shape == (T, len(images), CLASSES)
    assert means.dtype == torch.float32
    for t in range(1, T + 1):
        alone = made(images, t)
        assert torch.allclose(made(images, T)[:t], alone, rtol=0, atol=1e-9)
        assert torch.allclose(means[t - 1], alone.mean(0).float(), atol=1e-5)
    assert not torch.allclose(means[0], means[-1], atol=1e-3)


@torch.inference_mode()
def test_entries_are_those_of_separate_runs():
    made, (images, labels) = network(), data()
    curve = measure_curve(made, batches(), T)
    assert [entry["t"] for entry in curve.entries] == [1, 2, 3, 4]
    assert curve.images == len(labels)
    for entry in curve.entries:
        alone = quality(made(images, entry["t"]).mean(0), labels)
        assert {key: entry[key] for key in alone} == pytest.approx(alone, abs=1e-5)
        shorter = measure_curve(made, batches(), entry["t"])
        assert shorter.entries[-1]["synops"] == entry["synops"]
        assert shorter.entries[-1]["energy_mj"] == entry["energy_mj"]


def test_energy_counts_the_stem_once_the_head_per_step_and_synops_so_far():
    entries = measure_curve(network(), batches(), T).entries
    synops = [entry["synops"] for entry in entries]
    assert 0 < synops[0] < synops[1] < synops[2] < synops[3]
    for t, entry in enumerate(entries, 1):
        assert entry["energy_mj"] == pytest.approx(
            (4.6 * (STEM + t * HEAD) + 0.9 * entry["synops"]) * 1e-9, rel=1e-12
        )


def test_energy_by_hand():
    """A million MACs and a million SynOps: 4.6 and 0.9 microjoule."""
    assert energy_mj(1e6) == pytest.approx(4.6e-3)
    assert energy_mj(0, 1e6) == pytest.approx(0.9e-3)


def test_batch_size_changes_nothing():
    whole, parts = measure_curve(network(), batches(11), T), measure_curve(network(), batches(2), T)
    assert whole.rate == parts.rate
    assert whole.rate_per_layer == parts.rate_per_layer
    for one, other in zip(whole.entries, parts.entries, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_rate_is_weighted_by_neurons():
    curve = measure_curve(network(), batches(), T)
    neurons = {"body.act": 4 * 256}
    for i, size in enumerate((4 * 256, 8 * 64, 16 * 16)):
        neurons |= {f"body.stages.{i}.0.act1": size, f"body.stages.{i}.0.act2": size}
    assert curve.rate_per_layer.keys() == neurons.keys()
    weighted = sum(curve.rate_per_layer[name] * n for name, n in neurons.items()) / sum(neurons.values())
    assert curve.rate == pytest.approx(weighted)
    assert 0 < curve.rate < 1


def test_an_ann_has_one_entry_of_macs():
    curve = measure_curve(network("ann"), batches(), 1)
    (entry,) = curve.entries
    blocks = 2 * 9 * 16 * 256 + (9 * 32 + 9 * 64 + 32) * 64 + (9 * 128 + 9 * 256 + 128) * 16
    assert entry["t"] == 1
    assert entry["synops"] is curve.rate is curve.rate_per_layer is None
    assert entry["energy_mj"] == pytest.approx(4.6e-9 * (STEM + blocks + HEAD), rel=1e-12)


def test_accuracy_is_the_last_entrys():
    assert accuracy(network(), batches(), T) == pytest.approx(
        measure_curve(network(), batches(), T).entries[-1]["top1"]
    )


def test_the_network_is_measured_in_eval_mode_and_checked_between_batches():
    made, calls = network().train(), []
    before = {name: value.clone() for name, value in made.state_dict().items()}
    measure_curve(made, batches(), T, lambda: calls.append(1))
    assert len(calls) == 3
    assert not made.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("kind", ["snn", "ann"])
def test_result_and_table(kind):
    result = make_result(
        measure_curve(network(kind), batches(), T if kind == "snn" else 1),
        {"run": "r", "stage": "distill", "teacher": None, "trained_T": T if kind == "snn" else None},
    )
    measured = {
        "images",
        "T",
        "curve",
        "rate",
        "rate_per_layer",
        "dynamic",
        "ann",
        "energy_convention",
        "energy_note",
        "top1_per_class",
        "balanced_top1",
        "confusion",
    }
    assert result.keys() == {"schema", "run", "stage", "teacher", "trained_T"} | measured
    assert (result["dynamic"] is None) == (result["energy_note"] is None) == (kind == "ann")
    assert (result["T"], result["images"]) == (len(result["curve"]), 11)
    assert (result["energy_convention"]["pj_per_mac"], result["energy_convention"]["pj_per_synop"]) == (
        4.6,
        0.9,
    )
    rows = curve_rows(result)
    assert len(rows) == 1 + result["T"]
    assert {len(row) for row in rows} == {7 if kind == "snn" else 6}, "an ANN has no t"
    assert (rows[1][-2] == "-") == (kind == "ann")
