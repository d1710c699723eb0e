"""Finding runs: those of a folder, finished teachers and students, and the state of each."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error, read_json, reason
from snnkd.runs.folder import RECIPE, RESULT, RUN, is_finished, read_result, runs_folder
from snnkd.runs.lock import describe_holder, is_held, read_holder

LATEST = "latest"
MAX_LISTED = 6


def is_run(folder: Path) -> bool:
    """Whether `folder` has a run's files. Raises OSError for a folder that cannot be entered."""
    return any(_is_file(folder / name) for name in (RUN, RECIPE, RESULT))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def run_folders(folder: Path, leave_out: Callable[[Path, str], None]) -> list[Path]:
    """`folder` itself if it is a run, else the runs directly in it, by name; hidden folders are skipped.

    `leave_out` is called with each folder that cannot be read, such as lost+found, and the reason.
    """
    if not folder.is_dir():
        return []
    if is_run(folder):
        return [folder]
    runs = []
    for path in sorted(folder.iterdir()):
        try:
            if not path.name.startswith(".") and is_run(path):
                runs.append(path)
        except OSError as error:
            leave_out(path, reason(error))
    return runs


def _logged_folders(folder: Path, console: Console) -> list[Path]:
    return run_folders(folder, lambda path, why: _log_left_out(f"{path}: {why}", console))


def _log_left_out(why: object, console: Console) -> None:
    console.log_once(f"left out: {why}")


@dataclass(frozen=True)
class RecordedRun:
    """A started run from its run.json: identity, `data:` section, and whether it is finished."""

    folder: Path
    identity: dict[str, Any]
    data: Any
    finished: bool


def recorded_runs(folder: Path, console: Console) -> list[RecordedRun]:
    """The started runs of `run_folders(folder)`; a run.json that is damaged or cannot be read is logged."""
    runs = []
    for path in _logged_folders(folder, console):
        if not _is_file(path / RUN):
            continue
        try:
            values = read_json(path / RUN)
        except FileError as error:
            _log_left_out(error, console)
            continue
        if isinstance(identity := values.get("identity"), dict):
            runs.append(RecordedRun(path, identity, values.get("data"), is_finished(path)))
    return runs


@dataclass(frozen=True)
class Finished:
    """A finished run and its result."""

    folder: Path
    result: Mapping[str, Any]

    @property
    def top1(self) -> float:
        """In percent, after the last timestep."""
        return float(self.result["curve"][-1]["top1"])


def finished_runs(stage: str, folder: Path, console: Console) -> list[Finished]:
    """The finished runs of `stage` in `run_folders(folder)`, oldest first; logs unreadable results."""
    runs = []
    for path in filter(is_finished, _logged_folders(folder, console)):
        try:
            run = Finished(path, read_result(path))
            if run.result["stage"] == stage and run.top1 >= 0:
                runs.append(((path / RESULT).stat().st_mtime_ns, run))
        except FileError as error:
            _log_left_out(error, console)
        except (KeyError, IndexError, TypeError, ValueError):
            _log_left_out(f"{path / RESULT}: not a result of snnkd", console)
    return [run for _, run in sorted(runs, key=lambda pair: (pair[0], str(pair[1].folder)))]


def choose(runs: list[Finished], kind: str, latest: bool, option: str, missing_message: str) -> Finished:
    """The one run of `runs`, or with `latest` the one that finished last.

    Runs with the same weights count as one. Raises FileError with `missing_message` for none, UsageError
    that lists them for several.
    """
    if not runs:
        raise FileError(missing_message)
    different = {run.result.get("weights_sha256", run.folder) for run in runs}
    if len(different) > 1 and not latest:
        names = ", ".join(f"{run.folder} ({run.top1:.1f} %)" for run in runs[-MAX_LISTED:])
        if len(runs) > MAX_LISTED:
            names = f"... (`snnkd status` lists all), {names}"
        raise UsageError(f"{len(runs)} finished {kind} runs: {names}; name one, or {option} for the newest")
    return runs[-1]


def choose_student(latest: bool, console: Console) -> Path:
    """The one finished student of the runs folder, or with `latest` the newest; raises as `choose`."""
    message = f"no finished student under {runs_folder()}; run `snnkd distill` first, or name a run"
    students = finished_runs("distill", runs_folder(), console)
    return choose(students, "student", latest, "--latest", message).folder


@dataclass(frozen=True)
class Status:
    """One line of `snnkd status`: the state is done, running, stopped, failed or stale."""

    folder: Path
    state: str
    note: str


def run_status(folder: Path) -> Status:
    """The state of a run.

    done: it has a result; running: it is locked; stopped or failed: how its last command ended; stale: its
    process was killed.
    """
    holder = read_holder(folder)
    if is_held(folder):
        return Status(folder, "running", describe_holder(holder))
    if is_finished(folder):
        return _finished_status(folder)
    state = holder.get("state")
    if state in ("stopped", "failed"):
        return Status(folder, state, str(holder.get("why", "")))
    return Status(folder, "stale", "killed while running; the same command continues")


def _finished_status(folder: Path) -> Status:
    """done, or failed if the result or the weights are damaged."""
    try:
        end = read_result(folder)["curve"][-1]
        note = f"top-1 {end['top1']:.2f} % at t = {end['t']}"
        weights = folder / "model.safetensors"
        weights.open("rb").close()  # safe_open calls a file that it may not read missing
        # opening reads the header and checks the file's length
        with safe_open(weights, framework="numpy"):
            return Status(folder, "done", note)
    except PermissionError as error:
        raise from_os_error(error, folder / "model.safetensors") from error
    except (OSError, SafetensorError) as error:
        why = str(error).replace("\n", " ")
        return Status(
            folder, "failed", f"model.safetensors is damaged ({why}); set the run aside with --fresh"
        )
    except (FileError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return Status(folder, "failed", f"{RESULT} is damaged; remove it and repeat the command")


def all_status(folder: Path, console: Console) -> list[Status]:
    """The states of `run_folders(folder)`; logs unreadable ones. Raises FileError if there is none."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: a file, not a folder of runs")
    if not folder.is_dir():
        raise FileError(
            f"{folder}: no such folder; "
            f"runs are under {runs_folder()} unless SNNKD_RUNS or --out names another"
        )
    states = []
    for path in _logged_folders(folder, console):
        try:
            states.append(run_status(path))
        except FileError as error:
            if path == folder:
                raise
            _log_left_out(error, console)
    if not states:
        raise FileError(f"{folder}: contains no runs; give a folder of runs")
    return states


def exit_code(runs: list[Status]) -> int:
    """0 if all are done, 4 if any failed, else 75 (some can be continued)."""
    states = {status.state for status in runs}
    return 4 if "failed" in states else 0 if states <= {"done"} else 75
