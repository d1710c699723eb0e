"""The picture that every finished run leaves: its training, its curve, its classes and what it confuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from snnkd.measure.panels import draw_confusion
from snnkd.measure.plot import group_by_seed, plot_curves, save_figure

TINY = ["--set", "data.classes=4", "--set", "data.train_images=24", "--set", "data.test_images=18",
        "--set", "data.size=8", "--set", "data.val_fraction=0.2", "--batch-size", 12, "--set", "model.width=2",
        "--epochs", 2]  # fmt: skip


class Panels:
    """The texts of the figures that were saved, and the lines and bars of their panels by y label."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: dict[str, list[list[float]]] = {}
        self.bars: list[float] = []
        self.texts: list[str] = []
        monkeypatch.setattr("snnkd.measure.plot.save_figure", self._read)

    def _read(self, figure: Any, path: Path) -> None:
        from matplotlib.text import Text

        save_figure(figure, path)
        self.texts = [text.get_text() for text in figure.findobj(Text)]
        for axes in figure.axes:
            self.lines[axes.get_ylabel()] = [list(line.get_ydata()) for line in axes.lines]
            self.bars += [bar.get_height() for bar in axes.patches]


def test_a_run_leaves_its_picture(cli: Cli, pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = Panels(monkeypatch)
    done = cli("distill", "--loss", "none", "--T", 2, *TINY)
    assert done.code == 0, done.err
    assert (done.folder / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert (done.folder / "plot.png").stat().st_size > 20_000
    result = json.loads((done.folder / "result.json").read_text())
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert panels.lines["training loss"] == [[row["loss"] for row in rows]]
    accuracy = [[row[key] for row in rows] for key in ("train_top1", "val_top1")]
    assert panels.lines["top-1 accuracy (%)"] == accuracy
    assert panels.lines["top-1 accuracy (%), glyphs test"] == [[entry["top1"] for entry in result["curve"]]]
    assert panels.bars == sorted(result["top1_per_class"])
    assert result["class_names"] == ["0", "1", "2", "3"]
    counts = {str(count) for row in result["confusion"] for count in row.values()}
    assert counts <= set(panels.texts)
    assert {"0", "1", "predicted class", "validation images", "none, T = 2, 2 epochs"} <= set(panels.texts)


def test_a_picture_that_fails_is_a_warning(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> None:
        raise ValueError("no\nfont")

    monkeypatch.setattr("snnkd.stage.plot_curves", fail)
    done = cli("distill", "--loss", "none", "--T", 1, *TINY)
    assert done.code == 0, done.err
    assert "warning: plot.png was not drawn (ValueError: no font)\n" in done.err
    assert {path.name for path in done.folder.iterdir()} >= {"result.json", "model.safetensors"}


@pytest.mark.parametrize("names", [None, ["a$b", "$", "a long name of a class", *map(str, range(37))]])
def test_many_classes_of_a_teacher(names: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The title names the lowest; `$` begins no formula; there is no curve."""
    panels = Panels(monkeypatch)
    result = {
        "data": "own", "split": "test", "trained_T": None, "model": {"name": "resnet8"}, "selection": None,
        "weights_sha256": "w", "curve": [{"t": 1, "top1": 50.0}], "class_names": names, "balanced_top1": 50.0,
        "top1_per_class": [10.0, 5.0, 0.0, None, *[60.0] * 36], "confusion": [{"0": 1}] * 40,
    }  # fmt: skip
    plot_curves(group_by_seed([result]), Path("a.png"), [{"epoch": 1, "loss": 2.5}])
    assert panels.lines["training loss"] == [[2.5]]
    assert "teacher: 50.0 %, own test" in panels.texts
    assert "timesteps t" not in panels.texts
    lowest = (
        "lowest are a long name…: 0 %, \\$: 5 %, a\\$b: 10 %"
        if names
        else "lowest are 2: 0 %, 1: 5 %, 0: 10 %"
    )
    assert lowest in panels.texts
    assert len(panels.bars) == 39


def test_ticks_of_a_confusion_matrix_are_classes() -> None:
    """Of 20 classes, matplotlib's own are 2.5 apart."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5, 5)).subplots()
    draw_confusion(axes, {"confusion": [{str(i): 1} for i in range(20)]})
    ticks = [*axes.get_xticks(), *axes.get_yticks()]
    assert ticks
    assert all(tick == round(tick) for tick in ticks)
