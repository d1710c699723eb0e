"""The `loss:` section: from a name, or a name with options, to its full form, and its label in names and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from snnkd.catalog.losses import KINDS, LOSSES
from snnkd.catalog.registry import Entry
from snnkd.errors import UsageError, did_you_mean
from snnkd.schema import fields
from snnkd.schema.loss import HardConfig, LossConfig, Term, TermConfig
from snnkd.usercode import is_user_code

Values = dict[str, Any]
CUSTOM = "custom"
"""The name of a loss whose terms are none of the published ones."""


def preset_section(name: str) -> Values:
    """The section that `name` stands for, with the keys outside `loss:` that belong to it: `{loss, neuron?, train?}`."""
    entry = LOSSES[name]
    section: Values = {"terms": [{"divergence": name}]} if is_user_code(name) else entry.detail("section")
    loss = {
        "name": entry.name,
        "hard": dict(section.get("hard", {})),
        "terms": [dict(term) for term in section.get("terms", ())],
    }
    return {"loss": loss, **{key: dict(values) for key, values in entry.detail("also", {}).items()}}


def expand_loss(value: Any) -> Values:
    """A loss as a full section: a name, `{name, option: value}` or the section itself.

    Options other than name, hard and terms go to every term that has such a key. The label of a section without a
    name is its single term's, `none` without terms, else `custom`.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise UsageError(f"loss: {value!r} is neither a name nor a section")
    value = dict(value)
    terms, hard = value.get("terms"), value.get("hard")
    name = str(value["name"]) if "name" in value else _label(terms)
    if name != CUSTOM:
        preset = preset_section(name)["loss"]
        name = preset["name"]
        terms = preset["terms"] if terms is None else terms
        hard = preset["hard"] if hard is None else hard
    if not isinstance(terms, (list, tuple)) or not all(isinstance(term, Mapping) for term in terms):
        raise UsageError(f"loss.terms: {terms!r} is not a list of terms")
    section = {"name": name, "hard": hard or {}, "terms": [dict(term) for term in terms]}
    for key in value.keys() - {"name", "hard", "terms"}:
        _spread_option(section, key, value[key])
    return section


def _label(terms: Any) -> str:
    if not terms:
        return "none"
    if isinstance(terms, (list, tuple)) and len(terms) == 1 and isinstance(terms[0], Mapping):
        name = str(terms[0].get("divergence", CUSTOM))
        return name if is_user_code(name) else LOSSES[name].name if name in LOSSES else CUSTOM
    return CUSTOM


def also(loss: str) -> list[tuple[str, str, Any]]:
    """Section, key and value of what a published method fixes outside `loss:`."""
    fixed = LOSSES[loss].detail("also", {}) if loss in LOSSES else {}
    return [(section, key, value) for section, keys in fixed.items() for key, value in keys.items()]


def replace_loss(values: Values, loss: str | Mapping[str, Any], student: Values | None = None) -> None:
    """In place: the loss of that name (options beside it or not) and what belongs to it outside `loss:`.

    What belonged to the one before goes with it. Of a pipeline's shared loss the rest belongs into its `student` section.
    """
    old = values.get("loss")
    before = str(old.get("name", "")) if isinstance(old, Mapping) else str(old or "")
    for section, key, value in also(before):
        for holder in (values, student or {}):
            if isinstance(holder.get(section), dict) and holder[section].get(key) == value:
                del holder[section][key]
    values["loss"] = expand_loss(loss)
    holder = values if student is None else student
    for section, key, value in also(values["loss"]["name"]):
        held = holder.get(section)
        holder[section] = {**(held if isinstance(held, Mapping) else {}), key: value}


def term_entry(term: Mapping[str, Any], where: str = "loss.terms") -> tuple[str, Entry]:
    """The kind of a plain term (divergence, penalty or feature) and the entry it names."""
    kinds = [kind for kind in KINDS if kind in term] or ["divergence"]
    if len(kinds) > 1:
        raise UsageError(f"{where}: names {' and '.join(kinds)}; a term has one of {', '.join(KINDS)}")
    return kinds[0], KINDS[kinds[0]][str(term.get(kinds[0], "kl"))]


def _spread_option(section: Values, key: str, value: Any) -> None:
    known: set[str] = {"name", "hard", "terms"}
    placed = False
    for term in section["terms"]:
        kind, entry = term_entry(term)
        keys = set(fields.hints(entry.options))
        known |= keys
        if key in keys and key != kind:
            held = term.get(key)
            term[key] = (
                {**held, **value} if isinstance(held, Mapping) and isinstance(value, Mapping) else value
            )
            placed = True
    if not placed:
        raise UsageError(f"unknown key {f'loss.{key}'!r}{did_you_mean(str(key), known)}")


def build_loss(value: Any) -> LossConfig:
    """The checked section. A published name over other terms is refused: names and tables would tell a lie."""
    section = expand_loss(value)
    terms = tuple(_build_term(term, f"loss.terms.{i}") for i, term in enumerate(section["terms"]))
    name, given = section["name"], tuple(map(term_name, terms))
    if name != CUSTOM and given != tuple(map(_plain_name, preset_section(name)["loss"]["terms"])):
        shown = ", ".join(given) or "none"
        remedy = (
            f"write --loss {shown}, or name it"
            if len(given) <= 1 and _label(section["terms"]) != CUSTOM
            else "name it"
        )
        raise UsageError(f"loss.name: {name!r} has other terms ({shown}); {remedy} {CUSTOM}")
    hard = fields.build(HardConfig, section["hard"], "loss.hard")
    return LossConfig(name=name, hard=hard, terms=terms)


def _build_term(term: Values, where: str) -> Term:
    kind, entry = term_entry(term, where)
    made: Term = fields.build(entry.options, {**term, kind: entry.name}, where)
    if isinstance(made, TermConfig) and made.against == "other-steps" and made.target != "step":
        raise UsageError(
            f"{where}.against: other-steps is one for each timestep; it needs target: step, not {made.target!r}"
        )
    return made


def term_name(term: Term) -> str:
    """What a term is called in logs: the divergence, penalty or feature that it names."""
    return str(next(value for kind in KINDS if (value := getattr(term, kind, None)) is not None))


def _plain_name(term: Mapping[str, Any]) -> str:
    return term_entry(term)[1].name


def needs_teacher(loss: LossConfig) -> bool:
    """Whether any term looks at a teacher; penalties and self targets do not."""
    return any(hasattr(term, "feature") or getattr(term, "against", "") == "teacher" for term in loss.terms)


def needs_timesteps(loss: LossConfig) -> str | None:
    """The key that has no meaning with a single timestep, if any."""
    apart = ("strong", "weak", "other-steps")
    for i, term in enumerate(loss.terms):
        for key in ("target", "against"):
            if getattr(term, key, "") in apart:
                return f"loss.terms.{i}.{key}: {getattr(term, key)}"
    return None


def needs_one_label(loss: LossConfig) -> str | None:
    """The key of what looks at the one true label of an image, if anything; cross-entropy does with shares of two as well."""
    for i, term in enumerate(loss.terms):
        where, against = f"loss.terms.{i}", getattr(term, "against", "")
        if against in ("correct-mean", "correct-sum"):
            return f"{where}.against: {against}"
        if getattr(term, "correct_errors", False):
            return f"{where}.correct_errors"
        name = str(getattr(term, "divergence", ""))
        # a function of the user's is given labels, and may look at them
        if name and (is_user_code(name) or KINDS["divergence"][name].detail("one_label", False)):
            return f"{where}.divergence: {name}"
    return None


def across_batch(loss: LossConfig) -> str | None:
    """The key of what looks across the samples of a batch, if anything: micro-batches would make another loss of it."""
    for i, term in enumerate(loss.terms):
        where = f"loss.terms.{i}"
        for key in ("target", "against"):
            if getattr(term, key, "") in ("strong", "weak"):
                return f"{where}.{key}: {getattr(term, key)}"
        kind = next(kind for kind in KINDS if hasattr(term, kind))
        name = str(getattr(term, kind))
        if is_user_code(name) or KINDS[kind][name].detail("across_batch", False):
            return f"{where}.{kind}: {name}"
    return None


def user_code(loss: LossConfig) -> list[str]:
    """The functions of the user's that a loss names."""
    return [name for term in loss.terms if is_user_code(name := str(getattr(term, "divergence", "")))]


def loss_label(section: Mapping[str, Any] | None) -> str:
    """The name of a plain `loss:` section with the options that are not the preset's: `hta-kl head=strict`."""
    if section is None:
        return ""
    name = str(section["name"])
    usual = preset_section(name)["loss"] if name in LOSSES else {"hard": {}, "terms": []}
    usual_terms = usual["terms"] or [{} for _ in section["terms"]]
    shown = f"{CUSTOM}({'+'.join(map(_shown_name, section['terms']))})" if name == CUSTOM else name
    said = [shown, *_unusual(HardConfig, section.get("hard") or {}, usual["hard"], "hard.")]
    for i, (term, preset) in enumerate(zip(section["terms"], usual_terms, strict=False)):
        kind, entry = _known_entry(term)
        prefix = f"{i}." if len(section["terms"]) > 1 else ""
        if entry is not None:
            said += [
                text
                for text in _unusual(entry.options, term, preset, prefix)
                if not text.startswith(f"{prefix}{kind}=")
            ]
    return " ".join(said)


def _shown_name(term: Mapping[str, Any]) -> str:
    return str(next((term[kind] for kind in KINDS if kind in term), "kl"))


def _known_entry(term: Mapping[str, Any]) -> tuple[str, Entry | None]:
    """`term_entry`, or None for a function of the user's: a label needs no permission to run it."""
    if is_user_code(str(term.get("divergence", ""))):
        return "divergence", KINDS["divergence"].user
    return term_entry(term)


def _unusual(options: type, held: Mapping[str, Any], preset: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for f in dataclasses.fields(options):
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        usual = preset.get(f.name, list(default) if isinstance(default, tuple) else default)
        value = held.get(f.name, usual)
        if value != usual:
            yield f"{prefix}{f.name}={value:g}" if isinstance(value, float) else f"{prefix}{f.name}={value}"
