"""`snnkd compare` end to end: three seeds of three losses, trained here by one recipe with a compare
section."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compare.synthetic import make_run, make_seeds
from conftest import Cli, Outcome, run_in

from snnkd.compare.plan import planned_groups
from snnkd.compare.report import make_report
from snnkd.recipe import resolve_tasks
from snnkd.schema.run import CompareConfig

RECIPE = """\
schema: 1
data: {name: glyphs, classes: 10, train_images: 300, test_images: 100, val_fraction: 0.2}
train: {epochs: 2, batch_size: 40}
model: {name: resnet8, width: 4}
teach: {seed: 100}
distill: {model: {T: 2}}
eval: {split: val}
execution: {allow_weak_teacher: true}
sweep: {distill.loss: [none, kl, hta-kl], seed: [0, 1, 2]}
compare: {baseline: kl, rank_on: val}
"""


@pytest.fixture(scope="session")
def nine(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> tuple[Path, Outcome]:
    """The folder with runs/ and the outcome of `snnkd run`."""
    root = tmp_path_factory.mktemp("nine")
    (root / "r.yaml").write_text(RECIPE)
    done = run_in(root, data_folder, "run", "r.yaml")
    assert done.code == 0, done.err
    return root, done


@pytest.fixture
def runs(nine: tuple[Path, Outcome]) -> Path:
    """A copy of the runs in this test's folder."""
    shutil.copytree(nine[0] / "runs", "runs")
    return Path("runs")


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def test_the_rows_are_known_before_training(runs: Path) -> None:
    Path("r.yaml").write_text(RECIPE)
    Path("wide.yaml").write_text(RECIPE.replace("seed: [0", "distill.train.lr: [0.1, 0.2], seed: [0"))
    (planned,), (wide,) = (planned_groups(resolve_tasks(name)) for name in ("r.yaml", "wide.yaml"))
    (table,) = make_report([runs], CompareConfig()).tables
    assert [row.label for row in planned.columns[2]] == [line.label for line in table.columns[0].rows]
    assert [row.label for row in wide.columns[2]] == [
        f"{loss} lr={lr}" for loss in ("none", "kl", "hta-kl") for lr in (0.1, 0.2)
    ]


def test_three_seeds_of_three_losses(cli: Cli, runs: Path) -> None:
    said = cli("compare", "--json")
    assert (said.code, said.err) == (0, "")
    (table,) = said.json["tables"]
    (column,) = table["columns"]
    assert [(row["label"], row["seeds"]) for row in column["rows"]] == [
        (loss, [0, 1, 2]) for loss in ("none", "kl", "hta-kl")
    ]
    for row in column["rows"]:
        found = [result(Path(run)) for run in row["runs"]]
        top1 = [each["curve"][-1]["top1"] for each in found]
        assert row["values"] == top1
        assert (row["top1"]["mean"], row["top1"]["sd"]) == (
            pytest.approx(np.mean(top1)),
            pytest.approx(np.std(top1, ddof=1)),
        )
        assert row["rate"]["mean"] == pytest.approx(np.mean([each["rate"] for each in found]))
        assert row["device_seconds"]["mean"] == pytest.approx(
            np.mean([each["seconds"]["train_cpu"] for each in found])
        )
        assert row["settings"] == 1
        assert row["val_top1"]["n"] == 3
    none, kl, _ = column["rows"]
    assert none["difference"]["mean"] == pytest.approx(none["top1"]["mean"] - kl["top1"]["mean"])
    assert (table["val_fraction"], table["teacher"]["sha256"]) == (
        0.2,
        result(next(runs.glob("*-kl-*")))["teacher"]["sha256"],
    )


def test_the_table_is_said(cli: Cli, runs: Path) -> None:
    said = cli("compare", "runs", "--baseline", "none")
    assert (said.code, said.err) == (0, "")
    assert "on the 100 test images" in said.out
    assert "no selection on the test split." in " ".join(said.out.split())
    assert re.search(r"^kl +3 +\d+\.\d ± \d+\.\d +[+-]", said.out, re.MULTILINE)
    assert re.search(r"^none +3 +\d+\.\d ± \d+\.\d +baseline$", said.out, re.MULTILINE)
    assert "20 % of the training images held out" in " ".join(said.out.split())
    assert cli("compare", *runs.glob("distill*"), "--baseline", "none").out == said.out


def test_run_makes_the_comparison_that_its_recipe_asks_for(
    nine: tuple[Path, Outcome], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr when all tasks are done: stdout holds the run directories alone."""
    root, done = nine
    monkeypatch.chdir(root)
    assert sorted(done.out.splitlines()) == sorted(map(str, Path("runs").iterdir()))
    monkeypatch.setenv("COLUMNS", "80")
    table = cli("compare", "--baseline", "kl", "--rank-on", "val").out
    assert done.err.endswith(table)
    assert "left out" not in done.err
    one = cli("run", "r.yaml", "--task", "0")
    assert "minus kl" not in one.err
    assert "compare: printed when all tasks run in one command; run `snnkd compare` afterwards" in one.err


def test_a_recipe_can_ask_for_equivalence(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE.replace("rank_on: val", "equivalent: 40")
    assert recipe != RECIPE
    Path("r.yaml").write_text(recipe)
    done = cli("run", "r.yaml")
    assert done.code == 0, done.err
    assert "p within 40" in done.err
    monkeypatch.setenv("COLUMNS", "80")
    assert done.err.endswith(cli("compare", "--baseline", "kl", "--equivalent", 40).out)


def test_validation_accuracy(cli: Cli, runs: Path) -> None:
    """As `eval: {split: val}` measured it; the last epoch's as it was logged."""
    said = cli("compare", "--split", "val", "--json").json
    assert said["tables"][0]["images"] == 60
    for row in said["tables"][0]["columns"][0]["rows"]:
        logged = [
            json.loads((Path(run) / "metrics.jsonl").read_text().splitlines()[-1])["val_top1"]
            for run in row["runs"]
        ]
        assert row["values"] == pytest.approx(logged, abs=1e-3)
    assert "test images not used" in " ".join(cli("compare", "--split", "val").out.split())


def test_intervals_over_images_from_eval(cli: Cli, runs: Path) -> None:
    """From `eval --save-logits` to the column; without an interval over seeds at n = 1."""
    for run in runs.glob("distill*-s0"):
        (run / "eval").mkdir(exist_ok=True)
        saved = cli("eval", run, "--save-logits", run / "eval" / "logits.npz")
        assert saved.code == 0, saved.err
    none, kl, hta = cli("compare", "--json").json["tables"][0]["columns"][0]["rows"]
    assert kl["over_images"] is None
    for row in (none, hta):
        found = row["over_images"]
        assert (found["seeds"], found["images"], found["draws"]) == ([0], 100, 10_000)
        assert found["mean"] == pytest.approx(row["values"][0] - kl["values"][0], abs=1e-9)
        assert found["low"] <= found["mean"] <= found["high"]
    for path in runs.glob("*/eval/logits.npz"):
        shutil.move(path, f"{path.parent.parent.name}.npz")
    given = cli("compare", "--json", "--logits", ".").json["tables"][0]["columns"][0]["rows"]
    assert [row["over_images"] for row in given] == [
        None if row is kl else row["over_images"] for row in (none, kl, hta)
    ]


@pytest.mark.parametrize(
    ("format", "begins"),
    [("md", "### glyphs"), ("csv", "data,data_sha256"), ("latex", "% needs"), ("json", "{")],
)
def test_formats(cli: Cli, runs: Path, format: str, begins: str) -> None:
    said = cli("compare", "--format", format)
    assert said.code == 0
    assert said.out.startswith(begins)
    if format == "csv":
        assert [row["label"] for row in csv.DictReader(io.StringIO(said.out))] == ["none", "kl", "hta-kl"]


def test_a_picture(cli: Cli, runs: Path) -> None:
    said = cli("compare", "--plot", "a.png", "--format", "csv")
    assert (said.code, said.err) == (0, "plot written to a.png\n")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_unfinished_runs_are_named(cli: Cli, runs: Path) -> None:
    gone = next(runs.glob("*hta-kl*-s1"))
    (gone / "result.json").unlink()
    said = cli("compare")
    assert said.err == f"left out, 1: {gone} (not finished); `snnkd status` shows what continues them\n"
    assert re.search(r"^hta-kl +2 ", said.out, re.MULTILINE)


def test_no_torch_is_needed(nine: tuple[Path, Outcome]) -> None:
    script = (
        "import sys\nsys.argv = ['snnkd', 'compare', '--format', 'md']\nfrom snnkd.cli import main\n"
        "try: main()\nexcept SystemExit as e: assert not e.code\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=nine[0], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_terminal_of_80_columns(nine: tuple[Path, Outcome]) -> None:
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "snnkd", "compare"], cwd=nine[0], stdout=theirs, env=environment
    )
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:  # a pty's end
        pass
    os.close(ours)
    assert process.wait() == 0
    lines = text.decode().replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(len(line) > 70 for line in lines)


# what is refused


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--baseline", "htakl"], 2, "--baseline 'htakl' is not a row; did you mean 'hta-kl'?"),
        (["--baseline", "gaussian"], 2, "--baseline 'gaussian' is not a row; known: hta-kl, kl"),
        (["--rank-on", "test"], 2, "compare.rank_on: 'test' must be val"),
        (["--equivalent", "0"], 2, "compare.equivalent: 0.0 is too small; it must be above 0"),
        (["--equivalent", "half"], 2, "compare.equivalent: 'half' is not a number"),
        (["--split", "train"], 2, "compare.split: 'train' is not one of test, val"),
        (["--format", "markdwn"], 2, "unknown --format 'markdwn'; known: csv, json, latex, md, table"),
        (["--format", "csv", "--json"], 2, "--format csv and --json are two formats"),
        (["--plot", "a.gif"], 2, "must end in .png, .svg or .pdf"),
        (["--plot", "nowhere/a.png"], 3, "the folder nowhere does not exist"),
        (["nowhere"], 3, "nowhere: no such run"),
        (["--split", "val"], 3, "no finished student in runs (runs/distill-glyphs-resnet8-hta-kl"),
        (["--logits", "nowhere.npz"], 3, "nowhere.npz: no such file or directory"),
    ],
)
def test_requests_that_are_refused(cli: Cli, words: list[str], code: int, said: str) -> None:
    make_seeds("kl", [80, 81])
    make_seeds("hta-kl", [80, 81])
    ended = cli("compare", *words)
    assert ended.code == code
    assert said in ended.complaint
    assert ended.out == ""


def test_an_empty_place_is_refused(cli: Cli) -> None:
    ended = cli("compare")
    assert (ended.code, ended.complaint) == (
        3,
        "snnkd: runs: no such run; run `snnkd distill` first, or name runs",
    )


def test_two_results_of_one_seed_are_refused(cli: Cli) -> None:
    make_run("kl")
    make_run("kl", root=Path("more"), weights="other")
    ended = cli("compare", "runs", "more")
    assert ended.code == 2
    assert "have the same recipe and seed but different results" in ended.complaint


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "compare: {baseline: hta_kl}",
            "compare.baseline: 'hta_kl' is not a loss of this recipe; did you mean 'hta-kl'?",
        ),
        ("compare: {baselin: kl}", "unknown key 'compare.baselin'; did you mean 'compare.baseline'?"),
        ("compare: {rank_on: test}", "compare.rank_on: 'test' must be val"),
        (
            "compare: {rank_on: val}\ndata: {name: glyphs}",
            "compare.rank_on: val needs data.val_fraction above 0",
        ),
        ("compare: {split: val}", "compare.split: val needs the section 'eval: {split: val}'"),
    ],
)
def test_sections_that_are_refused_before_anything_runs(cli: Cli, section: str, said: str) -> None:
    without = RECIPE.replace("compare: {baseline: kl, rank_on: val}\n", "").replace(
        "eval: {split: val}\n", ""
    )
    if "data:" in section:
        without = re.sub("data: .*\n", "", without)
    Path("r.yaml").write_text(without + section)
    ended = cli("run", "r.yaml")
    assert ended.code == 2
    assert said in ended.complaint
    assert not Path("runs").exists()


def test_check_writes_the_section_down(cli: Cli) -> None:
    Path("r.yaml").write_text(RECIPE)
    said = cli("check", "r.yaml")
    assert said.code == 0
    assert "\ncompare:\n  baseline: kl\n  rank_on: val\n" in said.out
    one = cli("check", "r.yaml", "--task", 0).out
    lines = r"^compare:\n  baseline: kl  # Row that .*\n  split: test  # .*\n  rank_on: val  # "
    assert re.search(lines, one, re.MULTILINE)
    Path("s.yaml").write_text(said.out)
    again = cli("check", "s.yaml")
    assert said.out.splitlines()[1:] == again.out.splitlines()[1:]
