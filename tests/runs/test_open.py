"""Who may use a run directory: a new run, the same run, and nobody else."""

import json
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.recipe import resolve_stage
from snnkd.runs.folder import identity
from snnkd.runs.lock import Lock
from snnkd.runs.open import (
    begin,
    check_folder,
    check_same_data,
    read_resumed,
    record_resumed,
    set_aside,
)
from snnkd.runs.reproducibility import (
    Reproducibility,
    Versions,
    check_resumable,
    recorded_reproducibility,
    reproducibility,
)
from snnkd.schema.fields import to_plain
from snnkd.schema.run import ExecutionConfig

QUIET = Console(quiet=True)
SETUP = Reproducibility(
    versions=Versions(torch="2.6.0", spikingjelly="0.1", numpy="2.0"),
    machine="x86_64 AVX2",
    threads=2,
    bf16=False,
    compile="off",
    processes=1,
    accumulate=1,
    sync_norm=False,
)


def recipe(**flags: object):
    return resolve_stage("glyphs", "distill", **flags)  # type: ignore[arg-type]


def same(**flags: object) -> dict[str, object]:
    return identity(recipe(**flags), "d" * 64, "e" * 64)


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    begin(folder, recipe(), same(), SETUP, "snnkd distill")
    return folder


def refusal(kind: type[Exception], folder: Path, fresh: bool = False, **flags: object) -> str:
    def ask() -> None:
        check_folder(folder, None if fresh else same(**flags))
        if fresh:
            set_aside(folder, QUIET)

    with pytest.raises(kind) as caught:
        ask()
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert str(caught.value).startswith(str(folder))
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_and_an_empty_folder(tmp_path):
    for wanted in (same(), None):
        check_folder(tmp_path / "absent", wanted)
        check_folder(tmp_path, wanted)
    set_aside(tmp_path / "absent", QUIET)
    assert not (tmp_path / "absent").exists()


def test_the_same_run_continues(run):
    before = contents(run)
    check_folder(run, same())
    check_folder(run, same(device="cpu", teacher="moved", settings=["execution.threads=3"]))
    assert contents(run) == before


def test_what_a_kill_at_the_beginning_leaves_is_no_obstacle(tmp_path):
    folder = tmp_path / "one"
    with Lock(folder):
        pass
    (folder / ".recipe.yaml.x1.tmp").write_text("torn")
    (folder / "recipe.yaml").write_text("schema: 1")
    (folder / ".run.json.x2.tmp").write_text("torn")
    check_folder(folder, same())
    (folder / "last.pt").write_text("whose?")
    assert "has files but no run" in refusal(UsageError, folder)


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ({"lr": 0.5}, "train.lr = 0.1, this command 0.5"),
        ({"seed": 3}, "seed = 0, this command 3"),
        ({"T": 2}, "model.T = 4, this command 2"),
        ({"settings": ["loss.terms.0.head=strict"]}, "loss.terms.0.head = 'top1', this command 'strict'"),
        ({"settings": ["neuron.tau=3"]}, "neuron.tau"),
    ],
)
def test_a_changed_identity_key_is_refused_by_name(run, flags, hint):
    assert hint in refusal(UsageError, run, **flags)


def test_other_data_and_another_teacher_are_refused_by_name(run):
    for changed, hint in (
        (identity(recipe(), "f", "e" * 64), "data.sha256"),
        (identity(recipe(), "d" * 64, "f"), "teacher.sha256"),
    ):
        with pytest.raises(UsageError, match=hint):
            check_folder(run, changed)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "no run" in refusal(UsageError, tmp_path, fresh)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_recipe_without_a_lock_is_somebodys_own(tmp_path, fresh):
    (tmp_path / "recipe.yaml").write_text("schema: 1")
    assert "no run" in refusal(UsageError, tmp_path, fresh)
    assert contents(tmp_path) == {"recipe.yaml": b"schema: 1"}


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file: not a directory" in refusal(FileError, tmp_path / "file")


def test_a_damaged_run_file(run):
    (run / "run.json").write_text("{")
    with pytest.raises(FileError, match=r"run\.json: not a JSON file"):
        check_folder(run, same())


def test_fresh_sets_aside_by_number_and_loses_nothing(run):
    aside = run.parent / ".aside"
    for number in (1, 2):
        (run / "metrics.jsonl").write_text(f"{number}")
        before = contents(run)
        set_aside(run, QUIET)
        assert not run.exists()
        assert contents(aside / f"one-{number}") == before
        run.mkdir()
        begin(run, recipe(), same(), SETUP, "")
    assert {path.name for path in aside.iterdir()} == {"one-1", "one-2"}


def test_fresh_repairs_a_run_whose_run_file_is_damaged(run):
    (run / "run.json").write_text("{")
    check_folder(run, None)
    set_aside(run, QUIET)
    assert not run.exists()


def test_fresh_is_refused_while_the_run_is_held(run):
    with Lock(run):
        before = contents(run)
        assert "held by process" in refusal(FileError, run, fresh=True)
        assert contents(run) == before


def test_what_begin_writes_is_runnable_and_read_back(run):
    assert (run / "recipe.yaml").read_text().startswith("# snnkd distill\n")
    assert resolve_stage(str(run / "recipe.yaml"), "distill") == recipe()
    assert recorded_reproducibility(run) == SETUP


@pytest.mark.parametrize(
    ("needs", "hint"),
    [
        (None, "needs: None is not a mapping"),
        ({}, "needs: lacks versions, machine, threads"),
        ({**to_plain(SETUP), "threads": 0}, "needs.threads: 0 is too small"),
        ({**to_plain(SETUP), "threads": 10**9}, "needs.threads"),
        ({**to_plain(SETUP), "threads": True}, "needs.threads"),
        ({**to_plain(SETUP), "compile": "maybe"}, "needs.compile: 'maybe' is not one of neurons, on, off"),
        ({**to_plain(SETUP), "processes": "two"}, "needs.processes"),
        ({**to_plain(SETUP), "versions": {"torch": "2"}}, "needs.versions: lacks spikingjelly, numpy"),
    ],
)
def test_a_damaged_setup_is_refused_by_key(run, needs, hint):
    (run / "run.json").write_text(json.dumps({"identity": {}, "needs": needs}))
    with pytest.raises(FileError, match=r"run\.json: damaged: ") as caught:
        recorded_reproducibility(run)
    assert hint in str(caught.value)


def test_the_setup_of_this_process():
    here = reproducibility(ExecutionConfig(threads=3, accumulate=2), "neurons", torch.device("cpu"))
    assert (here.threads, here.accumulate, here.compile, here.processes) == (3, 2, "neurons", 1)
    assert here.versions.torch == version("torch")
    assert here.machine.startswith(platform.machine())


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (
            {"versions": replace(SETUP.versions, torch="2.7.0")},
            "versions.torch = '2.6.0', here it is '2.7.0'",
        ),
        ({"machine": "aarch64"}, "machine"),
        ({"bf16": True}, "bf16"),
        ({"compile": "on"}, "compile = 'off', here it is 'on'"),
        ({"accumulate": 2}, "accumulate"),
        ({"sync_norm": True}, "sync_norm"),
    ],
)
def test_resuming_where_the_bytes_would_differ_is_refused(run, change, hint):
    with pytest.raises(UsageError, match=hint):
        check_resumable(run, SETUP, replace(SETUP, **change))


def test_threads_are_restored_and_other_processes_allowed(run):
    assert check_resumable(run, SETUP, replace(SETUP, threads=64)) is None
    assert check_resumable(run, SETUP, replace(SETUP, threads=64, processes=2)) == "processes 1, then 2"


def test_any_setup_is_taken_anyway_and_recorded(run):
    newer = replace(SETUP, versions=replace(SETUP.versions, torch="2.7.0"))
    change = check_resumable(run, SETUP, newer, anyway=True)
    assert change == "versions.torch '2.6.0', then '2.7.0'"
    assert read_resumed(run) == []
    for text in (change, "machine 'a', then 'b'"):
        record_resumed(run, newer, text)
    assert read_resumed(run) == [change, "machine 'a', then 'b'"]
    assert recorded_reproducibility(run) == newer


def test_the_same_request_on_other_bytes_is_refused(run):
    """Only while the run is unfinished, and only for the same data section."""
    runs, section = run.parent, to_plain(recipe().data)
    other = identity(recipe(), "f" * 64, "e" * 64)
    check_same_data(runs, same(), section, Console(quiet=True))
    with pytest.raises(
        UsageError, match=r"data\.sha256 is dddddddddddd\.\.\., here ffffffffffff\.\.\."
    ) as caught:
        check_same_data(runs, other, section, Console(quiet=True))
    assert str(caught.value).startswith(str(run))
    check_same_data(runs, other, {**section, "noise": 0.5}, Console(quiet=True))
    check_same_data(runs, identity(recipe(seed=3), "f" * 64, "e" * 64), section, Console(quiet=True))
    check_same_data(runs / "absent", other, section, Console(quiet=True))
    (run / "result.json").write_text("{}")
    check_same_data(runs, other, section, Console(quiet=True))


@pytest.mark.parametrize("about", ["{", "{}", '{"identity": 3}', '{"identity": {"data": 3}}'])
def test_a_damaged_run_beside_is_not_in_the_way(run, about):
    (run / "run.json").write_text(about)
    check_same_data(
        run.parent, identity(recipe(), "f" * 64, "e" * 64), to_plain(recipe().data), Console(quiet=True)
    )


def test_an_unfinished_run_of_other_class_names_is_not_abandoned(tmp_path):
    runs, section = tmp_path / "runs", to_plain(recipe().data)
    (runs / "one").mkdir(parents=True)
    old, new = (identity(recipe(), "d" * 64, None, names) for names in (["ant", "bee"], ["wasp", "bee"]))
    (runs / "one" / "run.json").write_text(json.dumps({"identity": old, "data": section}))
    with pytest.raises(UsageError, match=r"data\.class_names\.0 is 'ant', here 'wasp'"):
        check_same_data(runs, new, section, Console(quiet=True))
    check_same_data(runs, old, section, Console(quiet=True))
