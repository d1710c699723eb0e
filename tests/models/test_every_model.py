"""Every network of the catalogue, as ANN and as SNN: shapes, gradients, features, files, no state.

That each one learns is too long for a test: one of each kind is trained here, of the others the stored
results are checked.
"""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, tiers
from torch import nn

import snnkd
from snnkd.catalog.models import MODELS
from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import LIF
from snnkd.models.blocks import enable_recompute
from snnkd.models.features import Features, feature_shapes
from snnkd.models.files import save_network
from snnkd.recipe import resolve_stage
from snnkd.schema.neuron import NeuronConfig
from snnkd.schema.run import DistillRecipe

NAMES = [entry.name for entry in MODELS if not entry.argument]
DEEPER = {"resnet32", "resnet56", "resnet110", "resnet32x4"}
"""Networks that only repeat the blocks of another one."""
EVERY = tiers(NAMES, [name for name in NAMES if name not in DEEPER])
KINDS = ["ann", "snn"]
SHAPE = (1, 16, 16)


def build(name: str, kind: str, T: int = 2, **neuron: Any) -> Network:
    torch.manual_seed(0)
    snn = kind == "snn"
    model = MODELS[name].options(name=name, T=T if snn else None, **MODELS[name].small)
    return build_network(
        Specification(model=model, neuron=NeuronConfig(**neuron) if snn else None, classes=5, shape=SHAPE)
    )


def awake(network: Network) -> Network:
    """With norms that let every neuron fire and every block take part, as training would."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
            nn.init.constant_(module.bias, 0.5)
    return network


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
def test_a_gradient_reaches_every_parameter(name: str, kind: str) -> None:
    network = awake(build(name, kind)).train()
    logits = network(images(8))
    assert logits.shape == (2 if kind == "snn" else 1, 8, 5)
    torch.nn.functional.cross_entropy(logits.mean(0), torch.arange(8) % 5).backward()
    without = [
        key
        for key, p in network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not without


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_an_answer_depends_on_its_image_alone(name: str, kind: str) -> None:
    """In eval mode neither on the batch nor on what was asked before; equal seeds give equal networks."""
    network = awake(build(name, kind)).eval()
    first = network(images())
    assert torch.equal(network(images()), first)
    assert torch.equal(awake(build(name, kind)).eval()(images()), first)
    alone = torch.cat([network(image[None]) for image in images()], 1)
    assert torch.allclose(alone, first, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first[:, 0], first[:, 1], atol=1e-5), "and it does depend on the image"


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_more_timesteps_do_not_change_the_earlier_ones(name: str) -> None:
    network = awake(build(name, "snn")).eval()
    assert torch.allclose(network(images(), 4)[:2], network(images(), 2), atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_ann_and_snn_are_one_topology(name: str) -> None:
    ann, snn = build(name, "ann"), build(name, "snn")
    assert [(key, t.shape) for key, t in ann.state_dict().items()] == [
        (key, t.shape) for key, t in snn.state_dict().items()
    ]
    assert any(isinstance(module, LIF) for module in snn.modules())
    assert not any(isinstance(module, LIF) for module in ann.modules())


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_features_that_the_losses_take(name: str) -> None:
    network = awake(build(name, "snn")).eval()
    shapes = feature_shapes(network, SHAPE)
    stages = [key for key in shapes if key.startswith("stage")]
    assert stages == [f"stage{i + 1}" for i in range(len(stages))]
    assert all(len(shapes[stage]) == 3 for stage in stages)
    assert shapes["class_map"] == (5, *shapes[stages[-1]][1:])
    features = Features()
    logits = network(images(), None, features)
    assert torch.equal(logits, network(images()))
    assert all(len(value) == 2 * 3 for value in features.kept.values())
    head: nn.Module = network.body.head
    assert torch.allclose(head(features.kept["output"]).unflatten(0, (2, -1)), logits, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_a_real_valued_last_activation_is_only_one(name: str) -> None:
    plain, replaced = (
        {key for key, m in build(name, "snn", last=last).named_modules() if isinstance(m, LIF)}
        for last in ("spike", "relu")
    )
    assert replaced < plain
    assert len(plain - replaced) == 1


@pytest.mark.parametrize("name", EVERY)
def test_computing_blocks_again_changes_nothing(name: str) -> None:
    gradients = []
    for again in (False, True):
        network = awake(build(name, "snn")).train()
        if again:
            assert enable_recompute(network) > 0
        network(images(8)).square().sum().backward()
        statistics = [buffer.clone() for buffer in network.buffers()]
        gradients.append([*(p.grad for p in network.parameters()), *statistics])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_a_network_comes_back_from_its_files(name: str, kind: str) -> None:
    network = awake(build(name, kind)).eval()
    Path("saved").mkdir()
    save_network(Path("saved"), network, {})
    again = snnkd.load(Path("saved"))
    assert again.specification == network.specification
    assert torch.equal(again(images()), network(images()))
    assert torch.equal(pickle.loads(pickle.dumps(network))(images()), network(images()))


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_logits_are_float32_also_under_bf16(name: str) -> None:
    network = awake(build(name, "snn")).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images()).dtype == torch.float32


LEARN = [
    "--batch-size", 50, "--loss", "none", "--T", 2, "--set", "train.weight_decay=0",
    "--set", "data.classes=10",
    "--set", "data.train_images=1500", "--set", "data.test_images=200", "--set", "data.noise=0",
    "--set", "data.augment=[]",
]  # fmt: skip
WIDTH_8 = ["--epochs", 5, "--lr", 0.3, "--set", "model.width=8"]
LEARNERS = {
    "resnet8": WIDTH_8,
    "sew-resnet18": WIDTH_8,
    "vgg11": WIDTH_8,
    "spikformer": [
        "--epochs",
        5,
        "--lr",
        0.1,
        "--set",
        "model.dim=32",
        "--set",
        "model.depth=1",
        "--set",
        "model.heads=4",
    ],
}
"""One of each kind, 150 steps each. All models, distilled for longer: LEARNED."""
LEARNED = Path(__file__).parents[2] / "recipes" / "results" / "models" / "learns.json"
"""Stored results of recipes/results/models/learns.py."""


@pytest.mark.parametrize("name", tiers(LEARNERS, ["resnet8"]))
def test_it_learns_glyphs_and_no_layer_is_silent(cli: Cli, name: str) -> None:
    """Above 3 x chance on 10 classes; training itself notes silent layers."""
    ended = cli("distill", *LEARN, *LEARNERS[name], "--model", name, "--json", "--out", "run")
    assert ended.code == 0, ended.err
    assert ended.json["curve"][-1]["top1"] > 30
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert "silent" not in rows[-1]
    assert min(ended.json["rate_per_layer"].values()) > 0


def stored_run(name: str) -> dict[str, Any]:
    """The stored training run of a network."""
    (row,) = [row for row in json.loads(LEARNED.read_text())["models"] if row["model"] == name]
    return dict(row)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_learned_in_its_stored_run(name: str) -> None:
    row = stored_run(name)
    assert row["top1"] > 3 * row["chance"] > 0
    assert not row["silent"]
    assert row["T"] is None or row["lowest_rate"] > 0


def test_stored_runs_are_of_models_in_the_catalogue() -> None:
    rows = [row["model"] for row in json.loads(LEARNED.read_text())["models"]]
    assert rows == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_run_has_the_parameters_of_the_model(name: str) -> None:
    """After a change of a network run recipes/results/models/learns.py again."""
    row = stored_run(name)
    words = row["commands"][-1].split()
    settings = [value for key, value in itertools.pairwise(words) if key == "--set"]
    stage = "distill" if row["T"] else "teach"
    recipe = resolve_stage("glyphs", stage, model=name, T=row["T"], settings=settings)
    neuron = recipe.neuron if isinstance(recipe, DistillRecipe) else None
    network = build_network(Specification(model=recipe.model, neuron=neuron, classes=10, shape=SHAPE))
    assert sum(p.numel() for p in network.parameters()) == row["parameters"]


def test_the_hidden_layer_of_resnet19_wakes_neurons_and_leaves_an_ann_alone() -> None:
    """Currents of variance about 1 before neurons that no norm feeds; nothing else of the initial weights
    differs from an ANN's.
    """
    ann, snn = build("resnet19", "ann"), build("resnet19", "snn")
    other = [
        key for key, tensor in snn.state_dict().items() if not torch.equal(tensor, ann.state_dict()[key])
    ]
    assert other == ["body.hidden.weight"]
    currents: list[torch.Tensor] = []
    snn.body.hidden.register_forward_hook(lambda m, i, output: currents.append(output))  # type: ignore[operator, union-attr]
    snn.train()(images(32))
    assert 0.5 < currents[0].std() < 2
    replaced = build("resnet19", "snn", last="relu")
    assert torch.equal(replaced.body.hidden.weight, ann.body.hidden.weight)  # type: ignore[arg-type, union-attr]
