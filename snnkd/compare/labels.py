"""Row labels: the loss with its options, and the settings that differ from the other rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from snnkd.compare.students import Student
from snnkd.errors import UsageError, did_you_mean
from snnkd.files import short_hash
from snnkd.recipe.loss_section import CUSTOM, label_of, method_overrides
from snnkd.runs.folder import flatten, last_part

Flat = dict[str, str]
NOT_IN_LABEL = (
    "seed",
    "teacher",
    "loss",
    "code",
    "schema",
    "stage",
    "data.sha256",
    "data.val_fraction",
    "model.T",
    "train.select",
)
"""Keys shown elsewhere: in the heading, the columns or the loss's own label."""


def loss_name(loss: Mapping[str, Any]) -> str:
    """Name under which settings are counted; for a custom loss, its terms."""
    return label_of(loss).split()[0] if loss["name"] == CUSTOM else str(loss["name"])


def settings_of(student: Student) -> Flat:
    """Map dotted keys to the values not shown elsewhere; a result file records only its epochs.

    Keys that a published method sets outside `loss:` are omitted.
    """
    if student.identity is None:
        return {"train.epochs": str(student.epoch)} if student.rule == "last" else {}
    of_method = {
        f"{section}.{key}": _text(value)
        for section, key, value in method_overrides(str(student.loss["name"]))
    }
    identity = {key: value for key, value in student.identity.items() if key not in NOT_IN_LABEL}
    flat = {key: _text(value) for key, value in flatten(identity).items()}
    return {
        key: value for key, value in flat.items() if key not in NOT_IN_LABEL and of_method.get(key) != value
    }


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # an operation with options
        options = ", ".join(f"{key}={_text(option)}" for key, option in value.items() if key != "name")
        return f"{value.get('name', '')}({options})"
    if isinstance(value, list):
        return "+".join(map(_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else short_hash(str(value))


def make_labels(rows: Sequence[Student]) -> tuple[list[str], Flat]:
    """Label each row, given one of its students; also return the most frequent values of differing keys.
    A label lists a key whose value is not the most frequent one, and every value if none is most frequent.
    Rows with equal labels get the hash of their recipe.
    """
    flat = [settings_of(row) for row in rows]
    differing = {
        key: _values(key, rows, flat) for key in sorted({key for settings in flat for key in settings})
    }
    differing = {key: values for key, values in differing.items() if len(set(values.values())) > 1}
    usual = {
        key: common for key, values in differing.items() if (common := _most_common(list(values.values())))
    }
    labels = []
    for i, (row, versions) in enumerate(zip(rows, _code_versions(rows), strict=True)):
        unusual = {
            key: values[i] for key, values in differing.items() if i in values and values[i] != usual.get(key)
        }
        pairs = (f"{_short(key, differing)}={value or 'default'}" for key, value in unusual.items())
        labels.append(" ".join([label_of(row.loss), *versions, *pairs]))
    count = Counter((label, row.T) for label, row in zip(labels, rows, strict=True))
    labels = [
        f"{label} ({row.recipe_hash})" if count[label, row.T] > 1 else label
        for label, row in zip(labels, rows, strict=True)
    ]
    return labels, {_short(key, differing): value for key, value in usual.items()}


def varied_keys(rows: Sequence[Student]) -> list[dict[str, Any]]:
    """By row, its values of the keys that differ between rows of the same loss, by dotted key.

    A key that differs as an earlier one does, as the temperatures of several terms, is left out.
    """
    flat = [_flat_keys(row) for row in rows]
    names = [loss_name(row.loss) for row in rows]
    varied: list[dict[str, Any]] = [{} for _ in rows]
    for name in dict.fromkeys(names):
        same = [i for i, other in enumerate(names) if other == name]
        seen: set[str] = set()
        for key in dict.fromkeys(key for i in same for key in flat[i]):
            values = {i: flat[i][key] for i in same if key in flat[i]}
            if len(set(map(repr, values.values()))) > 1 and repr(values) not in seen:
                seen.add(repr(values))
                for i, value in values.items():
                    varied[i][key] = value
    return varied


def _flat_keys(student: Student) -> dict[str, Any]:
    identity = student.identity or {"train": {"epochs": student.epoch}}
    sections = {key: value for key, value in identity.items() if key == "loss" or key not in NOT_IN_LABEL}
    flat = flatten({**sections, "loss": student.loss})
    return {
        key: value if isinstance(value, (int, float, str)) else _text(value)
        for key, value in flat.items()
        if key not in NOT_IN_LABEL
    }


def _code_versions(rows: Sequence[Student]) -> list[list[str]]:
    """By row, six digits of the source of each of its functions that another row has in another version."""
    codes = [(row.identity or {}).get("code", {}) for row in rows]
    sources: dict[str, set[str]] = {}
    for code in codes:
        for name, source in code.items():
            sources.setdefault(name, set()).add(source)
    return [[f"({short_hash(code[name])})" for name in code if len(sources[name]) > 1] for code in codes]


def _values(key: str, rows: Sequence[Student], flat: Sequence[Flat]) -> dict[int, str | None]:
    """Value of a key by row; None where it has its default, no entry where it does not apply: in a result
    file without it, or in a section such as `neuron` that has another name and lacks it."""
    name = f"{key.rpartition('.')[0]}.name"
    owners = {settings.get(name) for settings in flat if key in settings}
    return {
        i: settings.get(key)
        for i, (row, settings) in enumerate(zip(rows, flat, strict=True))
        if key in settings or (row.identity is not None and settings.get(name) in owners)
    }


def _most_common(values: Sequence[str | None]) -> str | None:
    counts = Counter(values).most_common(2)
    return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else None


def _short(key: str, among: Collection[str]) -> str:
    """Return the last part of a dotted key if it is unique, else the full key."""
    last = last_part(key)
    return key if sum(last_part(other) == last for other in among) > 1 else last


def find_label(
    wanted: str, labels: Sequence[str], names: Sequence[str], option: str = "--baseline"
) -> str | None:
    """Find the row `wanted`, a label or the name of a loss with one row; None if there is none.

    Raises UsageError when the loss has several rows.
    """
    if wanted in labels:
        return wanted
    matches = [label for label, name in zip(labels, names, strict=True) if name == wanted]
    if len(matches) > 1:
        raise UsageError(
            f"{option} {wanted!r} has {len(matches)} rows: {', '.join(map(repr, matches))}; give one label"
        )
    return matches[0] if matches else None


def unknown_label(wanted: str, labels: Sequence[str], option: str = "--baseline") -> UsageError:
    """Error for a `wanted` row that is in no table."""
    return UsageError(f"{option} {wanted!r} is not a row{did_you_mean(wanted, set(labels))}")
