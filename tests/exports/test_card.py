"""The card of an export: a model card as the hub reads it, which says what is known and what is not."""

from dataclasses import replace

import pytest
import yaml
from students import network_of, source_of

import snnkd
from snnkd.exports.card import OPENING, card
from snnkd.recipe.loss_section import build_loss
from snnkd.schema.fields import to_plain

RESULT = {
    "data": "glyphs", "split": "test", "images": 2000, "selection": {"rule": "last", "epoch": 16},
    "rate": 0.1698,
    "command": "snnkd distill | tee",
    "versions": {"snnkd": "0.1.0", "torch": "2.15.0"},
    "energy_convention": {"pj_per_mac": 4.6, "pj_per_synop": 0.9, "process": "45 nm",
                          "not_counted": "memory traffic"},
    "curve": [
        {"t": 1, "top1": 81.05, "top5": 98.4, "synops": 356300.1, "energy_mj": 0.00052},
        {"t": 2, "top1": 88.0, "top5": None, "synops": 813302.7, "energy_mj": 0.00096},
    ],
}  # fmt: skip
ABOUT = {
    "seed": 3,
    "data": {"name": "cifar100"},
    "data_sha256": "d" * 64,
    "teacher": {
        "run": "runs/t",
        "sha256": "c328198c5933bb27",
        "top1": 94.3,
        "energy_mj": 0.05,
        "model": "resnet8",
    },
}


@pytest.fixture
def source(tmp_path):
    return replace(source_of(tmp_path / "run", **ABOUT), result=RESULT)


def front_matter(text):
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_the_front_matter_is_that_of_the_hub(source):
    text = card(source)
    assert text.startswith(OPENING)
    assert front_matter(text) == {
        "library_name": "snnkd",
        "tags": ["image-classification", "spiking-neural-network", "snn", "knowledge-distillation"],
        "pipeline_tag": "image-classification",
        "datasets": ["cifar100"],
    }


def test_a_part_is_not_filed_under_its_data_set(tmp_path):
    part = {"classes": 20, "train_per_class": 100}
    text = card(source_of(tmp_path / "run", **ABOUT, part=part))
    assert "datasets" not in front_matter(text)
    assert "| data | cifar100 [20 classes, 100 training images each] |" in text
    assert "| data | cifar100 |" in card(source_of(tmp_path / "damaged", **ABOUT, part="x"))


def test_what_was_measured_on_what(source):
    text = card(source)
    for said in (
        "| 1 | 81.05 | 98.40 | 356,300 | 0.520 |",
        "| 2 | 88.00 | - | 813,303 | 0.960 |",
        "glyphs, test split, 2,000 images; weights of the last epoch (16).",
        "| teacher | resnet8, 94.30 %, sha256 c328198c5933... |",
        "Rate: 0.1698 spikes per neuron and timestep. Energy is estimated, not measured: 4.6 pJ per MAC",
        f"| weights sha256 | `{source.loaded.sha256}` |",
        "| seed | 3 |",
        "| command | `snnkd distill \\| tee` |",
        "| versions | snnkd 0.1.0, torch 2.15.0 |",
        "tau: 2.0",
    ):
        assert said in text


def test_a_best_epoch_says_how_it_was_chosen(source):
    chosen = replace(source, result=RESULT | {"selection": {"rule": "best", "epoch": 9}})
    assert "weights of the best epoch (9). The epoch was selected on validation images" in card(chosen)


def test_the_loss_is_named(tmp_path):
    loss = to_plain(build_loss("hta-kl"))
    assert "| loss | hta-kl |" in card(source_of(tmp_path / "run", loss=loss))


def test_what_is_not_known_is_said(tmp_path):
    text = card(source_of(tmp_path / "run"))
    assert "No result is recorded for these weights." in text
    assert "| data | unknown |" in text
    assert "| teacher | none |" in text


def test_a_teacher_has_no_neuron_and_no_loss(tmp_path):
    text = card(source_of(tmp_path / "run", network_of(T=None), T=1))
    assert "an ANN teacher" in text
    assert "| neuron |" not in text
    assert "snn" not in front_matter(text)["tags"]


def test_the_lines_to_load_it_work(source, monkeypatch):
    lines = card(source).split("```python\n")[1].split("```")[0]
    space = {}
    exec(lines.replace("PATH/TO/THIS/FOLDER", str(source.loaded.folder)), space)
    assert space["logits"].shape == (3, 1, 10)
    assert isinstance(space["network"], type(snnkd.load(source.loaded.folder)))
