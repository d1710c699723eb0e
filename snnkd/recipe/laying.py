"""One recipe's keys laid over another's: what `extends:` means, key by key.

The base comes first, then the file's own keys are laid over it.

- Sections are laid mapping by mapping. Lists and plain values replace, and so does a `loss`, be it a name or a section.
- `data`, `model` and `neuron`: a section without a name, or with the base's, adds to what the base says. Another name, or a
  bare one (`model: resnet20`), starts from that name's defaults, for the base's options were not meant for it. The T of a model
  is kept, but not when the student's data become events, which bring their own. A bare `teacher` also starts anew.
- A loss comes with what belongs to it outside `loss:` (neuron.last of enof); what belonged to the base's goes, as with `--loss`.
- What a stage's section says wins over the same key beside the sections, as in any recipe. Two things are added, so that nothing
  is said in vain. A key that only one stage takes (a loss; any key, where there is one stage) means that stage: `loss: kl`
  replaces the base's `distill.loss` too. One that both take while both of the base's sections say otherwise is refused.
- A section set to null is taken away, as if the base had not said it. Where the base has none it is refused: in a recipe by
  itself an empty section has its defaults, and nobody could tell which of the two is meant. Within sections null is a value.
- The sweep is laid by its keys: laid_sweep.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.errors import UsageError
from snnkd.recipe.laid_sweep import base_axes, covers, lay_sweep, place_of
from snnkd.recipe.loss_section import method_overrides
from snnkd.recipe.stages import PIPELINE_KEYS, SECTIONS, STAGES, USUAL, Path, as_section, leaves, takers
from snnkd.schema.events import EventConfig

Values = dict[str, Any]


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """`over` laid on `under`, mapping by mapping; a loss replaces a loss as a whole."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and key != "loss"
        merged[key] = merge(merged[key], value) if both else value
    return merged


def lay(base: Values, own: Values, name: str) -> Values:
    """The keys of `own` over those of `base`, which messages call `name`; both stay as they are.

    Raises UsageError for what does not go together, as the top of this file says. Wrong values are not looked at:
    they are refused when the recipe is resolved, wherever they came from.
    """
    _check_form(base, own, name)
    made, own = _in_sections(base), copy.deepcopy(own)
    stages = [stage for stage in STAGES if (stage in made or stage in own) and own.get(stage, {}) is not None]
    swept = lay_sweep(made, own, stages, name)
    fixed = [place_of(axis) for axis in base_axes(made, own)]
    _drop_what_belongs_to_losses(made, own)
    _part_sections(made, own, stages, [place_of(str(axis)) for axis in _mapping(swept.get("sweep"))])
    for key in own:
        if key not in PIPELINE_KEYS:
            _lay_shared(made, own, key, stages, fixed, name)
    for key in own:
        if key in STAGES:
            _lay_stage(made, own, key, name)
        elif key in PIPELINE_KEYS and key != "sweep":
            _lay_end(made, own, key, name)
    _forget_timesteps(base, own, made)
    made.pop("sweep", None)
    return {**made, **swept}


def _in_sections(document: Values) -> Values:
    """A copy in which bare names are sections."""
    made = copy.deepcopy(document)
    for holder in (made, *(made.get(stage) for stage in STAGES)):
        if isinstance(holder, dict):
            holder |= {key: as_section(key, holder[key]) for key in (*USUAL, "teacher") if key in holder}
    return made


def _check_form(base: Values, own: Values, name: str) -> None:
    """A recipe of one stage and a pipeline are written differently; neither becomes the other."""
    sections = [key for key in PIPELINE_KEYS if key != "sweep"]
    if "stage" in base:
        if "stage" in own and own["stage"] != base["stage"]:
            raise UsageError(
                f"stage: {own['stage']!r}, and {name}, which it extends, is of stage {base['stage']!r}; extend another"
            )
        for key in (key for key in sections if key in own):
            raise UsageError(
                f"{key}: a pipeline's section, and {name}, which it extends, is a recipe of one stage ({base['stage']!r}); "
                "write a stage's keys without a section, or extend a pipeline"
            )
    elif "stage" in own:
        for key in (key for key in sections if key in base):
            raise UsageError(
                f"stage: {own['stage']!r}, and {name}, which it extends, is a pipeline (it has the section {key!r}); "
                "leave the key out and write a stage's keys in its section"
            )


def _part_sections(
    made: Values, own: Values, stages: Sequence[str], swept: Sequence[tuple[str, Path]]
) -> None:
    """In place: where `own` starts a section of one stage anew, what the base says of it beside the stages moves into each of them.

    Left there, options of the one network would reach the other. What `own` itself, or the sweep, says beside the stages stays.
    """
    for stage in (stage for stage in stages if _is_section(made.get(stage))):
        for key, value in _mapping(own.get(stage)).items():
            shared = made.get(key)
            known = _name_in(_mapping(made.get(stage)).get(key), _name_in(shared, USUAL.get(key)))
            if (
                key not in (*USUAL, "teacher")
                or not isinstance(shared, dict)
                or not _starts_anew(key, value, known)
            ):
                continue
            beside = [axis for section, axis in swept if section == "" and axis[0] == key]
            if (key,) in beside or (
                key in own and _starts_anew(key, own[key], _name_in(shared, USUAL.get(key)))
            ):
                continue  # no option of the base's shared section is left
            shared = _without(shared, _mapping(as_section(key, own.get(key))))
            shared = {option: held for option, held in shared.items() if (key, option) not in beside}
            for other in (other for other in takers(key, stages) if _is_section(made.get(other))):
                held = made.get(other) or {}
                whole = merge(shared, _mapping(held.get(key)))
                if other == "teach" and key == "model":
                    whole.pop("T", None)  # the student's
                made[other] = {**held, key: whole}
            del made[key]


def _is_section(value: Any) -> bool:
    """Whether a stage's section is one: keys, or nothing yet."""
    return value is None or isinstance(value, dict)


def _lay_shared(
    made: Values, own: Values, key: str, stages: Sequence[str], fixed: Sequence[tuple[str, Path]], name: str
) -> None:
    """A key beside the sections, in place; in a recipe of one stage there are no others."""
    taking = takers(key, stages)
    holders = {
        stage: made[stage] for stage in taking if isinstance(made.get(stage), dict) and key in made[stage]
    }
    alone = holders.get(taking[0]) if len(taking) == 1 else None
    if own[key] is None and key in SECTIONS:
        if alone is None or key in made:
            _take_away(made, key, key, name)
        if alone is not None:
            del alone[key]
        return
    if (
        key == "loss"
        and alone is not None
        and any(section == taking[0] and axis[:1] == (key,) for section, axis in fixed)
    ):
        alone[key] = own[key]  # the base's sweep reaches into the loss there
        return
    known = _name_in(made.get(key), USUAL.get(key))
    starts_anew = _starts_anew(key, own[key], known if alone is None else _name_in(alone[key], known))
    for holder in holders.values():
        if alone is not None:
            _uncover(holder, key, own[key], starts_anew)
        elif isinstance(holder[key], dict):
            # options without a name are those of the shared name, and T is the student's alone
            options = _kept(key, holder[key]) if starts_anew and "name" not in holder[key] else holder[key]
            holder[key] = {
                k: v
                for k, v in options.items()
                if not (key == "model" and k == "T" and "T" in _mapping(own[key]))
            }
    if len(taking) > 1:
        _check_effect(made, own, key, taking, fixed, name)
    made[key] = _laid(key, made.get(key), own[key], starts_anew)


def _lay_stage(made: Values, own: Values, stage: str, name: str) -> None:
    """The section of one stage, in place."""
    over = own[stage]
    if over is None:
        _take_away(made, stage, stage, name)
        return
    held = made.get(stage)
    if not isinstance(over, dict) or not _is_section(held):
        made[stage] = over if _is_section(held) else held  # the one that is no section is refused later
        return
    made[stage] = held = {} if held is None else held
    for key, value in over.items():
        if value is None and key in SECTIONS:
            _take_away(held, key, f"{stage}.{key}", name)
            continue
        known = _name_in(held.get(key), _name_in(made.get(key), USUAL.get(key)))
        held[key] = _laid(key, held.get(key), value, _starts_anew(key, value, known))


def _lay_end(made: Values, own: Values, key: str, name: str) -> None:
    """`eval`, `export` or `compare`, in place."""
    if own[key] is None:
        _take_away(made, key, key, name)
    else:
        made[key] = _laid(key, made.get(key), own[key], False)


def _take_away(holder: Values, key: str, shown: str, name: str) -> None:
    if key not in holder:
        raise UsageError(
            f"{shown}: null takes away what {name} says there, and it says nothing; "
            f"remove the line, or write {shown}: {{}} for the defaults"
        )
    del holder[key]


def _laid(key: str, held: Any, over: Any, starts_anew: bool) -> Any:
    """The value of one key: `over` on what the base holds."""
    section = as_section(key, over)
    under = _without_checksum(key, _mapping(held), section)
    if key == "loss" or not isinstance(section, Mapping):
        return section
    made = merge(_kept(key, under) if starts_anew else under, section)
    if key == "teacher" and isinstance(section.get("model"), (str, Mapping)) and not starts_anew:
        network = as_section("model", under.get("model"))
        anew = _starts_anew("model", section["model"], _name_in(network, None))
        made["model"] = merge({} if anew else _mapping(network), as_section("model", section["model"]))
    return made


def _uncover(holder: Values, key: str, over: Any, starts_anew: bool) -> None:
    """Take out of a stage's section, in place, what `over`, said beside it, replaces."""
    section, held = as_section(key, over), holder.pop(key)
    if key != "loss" and isinstance(section, Mapping) and isinstance(held, Mapping):
        held = _without_checksum(key, held, section)
        holder[key] = _without(_kept(key, held) if starts_anew else held, section)


def _without_checksum(key: str, held: Mapping[str, Any], over: Any) -> Mapping[str, Any]:
    """`held`; of a teacher whose run `over` names anew without the checksum, which was the other's."""
    if key != "teacher" or "run" not in _mapping(over) or "sha256" in over:
        return held
    return {name: value for name, value in held.items() if name != "sha256"}


def _without(held: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """`held` but for the values that `over` has too."""
    made = {}
    for key, value in held.items():
        if key not in over:
            made[key] = value
        elif isinstance(value, Mapping) and isinstance(over[key], Mapping):
            made[key] = _without(value, over[key])
    return made


def _starts_anew(key: str, over: Any, known: str | None) -> bool:
    """Whether a section is given by a bare name, or by another name than the one `known` from the base."""
    if isinstance(over, str):
        return True
    return key in USUAL and isinstance(over, Mapping) and "name" in over and str(over["name"]) != known


def _kept(key: str, section: Mapping[str, Any]) -> Values:
    """What stays of a section that starts anew."""
    return {"T": section["T"]} if key == "model" and "T" in section else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _name_in(section: Any, known: str | None) -> str | None:
    return str(_mapping(section)["name"]) if "name" in _mapping(section) else known


def _check_effect(
    made: Values, own: Values, key: str, taking: Sequence[str], fixed: Sequence[tuple[str, Path]], name: str
) -> None:
    """Refuse a key beside the sections over which what the base says for each stage would win."""
    for path, value in leaves(key, own[key]):
        stages = takers(".".join(path), taking)
        winning = [stage for stage in stages if _hides(made, stage, path, value, fixed)]
        lost = all(stage in winning or _says(own.get(stage), path) is not ... for stage in stages)
        if len(stages) > 1 and winning and lost:
            raise UsageError(
                f"{'.'.join(path)}: {value!r} would change nothing, because what {name} says for {' and '.join(winning)} wins over it; "
                "write it in the section of the stage that is meant"
            )


def _hides(made: Values, stage: str, path: Path, value: Any, fixed: Sequence[tuple[str, Path]]) -> bool:
    """Whether the base says otherwise in a stage's section, or sweeps it there."""
    return _says(made.get(stage), path) not in (..., value) or any(
        section == stage and covers(axis, path) for section, axis in fixed
    )


def _says(section: Any, path: Path) -> Any:
    """What stands at `path`, or in place of a section around it; `...` for nothing."""
    for i, key in enumerate(path):
        if not isinstance(section, Mapping):
            return section if i else ...
        if key not in section:
            return ...
        section = as_section(key, section[key])
    return section


def _drop_what_belongs_to_losses(made: Values, own: Values) -> None:
    """Where `own` says a loss, in place: what belonged to the base's goes, and so does what the new one brings itself."""
    holders = [holder for holder in (made, made.get("distill")) if isinstance(holder, dict)]
    given = [
        holder["loss"]
        for holder in (own, own.get("distill"))
        if isinstance(holder, dict) and "loss" in holder
    ]
    before = [holder["loss"] for holder in holders if "loss" in holder][-1:]
    for section, key, _ in (
        [kept for loss in (*before, *given) for kept in method_overrides(_loss_name(loss))] if given else ()
    ):
        for holder in holders:
            if isinstance(holder.get(section), dict):
                holder[section].pop(key, None)


def _loss_name(loss: Any) -> str:
    return str(loss.get("name", "")) if isinstance(loss, Mapping) else str(loss)


def _forget_timesteps(base: Values, own: Values, made: Values) -> None:
    """In place: the base's T was for other data where these are events, which bring their own."""
    name = _student_data(made)
    if name == _student_data(base) or name not in DATA or not issubclass(DATA[name].options, EventConfig):
        return
    if any("T" in _mapping(_mapping(holder).get("model")) for holder in (own, own.get("distill"))):
        return
    for holder in (made, made.get("distill")):
        if isinstance(holder, dict) and isinstance(holder.get("model"), dict):
            holder["model"].pop("T", None)


def _student_data(document: Values) -> str:
    shared = _name_in(as_section("data", document.get("data")), USUAL["data"])
    return str(_name_in(as_section("data", _mapping(document.get("distill")).get("data")), shared))
