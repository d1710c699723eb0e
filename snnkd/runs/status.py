"""The state of runs, how far each is, and the recipe keys whose values differ between them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.files import RUN, WEIGHTS, continue_command, from_os_error, read_json, short_hash
from snnkd.recipe.loss_section import label_of
from snnkd.runs.find import log_left_out, logged_folders
from snnkd.runs.folder import RESULT, TAGS, flatten, is_finished, read_result, runs_folder
from snnkd.runs.lock import MAX_STARTS, describe_holder, is_held, read_holder, vain_starts
from snnkd.runs.lock import NAME as LOCK
from snnkd.runs.metrics import NAME as METRICS
from snnkd.runs.metrics import read_metrics

UNFINISHED = ("stopped", "failed", "stale")
CONTINUES = "; the same command continues"
_IN_COLUMNS = (
    "schema",
    "stage",
    "seed",
    "data.name",
    "model.name",
    "model.T",
    "neuron.name",
    "loss.name",
    "train.epochs",
)


@dataclass(frozen=True, kw_only=True)
class Status:
    """One run; what is not recorded or does not apply is None.

    `state` is done, running, stopped, failed or stale; accuracies are in percent.
    """

    folder: Path
    state: str
    note: str
    stage: str | None = None
    data: str | None = None
    model: str | None = None
    neuron: str | None = None
    loss: str | None = None
    """With the options that differ from its preset."""
    T: int | None = None
    seed: int | None = None
    epoch: int | None = None
    """Finished epochs, of `epochs`."""
    epochs: int | None = None
    age_s: int | None = None
    """Seconds since the last epoch or, for a finished run, its result."""
    val_top1: float | None = None
    """Of the last epoch; of a finished run's epoch that was measured."""
    test_top1: float | None = None
    tags: Sequence[str] = ()
    """Of `snnkd runs tag`."""
    job: str | None = None
    """Slurm job of its last command: 17, or 17_3 for task 3 of an array."""
    host: str | None = None
    """Machine of its last command; of several that of rank 0."""
    command: str | None = None
    """Continues an unfinished run."""
    settings: Mapping[str, Any]
    """Values of the recipe keys that differ between the listed runs of its stage."""


def run_status(folder: Path) -> Status:
    """The state of a run, with all of its recipe keys as `settings`.

    done: it has a result; running: it is locked; stopped or failed: how its last command ended; stale: its
    process was killed.
    """
    finished = is_finished(folder)
    state, note = _state(folder, finished)
    recorded = _recorded(folder)
    identity = _section(recorded, "identity")
    rows = _metrics(folder)
    result = _result(folder) if state == "done" else {}
    epoch = _get(result, int, "selection", "epoch")
    val = [row.get("val_top1") for row in rows if epoch in (None, row["epoch"])]
    loss, holder = _section(identity, "loss"), read_holder(folder)
    return Status(
        folder=folder,
        state=state,
        note=note,
        stage=_get(identity, str, "stage") or _get(result, str, "stage"),
        data=_get(recorded, str, "data", "name"),
        model=_get(identity, str, "model", "name"),
        neuron=_get(identity, str, "neuron", "name"),
        loss=label_of(loss) if "name" in loss else None,
        T=_get(identity, int, "model", "T"),
        seed=_get(identity, int, "seed"),
        epoch=rows[-1]["epoch"] if rows else 0 if identity else None,
        epochs=_get(identity, int, "train", "epochs"),
        age_s=_age(folder, finished),
        val_top1=float(val[-1]) if val and isinstance(val[-1], (int, float)) else None,
        test_top1=float(result["curve"][-1]["top1"]) if result else None,
        tags=_tags(folder),
        job=_get(holder, str, "job"),
        host=_get(holder, str, "host"),
        command=continue_command(folder) if state in UNFINISHED and not finished else None,
        settings=_present(flatten({**identity, "data": _section(recorded, "data")})),
    )


def _state(folder: Path, finished: bool) -> tuple[str, str]:
    holder = read_holder(folder)
    if is_held(folder):
        return "running", describe_holder(holder)
    if finished:
        return _finished_state(folder)
    state = holder.get("state")
    if state == "running" and vain_starts(folder, holder) >= MAX_STARTS:
        return "failed", f"killed at its {holder['starts']}th start in a row without a new checkpoint"
    if state in ("stopped", "failed"):
        return state, str(holder.get("why", ""))
    return "stale", f"killed while running{CONTINUES}"


def _finished_state(folder: Path) -> tuple[str, str]:
    """done, or failed if the result or the weights are damaged."""
    try:
        result = read_result(folder)
        end = result["curve"][-1]
        at = "" if result.get("trained_T") is None else f" at t = {end['t']}"
        note = f"top-1 {end['top1']:.2f} %{at}"
        weights = folder / WEIGHTS
        weights.open("rb").close()  # safe_open calls a file that it may not read missing
        # opening reads the header and checks the file's length
        with safe_open(weights, framework="numpy"):
            return "done", note
    except PermissionError as error:
        raise from_os_error(error, folder / WEIGHTS) from error
    except (OSError, SafetensorError) as error:
        why = str(error).replace("\n", " ")
        return "failed", f"{WEIGHTS} is damaged ({why}); set the run aside with --fresh"
    except (FileError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return "failed", f"{RESULT} is damaged; remove it and repeat the command"


def _result(folder: Path) -> dict[str, Any]:
    with suppress(FileError):
        return read_result(folder)
    return {}


def _tags(folder: Path) -> tuple[str, ...]:
    """The user's tags; none where the file is missing or damaged."""
    with suppress(FileError):
        tags = read_json(folder / TAGS).get("tags")
        return tuple(map(str, tags)) if isinstance(tags, list) else ()
    return ()


def _recorded(folder: Path) -> dict[str, Any]:
    """run.json; empty where there is none, as in a run that was killed before it, or where it is damaged."""
    with suppress(FileError):
        return read_json(folder / RUN)
    return {}


def _present(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _metrics(folder: Path) -> list[dict[str, Any]]:
    with suppress(OSError):
        return read_metrics(folder)
    return []


def _section(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = values.get(key)
    return section if isinstance(section, dict) else {}


def _get(values: Mapping[str, Any], kind: type, *path: str) -> Any:
    """The value at `path` if it is of this type; files may be damaged."""
    for key in path[:-1]:
        values = _section(values, key)
    value = values.get(path[-1])
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _age(folder: Path, finished: bool) -> int | None:
    times = []
    for name in (RESULT,) if finished else (RUN, LOCK, METRICS):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(0, round(time.time() - max(times))) if times else None


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
    for path in logged_folders(folder, console):
        try:
            states.append(run_status(path))
        except FileError as error:
            if path == folder:
                raise
            log_left_out(error, console)
    if not states:
        raise FileError(f"{folder}: contains no runs; give a folder of runs")
    differing = _differing(states)
    return [
        replace(
            each,
            settings={k: _short(v) for k, v in each.settings.items() if (each.stage, k) in differing},
        )
        for each in states
    ]


def _differing(runs: Sequence[Status]) -> set[tuple[str | None, str]]:
    """Stages and their recipe keys with several values; a key of a section, such as `loss.delta`, is compared
    where the section has the same name."""
    groups: dict[tuple[str | None, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        for section in {key.partition(".")[0] for key in run.settings}:
            name = str(run.settings.get(f"{section}.name"))
            groups.setdefault((run.stage, section, name), []).append(run.settings)
    return {
        (stage, key)
        for (stage, section, _), members in groups.items()
        for key in {key for settings in members for key in settings}
        if key.partition(".")[0] == section and key not in _IN_COLUMNS
        if len({json.dumps(settings.get(key), sort_keys=True) for settings in members}) > 1
    }


def _short(value: Any) -> Any:
    """Six digits of a sha256; a list as text."""
    if isinstance(value, list):
        return "+".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return short_hash(value) if isinstance(value, str) else value


def exit_code(runs: Sequence[Status]) -> int:
    """0 if all are done, 4 if any failed, else 75 (some can be continued)."""
    states = {status.state for status in runs}
    return 4 if "failed" in states else 0 if states <= {"done"} else 75
