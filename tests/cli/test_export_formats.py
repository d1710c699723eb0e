"""`snnkd export` of every format through the command line: what it prints, keeps, refuses, and removes."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Cli, tiers

import snnkd
from snnkd.catalog.formats import EXPORTS, build_export
from snnkd.errors import UsageError
from snnkd.exports.agreement import Agreement

FORMATS = [entry.name for entry in EXPORTS]


@pytest.fixture
def student(trained: dict[str, Path], tmp_path: Path) -> Path:
    """The trained one, without what other tests exported."""
    folder = tmp_path / "student"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "result.json", "run.json", "recipe.yaml"):
        (folder / name).write_bytes((trained["distill"] / name).read_bytes())
    return folder


def test_a_recipe_takes_the_formats_that_there_are() -> None:
    assert build_export({"formats": FORMATS}).formats == tuple(FORMATS)
    with pytest.raises(
        UsageError, match=r"export\.formats\.1: 'onx' is not one of safetensors, nir, onnx, pt2"
    ):
        build_export({"formats": ["nir", "onx"]})


@pytest.mark.parametrize("format", tiers(FORMATS, ["safetensors", "nir", "onnx"]))
def test_a_trained_student_in_every_format(cli: Cli, student: Path, format: str) -> None:
    """All predictions agree; stdout is one line and stderr one more; what was found is kept."""
    ended = cli("export", student, "--format", format)
    assert ended.code == 0, ended.err
    place = student / "export" / format
    assert ended.out == f"{place}\n"
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("drawing ")]  # the data, once
    assert line.startswith("agreement 1.0000 on 256 images")
    kept = json.loads((student / "export" / f"{format}.json").read_text())
    assert (kept["format"], kept["path"], kept["T"], kept["images"], kept["agreement"]) == (
        format,
        str(place),
        3,
        256,
        1.0,
    )
    assert kept["max_difference"] >= 0
    assert ("agreement_unfolded" in kept) == (format == "nir")
    assert sorted(path.name for path in place.parent.iterdir()) == sorted([format, f"{format}.json"])


def test_the_folder_loads_and_has_its_card(cli: Cli, student: Path) -> None:
    assert cli("export", student, "--out", "mine").code == 0
    assert snnkd.load("mine")(torch.rand(2, 1, 16, 16)).shape == (3, 2, 10)
    result = json.loads((student / "result.json").read_text())
    card = Path("mine/README.md").read_text()
    assert f"| 3 | {result['curve'][-1]['top1']:.2f} |" in card
    assert str(student) not in card.replace(result["command"], "")
    assert not (student / "export").exists()


@pytest.mark.parametrize("format", ["safetensors", "nir"])  # a folder and a file
def test_an_export_that_disagrees_is_removed(
    cli: Cli, student: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    from snnkd.exports import export

    monkeypatch.setattr(export, "compare", lambda *_: Agreement(256, 0.5, 3.0, 2.0))
    ended = cli("export", student, "--format", format, "--out", "here")
    assert ended.code == 4
    assert "differs" in ended.complaint
    assert "agreement 0.5000" in ended.complaint
    assert {path.name for path in Path().iterdir()} == {"student"}


def test_a_twin_that_is_another_network_is_removed(
    cli: Cli, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnkd.exports import export

    monkeypatch.setattr(export, "MIN_UNFOLDED", 1.01)
    ended = cli("export", student, "--format", "nir", "--out", "here")
    assert ended.code == 4
    assert "the folded twin agrees" in ended.complaint
    assert {path.name for path in Path().iterdir()} == {"student"}


@pytest.mark.parametrize(
    ("format", "named"),
    [("onnx", "onnx, onnxscript, onnxruntime, which are"), ("nir", "nir, nirtorch, h5py, which are")],
)
def test_without_the_packages_it_says_which_extra(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, trained: dict[str, Path], format: str, named: str
) -> None:
    honest = importlib.util.find_spec
    absent = EXPORTS[format].packages
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in absent else honest(name, *rest)
    )
    ended = cli("export", trained["distill"], "--format", format, "--out", "here")
    assert ended.code == 2
    assert f"--format {format} needs {named} not installed: pip install 'snnkd[all]'" in ended.complaint
    recipe = Path("mine.yaml")
    recipe.write_text(
        f"schema: 1\ndata: {{name: glyphs}}\nteach: {{train: {{epochs: 1}}}}\nexport: {{formats: "
        f"[{format}]}}\n"
    )
    ended = cli("run", recipe)
    assert ended.code == 2
    assert "snnkd[all]" in ended.complaint
    assert not Path("runs").exists(), "known before anything is trained"


def test_packages_are_imported_late(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, trained: dict[str, Path]
) -> None:
    """Those of other formats are not needed."""
    honest = importlib.import_module

    def refuse(name: str, *rest: Any) -> Any:
        if name in ("onnx", "onnxruntime", "nir", "nirtorch"):
            raise ImportError(f"no {name}")
        return honest(name, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert cli("export", trained["distill"], "--out", "mine").code == 0
    ended = cli("export", trained["distill"], "--format", "nir", "--out", "here")
    assert ended.code == 2
    assert "nir cannot be imported (no nir): pip install 'snnkd[all]'" in ended.complaint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "onxx"], "unknown format 'onxx'; did you mean 'onnx'?"),
        (["--format", "onnx", "--T", "0"], "--T 0: a network runs at least 1 timestep"),
        (["--format", "onnx", "--T", "many"], "--T: 'many' is not"),
        (
            ["--T", "9"],
            "--T 9: safetensors stores the network as trained, T = 3; choose T after loading; "
            "supported by nir, onnx, pt2",
        ),
    ],
)
def test_what_is_refused(cli: Cli, trained: dict[str, Path], words: list[str], said: str) -> None:
    ended = cli("export", trained["distill"], *words, "--out", "here")
    assert ended.code == 2
    assert said in ended.complaint
    assert not Path("here").exists()


def test_a_teacher_has_no_timesteps_and_no_spikes(cli: Cli, trained: dict[str, Path]) -> None:
    assert (
        "is a teacher, which has no timesteps"
        in cli("export", trained["teach"], "--format", "onnx", "--T", 4, "--out", "x").complaint
    )
    ended = cli("export", trained["teach"], "--format", "nir", "--out", "x")
    assert ended.code == 2
    assert "a teacher has no spikes; supported by safetensors, onnx, pt2" in ended.complaint
    assert cli("export", trained["teach"], "--format", "pt2", "--out", "x", "--json").json["T"] == 1


def test_more_timesteps_in_a_file(cli: Cli, student: Path) -> None:
    found = cli("export", student, "--format", "nir", "--T", 5, "--out", "x", "--json").json
    assert (found["T"], found["agreement"]) == (5, 1.0)
    assert "exists" in cli("export", student, "--format", "nir", "--out", "x").complaint
    assert cli("export", student, "--format", "nir", "--out", "x", "--force", "--json").json["T"] == 3
    Path("mine").write_bytes(b"\x00mine")
    assert cli("export", student, "--format", "nir", "--out", "mine", "--force").code == 2
    assert Path("mine").read_bytes() == b"\x00mine"


def test_nir_names_the_layer_it_cannot_say(cli: Cli) -> None:
    words = ["--T", 1, "--loss", "none", "--epochs", 1, "--set", "neuron.reset=soft"]
    folder = cli("distill", *SMALL, *words).folder
    ended = cli("export", folder, "--format", "nir")
    assert ended.code == 2
    assert (
        "--format nir: layer body.act resets by subtraction (neuron.reset: soft); "
        "supported by safetensors, onnx, pt2" in ended.complaint
    )
    assert not (folder / "export").exists()


def test_a_pipeline_exports_what_its_recipe_names(cli: Cli) -> None:
    Path("mine.yaml").write_text(
        """schema: 1
data: {name: glyphs, classes: 10, train_images: 300, test_images: 100}
distill: {model: {name: resnet8, T: 2, width: 4}, loss: none, train: {epochs: 1, batch_size: 50}}
export: {formats: [safetensors, nir]}
"""
    )
    ended = cli("run", "./mine.yaml")
    assert ended.code == 0, ended.err
    (folder,) = map(Path, ended.out.splitlines())
    assert {path.name for path in (folder / "export").iterdir()} == {
        "safetensors",
        "safetensors.json",
        "nir",
        "nir.json",
    }
    assert cli("run", "./mine.yaml").code == 0
