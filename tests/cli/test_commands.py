"""The commands as a user meets them: streams, shell use, JSON, and what each leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, SMALL, Cli, Outcome, finish, start, teach_and_distill

from snnkd.measure.curve import CurveEntry
from snnkd.measure.dynamic import DynamicEntry
from snnkd.measure.result import AnnCost, ResultDict, Seconds, Selection, TeacherEntry
from snnkd.recipe import resolve_stage
from snnkd.recipe.yaml_io import parse_yaml


def test_help_without_torch() -> None:
    """--help, --version, list, guide and keys answer without importing torch or spikingjelly."""
    script = (
        "import sys\n"
        "from snnkd.cli import main\n"
        "for words in ['--help'], ['distill', '--help'], ['--version'], ['list', 'losses'], ['guide'], ['keys', 'train']:\n"
        "    sys.argv = ['snnkd', *words]\n"
        "    try: main()\n"
        "    except SystemExit as e: assert not e.code, e.code\n"
        "    heavy = {'torch', 'spikingjelly', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bare_snnkd_shows_its_help(cli: Cli) -> None:
    ended = cli()
    assert ended.code == 2
    assert "Use a network:" in ended.out + ended.err
    assert len((ended.out + ended.err).splitlines()) > 10
    assert not any(line.startswith("snnkd: ") for line in ended.err.splitlines())


@pytest.mark.nightly  # three interpreters; stdout's one line: every test's Outcome.folder
def test_a_run_directory_can_be_kept_in_a_shell_variable() -> None:
    """`S=$(snnkd distill ...) && snnkd eval "$S"`, with nothing else on stdout."""
    small = " ".join(SMALL)
    snnkd = f"{sys.executable} -m snnkd"
    script = f'{snnkd} teach {small} && S=$({snnkd} distill --loss hta-kl --T 2 {small} --allow-weak-teacher) && {snnkd} eval "$S" --json'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    assert first.startswith("runs/teach-glyphs-resnet8-")
    result = json.loads(rest)
    assert result["run"].startswith("runs/distill-glyphs-resnet8-hta-kl-T2-")
    assert result["T"] == 2


def test_a_run_directory(cli: Cli) -> None:
    """The files of a run, and its recipe, which makes the same run elsewhere."""
    student = teach_and_distill(cli)
    assert {path.name for path in student.iterdir()} == {
        "recipe.yaml",
        "run.json",
        "run.lock",
        "config.json",
        "model.safetensors",
        "metrics.jsonl",
        "log.txt",
        "plot.png",
        "result.json",
    }
    again = cli("distill", f"{student}/recipe.yaml", "--out", "elsewhere")
    assert again.code == 0, again.err
    assert Path("elsewhere/model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()
    by_name = cli("distill", f"{student}/recipe.yaml")
    assert by_name.folder == student
    assert "already done" in by_name.err


def check_keys(values: dict[str, Any], kind: type) -> None:
    """The keys are those of a TypedDict, but for those that it does not require."""
    keys = typing.get_type_hints(kind, include_extras=True)
    required = {key for key, hint in keys.items() if typing.get_origin(hint) is not typing.NotRequired}
    assert required <= values.keys() <= keys.keys()


def test_result_keys(cli: Cli) -> None:
    student = teach_and_distill(cli)
    result = json.loads((student / "result.json").read_text())
    check_keys(result, ResultDict)
    assert (result["schema"], result["split"], result["images"], result["T"], result["trained_T"]) == (
        1,
        "test",
        100,
        2,
        2,
    )
    assert [entry["t"] for entry in result["curve"]] == [1, 2]
    check_keys(result["curve"][0], CurveEntry)
    check_keys(result["dynamic"][0], DynamicEntry)
    for key, kind in {
        "selection": Selection,
        "teacher": TeacherEntry,
        "ann": AnnCost,
        "seconds": Seconds,
    }.items():
        check_keys(result[key], kind)
    assert result["command"].startswith("snnkd distill")
    assert 0 <= result["rate"] <= 1
    metrics = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert all(
        {"w_head", "head_empty", "head_single", "loss", "hard", "hta-kl"} <= row.keys() for row in metrics
    )
    assert not any("test" in key for row in metrics for key in row), "no test accuracy while training"


def test_eval_measures_again(cli: Cli) -> None:
    """From the weights, not from result.json; other settings leave a file under eval/."""
    student = teach_and_distill(cli)
    stored = json.loads((student / "result.json").read_text())
    (student / "result.json").write_text(json.dumps({**stored, "curve": []}))
    fresh = cli("eval", student, "--json").json
    assert fresh["curve"] == stored["curve"]
    assert fresh["rate_per_layer"] == stored["rate_per_layer"]
    assert not (student / "eval").exists()
    longer = cli("eval", student, "--T", 4, "--json").json
    assert [entry["t"] for entry in longer["curve"]] == [1, 2, 3, 4]
    assert longer["trained_T"] == 2
    assert longer["curve"][:2] == stored["curve"], "more timesteps do not change the earlier ones"
    assert json.loads((student / "eval/test-T4.json").read_text())["curve"] == longer["curve"]
    table = cli("eval", student)
    assert table.code == 0
    assert "SynOps" in table.out
    assert max(map(len, table.out.splitlines())) <= 80


def test_eval_of_a_teacher(cli: Cli) -> None:
    teacher = cli("teach", *SMALL, "--json").json
    assert [entry["t"] for entry in teacher["curve"]] == [1]
    assert teacher["curve"][0]["synops"] is None
    assert teacher["curve"][0]["energy_mj"] > 0
    assert (teacher["rate"], teacher["teacher"], teacher["trained_T"]) == (None, None, None)
    assert cli("eval", teacher["run"], "--T", 3).code == 2


def test_eval_on_validation_images(cli: Cli) -> None:
    words = [*SMALL, "--set", "data.val_fraction=0.2"]
    folder = cli("teach", *words).folder
    assert cli("eval", folder, "--split", "val", "--json").json["images"] == 60
    assert (folder / "eval/val-T1.json").exists()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all("val_top1" in row for row in rows)
    none = cli("teach", *SMALL).folder
    ended = cli("eval", none, "--split", "val")
    assert ended.code == 2
    assert "val_fraction" in ended.complaint


def test_select_best_keeps_the_best_validation_epoch(cli: Cli) -> None:
    """Interrupted or not; the result says which epoch."""
    words = [
        *SMALL,
        "--set",
        "data.val_fraction=0.2",
        "--set",
        "train.select=best",
        "--set",
        "train.epochs=5",
        "--lr",
        "0.5",
    ]
    result = cli("teach", *words, "--out", "a", "--json").json
    rows = [json.loads(line)["val_top1"] for line in Path("a/metrics.jsonl").read_text().splitlines()]
    assert result["selection"] == {"rule": "best", "epoch": rows.index(max(rows)) + 1}
    assert cli("eval", "a", "--split", "val", "--json").json["curve"][0]["top1"] == pytest.approx(
        max(rows), rel=1e-5
    ), "metrics.jsonl has six digits"


def test_eval_plots_several_runs(cli: Cli) -> None:
    teacher = cli("teach", *SMALL).folder
    runs = [cli("distill", *SMALL, "--T", 2, "--loss", "none", "--seed", seed).folder for seed in (0, 1)]
    ended = cli("eval", *runs, teacher, "--plot", "curve.svg", "--json")
    assert ended.code == 0, ended.err
    assert len(ended.json["results"]) == 3
    assert "n = 2" in Path("curve.svg").read_text() or Path("curve.svg").stat().st_size > 5000


def test_export_is_a_network_that_python_loads(cli: Cli) -> None:
    import torch

    import snnkd

    student = teach_and_distill(cli)
    ended = cli("export", student, "--out", "mine", "--json")
    assert ended.json == {
        "schema": 1,
        "run": str(student),
        "format": "safetensors",
        "path": "mine",
        "T": 2,
        "images": 100,
        "agreement": 1.0,
        "max_difference": 0.0,
    }
    network = snnkd.load("mine")
    assert network(torch.rand(5, 1, 16, 16)).shape == (2, 5, 10)
    assert cli("eval", "mine", "--json").json["curve"] == cli("eval", student, "--json").json["curve"]
    plain = cli("export", student)
    assert plain.out == f"{student}/export/safetensors\n"


def test_run_makes_the_directories_of_the_single_commands(cli: Cli) -> None:
    settings = [
        f"--set={stage}.{key}"
        for stage in ("teach", "distill")
        for key in ("train.epochs=1", "train.batch_size=50", "model.width=4")
    ]
    shared = ["--set", "data.classes=10", "--set", "data.train_images=300", "--set", "data.test_images=100"]
    words = [
        *settings,
        *shared,
        "--set",
        "distill.model.T=2",
        "--set",
        "distill.execution.allow_weak_teacher=true",
    ]
    ended = cli("run", "glyphs", *words)
    assert ended.code == 0, ended.err
    teacher, student = ended.out.splitlines()
    assert Path(student, "export/safetensors/model.safetensors").exists()
    single = ["--epochs", 1, "--batch-size", 50, "--set", "model.width=4", *shared]
    assert str(cli("teach", *single).folder) == teacher
    assert str(cli("distill", *single, "--T", 2).folder) == student
    again = cli("run", "glyphs", *words, "--json")
    assert [run["run"] for run in again.json["runs"]] == [teacher, student]


def test_status_tells_every_state(cli: Cli) -> None:
    assert cli("teach", *SMALL).code == 0
    assert cli("status").code == 0
    assert cli("teach", *SMALL, "--seed", 1, "--max-time", "0s").code == 75
    ended = cli("status")
    assert ended.code == 75
    assert sorted(line.split()[0] for line in ended.out.splitlines()[1:3]) == ["done", "stopped"]
    assert {run["state"] for run in cli("status", "--json").json["runs"]} == {"done", "stopped"}


def test_check_copies_a_recipe(cli: Cli) -> None:
    """`check NAME > mine.yaml` resolves to the same again; cost and presence go to stderr."""
    ended = cli("check", "glyphs", "--set", "distill.model.T=2")
    assert ended.code == 0
    Path("mine.yaml").write_text(ended.out)
    again = cli("check", "mine.yaml")
    assert again.out.splitlines()[1:] == ended.out.splitlines()[1:]
    for word in ("parameters", "MACs", "steps", "MiB", "is present"):
        assert word in ended.err
    for stage in ("teach", "distill"):
        assert resolve_stage("mine.yaml", stage, **({"T": 2} if stage == "distill" else {})) == resolve_stage(  # type: ignore[arg-type]
            "glyphs",
            stage,
            **({"T": 2} if stage == "distill" else {}),  # type: ignore[arg-type]
        )


def test_check_downloads_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_DATA", "nowhere")
    Path("r.yaml").write_text("schema: 1\nstage: teach\ndata: cifar100\n")
    ended = cli("check", "r.yaml")
    assert ended.code == 0
    assert "CIFAR100 is not under nowhere; training downloads it" in ended.err
    assert not Path("nowhere").exists()


def test_check_says_what_is_missing(cli: Cli) -> None:
    Path("r.yaml").write_text(
        "schema: 1\nstage: distill\ndata: {name: 'npz:nowhere.npz'}\nmodel: {name: resnet20, T: 2}\nloss: "
        "kl\n"
    )
    ended = cli("check", "r.yaml")
    assert ended.code == 0
    assert "nowhere.npz" in ended.err
    Path("r.yaml").write_text("schema: 1\nstage: distill\nloss: kl\n")
    assert "no finished teacher" in cli("check", "r.yaml").err
    facts = cli("check", "r.yaml", "--json").json
    assert facts["stages"][0]["teacher_present"] is False
    assert facts["recipe"]["loss"]["name"] == "kl"


@pytest.mark.parametrize("what", ["losses", "models", "data", "recipes"])
def test_list(cli: Cli, what: str) -> None:
    plain, listed = cli("list", what), cli("list", what, "--json").json
    assert listed["schema"] == 1
    names = [item["name"] for item in listed[what]]
    first = 1 if what in ("losses", "models") else 0  # a header
    assert [line.split()[0] for line in plain.out.splitlines()[first:]] == names
    assert all(item["help"] for item in listed[what])


def test_loss_weight_0_is_direct_training_bitwise(cli: Cli) -> None:
    weighted = teach_and_distill(cli, "--set", "loss.terms.0.weight=0")
    direct = cli("distill", *SMALL, "--T", 2, "--loss", "none").folder
    assert (weighted / "model.safetensors").read_bytes() == (direct / "model.safetensors").read_bytes()


def test_runs_folder_moves_with_its_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_RUNS", "elsewhere")
    assert cli("teach", *SMALL).out.startswith("elsewhere/teach-")


@pytest.mark.nightly
def test_log_of_an_epoch_is_short() -> None:
    """300 epochs stay under 100 KB: at most 333 bytes an epoch, on a pipe without control characters."""
    done = finish(start("distill", *SMALL, "--loss", "none", "--T", 1, "--set", "train.epochs=3"))
    lines = [line for line in done.err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    assert all(len(line) < 200 for line in lines)
    assert "\x1b" not in done.err
    assert all(word in lines[0] for word in ("images/s", "left"))


def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    """stderr a terminal: a bar while training, stdout still only the run directory."""
    import os
    import pty

    main_end, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "snnkd", "distill", *SMALL, "--loss", "none", "--T", "1"],
        stdout=subprocess.PIPE,
        stderr=other_end,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(other_end)
    shown = b""
    while True:
        try:
            block = os.read(main_end, 4096)
        except OSError:
            break
        if not block:
            break
        shown += block
    assert process.stdout is not None
    out = process.stdout.read()
    process.stdout.close()
    os.close(main_end)
    assert process.wait() == 0
    assert b"epoch 1/2" in shown
    assert b"\x1b[" in shown
    assert out.startswith("runs/distill-")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_precision(cli: Cli, precision: str) -> None:
    ended = cli("distill", *SMALL, "--loss", "none", "--T", 2, "--set", f"execution.precision={precision}")
    assert ended.code == 0, ended.err


def test_status_of_a_folder_without_runs(cli: Cli) -> None:
    Path("empty").mkdir()
    ended = cli("status", "empty")
    assert ended.code == 3
    assert "empty: contains no runs" in ended.complaint
    assert cli("status").code == 3


def _resolved(ended: Outcome) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return parse_yaml(ended.out.encode(), "stdout")


def test_settings_reach_every_stage_of_a_pipeline(cli: Cli) -> None:
    """Of the shipped recipe, and of a copy of it, in which nothing is shared any more."""
    Path("mine.yaml").write_text(cli("check", "glyphs", *DATA).out)
    for recipe in ("glyphs", "mine.yaml"):
        words = [
            *DATA,
            "--set",
            "train.epochs=1",
            "--set",
            "model.width=4",
            "--set",
            "data.noise=0.5",
            "--set",
            "model.T=2",
        ]
        made = _resolved(cli("check", recipe, *words))
        for stage in ("teach", "distill"):
            assert (
                made[stage]["train"]["epochs"],
                made[stage]["model"]["width"],
                made[stage]["data"]["noise"],
            ) == (1, 4, 0.5)
        assert "T" not in made["teach"]["model"]
        assert made["distill"]["model"]["T"] == 2


def test_settings_of_single_commands_on_a_pipeline(cli: Cli) -> None:
    folder = cli(
        "teach", *DATA, "--set", "train.epochs=1", "--set", "seed=010", "--set", "model.width=4"
    ).folder
    assert folder.name.endswith("-s10")


def test_check_of_data_that_are_not_here_still_counts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_DATA", "nowhere")
    Path("r.yaml").write_text(
        "stage: distill\ndata: {name: cifar100, val_fraction: 0.1}\nmodel: {name: resnet20, T: 2}\nloss: kl\n"
    )
    ended = cli("check", "r.yaml", "--set", "teacher.run=runs/absent", "--set", "train.batch_size=100")
    assert ended.code == 0
    for said in (
        "parameters",
        "MACs per image and timestep",
        f"{450 * 300:,} steps",
        "MiB",
        "is missing",
        "teacher runs/absent is missing",
    ):
        assert said in ended.err
    (stage,) = cli("check", "r.yaml", "--json").json["stages"]
    assert (stage["classes"], stage["train_images"], stage["data_present"]) == (100, 45_000, False)
    assert stage["parameters"] > 200_000
    assert stage["macs"] > 30_000_000


def test_a_loss_of_two_terms_of_one_divergence(cli: Cli) -> None:
    assert cli("teach", *SMALL).code == 0
    Path("r.yaml").write_text(
        "stage: distill\nloss: {terms: [{divergence: kl, temperature: 1}, {divergence: kl, temperature: "
        "4}]}\n"
    )
    ended = cli("distill", "r.yaml", *SMALL, "--T", 1, "--allow-weak-teacher")
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    assert all({"kl.0", "kl.1"} <= row.keys() and "kl" not in row for row in rows)
    assert rows[0]["kl.0"] != rows[0]["kl.1"]


def test_small_learning_rates_are_kept(cli: Cli) -> None:
    folder = cli("teach", *SMALL, "--lr", "1e-7", "--set", "train.schedule=constant").folder
    assert [json.loads(line)["lr"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [
        1e-7,
        1e-7,
    ]


def test_eval_of_an_export_writes_nothing_into_it(cli: Cli) -> None:
    student = cli("distill", *SMALL, "--loss", "none", "--T", 1).folder
    assert cli("export", student, "--out", "mine").code == 0
    before = {path.name: path.read_bytes() for path in Path("mine").iterdir()}
    assert len(cli("eval", "mine", "--T", 5, "--json").json["curve"]) == 5
    assert {path.name: path.read_bytes() for path in Path("mine").iterdir()} == before


def test_threads_of_one_stage_are_not_the_other_ones(cli: Cli) -> None:
    import torch

    before = torch.get_num_threads()
    assert before != 2
    words = [
        *DATA,
        "--set",
        "train.epochs=1",
        "--set",
        "train.batch_size=100",
        "--set",
        "model.width=4",
        "--set",
        "model.T=1",
    ]
    ended = cli(
        "run",
        "glyphs",
        *words,
        "--set",
        "execution.allow_weak_teacher=true",
        "--set",
        "teach.execution.threads=2",
    )
    assert ended.code == 0, ended.err
    threads = [
        json.loads(Path(folder, "run.json").read_text())["needs"]["threads"]
        for folder in ended.out.splitlines()
    ]
    assert threads == [2, before]
    assert torch.get_num_threads() == before
