"""The `loss:` section: from a name, or a name with options, to its full form, and its label in names and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from snnkd.errors import RequestError, did_you_mean
from snnkd.recipe import fields
from snnkd.recipe.catalogue import DIVERGENCES, LOSSES
from snnkd.recipe.schema import LossConfig, TermConfig

Values = dict[str, Any]
CUSTOM = "custom"
"""The name of a loss whose terms are none of the published ones."""


def expand_loss(value: Any) -> Values:
    """A loss as a full section: a name, `{name, option: value}` or the section itself.

    Options other than name, hard and terms go to every term that has such a key. The label of a section without a
    name is its single divergence, `none` without terms, else `custom`.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise RequestError(f"loss: {value!r} is neither a name nor a section")
    value = dict(value)
    terms = value.get("terms")
    name = str(value["name"]) if "name" in value else _label(terms)
    if name != CUSTOM:
        preset = LOSSES[name]
        terms = [{"divergence": d} for d in preset.detail("terms")] if terms is None else terms
    if not isinstance(terms, (list, tuple)) or not all(isinstance(term, Mapping) for term in terms):
        raise RequestError(f"loss.terms: {terms!r} is not a list of terms")
    section = {"name": name, "hard": value.get("hard") or {}, "terms": [dict(term) for term in terms]}
    for key in value.keys() - {"name", "hard", "terms"}:
        _spread_option(section, key, value[key])
    return section


def _label(terms: Any) -> str:
    if not terms:
        return "none"
    if isinstance(terms, (list, tuple)) and len(terms) == 1 and isinstance(terms[0], Mapping):
        return str(terms[0].get("divergence", CUSTOM))
    return CUSTOM


def _spread_option(section: Values, key: str, value: Any) -> None:
    known: set[str] = {"name", "hard", "terms"}
    placed = False
    for term in section["terms"]:
        keys = set(fields.hints(DIVERGENCES[str(term.get("divergence", "kl"))].options))
        known |= keys
        if key in keys and key != "divergence":
            term[key] = value
            placed = True
    if not placed:
        raise RequestError(f"unknown key {f'loss.{key}'!r}{did_you_mean(str(key), known)}")


def build_loss(value: Any) -> LossConfig:
    """The checked section. A published name over other terms is refused: names and tables would tell a lie."""
    section = expand_loss(value)
    terms = [_build_term(term, f"loss.terms.{i}") for i, term in enumerate(section["terms"])]
    name, given = section["name"], tuple(term.divergence for term in terms)
    if name != CUSTOM and given != LOSSES[name].detail("terms"):
        shown = ", ".join(given) or "none"
        raise RequestError(f"loss.name: {name!r} has other terms ({shown}); write --loss {shown}, or name it {CUSTOM}")
    return fields.build(LossConfig, {**section, "terms": terms}, "loss")


def _build_term(term: Values, where: str) -> TermConfig:
    entry = DIVERGENCES[str(term.get("divergence", "kl"))]
    made: TermConfig = fields.build(entry.options, term, where)
    return made


def loss_label(section: Mapping[str, Any] | None) -> str:
    """The name of a plain `loss:` section with the options that are not its divergences' defaults: `hta-kl head=strict`."""
    if section is None:
        return ""
    said = [str(section["name"])]
    for term in section["terms"]:
        options = DIVERGENCES[term["divergence"]].options
        usual = {f.name: f.default for f in dataclasses.fields(options)}
        said += [
            f"{key}={term[key]:g}" if isinstance(term[key], float) else f"{key}={term[key]}"
            for key in usual
            if key != "divergence" and term.get(key, usual[key]) != usual[key]
        ]
    return " ".join(said)
