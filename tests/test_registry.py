"""Names, suggestions and arguments of registry entries."""

import dataclasses

import pytest

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import DIVERGENCES, LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.registry import Entry, Registry
from snnkd.errors import UsageError

REGISTRIES = [DATA, MODELS, DIVERGENCES, LOSSES]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_entries_have_a_name_a_help_line_and_a_section(registry):
    for entry in registry:
        assert entry.name in registry
        assert len(entry.help.splitlines()) == 1
        assert dataclasses.is_dataclass(entry.options)
        assert callable(entry.load()) if entry.target else registry is LOSSES


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
    with pytest.raises(UsageError, match="'glyphs' takes nothing after a colon"):
        DATA[name]


def test_an_argument_may_hold_colons():
    assert DATA["npz:C:/data.npz"].name == "npz"


def test_details_and_usage():
    entry = Entry("a", "an a", Registry, argument="X", details=(("terms", ("kl",)),))
    assert entry.usage == "a:X"
    assert entry.detail("terms") == ("kl",)
    assert entry.detail("absent", 3) == 3
    assert "absent" not in DATA
