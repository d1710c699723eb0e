"""What can be refused before the first task of a recipe begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from snnkd import distributed
from snnkd.catalog.formats import EXPORTS
from snnkd.context import RunContext
from snnkd.data import FetchOptions, ImageSet, check_fit, load_data
from snnkd.environment import pick_device
from snnkd.errors import UsageError
from snnkd.exports.export import check_supported
from snnkd.exports.extras import check_installed
from snnkd.exports.source import Source
from snnkd.models.files import LoadedNetwork
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.sweep import Task
from snnkd.schema.run import ExportConfig, StageRecipe
from snnkd.training.setup import check_execution, random_network
from snnkd.training.tracking import check_trackers


def check_tasks(tasks: Sequence[Task], context: RunContext) -> None:
    """Raise errors of later stages or tasks now, not after hours of training."""
    by_data: dict[str, list[tuple[Task, StageRecipe]]] = {}
    for task in tasks:
        with _naming(task):
            for format in task.pipeline.export.formats if task.pipeline.export else ():
                check_installed(EXPORTS[format])
            for stage in task.pipeline.stages:
                check_trackers(stage.execution)
                distributed.on_every_rank(pick_device)(stage.execution.device)
                by_data.setdefault(repr(stage.data), []).append((task, stage))
            if task.pipeline.eval and not task.pipeline.distill and task.pipeline.eval.T not in (None, 1):
                raise UsageError(
                    f"eval.T: {task.pipeline.eval.T} given for a teacher, which has no timesteps"
                )
    for group in by_data.values():  # each data set is loaded once
        data = load_data(group[0][1].data, context.console, fetch=FetchOptions(stop=context.stop.check))
        exports: dict[str, tuple[Task, StageRecipe]] = {}  # of equal networks one is built
        for task, stage in group:
            with _naming(task):
                check_fit(stage.train, data, stage.data.augment)
                check_execution(stage.train, stage.execution, pick_device(stage.execution.device))
                if stage is task.pipeline.stages[-1]:
                    _check_splits(task.pipeline, data)
                    key = repr((stage.model, getattr(stage, "neuron", None), task.pipeline.export))
                    exports.setdefault(key, (task, stage))
        for task, stage in exports.values():
            with _naming(task):
                _check_export(task.pipeline.export, stage, data)


def _check_splits(pipeline: Pipeline, data: ImageSet) -> None:
    if pipeline.eval:
        data.split(pipeline.eval.split)
    if pipeline.compare and pipeline.compare.rank_on:
        data.split(pipeline.compare.rank_on)


def _check_export(export: ExportConfig | None, stage: StageRecipe, data: ImageSet) -> None:
    """Refuse a format that does not support the network that `stage` will train."""
    if export is None:
        return
    network = random_network(stage, data)
    source = Source(LoadedNetwork(network, {}, "", Path()), network.specification.T)
    for name in export.formats:
        check_supported(EXPORTS[name], source)


@contextmanager
def _naming(task: Task) -> Iterator[None]:
    """A refusal inside names the task of a sweep."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{task.name}: {error}" if task.name else str(error)) from error
