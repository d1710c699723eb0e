"""Finding runs: finished teachers and students, and the state of every run in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from snnkd.errors import FileError, UsageError
from snnkd.runs.folder import RECIPE, RESULT, RUN, is_finished, read_result, runs_folder
from snnkd.runs.lock import is_held, read_holder

LATEST = "latest"
MOST_LISTED = 6


@dataclass(frozen=True)
class Finished:
    """A finished run and its result."""

    folder: Path
    result: dict[str, Any]

    @property
    def top1(self) -> float:
        """In percent, after the last timestep."""
        return float(self.result["curve"][-1]["top1"])


def finished_runs(stage: str, folder: Path | None = None) -> list[Finished]:
    """Finished runs of `stage` directly under `folder`, oldest first; damaged results are passed over."""
    found = []
    for path in _run_folders(folder or runs_folder()):
        if not is_finished(path):
            continue
        try:
            run = Finished(path, read_result(path))
            if run.result["stage"] == stage and run.top1 >= 0:
                found.append(((path / RESULT).stat().st_mtime_ns, run))
        except (FileError, KeyError, IndexError, TypeError, ValueError):
            continue
    return [run for _, run in sorted(found, key=lambda pair: (pair[0], str(pair[1].folder)))]


def _run_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def choose(runs: list[Finished], what: str, latest: bool, option: str, absent: str) -> Finished:
    """The one run of `runs`, or the last finished with `latest`.

    Raises FileError with `absent` when there is none, UsageError that lists them when there are several.
    """
    if not runs:
        raise FileError(absent)
    if len(runs) > 1 and not latest:
        names = ", ".join(f"{run.folder} ({run.top1:.1f} %)" for run in runs[-MOST_LISTED:])
        if len(runs) > MOST_LISTED:
            names = f"... (`snnkd status` lists all), {names}"
        raise UsageError(f"{len(runs)} finished {what} runs: {names}; name one, or {option} for the newest")
    return runs[-1]


@dataclass(frozen=True)
class Status:
    """One line of `snnkd status`: the state is done, running, stopped, failed or stale."""

    folder: Path
    state: str
    note: str


def run_status(folder: Path) -> Status:
    """done: result.json stands; running: its lock is held; stopped, failed: so it ended; stale: killed, nobody holds it."""
    holder = read_holder(folder)
    if is_held(folder):
        return Status(
            folder,
            "running",
            f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}",
        )
    if is_finished(folder):
        try:
            end = read_result(folder)["curve"][-1]
            note = f"top-1 {end['top1']:.2f} % at t = {end['t']}"
            with safe_open(
                folder / "model.safetensors", framework="numpy"
            ):  # reads the header and compares the length
                return Status(folder, "done", note)
        except (OSError, SafetensorError) as error:
            return Status(
                folder,
                "failed",
                f"model.safetensors is damaged ({error}); set the run aside with --fresh".replace("\n", " "),
            )
        except (FileError, KeyError, IndexError, TypeError, ValueError):
            return Status(folder, "failed", f"{RESULT} is damaged; remove it and repeat the command")
    state = holder.get("state")
    if state in ("stopped", "failed"):
        return Status(folder, state, str(holder.get("why", "")))
    return Status(folder, "stale", "killed while it ran; the same command continues")


def all_status(folder: Path) -> list[Status]:
    """The state of `folder` itself if it is a run, else of every run in it. Raises FileError when there is none."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: a file, not a folder of runs")
    if not folder.is_dir():
        raise FileError(
            f"{folder}: no such folder; runs are under {runs_folder()} unless SNNKD_RUNS or --out says otherwise"
        )
    is_run: Callable[[Path], bool] = lambda path: (path / RUN).is_file() or (path / RECIPE).is_file()  # noqa: E731
    found = [folder] if is_run(folder) else list(filter(is_run, _run_folders(folder)))
    if not found:
        raise FileError(f"{folder}: holds no runs")
    return [run_status(path) for path in found]


def exit_code(found: list[Status]) -> int:
    """0 if all are done, 4 if any failed, else 75 (something is still to do)."""
    states = {status.state for status in found}
    return 4 if "failed" in states else 0 if states <= {"done"} else 75
