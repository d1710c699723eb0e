"""Files and folders that a command line names, looked for before torch is imported, which takes longer than
all of a refusal.

A request for a GPU is not looked at here: whether there is one is asked first, and only torch knows. Neither
are places under torchrun, whose processes refuse together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from snnkd import distributed
from snnkd.catalog.formats import EXPORTS
from snnkd.catalog.hub import check_address, is_address
from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.exports.extras import check_installed
from snnkd.files import RUN, find_network, user_path
from snnkd.recipe import Pipeline
from snnkd.runs.find import LATEST, choose_student, finished_runs, missing_teacher
from snnkd.runs.folder import RECIPE, is_finished, runs_folder
from snnkd.schema.data import DataConfig
from snnkd.schema.run import DistillRecipe, StageRecipe

QUIET = Console(quiet=True)


def check_stage(recipe: StageRecipe, *, trains_teacher: bool = False) -> None:
    """Raise FileError where a stage's data, or a teacher that is not trained now, cannot be there."""
    if recipe.execution.device not in ("auto", "cpu") or distributed.world_size() > 1:
        return
    check_data(recipe.data)
    if isinstance(recipe, DistillRecipe) and recipe.needs_teacher and not trains_teacher:
        _check_teacher(recipe)


def check_pipelines(pipelines: Iterable[Pipeline]) -> None:
    """`check_stage` of each stage of a sweep's tasks, once for equal data and teachers."""
    checked: set[str] = set()
    for pipeline in pipelines:
        for stage in pipeline.stages:
            key = repr((stage.data.name, stage.needs_teacher, getattr(stage, "teacher", None)))
            if key not in checked:
                check_stage(stage, trains_teacher=pipeline.teach is not None)
                checked.add(key)


def check_data(config: DataConfig) -> None:
    """Raise FileError for data of the user's whose path is not there."""
    kind, _, path = config.name.partition(":")
    if kind == "npz" and not user_path(path).exists():
        raise FileError(f"{user_path(path)}: no such file or directory")
    if kind == "imagefolder" and not user_path(path).is_dir():
        raise FileError(
            f"{user_path(path)}: no such folder; expected train/CLASS/*.jpg and test/CLASS/*.jpg there"
        )


def _check_teacher(recipe: DistillRecipe) -> None:
    teacher = recipe.teacher
    if teacher.run == "pretrained" or is_address(teacher.run):
        return  # from a hub
    if teacher.run is None or teacher.run == LATEST:
        if not any(finished_runs(stage, runs_folder(), QUIET) for stage in ("teach", "distill")):
            raise FileError(missing_teacher(recipe.data.name, runs_folder(), QUIET))
    elif teacher.model is not None:
        # the name of a library's network, or of a function, is checked before a file, with the library
        if ":" not in teacher.model.name and not Path(teacher.run).is_file():
            raise FileError(
                f"{teacher.run}: no such file; give the weights of the teacher, {teacher.model.name}"
            )
    elif teacher.sha256 is None:  # else a run with these weights is looked for
        find_network(Path(teacher.run))


def check_networks(runs: Sequence[Path], latest: bool) -> None:
    """Raise FileError where one of `runs` is no network, without any where there is no finished student.

    Raises UsageError for a malformed address of the hub.
    """
    for run in filter(is_address, runs):
        check_address(str(run), "RUN")
    if distributed.world_size() > 1:
        return
    for run in runs:
        if not is_address(run):
            find_network(run)
    if not runs:
        choose_student(latest, QUIET)


def check_finished(run: Path) -> None:
    """Raise FileError unless `run` is a finished run."""
    find_network(run)
    if not is_finished(run):
        raise FileError(f"{run}: not a finished run; name one that `snnkd status` calls done")


def note_other_run(recipe: str, out: Path | None = None) -> list[str]:
    """The line about the recipe of a run in another runs folder: it trains a run of its own here."""
    run, here = Path(recipe).absolute().parent, runs_folder()
    if out is not None or not (Path(recipe).name == RECIPE and (run / RUN).is_file()):
        return []
    if run.parent.resolve() == here.resolve():
        return []
    return [f"{recipe} trains a run of its own in {here}; with SNNKD_RUNS={run.parent} it continues that run"]


def check_format(name: str) -> None:
    """Raise UsageError for an unknown export format, or one whose packages are missing."""
    check_installed(EXPORTS[name])
