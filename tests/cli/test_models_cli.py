"""Every model of the catalogue through the command line: a teacher of two steps, and a student that learns
from it for two more."""

from __future__ import annotations

import pytest
from conftest import Cli, tiers

from snnkd.catalog.models import MODELS

NAMES = [entry.name for entry in MODELS if not entry.argument]
TINY = [
    "--set",
    "data.classes=5",
    "--set",
    "data.train_images=20",
    "--set",
    "data.test_images=10",
    "--batch-size",
    10,
    "--epochs",
    1,
]


@pytest.mark.parametrize("name", tiers(NAMES, ["resnet8", "resnet19", "ms-resnet18", "vgg11", "qkformer"]))
def test_every_listed_model_teaches_and_learns(cli: Cli, name: str) -> None:
    """At a small width, at which a member keeps its shape."""
    words = [
        *TINY,
        "--lr",
        0.01,
        "--model",
        name,
        *(word for key, value in MODELS[name].small.items() for word in ("--set", f"model.{key}={value}")),
    ]
    taught = cli("teach", *words, "--json")
    assert taught.code == 0, taught.err
    learned = cli("distill", *words, "--loss", "kl", "--T", 2, "--allow-weak-teacher", "--json")
    assert learned.code == 0, learned.err
    assert [result["model"]["name"] for result in (taught.json, learned.json)] == [name, name]
    assert [result["T"] for result in (taught.json, learned.json)] == [1, 2]
    assert learned.json["teacher"]["sha256"] == taught.json["weights_sha256"]
    assert taught.json["rate_per_layer"] is None
    assert len(learned.json["rate_per_layer"]) >= 5  # vgg8 has five
