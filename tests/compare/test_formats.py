"""The same comparison in every format, on a narrow terminal, and as a picture."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare.synthetic import make_logits, make_run, make_seeds

from snnkd.compare.formats import FORMATS, as_csv, as_json, as_latex, as_markdown, as_table
from snnkd.compare.plot import plot_report
from snnkd.compare.report import Report, make_report
from snnkd.compare.sections import Section, interval, left_out_line, make_sections, p_text
from snnkd.errors import FileError
from snnkd.files import sha256
from snnkd.schema.run import CompareConfig

WITHIN = (
    "Top-1 accuracy in percent on the 200 test images after the trained number of timesteps T, "
    "mean ± sample standard deviation over n seeds;"
)


@pytest.fixture
def report() -> Report:
    """Two T, two teachers, one seed missing, logits of one pair."""
    for T in (2, 4):
        make_seeds("none", [60.0, 62.0, 64.5], T=T)
        make_seeds("kl", [80.0, 81.0, 82.0], T=T)
    make_seeds({"name": "hta-kl", "head": "strict"}, [80.5, 80.7])
    make_seeds("kl", [70.0, 75.0], teacher="b" * 64)
    for name, run in (("a", "runs/*-kl-T4*-s0"), ("b", "runs/*-none-T4*-s0")):
        (folder,) = [
            path for path in Path().glob(run) if '"' + "b" * 64 not in (path / "result.json").read_text()
        ]
        make_logits(folder, Path(f"{name}.npz"), np.arange(200) < (160 if name == "a" else 120))
    return make_report([], CompareConfig(), [Path("a.npz"), Path("b.npz")])


def words(text: str) -> str:
    return " ".join(text.split())


def only(made: list[Section]) -> Section:
    (part,) = made
    return part


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_the_numbers(report: Report, format: str) -> None:
    text = FORMATS[format](report)
    for label in ("none", "kl", "hta-kl head=strict"):
        assert label in text
    found = report.tables[0].columns[0].rows[1]
    number = repr(found.top1.mean) if format in ("csv", "json") else "81.0"
    assert number in text
    assert not text.endswith("\n")
    assert text == FORMATS[format](report)


def test_what_was_compared_is_said_in_one_sentence(report: Report) -> None:
    said = f"{WITHIN} weights of the last epoch (epoch 16), no selection on the test split."
    assert [part.caption for part in make_sections(report)] == [said, said]
    assert said in words(as_table(report))
    assert said in as_markdown(report)


def test_other_ways_to_choose_are_said() -> None:
    make_seeds("kl", [80, 81], rule="best", val_fraction=0.1, val=70)
    make_seeds("kl", [80, 81], rule="best", val_fraction=0.1, val=75, epochs=8)
    caption = only(make_sections(make_report([], CompareConfig(rank_on="val")))).caption
    assert caption == (
        f"{WITHIN} weights of the epoch with the best validation accuracy, settings selected by validation "
        "accuracy, no selection on the test split."
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits_the_terminal(report: Report, width: int) -> None:
    text = as_table(report, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("verdict") == 3  # none is cut off
    assert "distinguishable" in text
    if width >= 60:  # numbers stay whole, only labels and words fold
        for shown in ("81.0 ± 1.0", "0.180 ± 0.000", "[-22.0, -15.7]"):
            assert shown in text


def test_long_labels_fold() -> None:
    make_seeds(
        {"name": "hta-kl", "head": "strict", "delta": 0.12345, "temperature": 17.5}, [80, 81], ema=0.999
    )
    make_seeds("kl", [80, 81])
    text = as_table(make_report([], CompareConfig()), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert {"temperature=17.5", "delta=0.12345", "head=strict"} <= set(text.split())


def test_several_t_stand_side_by_side_and_each_has_its_own_tables(report: Report) -> None:
    titles = [sheet.title for sheet in make_sections(report)[0].tables]
    assert titles == [
        "top-1 % (n)",
        "T = 2",
        "T = 2, power",
        "T = 2, cost",
        "T = 4",
        "T = 4, over test images",
        "T = 4, power",
        "T = 4, cost",
    ]
    grid = make_sections(report)[0].tables[0]
    assert grid.head == ["loss", "T = 2", "T = 4"]
    assert grid.rows[2] == ["hta-kl head=strict", "80.6 ± 0.1 (2)", ""]


def test_verdicts_in_words(report: Report) -> None:
    sheet = make_sections(report)[0].tables[1]
    assert sheet.head == ["loss", "n", "top-1 %", "minus kl [95 %]", "p Holm", "verdict"]
    verdicts = {row[0]: row[-1] for row in sheet.rows}
    assert verdicts == {"none": "below", "kl": "baseline", "hta-kl head=strict": "not distinguishable"}
    assert sheet.notes == ("hta-kl head=strict: 2 pairs; unpaired seeds: 2.",)


def test_what_the_seeds_can_tell(report: Report) -> None:
    """Two rows are tested; none, significant, leaves 0.05 to the other, which leaves it 0.05 / 2."""
    sheet = make_sections(report)[0].tables[2]
    assert sheet.head == ["loss", "pairs", "s.d.", "p needed", "minus kl", "detectable", "seeds needed"]
    none, hta = (line.difference for line in report.tables[0].columns[0].rows if line.difference)
    assert none
    assert none.sd == pytest.approx(np.std([-20, -19, -17.5], ddof=1))
    assert sheet.rows == [
        ["none", "3", "1.3", "0.025", "-18.8", "5.8", "3"],
        ["hta-kl head=strict", "2", "0.6", "0.05", "+0.1", "6.5", "254"],
    ]
    assert (none.verdict, hta and hta.verdict) == ("below", "not distinguishable")
    assert "with probability 0.8" in " ".join(make_sections(report)[0].closing)


def test_equivalence_in_every_format() -> None:
    make_seeds("kl", [80.0, 81.0, 82.0, 81.0])
    make_seeds("rkl", [80.1, 80.9, 82.1, 80.9])
    make_seeds("jeffreys", [80.2, 81.2, 82.3, 81.2])
    make_seeds("none", [60.0, 62.0, 64.5, 62.0])
    report = make_report([], CompareConfig(equivalent=0.5))
    sheet = make_sections(report)[0].tables[0]
    assert sheet.head[-3:] == ["p Holm", "p within 0.5", "verdict"]
    verdicts = {row[0]: row[-1] for row in sheet.rows}
    assert verdicts == {
        "kl": "baseline",
        "rkl": "equivalent within 0.5 points",
        "jeffreys": "above, equivalent within 0.5 points",
        "none": "below",
    }
    for format in ("table", "md", "latex"):
        assert "equivalent within 0.5 points" in words(FORMATS[format](report))
        assert "two one-sided t tests" in words(FORMATS[format](report))
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(as_csv(report)))}
    assert rows["rkl"]["difference_verdict"] == "equivalent"
    assert (rows["rkl"]["equivalence_margin"], rows["kl"]["equivalence_margin"]) == ("0.5", "")
    assert float(rows["none"]["equivalence_p"]) > 0.99
    assert float(rows["rkl"]["detectable"]) < 1 < float(rows["none"]["detectable"])
    row = json.loads(as_json(report))["tables"][0]["columns"][0]["rows"][2]
    assert row["label"] == "rkl"
    assert row["difference"]["equivalence"].keys() == {"margin", "p", "p_holm"}
    assert row["difference"]["power"].keys() == {"level", "detectable", "seeds_needed"}
    assert all(f"`{key}`" in (as_json.__doc__ or "") for key in (*row["difference"]["power"], "margin"))


def test_too_few_seeds_for_any_gain_are_a_warning() -> None:
    """Two seeds and two rows: t must be above 25."""
    make_seeds("kl", [80.0, 81.0])
    make_seeds("rkl", [80.0, 85.0])
    make_seeds("none", [60.0, 63.0])
    make_run("mse", 0, 81.0)
    sheet = make_sections(make_report([], CompareConfig()))[0].tables[0]
    said = "Too few seeds to distinguish even 100 % from kl's 80.5 %, for any row; run at least 3."
    assert said in sheet.notes
    assert said in words(as_table(make_report([], CompareConfig())))
    make_seeds("hta-kl", [81.0, 82.01])
    notes = make_sections(make_report([], CompareConfig()))[0].tables[0].notes
    assert any("for none, rkl, mse; run at least" in note for note in notes)


def test_enough_seeds_are_not_warned_of(report: Report) -> None:
    assert not any("Too few" in note for sheet in make_sections(report)[0].tables for note in sheet.notes)


def test_the_teacher_is_a_line_below(report: Report) -> None:
    part = make_sections(report)[0]
    assert part.heading == "glyphs (dddddddddddd), resnet8 width=16, teacher aaaaaaaaaaaa"
    assert part.closing[-1] == "teacher runs/teacher: 94.50 % on the test split, 50.000 µJ an image."


def test_without_logits_a_note_says_how_to_save_them(report: Report) -> None:
    with_logits, without = (" ".join(part.closing) for part in make_sections(report))
    assert (
        "paired bootstrap, 10,000 draws of 200 images, for these trained networks (not for other seeds)"
        in with_logits
    )
    assert "`snnkd eval RUN --save-logits FILE.npz`" in without
    assert "--save-logits" not in with_logits


def test_the_unit_of_time_names_the_device() -> None:
    def time(pattern: str) -> tuple[str, str]:
        cost = only(make_sections(make_report(list(Path("runs").glob(pattern)), CompareConfig()))).tables[-1]
        return cost.head[-2], cost.rows[0][-2]

    make_run("kl", 0)
    assert time("*") == ("CPU-s a run", "20")
    make_run("kl", 1, gpu="H100")
    assert time("*")[0] == "device-s a run"
    assert time("*s1") == ("GPU-s a run", "30")


def test_a_run_that_did_not_record_its_cpu_time_shows_none() -> None:
    result = make_run("kl", 0) / "result.json"
    values = json.loads(result.read_text())
    result.write_text(json.dumps({**values, "seconds": {"train": 10.0, "eval": 1.0}}))
    assert only(make_sections(make_report([], CompareConfig()))).tables[-1].rows[0][-2] == ""


def test_csv_has_a_line_for_each_row_and_t(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert [(row["T"], row["label"], row["teacher_sha256"][0]) for row in rows] == [
        ("2", "none", "a"), ("2", "kl", "a"), ("2", "hta-kl head=strict", "a"), ("4", "none", "a"), ("4", "kl", "a"),
        ("2", "none", "b"), ("2", "kl", "b"), ("4", "none", "b"),
    ]  # fmt: skip
    first = rows[0]
    assert (first["n"], first["seeds"], first["values"]) == ("3", "0 1 2", "60.0 62.0 64.5")
    assert float(first["difference_mean"]) == pytest.approx(-18.8333333)
    assert first["difference_verdict"] == "below"
    assert rows[1]["difference_mean"] == ""
    assert float(rows[3]["over_images_mean"]) == -20.0
    assert rows[3]["over_images_seeds"] == "0"


def test_json_is_as_described(report: Report) -> None:
    found = json.loads(as_json(report))
    assert list(found) == ["schema", "split", "rank_on", "tables", "left_out"]
    assert found["schema"] == 1
    table = found["tables"][0]
    described = as_json.__doc__ or ""
    for holder in (table, table["columns"][0], row := table["columns"][0]["rows"][0], row["difference"]):
        assert all(f"`{key}`" in described for key in holder)
    assert row["top1"] == {"mean": pytest.approx(62.1666667), "sd": pytest.approx(2.2546249), "n": 3}
    assert table["columns"][1]["rows"][0]["over_images"].keys() == {
        "mean",
        "low",
        "high",
        "seeds",
        "images",
        "draws",
    }


def test_markdown_tables_are_whole(report: Report) -> None:
    widths = [
        line.count("|") - line.count(r"\|")
        for line in as_markdown(report).splitlines()
        if line.startswith("|")
    ]
    blocks = [block for block in as_markdown(report).split("\n\n") if block.startswith("|")]
    assert len(widths) == sum(len(block.splitlines()) for block in blocks)
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "| kl | 3 | 81.0 ± 1.0 |" in as_markdown(report)


def test_latex_is_escaped_and_whole(report: Report) -> None:
    text = as_latex(report)
    assert (
        text.count(r"\begin{tabular}")
        == text.count(r"\end{tabular}")
        == text.count(r"\toprule")
        == text.count(r"\bottomrule")
    )
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#_^~]", plain)
    assert not set(plain) & set("±µ")
    for tabular in re.findall(r"\\begin{tabular}{(\w+)}\n(.*?)\\end{tabular}", text, re.DOTALL):
        columns, body = tabular
        rows = [line for line in body.splitlines() if not line.startswith("\\")]
        assert rows
        assert all(
            len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1 and row.endswith(r" \\") for row in rows
        )
    assert r"none & 3 & 62.2 $\pm$ 2.3 & $-$18.8 [$-$22.0, $-$15.7] & 0.003 & below \\" in text


def test_letters_that_latex_and_markdown_would_take_for_their_own() -> None:
    folder = make_run("kl", lr=0.1)
    (folder / "result.json").write_text(
        (folder / "result.json").read_text().replace('"glyphs"', '"npz:a_b|50%&#$~^{x}\\\\y<z"')
    )
    report = make_report([], CompareConfig())
    assert r"npz:a\_b\|50%&#$~^{x}\\y\<z" in as_markdown(report)
    assert r"npz:a\_b|50\%\&\#\$\textasciitilde{}\textasciicircum{}\{x\}" in as_latex(report)


def compiled(text: str) -> str:
    """Text of the PDF's log that pdflatex writes for these tables in an article."""
    document = rf"""\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}
{text}
\end{{document}}"""
    Path("paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    assert ended.returncode == 0, ended.stdout[-2000:]
    return Path("paper.aux").read_text(errors="replace")


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex (Debian: texlive-latex-recommended)"
)
def test_latex_compiles_with_a_label_for_each_table(report: Report) -> None:
    folder = make_run("kl", 3, lr=0.1, data="e" * 64)
    result = folder / "result.json"
    odd = '"imagefolder:näher_50%&#$~^{x}\\\\y<z 字\\n2"'
    result.write_text(result.read_text().replace('"glyphs"', odd), encoding="utf-8")
    several = make_report([], CompareConfig())
    text = as_latex(several)
    labels = re.findall(r"\\label{([\w:-]+)}", text)
    assert len(labels) == len(set(labels)) == text.count(r"\caption{")
    assert len(labels) == sum(len(section.tables) for section in make_sections(several))
    noted = compiled(text)
    assert all(f"\\newlabel{{{label}}}" in noted for label in labels)


def test_numbers_as_text() -> None:
    assert interval(1.25, None, None) == "+1.2"
    assert interval(-0.04, -1.0, 0.92) == "-0.0 [-1.0, +0.9]"
    assert [p_text(p) for p in (None, 0.0004, 0.0005, 0.05, 1.0)] == ["", "<0.001", "0.001", "0.050", "1.000"]


def test_what_is_left_out_in_a_line() -> None:
    make_run("kl")
    for seed in range(1, 9):
        (make_run("kl", seed) / "result.json").unlink()
    said = left_out_line(make_report([], CompareConfig()))
    assert said.startswith("left out, 8: runs/distill")
    assert said.count("(not finished)") == 6
    assert said.endswith("; ...; `snnkd status` shows what continues them")


# the picture


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_picture_is_the_same_every_time(report: Report, suffix: str) -> None:
    made = []
    for _ in range(2):
        plot_report(report, Path(f"a.{suffix}"))
        made.append(sha256(Path(f"a.{suffix}").read_bytes()))
    assert made[0] == made[1]
    assert Path(f"a.{suffix}").stat().st_size > 3000


def test_the_picture_names_rows_t_and_teacher(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    plot_report(report, Path("a.svg"))
    text = Path("a.svg").read_text()
    rows = ["hta-kl head=strict (n = 2)", "T = 4", "teacher bbbbbbbbbbbb"]
    for said in [*rows, "bar: ± 1 s.d. over n seeds", "baseline", "top-1 accuracy (%), test"]:
        assert said in text


def test_long_names_fold_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    make_seeds({"name": "hta-kl", "head": "strict", "delta": 0.3, "temperature": 5}, [80, 81])
    plot_report(make_report([], CompareConfig()), Path("a.svg"))
    text = Path("a.svg").read_text()
    assert ">hta-kl temperature=5<" in text
    assert ">delta=0.3 head=strict<" in text
    assert ">(n = 2)<" in text


def test_long_names_in_the_picture_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"terms": [{"divergence": "kl", "weight": 0.5}, {"feature": "attention", "weight": 0.25}]}
    for loss in (long, {"name": "hta-kl", "head": "strict", "delta": 0.3, "temperature": 5}, "kl"):
        make_seeds(loss, [80, 81], lr=0.05 if loss == long else 0.1)
    boxes = []

    def measure(figure: Any, path: Path) -> None:
        figure.canvas.draw()
        (axes,) = figure.axes
        boxes.extend(label.get_window_extent() for label in axes.get_yticklabels())

    monkeypatch.setattr("snnkd.compare.plot.save_figure", measure)
    plot_report(make_report([], CompareConfig()), Path("a.png"))
    assert len(boxes) == 3
    assert all(below.y1 < above.y0 for above, below in pairwise(boxes))
    assert all(box.x0 >= 0 for box in boxes)


def test_a_place_that_cannot_be_written_is_said(report: Report) -> None:
    with pytest.raises(FileError, match=r"--plot nowhere/a\.png: no such file"):
        plot_report(report, Path("nowhere/a.png"))


class Figure:
    """What `plot_report` draws: the panels by x label, with the lines of each by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.axes: dict[str, Any] = {}
        self.below: dict[str, bool] = {}
        monkeypatch.setattr("snnkd.compare.plot.save_figure", self._read)

    def _read(self, figure: Any, path: Path) -> None:
        self.axes = {axes.get_xlabel(): axes for axes in figure.axes if axes.axison}
        figure.canvas.draw()
        self.below = {
            label: legend.get_window_extent().y0 >= axes.get_window_extent().y1
            for label, axes in self.axes.items()
            if (legend := axes.get_legend())
        }
        """Whether a panel is below its legend."""

    def lines(self, x_label: str) -> dict[str, list[tuple[Any, float]]]:
        handles, labels = self.axes[x_label].get_legend_handles_labels()
        lines = [getattr(handle, "lines", [handle])[0] for handle in handles]
        return {
            label: list(zip(line.get_xdata(), line.get_ydata(), strict=True))
            for label, line in zip(labels, lines, strict=True)
        }


def test_accuracy_against_timesteps_has_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    for T, base in ((2, 80.0), (4, 90.0)):
        make_seeds("kl", [base, base + 2], T=T)
        make_seeds({"name": "hta-kl", "delta": T / 10}, [base + 1], T=T)  # tuned for each T
    figure = Figure(monkeypatch)
    plot_report(make_report([], CompareConfig()), Path("a.png"))
    assert figure.lines("T") == {"kl": [(2, 81.0), (4, 91.0)], "hta-kl": [(2, 81.0), (4, 91.0)]}
    band = figure.axes["T"].collections[0].get_paths()[0].vertices
    assert {round(y, 3) for x, y in band if x == 2} == {round(81 - 2**0.5, 3), round(81 + 2**0.5, 3)}
    assert list(figure.axes) == ["top-1 accuracy (%), test", "T"], "no loss has several settings at one T"


def test_two_settings_have_no_panel_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for head in ("top1", "strict"):
        make_run({"name": "hta-kl", "head": head}, top1=90)
    figure = Figure(monkeypatch)
    plot_report(make_report([], CompareConfig()), Path("a.png"))
    assert list(figure.axes) == ["top-1 accuracy (%), test"]


def test_accuracy_against_each_searched_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """By validation accuracy, where all runs have it."""
    for k, (temperature, head) in enumerate([(0.5, "top1"), (2.0, "strict"), (9.0, "top1")]):
        make_run({"name": "hta-kl", "temperature": temperature, "head": head}, top1=90, val=70.0 + k)
        make_run({"name": "kl", "temperature": temperature}, top1=80, val=60.0 + k)
    figure = Figure(monkeypatch)
    report = make_report([], CompareConfig())
    assert report.tables[0].columns[0].rows[0].varied == {"loss.temperature": 0.5}
    plot_report(report, Path("a.png"))
    assert list(figure.axes) == ["top-1 accuracy (%), test", "loss.temperature", "loss.head"]
    assert figure.lines("loss.temperature") == {
        "kl": [(0.5, 60.0), (2.0, 61.0), (9.0, 62.0)],
        "hta-kl": [(0.5, 70.0), (2.0, 71.0), (9.0, 72.0)],
    }
    assert figure.axes["loss.temperature"].get_xscale() == "log"
    assert figure.below["loss.temperature"], "the legend hides nothing"
    assert figure.axes["loss.temperature"].get_ylabel() == "top-1 accuracy (%), val"
    assert [label.get_text() for label in figure.axes["loss.head"].get_xticklabels()] == ["top1", "strict"]
    for run in Path("runs").iterdir():
        (run / "metrics.jsonl").unlink()
    plot_report(make_report([], CompareConfig()), Path("a.png"))
    assert figure.axes["loss.temperature"].get_ylabel() == "top-1 accuracy (%), test"
    assert {y for _, y in figure.lines("loss.temperature")["kl"]} == {80.0}
