"""The loss section keeps its word: its name fits its terms, and --set works in the order given."""

from __future__ import annotations

import pytest

from snnkd.catalog.losses import LOSSES
from snnkd.errors import UsageError
from snnkd.recipe import resolve_stage
from snnkd.recipe.loss_section import build_loss, expand_loss, loss_label
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe


def _distill(*settings: str, loss: str | None = None) -> DistillRecipe:
    made = resolve_stage("glyphs", "distill", loss=loss, settings=settings)
    assert isinstance(made, DistillRecipe)
    return made


@pytest.mark.parametrize(
    "settings", [["loss.name=kl"], ["loss.name=none"], ["loss.terms=[]"], ["loss.terms.0.divergence=kl"]]
)
def test_a_published_name_over_other_terms_is_refused(settings: list[str]) -> None:
    with pytest.raises(UsageError, match=r"loss\.name: .* has other terms"):
        _distill(*settings)


def test_custom_may_hold_anything() -> None:
    loss = _distill("loss.name=custom", "loss.terms.0.divergence=kl").loss
    assert (loss.name, loss.terms[0].divergence) == ("custom", "kl")


def test_settings_apply_in_order() -> None:
    assert _distill("loss=kl", "loss.terms.0.weight=0").loss.terms[0].weight == 0
    assert _distill("loss.terms.0.weight=0", "loss=kl").loss.terms[0].weight == 1
    model = _distill("model=resnet20", "model.T=2").model
    assert (model.name, model.T) == ("resnet20", 2)
    assert _distill("loss.head=strict", "loss.terms.0.head=cover").loss.terms[0].head == "cover"  # type: ignore[attr-defined]


def test_a_loss_of_weight_0_is_refused() -> None:
    for settings in (["loss=none"], ["loss=kl", "loss.terms.0.weight=0"]):
        with pytest.raises(UsageError, match="is 0, so nothing is learned; raise one"):
            _distill(*settings, "loss.hard.weight=0")
    assert _distill("loss=none", "loss.hard={weight: 0, weight_end: 1}").loss.hard.weight == 0


@pytest.mark.parametrize(
    "setting", ["train=false", "train=3", "execution=false", "stage=teach", "seed.x=1", "data.size.x=1"]
)
def test_a_section_is_a_section(setting: str) -> None:
    with pytest.raises(UsageError):
        _distill(setting)


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        ("none", "none"),
        ("hta-kl", "hta-kl"),
        ({"name": "hta-kl", "head": "strict"}, "hta-kl head=strict"),
        ({"name": "hta-kl", "delta": 0.7, "temperature": 2}, "hta-kl delta=0.7 temperature=2"),
        ({"terms": [{"divergence": "kl", "weight": 0.5}]}, "kl weight=0.5"),
    ],
)
def test_label(loss: object, label: str) -> None:
    assert sorted(loss_label(to_plain(build_loss(expand_loss(loss)))).split()) == sorted(label.split())


def test_no_loss_has_no_label() -> None:
    assert loss_label(None) == ""


@pytest.mark.parametrize(
    ("loss", "label"),
    [
        ("twsnn", "twsnn"),
        ({"name": "twsnn", "terms": [
            {"divergence": "kl", "target": "step", "weight": 0.2},
            {"divergence": "kl", "target": "step", "against": "correct-mean", "weight": 0.3},
        ]}, "twsnn 1.weight=0.3"),
        ("tks", "tks"),
        ({"name": "tser", "hard": {"target": "step", "weight": 0.7}}, "tser hard.weight=0.7"),
        ({"name": "bkdsnn", "drop": 0.5}, "bkdsnn 1.drop=0.5"),
        ("sbds", "mix"),
        ({"terms": [{"feature": "mse"}, {"divergence": "kl"}]}, "custom(mse+kl)"),
    ],
)  # fmt: skip
def test_label_of_a_preset_names_only_what_differs(loss: object, label: str) -> None:
    assert loss_label(to_plain(build_loss(loss))) == label


def test_an_alias_is_its_name_everywhere() -> None:
    assert build_loss("sbds") == build_loss("mix")
    assert build_loss({"terms": [{"divergence": "sbds"}]}) == build_loss("mix")


@pytest.mark.parametrize("name", [entry.name for entry in LOSSES])
def test_a_preset_resolves_to_itself(name: str) -> None:
    made = build_loss(name)
    assert build_loss(to_plain(made)) == made
    assert made.name == name


def test_an_option_reaches_every_term_that_has_it() -> None:
    terms = build_loss({"name": "twsnn", "temperature": 2.0}).terms
    assert [term.temperature for term in terms] == [2.0, 2.0]  # type: ignore[attr-defined]
    blurred = build_loss({"name": "bkdsnn", "temperature": 5.0}).terms
    assert blurred[0].temperature == 5.0  # type: ignore[attr-defined]
    assert not hasattr(blurred[1], "temperature")


def test_which_losses_look_at_a_teacher() -> None:
    without = {entry.name for entry in LOSSES if not build_loss(entry.name).needs_teacher}
    assert without == {"none", "tet", "tks", "w2s", "s2w"}
    assert build_loss({"terms": [{"feature": "mse"}]}).needs_teacher
    alone = [{"penalty": "confidence"}, {"divergence": "kl", "against": "correct-sum"}]
    assert not build_loss({"terms": alone}).needs_teacher
