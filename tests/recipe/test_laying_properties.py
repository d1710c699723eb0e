"""Properties of laying one recipe over another: small recipes in which each key may stand beside the stages or in one."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.errors import UsageError
from snnkd.recipe.laying import lay
from snnkd.recipe.sweep import tasks_of
from snnkd.schema.fields import to_plain

PLAIN = {"seed": st.integers(0, 3), "train.epochs": st.integers(1, 4), "train.lr": st.sampled_from([0.1, 0.2, 0.3]),
         "data.noise": st.sampled_from([0.1, 0.2]), "model.width": st.integers(2, 5),
         "model.name": st.sampled_from(["resnet8", "resnet20", "vgg11"])}  # fmt: skip
STUDENTS = {
    **PLAIN,
    "model.T": st.integers(2, 5),
    "neuron.tau": st.sampled_from([2.0, 3.0]),
    "loss": st.sampled_from(["none", "kl", "tet"]),
}
SAME = {path: values for path, values in STUDENTS.items() if not path.endswith(".name")}
Said = dict[str, Any]


def nested(said: Said) -> Said:
    made: Said = {}
    for path, value in said.items():
        *parents, last = path.split(".")
        holder = made
        for key in parents:
            holder = holder.setdefault(key, {})
        holder[last] = value
    return made


def keys(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Said]:
    """Some of them, often few: with many, nearly every two recipes would be refused."""
    return st.sets(st.sampled_from(sorted(values)), max_size=4).flatmap(
        lambda chosen: st.fixed_dictionaries({k: values[k] for k in sorted(chosen)})
    )


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Said, dict[str, Said]]:
    """What is said by dotted path, beside the stages and in each of them."""
    return draw(keys(STUDENTS)), {"teach": draw(keys(PLAIN)), "distill": draw(keys(STUDENTS))}


def document(recipe: tuple[Said, dict[str, Said]]) -> Said:
    return {**nested(recipe[0]), **{stage: nested(said) for stage, said in recipe[1].items()}}


def laid(base: Said, own: Said) -> tuple[Said | None, str]:
    """What the two make together, or why not."""
    try:
        return lay(base, own, "base"), ""
    except UsageError as error:
        return None, str(error)


def value_at(stage: Any, path: str) -> Any:
    held = to_plain(stage)
    for key in path.split("."):
        held = held.get(key)
    return held["name"] if path == "loss" else held


@settings(max_examples=300, deadline=None)
@given(pipelines(), pipelines())
def test_nothing_is_said_in_vain(
    base: tuple[Said, dict[str, Said]], own: tuple[Said, dict[str, Said]]
) -> None:
    whole, refusal = laid(document(base), document(own))
    if whole is None:
        path = refusal.partition(":")[0]
        assert "would change nothing" in refusal
        in_own, in_base = ({stage for stage in said if path in said[stage]} for said in (own[1], base[1]))
        assert in_own | in_base == {"teach", "distill"}
        assert in_base
        return
    found = tasks_of(whole, "whole").all[0].pipeline
    stages = {"teach": found.teach, "distill": found.distill}
    for stage, said in own[1].items():
        assert {path: value_at(stages[stage], path) for path in said} == said
    for path, value in own[0].items():
        takers = [stage for stage in stages if path in (PLAIN if stage == "teach" else STUDENTS)]
        if any(path not in own[1][stage] for stage in takers):
            assert value in [value_at(stages[stage], path) for stage in takers]
    before = tasks_of(document(base), "base").all[0].pipeline
    for stage, held in stages.items():  # options of another network do not reach this one; T does
        now, then = to_plain(held)["model"], to_plain(getattr(before, stage))["model"]
        said = own[0] | own[1][stage]
        assert "width" not in now or now["name"] == then["name"] or "model.width" in said
        assert now.get("T") == said.get("model.T", then.get("T")) or stage == "teach"
    for stage, held in stages.items():  # what the child leaves alone stays
        for path, value in base[1][stage].items():
            anew = any(f"{path.partition('.')[0]}.name" in said for said in (own[0], *own[1].values()))
            if path not in own[1][stage] and path not in own[0] and not anew:
                assert value_at(held, path) == value


@settings(max_examples=60, deadline=None)
@given(keys(SAME), keys(SAME), keys(SAME))
def test_laying_is_associative_where_no_section_starts_anew(first: Said, second: Said, third: Said) -> None:
    a, b, c = ({"stage": "distill", **nested(each)} for each in (first, second, third))
    assert lay(lay(a, b, "ab"), c, "c") == lay(a, lay(b, c, "bc"), "c")
    assert lay(a, {}, "a") == a
    assert lay(a, a, "a") == a


@settings(max_examples=60, deadline=None)
@given(pipelines(), st.lists(st.sampled_from(["seed", "distill.train.lr", "data.noise"]), unique=True))
def test_nothing_over_a_recipe_is_that_recipe(base: tuple[Said, dict[str, Said]], swept: list[str]) -> None:
    whole = document(base) | ({"sweep": {key: [1, 2] for key in swept}} if swept else {})
    assert lay(whole, {}, "base") == whole


ANY_KEY = st.sampled_from(
    ["name", "T", "data", "model", "neuron", "teacher", "loss", "train", "teach", "distill", "sweep", "eval", "compare", "stage", "seed",
     "schema", "epochs", "terms", "head", "run", "distill.loss", "model.T", "", "..", "extends"]
) | st.integers(0, 1)  # fmt: skip
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 5)
    | st.sampled_from(["kl", "resnet20", "runs/x", "mine:f", "n-mnist", "", "npz:a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_KEY, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(
    ANY_KEY.filter(lambda key: isinstance(key, str) and key != "extends"), ODD, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_any_two_documents_are_laid_or_refused_in_one_line(base: Said, own: Said) -> None:
    before = yaml.safe_dump([base, own])
    whole, refusal = laid(base, own)
    if whole is not None:
        try:
            tasks_of(whole, "whole")
        except UsageError as error:
            refusal = str(error)
    assert "\n" not in refusal
    assert yaml.safe_dump([base, own]) == before, "both stay as they are"
