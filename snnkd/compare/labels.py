"""Names of rows: the loss with its options, and the settings in which a row is unlike the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from snnkd.compare.students import Student
from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe.loss_section import CUSTOM, loss_label, method_overrides

Flat = dict[str, str]
APART = (
    "seed",
    "teacher",
    "loss",
    "schema",
    "stage",
    "data.sha256",
    "data.val_fraction",
    "model.T",
    "train.select",
)
"""What the table's heading, its columns or the loss's own label already say."""


def label_of(loss: Mapping[str, Any]) -> str:
    """`loss_label`; of a loss that this version does not know, its name."""
    try:
        return loss_label(loss)
    except (UsageError, KeyError, TypeError, ValueError, AttributeError):
        return str(loss["name"])


def loss_name(loss: Mapping[str, Any]) -> str:
    """What settings are counted under; losses without a published name by their terms."""
    return label_of(loss).split()[0] if loss["name"] == CUSTOM else str(loss["name"])


def settings_of(student: Student) -> Flat:
    """Dotted keys to values of what a table's heading does not say; of a result file the few that it tells.

    What belongs to a published method outside `loss:` is no setting of its own.
    """
    if student.identity is None:
        return {"train.epochs": str(student.epoch)} if student.rule == "last" else {}
    own = {
        f"{section}.{key}": _text(value)
        for section, key, value in method_overrides(str(student.loss["name"]))
    }
    flat = _flat({key: value for key, value in student.identity.items() if key not in APART})
    return {key: value for key, value in flat.items() if key not in APART and own.get(key) != value}


def _flat(value: Mapping[str, Any], where: str = "") -> Flat:
    made: Flat = {}
    for key, held in value.items():
        path = f"{where}.{key}" if where else str(key)
        made |= _flat(held, path) if isinstance(held, Mapping) else {path: _text(held)}
    return made


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # an operation with options
        options = ", ".join(f"{key}={_text(held)}" for key, held in value.items() if key != "name")
        return f"{value.get('name', '')}({options})"
    if isinstance(value, list):
        return "+".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def make_labels(rows: Sequence[Student]) -> tuple[list[str], Flat]:
    """A label for each row (by one of its students), and the usual value of each key in which rows differ.

    A row's label says a key where its value is not the one that most rows have; without a most frequent one
    every
    row's does. Rows that differ in nothing that is known get the hash of their recipe.
    """
    flat = [settings_of(row) for row in rows]
    held = {key: _held(key, rows, flat) for key in sorted({key for settings in flat for key in settings})}
    held = {key: values for key, values in held.items() if len(set(values.values())) > 1}
    usual = {key: common for key, values in held.items() if (common := _most_common(list(values.values())))}
    labels = []
    for i, row in enumerate(rows):
        unlike = {
            key: values[i] for key, values in held.items() if i in values and values[i] != usual.get(key)
        }
        labels.append(
            " ".join(
                [
                    label_of(row.loss),
                    *(f"{_short(key, held)}={value or 'default'}" for key, value in unlike.items()),
                ]
            )
        )
    count = Counter((label, row.T) for label, row in zip(labels, rows, strict=True))
    labels = [
        f"{label} ({row.recipe_hash})" if count[label, row.T] > 1 else label
        for label, row in zip(labels, rows, strict=True)
    ]
    return labels, {_short(key, held): value for key, value in usual.items()}


def _held(key: str, rows: Sequence[Student], flat: Sequence[Flat]) -> dict[int, str | None]:
    """The value of a key by row; None where it has its default, no entry where a result file does not
    tell."""
    return {i: flat[i].get(key) for i, row in enumerate(rows) if row.identity is not None or key in flat[i]}


def _most_common(values: Sequence[str | None]) -> str | None:
    counts = Counter(values).most_common(2)
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None


def _short(key: str, among: Collection[str]) -> str:
    """The last part of a dotted key where no other ends alike."""
    last = key.rpartition(".")[2]
    return key if sum(other.rpartition(".")[2] == last for other in among) > 1 else last


def find_label(
    wanted: str, labels: Sequence[str], names: Sequence[str], option: str = "--baseline"
) -> str | None:
    """The label that `wanted` means: a label itself, or the name of a loss that has one row; None where no
    row is meant.

    Raises UsageError when the name has several rows.
    """
    if wanted in labels:
        return wanted
    meant = [label for label, name in zip(labels, names, strict=True) if name == wanted]
    if len(meant) > 1:
        raise UsageError(
            f"{option} {wanted!r} has {len(meant)} rows: {', '.join(map(repr, meant))}; name one of them"
        )
    return meant[0] if meant else None


def unknown_label(wanted: str, labels: Sequence[str], option: str = "--baseline") -> UsageError:
    """To raise where `wanted` is in no table."""
    return UsageError(f"{option} {wanted!r} is no row{did_you_mean(wanted, set(labels))}")
