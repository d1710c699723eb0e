"""Resolving a recipe, flags and settings to one checked dataclass per stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from snnkd.catalog.data import DATA
from snnkd.catalog.formats import build_export
from snnkd.catalog.models import LIBRARIES, MODELS
from snnkd.catalog.neurons import build_neuron, check_timesteps
from snnkd.catalog.trackers import check_names
from snnkd.errors import UsageError
from snnkd.recipe.data_section import check_subset
from snnkd.recipe.effect import check_effect
from snnkd.recipe.first_epochs import check_first_epochs
from snnkd.recipe.keys import PIPELINE_KEYS, STAGES, applies, key_hint, stages_in
from snnkd.recipe.loader import read_recipe
from snnkd.recipe.loss_section import NO_LOSS, build_loss, find_trait, method_overrides
from snnkd.recipe.merge import merge_stage
from snnkd.recipe.overrides import apply_flags, apply_settings, expand_sections
from snnkd.recipe.teacher_section import build_teacher
from snnkd.recipe.train_section import check_train, with_optimizer_defaults
from snnkd.schema import fields
from snnkd.schema.augment import check_augment, mixing_names
from snnkd.schema.events import check_events, frames_in
from snnkd.schema.fields import copy_plain
from snnkd.schema.run import (
    CompareConfig,
    DistillRecipe,
    EvalConfig,
    ExecutionConfig,
    ExportConfig,
    StageRecipe,
    TeachRecipe,
)

Values = dict[str, Any]
DEFAULT_T = 4


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The resolved stages of a recipe; None for a stage without a section."""

    teach: TeachRecipe | None = None
    distill: DistillRecipe | None = None
    eval: EvalConfig | None = None
    export: ExportConfig | None = None
    compare: CompareConfig | None = None

    @property
    def stages(self) -> list[StageRecipe]:
        """Teacher and student, those that there are, in order."""
        return [stage for stage in (self.teach, self.distill) if stage is not None]


def resolve_stage(
    recipe: str, stage: Literal["teach", "distill"], *, settings: Sequence[str] = (), **flags: Any
) -> StageRecipe:
    """Resolve one stage with `flags` (see FLAGS) applied, then `settings` (`KEY=VALUE`) in order.

    Raises UsageError (request) or FileError (recipe file).
    """
    document = read_recipe(recipe)
    values = _stage_values(document, stage, recipe)
    apply_flags(values, flags)
    apply_settings(values, settings)
    if stage == "distill" and "loss" not in values:
        _check_loss_not_swept(document, recipe)
    built = _build_stage(values, stage)
    check_effect([built], flags)
    return built


def _check_loss_not_swept(document: Values, recipe: str) -> None:
    swept = document.get("sweep")
    for key in ("loss", "distill.loss"):
        if isinstance(swept, Mapping) and key in swept:
            raise UsageError(
                f"{key}: {recipe} sweeps it; choose one with --loss NAME, or `snnkd run {recipe} --task K`"
            )


def resolve_pipeline(recipe: str, settings: Sequence[str] = ()) -> Pipeline:
    """Resolve every stage of `recipe`, ignoring its sweep.

    The keys of `settings` are full paths in the recipe: `distill.train.epochs=3`.
    """
    return resolve_document(read_recipe(recipe), recipe, settings)


def resolve_document(document: Values, recipe: str, settings: Sequence[str] = ()) -> Pipeline:
    """Resolve a parsed recipe, without changing it; `recipe` is its name in messages."""
    document = expand_sections(copy_plain(document))
    if "stage" in document:
        stage = stage_of(document)
        values = _stage_values(document, stage, recipe)
        apply_settings(values, settings)
        built = _build_stage(values, stage)
        return Pipeline(teach=built) if isinstance(built, TeachRecipe) else Pipeline(distill=built)  # type: ignore[arg-type]
    own = [setting for setting in settings if setting.split(".")[0].split("=")[0] in PIPELINE_KEYS]
    shared = [setting for setting in settings if setting not in own]
    apply_settings(document, own)
    _check_pipeline_keys(document, recipe)
    for setting in shared:
        _check_shared_setting(setting, document)
    stages = {stage: _pipeline_stage(document, stage, recipe, shared) for stage in stages_in(document)}
    _check_eval(document.get("eval"), stages.get("distill"))
    _check_teacher(stages.get("teach"), stages.get("distill"))
    return Pipeline(
        **stages,  # type: ignore[arg-type]
        eval=fields.build(EvalConfig, document["eval"] or {}, "eval") if "eval" in document else None,
        export=build_export(document["export"] or {}) if "export" in document else None,
        compare=fields.build(CompareConfig, document["compare"] or {}, "compare")
        if "compare" in document
        else None,
    )


def _check_eval(section: Any, student: StageRecipe | None) -> None:
    """Raise UsageError for an eval.T that the student's neurons do not support."""
    if section and isinstance(student, DistillRecipe) and student.model.T is not None:
        T = fields.build(EvalConfig, section, "eval").T
        check_timesteps(student.neuron, student.model.T, T or student.model.T, f"eval.T: {T}")


def _check_teacher(teacher: StageRecipe | None, student: StageRecipe | None) -> None:
    """Raise UsageError for a teacher of the student beside the one that the pipeline would train."""
    if teacher is None or not isinstance(student, DistillRecipe) or not student.needs_teacher:
        return
    if student.teacher.run is not None:
        raise UsageError(
            f"teacher.run: {student.teacher.run}, but the section 'teach' trains the teacher; remove one"
        )


def stage_of(document: Values) -> str:
    """Return the stage of a one-stage recipe. Raises UsageError for an unknown stage."""
    stage: str = fields.coerce(Literal["teach", "distill"], document["stage"], "stage")
    return stage


def _check_pipeline_keys(document: Values, recipe: str) -> None:
    known = set(fields.hints(DistillRecipe)) | set(PIPELINE_KEYS)
    for key in document:
        if key not in known:
            hint = key_hint(str(key), known, stages_in(document) or STAGES)
            raise UsageError(f"unknown key {key!r}{hint}")
    if "schema" in document:
        fields.coerce(fields.hints(StageRecipe)["schema"], document["schema"], "schema")
    if "compare" in document and "distill" not in document:
        raise UsageError(f"{recipe}: 'compare' needs a section 'distill'; teachers are not compared")
    if not any(stage in document for stage in STAGES):
        raise UsageError(
            f"{recipe}: no stage; add 'stage: teach', 'stage: distill', or a section teach or distill"
        )


def _check_shared_setting(setting: str, document: Values) -> None:
    path = setting.partition("=")[0]
    if not any(stage in document and applies(path, stage) for stage in STAGES):
        key = path.split(".")[0]
        known = set(fields.hints(DistillRecipe)) | set(PIPELINE_KEYS)
        raise UsageError(f"unknown key {key!r}{key_hint(key, known, stages_in(document))}")


def _pipeline_stage(document: Values, stage: str, recipe: str, shared: Sequence[str]) -> StageRecipe:
    """Resolve one stage of a pipeline; settings on shared keys override its section, as flags do."""
    try:
        values = _stage_values(document, stage, recipe)
        apply_settings(values, [setting for setting in shared if applies(setting.partition("=")[0], stage)])
        return _build_stage(values, stage)
    except UsageError as error:
        raise UsageError(f"{stage}: {error}") from error


def _stage_values(document: Values, stage: str, recipe: str) -> Values:
    """The plain values of one stage; in a pipeline, its section merged into the shared keys."""
    document = expand_sections(copy_plain(document))
    if "stage" in document:
        if document["stage"] != stage:
            raise UsageError(
                f"{recipe} is a recipe of stage {document['stage']!r}; this command runs {stage!r}"
            )
        return {key: value for key, value in document.items() if key not in ("sweep", "search")}
    if stage not in document:
        raise UsageError(f"{recipe} has neither 'stage: {stage}' nor a section {stage!r}")
    _check_pipeline_keys(document, recipe)
    section = {} if document[stage] is None else document[stage]
    if not isinstance(section, Mapping):
        raise UsageError(f"{stage}: {section!r} is not a mapping of keys to values")
    if "stage" in section:
        raise UsageError(f"unknown key '{stage}.stage'; remove it, the section's name is its stage")
    return merge_stage(document, stage)


def _build_stage(values: Values, stage: str) -> StageRecipe:
    values = {**values, "stage": stage}
    values["data"] = _section(DATA, values.get("data"), "data", "glyphs")
    values["model"] = _section(MODELS, values.get("model"), "model", "resnet8")
    for key in ("train", "execution", "neuron", "teacher"):
        if key in values and values[key] is None:  # an empty section in YAML
            del values[key]
    values["train"] = with_optimizer_defaults(values.get("train", {}))
    if stage == "distill":
        name = values["model"].name
        if MODELS[name].ann_only:
            raise UsageError(f"model.name: {name} has no spiking form; it can be a teacher only")
        if values["model"].T is None:
            values["model"] = dataclasses.replace(values["model"], T=frames_in(values["data"]) or DEFAULT_T)
        if "loss" not in values:
            raise UsageError(NO_LOSS)
        values["loss"] = build_loss(values["loss"])
        if "teacher" in values:
            values["teacher"] = build_teacher(values["teacher"])
        _complete_preset(values)
        values["neuron"] = build_neuron(values.get("neuron", "lif"))
    elif values["model"].T is not None:
        raise UsageError(f"model.T: {values['model'].T}, but a teacher has no timesteps; remove the key")
    elif values["model"].event_input is None and frames_in(values["data"]):
        values["model"] = dataclasses.replace(values["model"], event_input="mean")
    known = fields.hints(STAGES[stage])
    for key in values:
        if key in PIPELINE_KEYS:
            raise UsageError(
                f"{key}: `snnkd {stage}` has no such section, only `snnkd run` takes it; remove it"
            )
        if key not in known:
            raise UsageError(f"unknown key {str(key)!r}{key_hint(str(key), known, (stage,))}")
    recipe = fields.build(STAGES[stage], values, "")
    _check_combinations(recipe)
    check_events(recipe)
    check_first_epochs(recipe)
    return recipe


def resolve_execution(device: str, batch_size: Any) -> ExecutionConfig:
    """How a finished network is run: on `device`, `batch_size` images per forward pass. Raises UsageError."""
    return fields.build(ExecutionConfig, {"device": device, "eval_batch_size": batch_size}, "execution")


def _complete_preset(values: Values) -> None:
    """Set the keys of a published method outside `loss:`, in place.

    Another value is refused: the label would no longer describe the loss.
    """
    name = values["loss"].name
    for section, key, value in method_overrides(name):
        keys = values.setdefault(section, {})
        if isinstance(keys, dict) and str(keys.setdefault(key, value)) != value:
            raise UsageError(
                f"{section}.{key}: {keys[key]!r}, but the loss {name!r} needs {value}; "
                "change it, or set loss.name: custom"
            )


def _section(registry: Any, values: Any, where: str, default: str) -> Any:
    if isinstance(values, str):
        values = {"name": values}
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: {values!r} is neither a name nor a section")
    values = {"name": default, **values}
    return fields.build(registry[str(values["name"])].options, values, where)


def _check_combinations(recipe: StageRecipe) -> None:
    """Check the rules that involve several keys."""
    train = recipe.train
    check_train(train)
    if train.select == "best" and recipe.data.val_fraction == 0 and ":" not in recipe.data.name:
        raise UsageError(
            "train.select: best needs data.val_fraction above 0; nothing is ever selected on the test split"
        )
    check_subset(recipe.data)
    check_augment(recipe.data.augment)
    if isinstance(recipe, DistillRecipe):
        mixing = mixing_names(recipe.data.augment)
        key = find_trait(recipe.loss, "one_label") if mixing else None
        if key:
            raise UsageError(
                f"{key} needs one label per image, and {mixing[0]} mixes two; remove one of them"
            )
        key = find_trait(recipe.loss, "needs_timesteps") if recipe.model.T == 1 else None
        if key:
            raise UsageError(f"{key} compares timesteps; set model.T to at least 2")
        accumulate = recipe.execution.accumulate
        key = find_trait(recipe.loss, "across_batch") if accumulate > 1 else None
        if key:
            raise UsageError(
                f"{key} compares samples of a batch; set execution.accumulate to 1, not {accumulate}"
            )
    elif train.init == "teacher":
        raise UsageError("train.init: teacher, but a teacher has none; give random or a file of weights")
    if train.init == "pretrained" and recipe.model.name.partition(":")[0] not in LIBRARIES:
        raise UsageError(
            f"train.init: pretrained, but {recipe.model.name} has no published weights; give a file"
        )
    check_names(recipe.execution.track, "execution.track")
    device, known = recipe.execution.device, ("auto", "cpu", "cuda")
    if device.split(":")[0] not in known:
        hint = f"; did you mean {device.lower()!r}?" if device.lower().split(":")[0] in known else ""
        raise UsageError(f"execution.device: {device!r} is not auto, cpu, cuda or cuda:N{hint}")
