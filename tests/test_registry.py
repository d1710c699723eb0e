"""Names, suggestions and arguments of registry entries."""

import dataclasses

import pytest

from snnkd.catalog.data import DATA
from snnkd.catalog.formats import EXPORTS
from snnkd.catalog.losses import AGAINST, DIVERGENCES, FEATURES, LOSSES, PENALTIES, TARGETS
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS, SURROGATES
from snnkd.catalog.registry import Entry, Registry, SectionEntry
from snnkd.errors import UsageError

REGISTRIES = [
    DATA, MODELS, NEURONS, SURROGATES, EXPORTS, DIVERGENCES, PENALTIES, FEATURES, TARGETS, AGAINST, LOSSES,
]  # fmt: skip


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_entries_have_a_name_a_help_line_and_a_section(registry):
    for entry in registry:
        assert entry.name in registry
        assert len(entry.help.splitlines()) == 1
        assert not isinstance(entry, SectionEntry) or dataclasses.is_dataclass(entry.options)
        assert entry.load() is not None if entry.target else registry is LOSSES


def test_an_unknown_name_has_a_suggestion():
    with pytest.raises(UsageError, match=r"^unknown model 'resnet9'; did you mean 'resnet"):
        MODELS["resnet9"]
    with pytest.raises(
        UsageError, match=r"^unknown loss 'xyz'; known: abkd, akl, .*, hta-kl, .*, w2s, wsld$"
    ):
        LOSSES["xyz"]
    with pytest.raises(UsageError, match=r"^unknown thing 'a'$"):
        Registry("thing", [])["a"]


@pytest.mark.parametrize("name", ["npz", "npz:"])
def test_a_missing_argument_is_named(name):
    with pytest.raises(UsageError, match="lacks its PATH; write npz:PATH"):
        DATA[name]


@pytest.mark.parametrize("name", ["glyphs:foo", "glyphs:"])
def test_an_argument_that_is_not_taken(name):
    with pytest.raises(UsageError, match="'glyphs' takes no argument"):
        DATA[name]


def test_an_argument_may_hold_colons():
    assert DATA["npz:C:/data.npz"].name == "npz"


def test_usage_and_target():
    entry = Entry("a", "an a", "json:loads", argument="X")
    assert entry.usage == "a:X"
    assert entry.load()("[1]") == [1]
    assert Entry("b", "a module", "json").load().loads is entry.load()


def test_a_name_is_added_once():
    registry = Registry("thing", [Entry("a", "an a", aliases=("b",))])
    assert registry["b"].name == "a"
    for name in ("a", "b"):
        with pytest.raises(ValueError, match=f"thing '{name}' exists already"):
            registry.add(Entry(name, "another"))
    assert [entry.name for entry in registry] == ["a"]


def test_a_function_of_the_users_is_found_without_permission_and_given_with_it():
    assert DIVERGENCES.find("mine:foo") is DIVERGENCES.user
    with pytest.raises(UsageError, match="add --code mine:foo"):
        DIVERGENCES["mine:foo"]
