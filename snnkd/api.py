"""What the commands do, from Python: `snnkd.teach`, `distill`, `evaluate`, `predict`, `export`, typed.

Recipes, names, keys and errors are those of the command line. Every function raises a subclass of
`snnkd.errors.SnnkdError`, whose message is the line that the command prints and whose `exit_code` is its exit
code. Signals are left alone: Ctrl-C raises KeyboardInterrupt, and the next call continues from the last
finished epoch.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

from snnkd import pipeline
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.errors import FileError, UsageError
from snnkd.evaluation import EvalRequest
from snnkd.files import user_path
from snnkd.models import Network
from snnkd.models.files import load_network
from snnkd.recipe import resolve_execution, resolve_stage
from snnkd.recipe.sweep import sweep_notice
from snnkd.recipe.train_section import fitted_keys
from snnkd.runs.find import Finished
from snnkd.schema import fields
from snnkd.schema.run import Confidence, DistillRecipe, EvalConfig, TeachRecipe


@dataclass(frozen=True)
class Point:
    """Results after t steps: top1, top5 in percent, nll in nats, ece 0..1, synops, energy_mj per image."""

    t: int
    top1: float
    top5: float | None
    nll: float
    ece: float
    synops: float | None
    energy_mj: float


@dataclass(frozen=True)
class Result:
    """A measurement: one point a timestep, the rate in spikes per neuron and timestep (None for a teacher).

    `details` is the full content of result.json.
    """

    curve: tuple[Point, ...]
    rate: float | None
    split: str
    images: int
    details: Mapping[str, Any] = field(repr=False)

    @property
    def top1(self) -> float:
        """In percent, after the last timestep."""
        return self.curve[-1].top1


@dataclass(frozen=True)
class Run:
    """A finished run: its directory and how it measured at its end."""

    folder: Path
    result: Result

    def network(self) -> Network:
        """In eval mode: images float 0..1 `[B, C, H, W]` to logits `[T, B, classes]`."""
        return load(self.folder)


@dataclass(frozen=True)
class Exported:
    """An export that was read back by another implementation.

    `agreement` is the share of equal predictions, 0..1, `max_difference` the largest of logits, over `images`
    and all timesteps.
    """

    path: Path
    format: str
    T: int
    images: int
    agreement: float
    max_difference: float
    agreement_unfolded: float | None = None
    """NIR: with the network whose norms are not folded; `agreement` is with the folded twin."""


@dataclass(frozen=True)
class Guess:
    """The most probable class after t timesteps: number, name (None if unknown), probability."""

    t: int
    class_number: int
    class_name: str | None
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The class of a picture after the last timestep, and its probability by the softmax of the mean logits.

    `sure_at` is the first timestep at which this class had the probability `confidence`, None for never;
    `curve` has one entry a timestep, only the last for neurons that are not causal.
    """

    picture: Path
    class_number: int
    class_name: str | None
    probability: float
    sure_at: int | None
    curve: tuple[Guess, ...] = field(repr=False)


Settings = Mapping[str, Any]
"""Any keys of a recipe by dotted path: `{"train.weight_decay": 1e-4}`, as `--set` on the command line."""
_SECTIONS = ("data", "model", "neuron", "loss")
"""Flags that also take a section, a name with its keys."""


class StageFlags(TypedDict, total=False):
    """The flags of `snnkd teach`, as `snnkd teach --help` explains them."""

    data: str | None
    model: str | None
    epochs: int | None
    batch_size: int | None
    lr: float | None
    init: str | Path | Run | None
    seed: int | None
    device: str | None
    track: str | Sequence[str] | None
    continue_anyway: bool


class DistillFlags(StageFlags, total=False):
    """The flags of `snnkd distill`, as `snnkd distill --help` explains them; `teacher` may be a Run."""

    loss: str | None
    T: int | None
    neuron: str | None
    temperature: float | None
    teacher: str | Path | Run | None
    teacher_model: str | None
    teacher_weights: str | Path | None
    allow_weak_teacher: bool


def teach(
    recipe: str | Path = "glyphs",
    *,
    settings: Settings | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    quiet: bool = False,
    **flags: Unpack[StageFlags],
) -> Run:
    """Train an ANN teacher, like `snnkd teach`; a finished run is returned, an unfinished one continued.

    `flags`: data, model, epochs, batch_size, lr, seed, device, track, continue_anyway.
    """
    recipe = _recipe(recipe)
    resolved = resolve_stage(recipe, "teach", settings=_words(settings), **_flags(flags))
    assert isinstance(resolved, TeachRecipe)
    fitted = fitted_keys(recipe, resolved, _words(settings), flags)
    context = _context(quiet, out, fresh, sweep_notice(recipe, resolved, "teach"))
    return _run(pipeline.teach(resolved, context, fitted))


def distill(
    recipe: str | Path = "glyphs",
    *,
    settings: Settings | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    quiet: bool = False,
    **flags: Unpack[DistillFlags],
) -> Run:
    """Train a spiking student, like `snnkd distill`; a finished run is returned, an unfinished one continued.

    `flags`: those of `teach`, and loss, T, neuron, temperature, teacher (a Run, its folder or a file of
    weights; by default the only run of the same data), teacher_model, teacher_weights, allow_weak_teacher.
    """
    recipe = _recipe(recipe)
    resolved = resolve_stage(recipe, "distill", settings=_words(settings), **_flags(flags))
    assert isinstance(resolved, DistillRecipe)
    notes = sweep_notice(recipe, resolved, "distill")
    fitted = fitted_keys(recipe, resolved, _words(settings), flags)
    return _run(pipeline.distill(resolved, _context(quiet, out, fresh, notes), fitted))


def evaluate(
    run: str | Path | Run,
    *,
    T: int | None = None,
    split: str = "test",
    data: str | None = None,
    settings: Settings | None = None,
    recalibrate_bn: bool = False,
    save_logits: str | Path | None = None,
    batch_size: int = 250,
    device: str = "auto",
    quiet: bool = False,
) -> Result:
    """Measure a run or an export at every timestep, like `snnkd eval`.

    `settings` are keys of the data: `{"data.noise": 0.2}`.
    """
    request = EvalRequest(
        settings=fields.build(EvalConfig, {"split": split, "T": T, "recalibrate_bn": recalibrate_bn}, "eval"),
        data=fields.coerce(str | None, data, "data"),
        data_settings=_words(settings),
        save_logits=None if save_logits is None else _path("save_logits", save_logits),
    )
    execution = resolve_execution(device, batch_size)
    return _result(pipeline.evaluate(_folder(run), request, _context(quiet), execution))


def predict(
    run: str | Path | Run,
    pictures: str | Path | Sequence[str | Path],
    *,
    confidence: float = 0.9,
    batch_size: int = 250,
    device: str = "auto",
    quiet: bool = False,
) -> list[Prediction]:
    """Predict the classes of pictures, files or folders of them, like `snnkd predict`, in their order.

    Raises FileError for a picture that cannot be read.
    """
    paths = list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]
    threshold = fields.coerce(Confidence, confidence, "confidence")
    execution = resolve_execution(device, batch_size)
    files = [_path("pictures", path) for path in paths]
    predicted = pipeline.predict(_folder(run), files, threshold, _context(quiet), execution)
    for each in predicted["left_out"]:
        raise FileError(f"{each['picture']}: {each['reason']}")
    return [_prediction(each) for each in predicted["predictions"]]


def _prediction(values: Mapping[str, Any]) -> Prediction:
    curve = tuple(
        Guess(each["t"], each["class"], each["name"], each["probability"]) for each in values["curve"]
    )
    own = Path(values["picture"]), values["class"], values["name"], values["probability"]
    return Prediction(*own, values["sure_at"], curve)


def export(
    run: str | Path | Run,
    format: str = "safetensors",
    *,
    out: str | Path | None = None,
    T: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Exported:
    """Export a run's network and verify the file, like `snnkd export`. Raises RunError if they disagree."""
    target = None if out is None else _path("out", out)
    name = fields.coerce(str, format, "format")
    report = pipeline.export(_folder(run), name, target, force, _context(quiet), T=T)
    known: dict[str, Any] = {f.name: report.get(f.name) for f in dataclasses.fields(Exported)}
    return Exported(**{**known, "path": Path(report["path"])})


def load(run: str | Path | Run) -> Network:
    """Load the network of a finished run or an export, or of `hf-hub:OWNER/NAME`, in eval mode.

    It maps images in 0..1 `[B, C, H, W]`, or event frames `[frames, B, 2, H, W]` (event counts divided by
    255), to logits `[T, B, classes]`. Raises FileError if a file is missing or damaged.
    """
    return load_network(_folder(run)).network


def _recipe(recipe: Any) -> str:
    return recipe if isinstance(recipe, str) else str(_path("recipe", recipe))


def _flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as plain values. Raises UsageError for several values where one is taken."""
    values = {key: _value(key, value) for key, value in flags.items()}
    for key, value in values.items():
        if isinstance(value, list) or (isinstance(value, dict) and key not in _SECTIONS):
            raise UsageError(f"{key}: {value!r} is a {type(value).__name__}; give one value")
    return values


def _words(settings: Settings | None) -> list[str]:
    """Settings as `--set` takes them. Raises UsageError for anything but a mapping to plain values."""
    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(
            f"settings: a {type(settings).__name__}; give a mapping of keys to values, "
            '{"train.weight_decay": 1e-4}'
        )
    return [f"{key}={json.dumps(_value(str(key), value))}" for key, value in (settings or {}).items()]


def _value(key: str, value: Any) -> Any:
    """A plain value: of a run or path its text, of an array a list. Raises UsageError for other types."""
    if isinstance(value, Run):
        return str(value.folder)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy or torch
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _value(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(f"{key}.{i}", item) for i, item in enumerate(value)]
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise UsageError(f"{key}: a {type(value).__name__}; give a number, text, a list or a mapping")
    return value


def _path(key: str, value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise UsageError(f"{key}: a {type(value).__name__} is not a path; give text or a Path")
    return user_path(value)


def _context(
    quiet: bool, out: str | Path | None = None, fresh: bool = False, notes: Sequence[str] = ()
) -> RunContext:
    console = Console(quiet=quiet)
    for line in notes:
        console.log(line)
    return RunContext(out=None if out is None else _path("out", out), fresh=fresh, console=console)


def _folder(run: str | Path | Run) -> Path:
    return run.folder if isinstance(run, Run) else _path("run", run)


def _run(finished: Finished) -> Run:
    return Run(finished.folder, _result(finished.result))


def _result(result: Mapping[str, Any]) -> Result:
    curve = tuple(
        Point(**{f.name: entry[f.name] for f in dataclasses.fields(Point)}) for entry in result["curve"]
    )
    return Result(curve, result["rate"], result["split"], result["images"], result)
