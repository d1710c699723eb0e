"""Finding runs: those of a folder, and finished teachers and students."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.files import RUN, continue_command, read_json, reason
from snnkd.runs.folder import RECIPE, RESULT, is_finished, read_result, runs_folder

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


def logged_folders(folder: Path, console: Console) -> list[Path]:
    return run_folders(folder, lambda path, why: log_left_out(f"{path}: {why}", console))


def log_left_out(why: object, console: Console) -> None:
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
    for path in logged_folders(folder, console):
        if not _is_file(path / RUN):
            continue
        try:
            values = read_json(path / RUN)
        except FileError as error:
            log_left_out(error, console)
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
    for path in filter(is_finished, logged_folders(folder, console)):
        try:
            run = Finished(path, read_result(path))
            if run.result["stage"] == stage and run.top1 >= 0:
                runs.append(((path / RESULT).stat().st_mtime_ns, run))
        except FileError as error:
            log_left_out(error, console)
        except (KeyError, IndexError, TypeError, ValueError):
            log_left_out(f"{path / RESULT}: not a result of snnkd", console)
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


def how_to_continue(stage: str, folder: Path, console: Console) -> str:
    """The newest unfinished run of `stage` and what continues it; empty if there is none."""
    begun = [run for run in recorded_runs(folder, console) if run.identity.get("stage") == stage]
    commands = {run.folder: continue_command(run.folder) for run in begun if not run.finished}
    runs = sorted((run for run in commands if commands[run]), key=lambda run: (run / RUN).stat().st_mtime_ns)
    return f"{runs[-1]} is unfinished: `{commands[runs[-1]]}` continues it" if runs else ""


def missing_teacher(data: str, folder: Path, console: Console) -> str:
    """The message where `folder` has no finished teacher of this data: what it has instead, or how to train
    one."""
    missing = f"no finished teacher of this data ({data}) under the runs folder"
    trained_on = {run.folder: str(run.result.get("data")) for run in finished_runs("teach", folder, console)}
    others = [f"{run} ({name})" for run, name in trained_on.items() if name != data]
    if others:
        *_, name = (name for name in trained_on.values() if name != data)
        more = f"{len(others) - MAX_LISTED} more, " if len(others) > MAX_LISTED else ""
        return f"{missing}, only {more}{', '.join(others[-MAX_LISTED:])}; add --data {shlex.quote(name)}"
    remedy = how_to_continue("teach", folder, console) or "run `snnkd teach` first, or give --teacher RUN"
    return f"{missing}; {remedy}"


def choose_student(latest: bool, console: Console) -> Path:
    """The one finished student of the runs folder, or with `latest` the newest; raises as `choose`."""
    remedy = how_to_continue("distill", runs_folder(), console) or "run `snnkd distill` first, or name a run"
    message = f"no finished student under {runs_folder()}; {remedy}"
    students = finished_runs("distill", runs_folder(), console)
    return choose(students, "student", latest, "--latest", message).folder
