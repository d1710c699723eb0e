"""The trackers of a run, as `execution.track` names them. One that fails never stops a run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snnkd import distributed
from snnkd.catalog.trackers import TRACKERS
from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.files import check_guard, read_json, write_json
from snnkd.measure.result import ResultDict
from snnkd.runs.folder import flatten
from snnkd.runs.metrics import read_metrics
from snnkd.schema.fields import to_plain
from snnkd.schema.run import ExecutionConfig
from snnkd.training.setup import Stage
from snnkd.training.trackers import TrackedRun, Tracker

ID = "track.json"


def check_trackers(execution: ExecutionConfig) -> None:
    """Raise UsageError if the package of a tracker is missing."""
    for name in execution.track:
        package = TRACKERS[name].package
        if find_spec(package) is None:
            raise UsageError(f"execution.track: {package} is not installed: pip install {package}")


class Tracking:
    """The trackers of one command on one run; without any on ranks other than 0."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder, self._console = folder, console
        self._trackers: dict[str, Tracker] = {}
        self._done = False

    def start(self, names: tuple[str, ...], config: Mapping[str, Any]) -> None:
        for name in names:
            with self._surviving(name):
                check_guard(self._folder)
                run = TrackedRun(self._folder, _record_id(self._folder), config)
                self._trackers[name] = TRACKERS[name].load()(run)

    def log(self) -> None:
        """Record the rows of metrics.jsonl that a tracker does not have: all of a run tracked later."""
        self._each(lambda tracker: _log(tracker, self._folder))

    def finish(self, result: ResultDict, picture: Path) -> None:
        """Record the result and the picture of the run, a PNG file."""
        self.log()
        self._each(lambda tracker: tracker.finish(tracker.logged, result_values(result), picture))
        self._done = True

    def close(self) -> None:
        self._each(lambda tracker: tracker.close(self._done))

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            with self._surviving(name):
                check_guard(self._folder)
                work(tracker)

    @contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        """Turn any error into one warning, and leave the tracker out from then on."""
        try:
            yield
        except Exception as error:  # each tracker has errors of its own, its server's among them
            self._trackers.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self._console.log(f"warning: {name} no longer tracks this run ({reason})")


def _log(tracker: Tracker, folder: Path) -> None:
    for row in read_metrics(folder):
        epoch = row.pop("epoch")
        if epoch > tracker.logged:
            values = {key: float(value) for key, value in row.items() if isinstance(value, (int, float))}
            tracker.log(epoch, values)
            tracker.logged = epoch


def _record_id(folder: Path) -> str:
    """The id of the run at its trackers, made with the first and kept in the run."""
    try:
        return str(read_json(folder / ID)["id"])
    except (FileError, KeyError):
        value = uuid.uuid4().hex[:12]
        write_json(folder / ID, {"id": value})
        return value


def result_values(result: ResultDict) -> dict[str, float]:
    """What trackers show of a result: its numbers at the last timestep, top-1 at every one, and the rate."""
    end = result["curve"][-1]
    values: dict[str, Any] = {key: end[key] for key in ("top1", "top5", "nll", "ece", "synops", "energy_mj")}
    values |= {f"top1_at_{entry['t']}": entry["top1"] for entry in result["curve"]}
    values["rate"] = result["rate"]
    return {key: float(value) for key, value in values.items() if value is not None}


@contextmanager
def tracking(stage: Stage) -> Iterator[Tracking]:
    """The trackers of a stage, closed at the end whether it is done or stopped."""
    run = Tracking(stage.folder, stage.context.console)
    if distributed.is_rank0() and stage.recipe.execution.track:
        run.start(stage.recipe.execution.track, flatten(to_plain(stage.recipe)))
    try:
        yield run
    finally:
        run.close()
