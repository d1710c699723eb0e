"""`snnkd keys`: every key that a recipe takes, from the declarations of the schema."""

from __future__ import annotations

import pytest
from conftest import Cli

from snnkd.recipe.key_table import all_keys
from snnkd.recipe.keys import STAGES, nested_keys


def test_every_key_of_set_is_listed_with_its_help() -> None:
    listed = {key.key for key in all_keys()}
    for stage in STAGES:
        in_terms = {
            path for path in nested_keys(stage) if f"loss.terms.0.{path.rpartition('.')[2]}" in listed
        }
        assert set(nested_keys(stage)) - in_terms <= listed
    assert all(key.help for key in all_keys() if key.key not in ("schema", "stage"))


def test_a_section_a_key_and_a_last_part(cli: Cli) -> None:
    section = cli("keys", "train", "--json").json["keys"]
    assert {key["key"].partition(".")[0] for key in section} == {"train"}
    (lr,) = [key for key in section if key["key"] == "train.lr"]
    assert lr == {
        "key": "train.lr",
        "type": "number above 0 to 1e+38",
        "default": "0.1",
        "help": "Highest learning rate.",
        "only": [],
    }
    assert cli("keys", "train.lr").out == (
        "train.lr: number above 0 to 1e+38; default 0.1\n    Highest learning rate.\n"
    )
    assert cli("keys", "lr").out == cli("keys", "train.lr").out
    noise = cli("keys", "noise", "--json").json["keys"]
    assert {key["key"] for key in noise} == {"data.noise", "loss.terms.0.noise"}
    assert noise[0]["only"] == ["glyphs"]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("train.optimizer", "train.optimizer: sgd, adam or adamw; default sgd"),
        ("train.betas", "train.betas: list of number; default [0.9, 0.999]"),
        ("train.nesterov", "train.nesterov: true or false; default false"),
        ("model.T", "model.T: whole number from 1 to 1024; default empty"),
        ("search.samples", "search.samples: whole number from 1 to 10000; required"),
        ("teacher.model", "teacher.model: section; default empty"),
        ("loss.hard.target", "loss.hard.target: mean or step; default mean"),
        ("data.augment.0.magnitude", "data.augment.0.magnitude: whole number from 0 to 999; default 9"),
    ],
)
def test_types_and_defaults(cli: Cli, key: str, line: str) -> None:
    assert cli("keys", key).out.splitlines()[0] == line


def test_an_unknown_key(cli: Cli) -> None:
    refused = cli("keys", "trian")
    assert (refused.code, "did you mean 'train'" in refused.complaint) == (2, True)
