"""The `loss:` section: expanded from a name with options, checked, and labelled in names and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from snnkd.catalog.losses import AGAINST, KINDS, LOSSES, TARGETS
from snnkd.catalog.registry import Registry, SectionEntry
from snnkd.errors import UsageError, did_you_mean
from snnkd.schema import fields
from snnkd.schema.loss import DivergenceTerm, HardConfig, LossConfig, Term
from snnkd.usercode import is_user_code

Values = dict[str, Any]
Trait = Literal["needs_timesteps", "one_label", "across_batch"]
CUSTOM = "custom"
"""The name of a loss whose terms are not those of a catalogue entry."""
NO_LOSS = "loss: not given; add --loss NAME (`snnkd list losses`), or `loss: none` to train without a teacher"


def preset_section(name: str) -> Values:
    """The section of a catalogue loss, with its overrides of other sections: `{loss, neuron?, train?}`."""
    entry = LOSSES[name]
    terms = [{"divergence": name}] if is_user_code(name) else entry.section["terms"]
    loss = {
        "name": entry.name,
        "hard": dict(entry.section.get("hard", {})),
        "terms": [dict(t) for t in terms],
    }
    return {"loss": loss, **{section: dict(values) for section, values in entry.overrides.items()}}


def expand_loss(value: Any) -> Values:
    """Expand a loss to its full section: from a name, `{name, option: value}` or the section itself.

    Options other than name, hard and terms apply to every term that has such a key. The name of a section
    without one is its single term's, `none` without terms, else `custom`.
    """
    if value in (None, {}):
        raise UsageError(NO_LOSS)
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
        _set_option(section, key, value[key])
    return section


def _label(terms: Any) -> str:
    if not terms:
        return "none"
    if isinstance(terms, (list, tuple)) and len(terms) == 1 and isinstance(terms[0], Mapping):
        name = str(terms[0].get("divergence", CUSTOM))
        return name if is_user_code(name) else LOSSES[name].name if name in LOSSES else CUSTOM
    return CUSTOM


def method_overrides(loss: str) -> list[tuple[str, str, Any]]:
    """Section, key and value of each key that a published method sets outside `loss:`."""
    overrides = LOSSES[loss].overrides if loss in LOSSES else {}
    return [(section, key, value) for section, keys in overrides.items() for key, value in keys.items()]


def replace_loss(values: Values, loss: str | Mapping[str, Any], student: Values | None = None) -> None:
    """Replace the loss and its method's overrides of other sections, in place.

    For a loss that the stages of a pipeline share, the overrides go into the `student` section.
    """
    old = values.get("loss")
    old_name = str(old.get("name", "")) if isinstance(old, Mapping) else str(old or "")
    for section, key, value in method_overrides(old_name):
        for holder in (values, student or {}):
            if isinstance(holder.get(section), dict) and holder[section].get(key) == value:
                del holder[section][key]
    values["loss"] = expand_loss(loss)
    holder = values if student is None else student
    for section, key, value in method_overrides(values["loss"]["name"]):
        keys = holder.get(section)
        holder[section] = {**(keys if isinstance(keys, Mapping) else {}), key: value}


def set_temperature(values: Values, temperature: float | str) -> None:
    """Set the temperature of every term that has one, in place."""
    loss = values.get("loss") or {}
    terms = [
        term for term in loss.get("terms") or () if "temperature" in fields.hints(term_entry(term)[1].options)
    ]
    if not terms:
        raise UsageError(
            f"--temperature {temperature}: the loss {loss.get('name', 'none')!r} has no temperature; omit it"
        )
    for term in terms:
        term["temperature"] = temperature


def term_entry(term: Mapping[str, Any], where: str = "loss.terms") -> tuple[str, SectionEntry]:
    """The kind of a plain term (divergence, penalty or feature) and its catalogue entry."""
    kinds = [kind for kind in KINDS if kind in term] or ["divergence"]
    if len(kinds) > 1:
        raise UsageError(f"{where}: names {' and '.join(kinds)}; a term has one of {', '.join(KINDS)}")
    return kinds[0], KINDS[kinds[0]][str(term.get(kinds[0], "kl"))]


def loss_options(section: Mapping[str, Any]) -> set[str]:
    """The options of a loss written in full: the keys of its terms."""
    return {key for term in section["terms"] for key in _options_of(term)}


def _options_of(term: Mapping[str, Any]) -> set[str]:
    kind, entry = term_entry(term)
    return set(fields.hints(entry.options)) - {kind}


def _set_option(section: Values, key: str, value: Any) -> None:
    options = loss_options(section)
    if key not in options:
        known = {"name", "hard", "terms", *options}
        raise UsageError(f"unknown key {f'loss.{key}'!r}{did_you_mean(str(key), known)}")
    for term in section["terms"]:
        if key in _options_of(term):
            old = term.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            term[key] = {**old, **value} if both else value


def build_loss(value: Any) -> LossConfig:
    """Build the checked section. Raises UsageError, also for a published name with other terms."""
    section = expand_loss(value)
    terms = tuple(_build_term(term, f"loss.terms.{i}") for i, term in enumerate(section["terms"]))
    name, names = section["name"], tuple(map(term_name, terms))
    if name != CUSTOM and names != tuple(map(_plain_name, preset_section(name)["loss"]["terms"])):
        shown = ", ".join(names) or "none"
        single = len(names) <= 1 and _label(section["terms"]) != CUSTOM
        remedy = f"write --loss {shown}, or name it" if single else "name it"
        raise UsageError(f"loss.name: {name!r} has other terms ({shown}); {remedy} {CUSTOM}")
    hard = fields.build(HardConfig, section["hard"], "loss.hard")
    weights = [(part.weight, part.weight_end) for part in terms] + [(hard.weight, hard.weight_end)]
    if not any(map(any, weights)):
        raise UsageError(f"loss: every weight of {name!r} is 0, so nothing is learned; raise one")
    return LossConfig(name=name, hard=hard, terms=terms)


def _build_term(term: Values, where: str) -> Term:
    kind, entry = term_entry(term, where)
    built: Term = fields.build(entry.options, {**term, kind: entry.name}, where)
    if isinstance(built, DivergenceTerm):
        _check_choice(TARGETS, built.target, f"{where}.target")
        _check_choice(AGAINST, built.against, f"{where}.against")
        if built.against == "other-steps" and built.target != "step":
            raise UsageError(f"{where}.against: other-steps differs between timesteps; it needs target: step")
    return built


def _check_choice(registry: Registry[Any], value: str, where: str) -> None:
    if value not in registry:
        raise UsageError(f"{where}: {value!r} is not one of {', '.join(entry.name for entry in registry)}")


def term_name(term: Term) -> str:
    """Name of a term in logs: that of its divergence, penalty or feature."""
    return next(name for kind in KINDS if (name := getattr(term, kind, None)) is not None)


def _plain_name(term: Mapping[str, Any]) -> str:
    return term_entry(term)[1].name


def find_trait(loss: LossConfig, trait: Trait) -> str | None:
    """`key: value` of the first choice in a loss whose catalogue entry has the trait; None without one."""
    for i, term in enumerate(loss.terms):
        where = f"loss.terms.{i}"
        for key, registry in {"target": TARGETS, "against": AGAINST, **KINDS}.items():
            value = getattr(term, key, None)
            if value is not None and getattr(registry.find(value), trait, False):
                return f"{where}.{key}: {value}"
        if trait == "one_label" and getattr(term, "correct_errors", False):
            return f"{where}.correct_errors"
    return None


def user_code(loss: LossConfig) -> list[str]:
    """Names of the user's functions in a loss."""
    return [name for term in loss.terms if is_user_code(name := str(getattr(term, "divergence", "")))]


def loss_label(section: Mapping[str, Any] | None) -> str:
    """Name of a plain `loss:` section and the options that differ from the preset: `hta-kl head=strict`."""
    if section is None:
        return ""
    name = str(section["name"])
    preset = preset_section(name)["loss"] if name in LOSSES else {"hard": {}, "terms": []}
    preset_terms = preset["terms"] or [{} for _ in section["terms"]]
    shown = f"{CUSTOM}({'+'.join(map(_shown_name, section['terms']))})" if name == CUSTOM else name
    parts = [shown, *_options_set(HardConfig, section.get("hard") or {}, preset["hard"], "hard.")]
    for i, (term, preset_term) in enumerate(zip(section["terms"], preset_terms, strict=False)):
        kind = next((kind for kind in KINDS if kind in term), "divergence")
        entry = KINDS[kind].find(_shown_name(term))
        prefix = f"{i}." if len(section["terms"]) > 1 else ""
        options = _options_set(entry.options, term, preset_term, prefix)
        parts += [option for option in options if not option.startswith(f"{prefix}{kind}=")]
    return " ".join(parts)


def label_of(section: Mapping[str, Any]) -> str:
    """Return `loss_label`, or the name of a loss that is not in the catalogue."""
    try:
        return loss_label(section)
    except (UsageError, KeyError, TypeError, ValueError, AttributeError):
        return str(section["name"])


def _shown_name(term: Mapping[str, Any]) -> str:
    return str(next((term[kind] for kind in KINDS if kind in term), "kl"))


def _options_set(
    options: type, values: Mapping[str, Any], preset: Mapping[str, Any], prefix: str
) -> Iterator[str]:
    """`key=value` of each option that differs from the preset and the default."""
    for f in dataclasses.fields(options):
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        expected = preset.get(f.name, list(default) if isinstance(default, tuple) else default)
        value = values.get(f.name, expected)
        if value != expected:
            yield f"{prefix}{f.name}={value:g}" if isinstance(value, float) else f"{prefix}{f.name}={value}"
