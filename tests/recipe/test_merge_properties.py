"""Properties of merging recipes: small ones, in which each key may be shared by the stages or of one."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snnkd.errors import UsageError
from snnkd.recipe.keys import expand_names
from snnkd.recipe.merge import merge_recipes
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
Keys = dict[str, Any]
"""Values by dotted path."""


def nested(own: Keys) -> Keys:
    document: Keys = {}
    for path, value in own.items():
        *parents, last = path.split(".")
        holder = document
        for key in parents:
            holder = holder.setdefault(key, {})
        holder[last] = value
    return document


def keys(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Keys]:
    """Some of them, often few: with many, nearly every two recipes would be refused."""
    return st.sets(st.sampled_from(sorted(values)), max_size=4).flatmap(
        lambda chosen: st.fixed_dictionaries({k: values[k] for k in sorted(chosen)})
    )


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Keys, dict[str, Keys]]:
    """The shared keys, and those of each stage."""
    return draw(keys(STUDENTS)), {"teach": draw(keys(PLAIN)), "distill": draw(keys(STUDENTS))}


def nested_pipeline(recipe: tuple[Keys, dict[str, Keys]]) -> Keys:
    return {**nested(recipe[0]), **{stage: nested(own) for stage, own in recipe[1].items()}}


def merged(base: Keys, child: Keys) -> tuple[Keys | None, str]:
    """The merged recipe, or why it is refused."""
    try:
        return merge_recipes(base, child, "base"), ""
    except UsageError as error:
        return None, str(error)


def value_at(stage: Any, path: str) -> Any:
    value = to_plain(stage)
    for key in path.split("."):
        value = value.get(key)
    return value["name"] if path == "loss" else value


def settings_of(stage: str) -> dict[str, st.SearchStrategy[Any]]:
    return PLAIN if stage == "teach" else STUDENTS


@settings(max_examples=300, deadline=None)
@given(pipelines(), pipelines())
def test_every_key_of_the_child_has_an_effect(
    base: tuple[Keys, dict[str, Keys]], child: tuple[Keys, dict[str, Keys]]
) -> None:
    document, refusal = merged(nested_pipeline(base), nested_pipeline(child))
    if document is None:
        path, _, rest = refusal.partition(": no effect, ")
        path = {"model": "model.name"}.get(path, path)
        stages = [stage for stage in ("teach", "distill") if path in settings_of(stage)]
        assert path in child[0]
        assert rest.startswith(f"{stages[0]}.")
        assert all(
            path in base[1][stage] or path in child[1][stage] or restarts(stage, path, base, child)
            for stage in stages
        )
        return
    found = tasks_of({"loss": "none", **document}, "merged").all[0].pipeline
    stages = {"teach": found.teach, "distill": found.distill}
    for stage, own in child[1].items():
        assert {path: value_at(stages[stage], path) for path in own} == own
    for path, value in child[0].items():
        takers = [stage for stage in stages if path in settings_of(stage)]
        assert value in [value_at(stages[stage], path) for stage in takers]
    before = tasks_of({"loss": "none", **nested_pipeline(base)}, "base").all[0].pipeline
    for stage, recipe in stages.items():  # what the child leaves alone stays
        for path, value in base[1][stage].items():
            anew = any(
                path.startswith("model.") and "model.name" in own for own in (child[0], child[1][stage])
            )
            if path not in child[1][stage] and path not in child[0] and not anew:
                assert value_at(recipe, path) == value
    now, then = found.distill.model, before.distill.model
    assert {**child[0], **base[1]["distill"], **child[1]["distill"]}.get("model.T", then.T) == now.T


def restarts(
    stage: str, path: str, base: tuple[Keys, dict[str, Keys]], child: tuple[Keys, dict[str, Keys]]
) -> bool:
    """Whether the stage has another network than the shared section, whose options it then does not take."""
    return path.startswith("model.") and ("model.name" in base[1][stage] or "model.name" in child[1][stage])


@settings(max_examples=100, deadline=None)
@given(pipelines(), st.sampled_from(["", "teach", "distill"]))
def test_null_removes_what_the_base_sets_and_nothing_else(
    base: tuple[Keys, dict[str, Keys]], where: str
) -> None:
    keys_there = base[1][where] if where else base[0]
    for path in STUDENTS:
        child = nested({f"{where}.{path}".removeprefix("."): None})
        document, refusal = merged(nested_pipeline(base), child)
        if path not in keys_there:
            assert "null removes a key of base, which does not set it" in refusal
            continue
        assert document is not None
        left = {key: value for key, value in keys_there.items() if key != path}
        rest = (base[0], {**base[1], where: left}) if where else (left, base[1])
        assert pruned(document) == pruned(expand_names(nested_pipeline(rest)))


def pruned(document: Any) -> Any:
    """Without empty mappings."""
    if not isinstance(document, dict):
        return document
    return {key: part for key, value in document.items() if (part := pruned(value)) != {}}


@settings(max_examples=60, deadline=None)
@given(keys(PLAIN), st.sampled_from(["resnet8", "resnet20", "vgg11"]), st.booleans())
def test_another_name_starts_a_section_over(base: Keys, name: str, bare: bool) -> None:
    child = {"model": name if bare else {"name": name}}
    model = merge_recipes({"stage": "teach", **nested(base)}, child, "base")["model"]
    same = base.get("model.name", "resnet8") == name
    assert model == ({"name": name, **nested(base).get("model", {})} if same else {"name": name})


@settings(max_examples=60, deadline=None)
@given(keys(SAME), keys(SAME), keys(SAME))
def test_merging_is_associative_where_no_section_starts_over(first: Keys, second: Keys, third: Keys) -> None:
    a, b, c = ({"stage": "distill", **nested(each)} for each in (first, second, third))
    assert merge_recipes(merge_recipes(a, b, "ab"), c, "c") == merge_recipes(
        a, merge_recipes(b, c, "bc"), "c"
    )
    assert merge_recipes(a, {}, "a") == merge_recipes(a, a, "a") == expand_names(a)


@settings(max_examples=60, deadline=None)
@given(pipelines(), st.lists(st.sampled_from(["seed", "distill.train.lr", "data.noise"]), unique=True))
def test_merging_nothing_into_a_recipe_is_that_recipe(
    base: tuple[Keys, dict[str, Keys]], swept: list[str]
) -> None:
    document = nested_pipeline(base) | ({"sweep": {key: [1, 2] for key in swept}} if swept else {})
    assert merge_recipes(document, {}, "base") == expand_names(document)


ROOT_KEYS = ["name", "T", "data", "model", "neuron", "teacher", "loss", "train", "teach", "distill", "sweep", "eval",
             "compare", "stage", "seed", "schema", "epochs", "terms", "head", "run", "distill.loss", "model.T", "", ".."]  # fmt: skip
ANY_KEY = st.sampled_from([*ROOT_KEYS, "extends"]) | st.integers(0, 1)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 5)
    | st.sampled_from(["kl", "resnet20", "runs/x", "mine:f", "n-mnist", "", "npz:a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_KEY, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from(ROOT_KEYS), ODD, max_size=6)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
@example({"sweep": {"name": {"name": None}}}, {"sweep": {"name": {"name": None}}})
def test_any_two_documents_are_merged_or_refused_in_one_line(base: Keys, child: Keys) -> None:
    before = yaml.safe_dump([base, child])
    document, refusal = merged(base, child)
    if document is not None:
        try:
            tasks_of(document, "merged")
        except UsageError as error:
            refusal = str(error)
    assert "\n" not in refusal
    assert yaml.safe_dump([base, child]) == before, "both stay as they are"
