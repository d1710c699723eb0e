"""Class names go from the data into run, result and exports; another order or other names never swap labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, run_in

from snnkd.models.files import load_network
from snnkd.models.weights import read_weights

NAMES = ["ant", "bee", "cat", "dog"]
ORDER = [2, 0, 3, 1]
OTHER = [NAMES[i] for i in ORDER]
SMALL = ["--model", "resnet8", "--set", "model.width=4", "--set", "data.augment=[]", "--batch-size", 20]
STUDENT = ["distill", *SMALL, "--T", 1, "--loss", "kl", "--epochs", 1]


def stripes(path: Path, numbers: list[int], names: list[str] | None) -> None:
    """The class is the place of a bright stripe; `numbers` are the labels of the four places."""
    rng, places = np.random.default_rng(0), np.arange(200) % 4
    images = rng.integers(0, 100, (200, 16, 16), dtype=np.uint8)
    for image, place in zip(images, places, strict=True):
        image[:, 4 * place : 4 * place + 4] += 150
    labels = np.array(numbers)[places]
    keys = {} if names is None else {"class_names": names}
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels, **keys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A folder of four files of the same images and a teacher of the first."""
    root = tmp_path_factory.mktemp("trained")
    stripes(root / "one.npz", [0, 1, 2, 3], NAMES)
    stripes(root / "two.npz", [ORDER.index(i) for i in range(4)], OTHER)
    stripes(root / "renamed.npz", [3, 0, 1, 2], ["bee", "cat", "dog", "eel"])
    stripes(root / "nameless.npz", [0, 1, 2, 3], None)
    done = run_in(root, data_folder, "teach", "--data", "npz:one.npz", *SMALL, "--epochs", 6)
    assert done.code == 0, done.err
    (root / done.folder).rename(root / "teacher")
    return root


@pytest.fixture
def teacher(trained: Path) -> Path:
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    return Path("teacher")


def test_another_order_is_matched_by_name(cli: Cli, teacher: Path) -> None:
    own = cli("eval", teacher, "--json").json
    other = cli("eval", teacher, "--data", "npz:two.npz", "--json")
    assert "npz:two.npz are in another order than in teacher: matched by name" in other.err
    assert own["curve"][0]["top1"] > 95
    assert other.json["curve"] == own["curve"]
    assert own["class_names"] == other.json["class_names"] == NAMES


def test_other_names_are_refused(cli: Cli, teacher: Path) -> None:
    message = "npz:renamed.npz: class 'eel' is not in teacher, which has 'ant'; rename it"
    measured = cli("eval", teacher, "--data", "npz:renamed.npz")
    distilled = cli(*STUDENT, "--data", "npz:renamed.npz", "--teacher", teacher)
    for refused in (measured, distilled):
        assert refused.code == 3
        assert message in refused.complaint


def test_a_student_learns_in_its_teachers_order(cli: Cli, teacher: Path) -> None:
    done = cli(*STUDENT, "--data", "npz:two.npz", "--teacher", teacher, "--json")
    assert done.code == 0, done.err
    assert "matched by name" in done.err
    assert done.json["teacher"]["top1"] > 95
    assert done.json["class_names"] == NAMES
    identity = json.loads((Path(done.json["run"]) / "run.json").read_text())["identity"]
    assert identity["data"]["class_names"] == NAMES
    again = cli(*STUDENT, "--data", "npz:two.npz", "--teacher", teacher)
    assert "already done" in again.err


def test_initial_weights_keep_their_outputs(cli: Cli, teacher: Path) -> None:
    words = [
        "teach",
        *SMALL,
        "--data",
        "npz:two.npz",
        "--epochs",
        1,
        "--lr",
        1e-6,
        "--init",
        "./teacher",
        "--json",
    ]
    done = cli(*words)
    assert done.code == 0, done.err
    assert "npz:two.npz are in another order than in teacher: matched by name" in done.err
    assert (done.json["class_names"], done.json["curve"][0]["top1"] > 95) == (NAMES, True)
    other = cli(*words, "--data", "npz:renamed.npz")
    assert other.json["class_names"] == ["bee", "cat", "dog", "eel"], "weights may learn other classes"


def test_data_without_names_are_warned_of(cli: Cli, teacher: Path) -> None:
    measured = cli("eval", teacher, "--data", "npz:nameless.npz", "--json")
    assert "warning: npz:nameless.npz has no class names; matched with teacher by number" in measured.err
    assert measured.json["curve"][0]["top1"] > 95


def test_a_teacher_from_a_file_names_its_outputs(cli: Cli, teacher: Path) -> None:
    weights = load_network(teacher).network.body.state_dict()
    numbers = {name: i for i, name in enumerate(NAMES)}
    torch.save({"state_dict": weights, "class_to_idx": numbers}, "named.pt")
    torch.save(weights, "plain.pt")
    words = [
        *STUDENT,
        "--data",
        "npz:two.npz",
        "--teacher-model",
        "resnet8",
        "--set",
        "teacher.model.width=4",
    ]
    named = cli(*words, "--teacher", "named.pt", "--json")
    key = ["--set", f"teacher.class_names={json.dumps(NAMES)}"]
    set_by_key = cli(*words, "--teacher", "plain.pt", *key, "--json")
    for done in (named, set_by_key):
        assert done.code == 0, done.err
        assert done.json["teacher"]["top1"] > 95
    unknown = cli(*words, "--teacher", "plain.pt")
    assert "warning: plain.pt has no class names; matched with npz:two.npz by number" in unknown.err
    assert unknown.code == 3, "labels are swapped: the teacher is worse than chance"
    few = cli(*words, "--teacher", "plain.pt", "--set", "teacher.class_names=[ant, bee]")
    assert (few.code, "2 class names for 4 classes" in few.complaint) == (3, True)
    assert cli(*STUDENT, "--teacher", teacher, *key).code == 2


def test_names_in_checkpoints() -> None:
    state = {"weight": torch.zeros(1)}
    for content, names in (
        ({"classes": ["b", "a"]}, ["b", "a"]),
        ({"class_names": ("b", "a")}, ["b", "a"]),
        ({"class_to_idx": {"a": 1, "b": 0}}, ["b", "a"]),
        ({"class_to_idx": {"a": 1, "b": 2}}, None),
        ({"classes": 2}, None),
    ):
        torch.save({"state_dict": state, **content}, "some.pt")
        assert read_weights(Path("some.pt")).class_names == names


def test_exports_and_the_description_have_the_names(cli: Cli, teacher: Path) -> None:
    assert cli("export", teacher, "--format", "safetensors", "--out", "exported").code == 0
    assert json.loads(Path("exported/config.json").read_text())["class_names"] == NAMES
    assert "| classes | ant, bee, cat, dog |" in Path("exported/README.md").read_text()
    described = cli("data", "npz:one.npz")
    assert "4: ant, bee, cat, dog" in described.out
    assert cli("data", "npz:nameless.npz", "--json").json["class_names"] is None


def test_damaged_names_are_refused(cli: Cli, teacher: Path) -> None:
    config = json.loads((teacher / "config.json").read_text())
    for names in ("ant", NAMES[:3], ["ant", "ant", "cat", "dog"], [1, 2, 3, 4]):
        (teacher / "config.json").write_text(json.dumps({**config, "class_names": names}))
        refused = cli("eval", teacher)
        assert (refused.code, "'class_names' is" in refused.complaint) == (3, True)


def test_renamed_classes_are_other_data(cli: Cli, teacher: Path) -> None:
    stripes(Path("one.npz"), [0, 1, 2, 3], ["wasp", *NAMES[1:]])
    refused = cli(*STUDENT, "--data", "npz:one.npz")
    assert (refused.code, "no finished teacher of this data" in refused.complaint) == (3, True)
