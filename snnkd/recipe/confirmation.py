"""The recipe that confirms a search: chosen settings, ten seeds, the whole training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnkd.errors import UsageError
from snnkd.recipe.cells import LOSS_OPTION
from snnkd.recipe.keys import Values, applies, holders
from snnkd.recipe.overrides import set_swept_value
from snnkd.recipe.render import write_settings
from snnkd.recipe.sweep import Tasks
from snnkd.schema.fields import copy_plain

SEEDS = tuple(range(10))
SHARED = ("data", "teach", "eval", "export")


def confirmation_recipe(
    tasks: Tasks, chosen: Sequence[Mapping[str, Any]], settings: Sequence[str] = ()
) -> Values:
    """The recipe of the `chosen` settings (swept keys without seeds), with the `settings` of the command.

    All students share a teacher, none holds out images, and all are measured after the last epoch. A recipe
    of one stage becomes a pipeline. Raises UsageError for a swept key that is not the student's alone.
    """
    document = copy_plain(tasks.document)
    write_settings(document, settings)
    if "stage" in document:
        section = {key: value for key, value in document.items() if key not in ("schema", "stage")}
        document = {"schema": 1, "distill": section}
    document["distill"] = document["distill"] or {}
    rows = [{_student_key(key, document): value for key, value in row.items()} for row in chosen]
    losses = [_loss(row) for row in rows]
    sections = [] if all(losses) else [_section(document, row) for row in rows]
    for holder in [*holders(document), *sections]:
        _use_all_images(holder)
    _measure_on_test(document)
    document["sweep"] = {"distill": sections} if sections else {"distill.loss": losses}
    document["sweep"]["distill.seed"] = list(SEEDS)
    return document


def _student_key(key: str, document: Values) -> str:
    if key.startswith("distill."):
        return key
    head = key.split(".", maxsplit=1)[0]
    if head in SHARED or ("teach" in document and applies(key, "teach")):
        raise UsageError(f"pick: {key!r} is not the student's alone; sweep a key under distill instead")
    return f"distill.{key}"


def _loss(row: Mapping[str, Any]) -> Any:
    """The loss with its options, where these are all of a row; else None."""
    matches = {key: LOSS_OPTION.fullmatch(key) for key in row if key != "distill.loss"}
    if "distill.loss" not in row or not all(matches.values()):
        return None
    loss = row["distill.loss"]
    options = {match[1]: row[key] for key, match in matches.items() if match}
    return loss if not options else {**(loss if isinstance(loss, Mapping) else {"name": loss}), **options}


def _section(document: Values, row: Mapping[str, Any]) -> Values:
    """The `distill:` section with the settings of a row."""
    document = copy_plain(document)
    for key in sorted(row, key=lambda key: key.count(".")):
        set_swept_value(document, key, copy_plain(row[key]))
    section: Values = document["distill"]
    return section


def _use_all_images(holder: Values) -> None:
    """Remove what needs validation images, in place: the last epoch is measured."""
    data, train = holder.get("data"), holder.get("train")
    if isinstance(data, dict):
        data.pop("val_fraction", None)
    if isinstance(train, dict) and train.get("select") == "best":
        del train["select"]


def _measure_on_test(document: Values) -> None:
    for section, keys in (("eval", ("split",)), ("compare", ("split", "rank_on"))):
        for key in keys:
            if isinstance(document.get(section), dict):
                document[section].pop(key, None)
