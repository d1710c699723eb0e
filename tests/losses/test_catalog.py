"""The catalogue of losses agrees with the functions behind it and with the bibliography."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
import torch
from torch.nn import functional as F

from snnkd import losses
from snnkd.catalog.losses import (
    DIVERGENCES,
    FEATURES,
    KINDS,
    LOSSES,
    PENALTIES,
    DivergenceEntry,
    FeatureEntry,
)
from snnkd.catalog.models import MODELS
from snnkd.catalog.paper_results import PAPER_RESULTS
from snnkd.catalog.references import REFERENCES
from snnkd.catalog.registry import SectionEntry, load_target
from snnkd.losses.objective import OWN_KEYS, make_objective
from snnkd.losses.outputs import BatchOutputs
from snnkd.recipe.loss_section import build_loss

ENTRIES = [entry for registry in (DIVERGENCES, PENALTIES, FEATURES) for entry in registry]


def options(entry: SectionEntry) -> dict[str, object]:
    """Options of a term and their defaults; a function's own default temperature is 1."""
    return {
        f.name: f.default
        for f in dataclasses.fields(entry.options)
        if f.name not in OWN_KEYS and (f.name != "temperature" or isinstance(entry, FeatureEntry))
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{type(e).__name__}-{e.name}")
def test_options_are_the_parameters_of_the_function(entry: SectionEntry) -> None:
    targets = [entry.target, *filter(None, [getattr(entry, "with_stats", "")])]
    for target in targets:
        parameters = inspect.signature(load_target(target)).parameters
        keywords = {
            name: p.default
            for name, p in parameters.items()
            if p.kind is p.KEYWORD_ONLY
            and name != "labels"
            and (name != "temperature" or isinstance(entry, FeatureEntry))
        }
        assert keywords == options(entry)


@pytest.mark.parametrize("entry", list(DIVERGENCES), ids=lambda e: e.name)
def test_the_signature_of_a_divergence(entry: DivergenceEntry) -> None:
    parameters = inspect.signature(entry.load()).parameters
    assert list(parameters)[:2] == ["student", "teacher"]
    assert parameters["labels"].default is None
    assert ("temperature" in parameters) == hasattr(entry.options, "temperature")
    assert "temperature" not in parameters or parameters["temperature"].default == 1.0


def test_losses_exports_the_divergences_of_the_catalogue() -> None:
    assert losses.__all__ == sorted(entry.name.replace("-", "_") for entry in DIVERGENCES)
    for entry in DIVERGENCES:
        assert getattr(losses, entry.function_name) is entry.load()
        assert inspect.isfunction(entry.load()), "not the module of the same name"


def test_every_divergence_is_a_loss() -> None:
    for entry in DIVERGENCES:
        (term,) = build_loss(entry.name).terms
        assert type(term) is entry.options
        assert LOSSES[entry.name].help.endswith(entry.help)


@pytest.mark.parametrize("entry", list(DIVERGENCES), ids=lambda e: e.name)
def test_a_loss_is_cross_entropy_and_its_divergence(entry: DivergenceEntry) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    labels, loss = teacher.argmax(-1), build_loss(entry.name)
    found = make_objective(loss)(BatchOutputs(student=student, teacher=teacher, labels=labels, epochs=1))
    (term,) = loss.terms
    keywords = {key: getattr(term, key) for key in ("temperature", *options(entry)) if hasattr(term, key)}
    value = entry.load()(student.mean(0), teacher, labels=labels, **keywords)
    assert torch.equal(found.scalars[entry.name], value)
    assert torch.equal(found.total, F.cross_entropy(student.mean(0), labels) + value)


def test_references_are_there_and_used() -> None:
    cited = {key for registry in (LOSSES, MODELS) for entry in registry for key in entry.source}
    cited |= {each.source for each in PAPER_RESULTS}
    assert cited | {"sun2024logit", "lee2021energy"} == set(REFERENCES), "but for a transform and the energy"
    for key, reference in REFERENCES.items():
        assert reference.bibtex.startswith("@")
        assert reference.bibtex.count("{") == reference.bibtex.count("}")
        assert reference.authors
        assert reference.title
        assert key.startswith(re.sub(r"\W", "", reference.authors[0].split()[-1].lower()))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_name_is_declared_once(kind: str) -> None:
    entry = next(iter(KINDS[kind]))
    with pytest.raises(ValueError, match="exists already"):
        KINDS[kind].add(entry)
