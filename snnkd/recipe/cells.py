"""The combinations of a sweep: the product of its lists, and within each the points of its search.

All combinations of one loss have the same points, and each loss has as many. Points are the outer loop: more
samples add tasks at the end and leave the numbers of the others. An option that only some losses have is
listed and searched for these alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe.axes import Axes, Values, check_count, check_key, format_value, is_distribution
from snnkd.recipe.loss_section import expand_loss, loss_options
from snnkd.recipe.overrides import set_swept_value
from snnkd.recipe.search import MAX_AXES, SearchAxis, draw, read_distribution
from snnkd.schema import fields
from snnkd.schema.fields import copy_plain
from snnkd.schema.run import DistillRecipe, SearchConfig

LOSS_OPTION = re.compile(r"(?:distill\.)?loss\.(\w+)")
LOSS_KEYS = {"name", "hard", "terms"}
"""Keys of every loss."""


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep's lists, with the axes that are searched in it."""

    settings: Values
    """The values of its lists."""
    loss: str
    """Label of the swept loss; empty where none is swept."""
    searched: tuple[SearchAxis, ...]

    @property
    def keys(self) -> list[str]:
        """Its swept keys: those with a list, then those that are searched."""
        return [*self.settings, *(axis.key for axis in self.searched)]


def read_cells(axes: Axes, base: Values) -> list[Cell]:
    """The combinations of the lists of checked axes, in order, the last key fastest.

    Raises UsageError for a distribution that is none, and an option that no loss has.
    """
    shared = [
        SearchAxis(key, read_distribution(key, values), i)
        for i, (key, values) in enumerate((k, v) for k, v in axes.items() if is_distribution(v))
    ]
    lists = {key: values for key, values in axes.items() if not is_distribution(values)}
    cells: dict[str, Cell] = {}
    for values in itertools.product(*lists.values()):
        listed = dict(zip(lists, values, strict=True))
        cell = _read_cell(dict(listed), shared, base)
        # combinations that differ only in options that their loss lacks are one
        cells.setdefault(repr([listed[key] for key in cell.settings]), cell)
    used = {key for cell in cells.values() for key in cell.keys}
    for key in axes:
        if LOSS_OPTION.match(key) and key not in used:
            losses = (_student_loss(base, cell.settings) for cell in cells.values())
            options = {option for loss in losses for option in loss_options(loss)}
            hint = did_you_mean(key.rpartition(".")[2], options)
            raise UsageError(f"sweep: no loss of the recipe has {key!r}{hint}")
    return list(cells.values())


def check_search(cells: Sequence[Cell], search: SearchConfig | None) -> None:
    """Raise UsageError for distributions without `search:`, the reverse, and too many axes or tasks."""
    searched = next((axis.key for cell in cells for axis in cell.searched), None)
    if searched is not None and search is None:
        raise UsageError(f"sweep: {searched!r} is a distribution; add search: {{samples: 16}}")
    if search is not None and searched is None:
        raise UsageError("search: no key of the sweep is a distribution; write KEY: {uniform: [a, b]}")
    if any(axis.dimension >= MAX_AXES for cell in cells for axis in cell.searched):
        raise UsageError(f"sweep: more than {MAX_AXES} distributions; list the values of some keys instead")
    check_count(count_tasks(cells, search))


def count_tasks(cells: Sequence[Cell], search: SearchConfig | None) -> int:
    """The number of tasks: `search.samples` for each combination with a searched key, else one."""
    return sum(search.samples if search and cell.searched else 1 for cell in cells)


def draw_cells(cells: Sequence[Cell], search: SearchConfig | None) -> Iterator[Values]:
    """The settings of every task, in order."""
    drawn: dict[tuple[SearchAxis, ...], list[Values]] = {}
    for k in range(search.samples if search else 1):
        for cell in cells:
            if search and cell.searched:
                if cell.searched not in drawn:
                    where = f"of {cell.loss} " if cell.loss else ""
                    drawn[cell.searched] = draw(cell.searched, search.samples, search.seed, where)
                yield cell.settings | drawn[cell.searched][k]
            elif k == 0:
                yield cell.settings


def sweep_notes(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Sentences on the keys that only some of the losses have, and on losses without a searched key."""
    losses = {cell.loss: cell for cell in cells}
    searched = {axis.key for cell in cells for axis in cell.searched}
    notes = []
    for key in dict.fromkeys(key for cell in cells for key in cell.keys):
        takers = [loss for loss, cell in losses.items() if key in cell.keys]
        if len(takers) < len(losses):
            verb = "search: {} is drawn for" if key in searched else "sweep: {} is varied for"
            notes.append(f"{verb.format(key)} {', '.join(takers)} alone")
    without = [loss for loss, cell in losses.items() if not cell.searched]
    if searched and without:
        notes.append(f"search: {', '.join(without)}: no searched key, one setting")
    return tuple(notes)


def _read_cell(settings: Values, shared: Sequence[SearchAxis], base: Values) -> Cell:
    label, own = "", {}
    for key, value in settings.items():
        if key.rpartition(".")[2] == "loss":
            if isinstance(value, Mapping) and "search" in value:
                settings[key] = _own_loss(key, value)
                own = _own_axes(key, value, settings, shared, base)
            label = format_value(key, settings[key])
    searched = [
        own.pop(axis.key, axis) for axis in shared if axis.key in own or _applies(axis.key, settings, base)
    ]
    settings = {key: value for key, value in settings.items() if _applies(key, settings, base)}
    return Cell(settings, label, (*searched, *own.values()))


def _applies(key: str, settings: Values, base: Values) -> bool:
    """Whether a key is no option of a loss, or one of this combination's."""
    match = LOSS_OPTION.match(key)
    return match is None or match[1] in LOSS_KEYS | loss_options(_student_loss(base, settings))


def _own_loss(key: str, entry: Mapping[str, Any]) -> Any:
    if entry.keys() != {"loss", "search"} or not isinstance(entry["search"], Mapping) or not entry["search"]:
        raise UsageError(f"sweep: {key!r}: write {{loss: NAME, search: {{OPTION: {{uniform: [a, b]}}}}}}")
    return entry["loss"]


def _own_axes(
    key: str, entry: Mapping[str, Any], settings: Values, shared: Sequence[SearchAxis], base: Values
) -> dict[str, SearchAxis]:
    """The axes of one loss: its options, or keys of the recipe; those of a shared key replace it."""
    dimensions = {axis.key: axis.dimension for axis in shared}
    options = loss_options(expand_loss(entry["loss"]))
    axes = {}
    for name, values in entry["search"].items():
        if str(name) in options | LOSS_KEYS:
            path = f"{key}.{name}"
        else:
            if str(name).split(".")[0] not in {*base, *fields.hints(DistillRecipe)}:
                hint = did_you_mean(str(name), options)
                raise UsageError(f"sweep: {format_value(key, entry['loss'])} has no option {name!r}{hint}")
            check_key(path := name, base)
        if path in settings:
            raise UsageError(f"sweep: {path!r} is both listed and searched; remove one")
        if not is_distribution(values):
            raise UsageError(f"sweep: {path!r}: {values!r} is no distribution; write {{uniform: [a, b]}}")
        dimension = dimensions.setdefault(path, len(dimensions))
        axes[path] = SearchAxis(path, read_distribution(path, values), dimension)
    return axes


def _student_loss(base: Values, settings: Values) -> Values:
    """The loss section of a combination; that of a recipe without one is `none`."""
    document = copy_plain(base)
    for key in sorted(settings, key=lambda key: key.count(".")):
        if key.rpartition(".")[2] == "loss":
            set_swept_value(document, key, copy_plain(settings[key]))
    section = document if "stage" in document else document.get("distill")
    loss = section.get("loss") if isinstance(section, Mapping) else None
    return expand_loss(loss or document.get("loss") or "none")
