"""Sweeps: the product of the lists of a `sweep:` section as tasks, all resolved before any runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from snnkd.errors import UsageError, counted, did_you_mean
from snnkd.recipe.axes import MAX_TASKS, Axes, Values, check_axes, format_value
from snnkd.recipe.cells import (
    LOSS_OPTION,
    check_search,
    count_tasks,
    draw_cells,
    read_cells,
    sweep_notes,
)
from snnkd.recipe.effect import check_effect
from snnkd.recipe.keys import STAGES, applies
from snnkd.recipe.loader import read_recipe
from snnkd.recipe.loss_section import loss_label
from snnkd.recipe.overrides import apply_setting, expand_sections, set_swept_value
from snnkd.recipe.resolve import Pipeline, resolve_document
from snnkd.recipe.sweep_option import add_axes
from snnkd.schema import fields
from snnkd.schema.fields import copy_plain, to_plain
from snnkd.schema.run import CompareConfig, SearchConfig, StageRecipe

MAX_NAME_LENGTH = 300


@dataclass(frozen=True, kw_only=True)
class Task:
    """One combination of a sweep, resolved; without a sweep, the recipe itself."""

    number: int
    settings: Values
    """The value of each swept key."""
    pipeline: Pipeline

    @property
    def line(self) -> str:
        return "  ".join([str(self.number), *_pairs(self.settings)])

    @property
    def name(self) -> str:
        """Its name in messages; empty without a sweep."""
        return _task_name(self.number, self.settings) if self.settings else ""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """All tasks of a recipe, in order, and their source."""

    recipe: str
    document: Values
    """The recipe after `extends`, without its sweep and search."""
    axes: Axes
    all: tuple[Task, ...]
    search: SearchConfig | None = None
    notes: tuple[str, ...] = ()
    """Sentences on keys that only some losses have."""
    option_axes: Values = field(default_factory=dict)
    """The axes given by --sweep."""

    @property
    def compare(self) -> CompareConfig | None:
        """The `compare:` section, the same for all tasks; None without one."""
        return self.all[0].pipeline.compare

    @property
    def summary(self) -> list[str]:
        """Lines that describe the sweep; none without one."""
        if not self.axes:
            return []
        return [
            f"sweep: {counted(len(self.all), 'task')} (`snnkd run {self.recipe} --tasks` lists them); "
            f"the figures below are for {self.all[0].name}",
            *self.notes,
        ]

    def select(self, number: str | None) -> tuple[Task, ...]:
        """The task of a number given as text, or all tasks. Raises UsageError that names the range."""
        if number is None:
            return self.all
        last = len(self.all) - 1
        rule = f"{self.recipe} has tasks 0 to {last}" if last else f"{self.recipe} has one task, 0"
        if not (number.isascii() and number.isdecimal()):
            empty = " (is the shell variable set?)" if not number.strip() else ""
            raise UsageError(f"--task {number!r} is not a whole number{empty}; {rule}")
        if len(number) > len(str(MAX_TASKS)) or int(number) > last:
            raise UsageError(f"--task {number[:20]} is out of range; {rule}; --tasks lists them")
        return (self.all[int(number)],)


def resolve_tasks(recipe: str, settings: Sequence[str] = (), sweep: Sequence[str] = ()) -> Tasks:
    """The tasks of `recipe`; `settings` apply to every task, `sweep.KEY=[...]` to the sweep itself.

    `sweep` has axes as `--sweep` gives them (see sweep_option). Raises UsageError (request) or FileError
    (recipe file); an error of one task names the task.
    """
    document = read_recipe(recipe)
    rest = []
    for setting in settings:
        head = setting.partition("=")[0].split(".")[0]
        if head == "sweep":
            _set_axis(document, setting)
        elif head == "search":
            apply_setting(document, setting)
        else:
            rest.append(setting)
    axes = add_axes(document, sweep)
    return replace(tasks_of(document, recipe, rest), option_axes=axes)


def tasks_of(document: Values, recipe: str, settings: Sequence[str] = ()) -> Tasks:
    """Resolve the tasks of a parsed recipe."""
    base, axes, search = _split(document)
    _check_settings(settings, axes)
    cells = read_cells(axes, base)
    check_search(cells, search)
    resolved: list[Task] = []
    unique: dict[str, Task] = {}
    for number, cell in enumerate(draw_cells(cells, search)):
        task = Task(
            number=number, settings=cell, pipeline=_resolve_cell(number, cell, base, recipe, settings)
        )
        first = unique.setdefault(repr(task.pipeline), task)
        if first is not task:
            raise UsageError(
                f"sweep: {first.name} and {task.name} resolve to the same run; "
                "remove a value, or the key that overrides it"
            )
        resolved.append(task)
    check_effect([task.pipeline.distill for task in resolved if task.pipeline.distill])
    if search:
        check_validation(resolved, "search")
    _check_compare(resolved)
    return Tasks(
        recipe=recipe,
        document=base,
        axes=axes,
        search=search,
        notes=sweep_notes(cells),
        all=tuple(resolved),
    )


def sweep_notice(recipe: str, stage: StageRecipe, command: str) -> list[str]:
    """The line that a command logs about a recipe's sweep, which it does not run; none without a sweep.

    `stage` is the resolved recipe. Raises UsageError for an invalid sweep.
    """
    document = read_recipe(recipe)
    if "sweep" not in document:
        return []
    base, axes, search = _split(document)
    cells = read_cells(axes, base)
    check_search(cells, search)
    count, used = count_tasks(cells, search), []
    for key in axes:
        head, _, rest = key.partition(".")
        path = rest if head == stage.stage else key
        value = _value_at(to_plain(stage), path)
        lacking = value is None and LOSS_OPTION.match(path)  # an option of another loss
        if applies(path, stage.stage) and not lacking:
            used.append(f"{key}={format_value(key, value)}")
    values = f"it uses {', '.join(used)}" if used else "no swept key applies to this stage"
    return [
        f"{recipe} has a sweep of {counted(count, 'task')}, which `snnkd {command}` does not run: {values}; "
        f"`snnkd run {recipe} --task K` runs one"
    ]


def _value_at(stage: Values, path: str) -> Any:
    """Value of a swept key in a stage: the name of a section, or an option of the first term that has it."""
    value: Any = stage
    for key in path.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping) and "terms" in value and key not in value:
            value = next((term[key] for term in value["terms"] if key in term), None)
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value["name"] if isinstance(value, Mapping) and "name" in value and path != "loss" else value


def _check_compare(tasks: Sequence[Task]) -> None:
    """Raise UsageError before training for a comparison that would fail after it."""
    compare, measured = tasks[0].pipeline.compare, tasks[0].pipeline.eval
    if compare is None:
        return
    students = [task.pipeline.distill for task in tasks if task.pipeline.distill]
    known = {name for student in students for name in (student.loss.name, loss_label(to_plain(student.loss)))}
    # labels of rows may end with settings: kl lr=0.05
    if compare.baseline is not None and not any(
        f"{compare.baseline} ".startswith(f"{name} ") for name in known
    ):
        raise UsageError(
            f"compare.baseline: {compare.baseline!r} is not a loss of this "
            f"recipe{did_you_mean(compare.baseline, known)}"
        )
    if compare.rank_on or compare.split == "val":
        check_validation(tasks, "compare.rank_on: val" if compare.rank_on else "compare.split: val")
    if compare.split == "val" and (measured is None or measured.split != "val"):
        raise UsageError(
            "compare.split: val needs the section 'eval: {split: val}', which measures every student there"
        )


def check_validation(tasks: Sequence[Task], key: str) -> None:
    """Raise UsageError for a last stage without validation images; `key` needs them."""
    for stage in (task.pipeline.distill or task.pipeline.teach for task in tasks):
        if stage and stage.data.val_fraction == 0 and ":" not in stage.data.name:
            raise UsageError(
                f"{key} needs data.val_fraction above 0; nothing is ever selected on the test split"
            )


def _resolve_cell(number: int, cell: Values, base: Values, recipe: str, settings: Sequence[str]) -> Pipeline:
    document = copy_plain(base)
    try:
        # sections before their keys, whatever the order in the file: distill.loss before distill.loss.head
        for key in sorted(cell, key=lambda key: key.count(".")):
            set_swept_value(document, key, copy_plain(cell[key]))
        return resolve_document(document, recipe, settings)
    except UsageError as error:
        if not cell or _base_error(base, recipe, settings) == str(error):
            raise
        message = str(error).removeprefix("sweep ")
        raise UsageError(f"sweep: {_task_name(number, cell)}: {message}") from error


def _base_error(base: Values, recipe: str, settings: Sequence[str]) -> str:
    """The error of the recipe without swept values; empty if it is valid."""
    try:
        resolve_document(base, recipe, settings)
    except UsageError as error:
        return str(error)
    return ""


def _split(document: Values) -> tuple[Values, Axes, SearchConfig | None]:
    """The recipe without its sweep, the sweep's axes, and how it is searched."""
    base = expand_sections(
        copy_plain({key: value for key, value in document.items() if key not in ("sweep", "search")})
    )
    axes = check_axes(document["sweep"], base) if "sweep" in document else {}
    search = fields.build(SearchConfig, document["search"], "search") if "search" in document else None
    return base, axes, search


def _set_axis(document: Values, setting: str) -> None:
    """Set `sweep.KEY=[...]` in place; KEY may contain dots."""
    path, _, text = setting.partition("=")
    parsed: Values = {}
    apply_setting(parsed, f"value={text}")
    key = path.strip().partition(".")[2]
    if not key:
        document["sweep"] = parsed["value"]
    elif isinstance(sweep := document.setdefault("sweep", {}), dict):
        sweep[key] = parsed["value"]


def _check_settings(settings: Sequence[str], axes: Axes) -> None:
    """Raise UsageError for a setting that overrides a swept key in every task."""
    for setting in settings:
        path = setting.partition("=")[0].strip()
        for key in axes:
            head, _, rest = key.partition(".")
            # a setting of a shared key also overrides the stages' sections
            if any(f"{swept}.".startswith(f"{path}.") for swept in (key, rest if head in STAGES else key)):
                raise UsageError(
                    f"--set {setting!r}: {key!r} is swept; "
                    f"choose one with --task, or change the list: --set 'sweep.{key}=[...]'"
                )


def _pairs(settings: Values) -> list[str]:
    return [f"{key}={format_value(key, value)}" for key, value in settings.items()]


def _task_name(number: int, settings: Values) -> str:
    pairs = ", ".join(_pairs(settings))
    return f"task {number} ({pairs if len(pairs) <= MAX_NAME_LENGTH else f'{pairs[:MAX_NAME_LENGTH]}...'})"
