"""`data.augment`: names and mappings, what is refused, and what a run's name makes of it."""

import pytest

from snnkd.catalog.losses import LOSSES
from snnkd.errors import UsageError
from snnkd.recipe import resolve_stage
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.loss_section import find_trait
from snnkd.recipe.yaml_io import dump_yaml, parse_yaml
from snnkd.runs.folder import identity, recipe_hash
from snnkd.schema import fields
from snnkd.schema.augment import (
    OPERATIONS,
    CutMixConfig,
    CutoutConfig,
    EraseConfig,
    MixupConfig,
    RandAugmentConfig,
    options_of,
)
from snnkd.schema.data import DataConfig


def augment(*items):
    return fields.build(DataConfig, {"augment": list(items)}, "data").augment


def recipe(setting, stage="teach", **flags):
    return resolve_stage("glyphs", stage, settings=[f"data.augment={setting}"], **flags)


def refused(setting, stage="teach", **flags):
    with pytest.raises(UsageError) as caught:
        recipe(setting, stage, **flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def hashed(setting):
    made = recipe(setting)
    return recipe_hash(identity(made, "d" * 64, None))


def test_names_stay_names_and_usual_options_become_them():
    assert augment(*OPERATIONS) == tuple(OPERATIONS)
    assert augment({"name": "cutout"}, {"name": "mixup", "alpha": "1"}) == ("cutout", "mixup")
    assert augment({"name": "cutout", "size": "8"}, "flip") == (CutoutConfig(size=8), "flip")
    assert augment(CutoutConfig(size=8)) == (CutoutConfig(size=8),)
    assert [options_of(name) for name in ("crop", CutMixConfig(p=0.5))] == [
        OPERATIONS["crop"](),
        CutMixConfig(p=0.5),
    ]


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        ("mirror", "data.augment.0: 'mirror' is not one of crop, flip, autoaugment"),
        ({"size": 8}, "data.augment.0: {'size': 8} lacks a name, one of crop"),
        (
            {"name": "cutout", "sise": 8},
            "unknown key 'data.augment.0.sise'; did you mean 'data.augment.0.size'?",
        ),
        ({"name": "crop", "size": 8}, "unknown key 'data.augment.0.size'"),
        ({"name": "cutout", "size": 0}, "data.augment.0.size: 0 is too small"),
        ({"name": "cutout", "size": 2.5}, "data.augment.0.size: 2.5 is not a whole number"),
        ({"name": "mixup", "alpha": 0}, "data.augment.0.alpha: 0.0 is too small; it must be above 0"),
        ({"name": "erase", "p": 1.1}, "data.augment.0.p: 1.1 is too large"),
        ({"name": {"crop": 1}}, "is not one of crop"),
        (["crop"], "is not one of crop"),
        (None, "is not one of crop"),
        (3, "data.augment.0: 3 is not one of crop"),
    ],
)
def test_items_that_are_refused(item, hint):
    with pytest.raises(UsageError) as caught:
        augment(item)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("[mixup, crop]", "data.augment: crop after mixup; put mixup, cutmix last"),
        ("[crop, mixup, cutout, cutmix]", "cutout after mixup"),
        ("[crop, {name: cutmix, p: 0.5}, autoaugment]", "autoaugment after cutmix"),
        ("[cutout, {name: cutout, size: 8}]", "['cutout', 'cutout'] has an operation twice"),
        ("[{name: randaugment, magnitude: 31}]", "data.augment.0.magnitude: 31 must be below bins, 31"),
        ("[crop, {name: erase, scale_low: 0.5}]", "data.augment.1.scale_low: 0.5 is above scale_high, 0.33"),
        ("[{name: erase, ratio_high: 0.2}]", "data.augment.0.ratio_low: 0.3 is above ratio_high, 0.2"),
    ],
)
def test_lists_that_are_refused(setting, hint):
    assert hint in refused(setting)


def test_both_that_mix_may_stand_in_either_order():
    assert recipe("[mixup, cutmix]").data.augment == ("mixup", "cutmix")
    assert recipe("[cutout, cutmix, mixup]").data.augment == ("cutout", "cutmix", "mixup")


def test_equal_operations_are_the_same_run_and_others_are_not():
    assert hashed("[crop, cutout]") == hashed("[crop, {name: cutout}]") == hashed("[{name: crop}, cutout]")
    different = [
        "[crop, cutout]",
        "[cutout, crop]",
        "[crop, {name: cutout, size: 8}]",
        "[crop, {name: cutout, size: 9}]",
        "[crop]",
    ]
    assert len({hashed(setting) for setting in different}) == len(different)


def test_names_of_runs_begun_before_stay():
    """Of the commit before operations had options."""
    made = [recipe(setting) for setting in ("[crop]", "[crop, flip]", "[]")]
    assert [identity(one, "d" * 64, None)["data"]["augment"] for one in made] == [
        ["crop"],
        ["crop", "flip"],
        [],
    ]
    assert [type(item) for one in made for item in one.data.augment] == [str] * 3


@pytest.mark.parametrize(
    "setting",
    [
        "[crop, {name: randaugment, ops: 3}, cutout, {name: cutmix, alpha: 0.5}]",
        "[{name: cutout, size: 8}, {name: mixup, p: 0.5}]",
        "[{name: erase, scale_low: 0.1, ratio_low: 0.5}]",
        "[]",
    ],
)
def test_what_is_written_is_read_back(setting):
    made = recipe(setting).data
    for text in (dump_yaml({"data": made}), commented_yaml({"data": made})):
        again = parse_yaml(text.encode(), "here")["data"]
        assert recipe(str(again["augment"])).data == made
    assert "Side of the square" in commented_yaml({"data": recipe("[{name: cutout, size: 8}]").data})


def test_settings_reach_into_options():
    words = ["data.augment=[crop, {name: cutout, size: 8}]", "data.augment.1.size=6"]
    assert resolve_stage("glyphs", "teach", settings=words).data.augment == (
        "crop",
        CutoutConfig(size=6),
    )
    made = resolve_stage(
        "glyphs",
        "teach",
        settings=["data.augment=[crop, cutout]", "data.augment.1={name: erase, p: 1}"],
    )
    assert made.data.augment == ("crop", EraseConfig(p=1))


NEED_A_LABEL = {
    "dkd": "loss.terms.0.divergence: dkd",
    "wsld": "loss.terms.0.divergence: wsld",
    "bkdsnn": "loss.terms.0.divergence: wsld",
    "twsnn": "loss.terms.1.against: correct-mean",
    "tks": "loss.terms.0.against: correct-sum",
    "seal": "loss.terms.0.correct_errors",
}


@pytest.mark.parametrize("loss", [entry.name for entry in LOSSES])
def test_losses_that_need_one_label_are_refused_beside_mixing(loss):
    for mixing in ("mixup", "{name: cutmix, p: 0.1}"):
        setting = f"[crop, {mixing}]"
        if loss in NEED_A_LABEL:
            name = mixing.strip("{}").removeprefix("name: ").partition(",")[0]
            wanted = (
                f"{NEED_A_LABEL[loss]} needs one label per image, and {name} mixes two; remove one of them"
            )
            assert refused(setting, "distill", loss=loss) == wanted
        else:
            assert find_trait(recipe(setting, "distill", loss=loss).loss, "one_label") is None
    recipe("[crop, cutout]", "distill", loss=loss)


def test_options_are_of_the_right_kind():
    assert RandAugmentConfig() == RandAugmentConfig(ops=2, magnitude=9, bins=31)
    assert EraseConfig() == EraseConfig(p=0.5, scale_low=0.02, scale_high=0.33, ratio_low=0.3, ratio_high=3.3)
    assert MixupConfig().alpha == CutMixConfig().alpha == 1
