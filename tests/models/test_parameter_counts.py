"""Parameters and MACs beside published ones; where they differ it is by layers that are named here."""

from __future__ import annotations

from typing import Any

import pytest
import torchvision
from conftest import Cli

from snnkd.preflight import NOMINAL_CLASSES, NOMINAL_INPUT, model_facts

Facts = dict[str, dict[str, Any]]
PINNED = {
    "resnet8": 83_892,
    "resnet18": 11_220_132,
    "resnet19": 12_721_124,
    "resnet20": 278_324,
    "resnet20w": 11_294_116,
    "resnet32": 472_756,
    "resnet34": 21_328_292,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn-40-2": 2_255_156,
    "sew-resnet18": 11_220_132,
    "sew-resnet34": 21_328_292,
    "ms-resnet18": 11_220_132,
    "ms-resnet34": 21_328_292,
    "cnn7": 1_189_636,
    "vgg8": 3_963_556,
    "vgg11": 9_274_532,
    "vgg13": 9_459_236,
    "vgg16": 14_770_212,
}


@pytest.fixture(scope="module")
def sizes() -> Facts:
    return {facts["name"]: facts for facts in model_facts()}


def for_ten_classes(facts: dict[str, Any], features: int) -> int:
    """Parameters with 90 classes less, as tables of CIFAR-10 have it."""
    parameters: int = facts["parameters"]
    return parameters - 90 * (features + 1)


@pytest.mark.parametrize(("name", "parameters"), PINNED.items())
def test_parameters_are_pinned(sizes: Facts, name: str, parameters: int) -> None:
    assert (NOMINAL_INPUT, NOMINAL_CLASSES) == ((3, 32, 32), 100)
    assert sizes[name]["parameters"] == parameters


@pytest.mark.parametrize(
    ("name", "features", "millions"),
    [
        ("resnet18", 512, 11.17),  # model zoo of DA2Lite, CIFAR-10
        ("resnet34", 512, 21.28),  # the same
        # the same: 14.73 with the biases of its convolutions, which the norm after them cancels
        ("vgg16", 512, 14.72),
        # He et al. 2016, table 6, with parameter-free shortcuts; two of ours are 1x1 convolutions
        ("resnet20", 64, 0.27),
    ],
)
def test_parameters_are_the_published_ones(sizes: Facts, name: str, features: int, millions: float) -> None:
    projections = {"resnet20": 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64}.get(name, 0)
    assert (for_ten_classes(sizes[name], features) - projections) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet20", 0.28),
        ("resnet32", 0.47),
        ("resnet56", 0.86),
        ("resnet110", 1.74),
        ("resnet8x4", 1.23),
        ("resnet32x4", 7.43),
        ("wrn-40-2", 2.26),
        ("vgg8", 3.96),  # 3.97 with the biases of its convolutions, which the norm after them cancels
    ],
)
def test_parameters_are_those_of_distillation_papers(sizes: Facts, name: str, millions: float) -> None:
    """CIFAR-100, as RepDistiller's and mdistiller's tables of teachers and students have it."""
    assert sizes[name]["parameters"] / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 560),
        ("resnet34", 1160),
        ("vgg16", 310),
        ("resnet20", 41),
        ("resnet32", 69),
        ("resnet56", 126),
    ],  # DA2Lite's zoo; the small ones' are those of chenyaofo/pytorch-cifar-models
)
def test_macs_are_the_published_ones(sizes: Facts, name: str, millions: float) -> None:
    assert sizes[name]["macs"] / 1e6 == pytest.approx(millions, abs=5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
@pytest.mark.parametrize("family", ["", "sew-", "ms-"])
def test_residual_networks_are_torchvisions_but_for_stem_and_classes(
    sizes: Facts, name: str, family: str
) -> None:
    """11.69 M and 21.80 M for ImageNet, which SEW-ResNet and MS-ResNet have there, too: 7x7 instead of 3x3,
    1000 classes.
    """
    published = getattr(torchvision.models, f"ResNet{name[6:]}_Weights").DEFAULT.meta["num_params"]
    assert sizes[family + name]["parameters"] == published - (49 - 9) * 3 * 64 - (1000 - 100) * 513


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16"])
def test_vggs_are_torchvisions_but_for_biases_and_the_hidden_layers(sizes: Facts, name: str) -> None:
    """One linear layer in place of three, the first of which holds 103 M; no bias before a norm."""
    published = getattr(torchvision.models, f"VGG{name[3:]}_BN_Weights").DEFAULT.meta["num_params"]
    linear = 4096 * (512 * 49 + 1) + 4096 * 4097 + 1000 * 4097
    biases = sum(count * 64 * times for count, times in zip(GROUPS[name], (1, 2, 4, 8, 8), strict=True))
    assert sizes[name]["parameters"] == published - linear - biases + 100 * 513


GROUPS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3)}


def test_the_wide_resnet20_is_resnet18_with_two_more_convolutions(sizes: Facts) -> None:
    """The literature's about 11 M (EnOF, KDSNN)."""
    assert sizes["resnet20w"]["parameters"] - sizes["resnet18"]["parameters"] == 2 * (9 * 64 * 64 + 2 * 64)
    assert for_ten_classes(sizes["resnet20w"], 512) / 1e6 == pytest.approx(11.25, abs=0.005)


def test_models_are_listed_with_their_sizes(cli: Cli, sizes: Facts) -> None:
    listed = cli("list", "models", "--json").json
    assert listed["nominal"] == {"input": [3, 32, 32], "classes": 100}
    assert listed["models"] == list(sizes.values())
    for facts in listed["models"]:
        assert (facts["parameters"] is None) == (facts["macs"] is None) == (":" in facts["name"])
        if facts["family"]:
            assert facts["source"]
            assert 1990 < facts["year"] < 2030


def test_the_table_of_models_fits_80_columns(cli: Cli) -> None:
    lines = cli("list", "models").out.splitlines()
    assert lines[0].split() == ["model", "description", "params", "MACs"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert rows["vgg16"].endswith(" 14.77 M    313 M")
    assert max(map(len, lines)) <= 80
