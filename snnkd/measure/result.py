"""The result: the content of result.json and of `snnkd eval --json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from snnkd.measure.curve import Curve, CurveEntry, running_means
from snnkd.measure.dynamic import DynamicEntry, dynamic_inference
from snnkd.measure.energy import CONVENTION, energy_mj
from snnkd.measure.quality import accuracy_per_class, balanced_accuracy, confusion_counts


class Selection(TypedDict):
    """Selection of the epoch whose weights are measured."""

    rule: Literal["last", "best"]
    epoch: int


class TeacherEntry(TypedDict):
    """Teacher of a student, measured on the test split."""

    run: str
    sha256: str
    top1: float
    """In percent."""
    energy_mj: float
    """Millijoule per image."""
    model: str
    parameters: int


class AnnCost(TypedDict):
    """Cost per image of the student's topology as an ANN."""

    macs: int
    energy_mj: float


class Seconds(TypedDict):
    """`train` and `eval` are wall time; those of training are None if not recorded."""

    train: float | None
    train_cpu: float | None
    """CPU time of all threads of all processes."""
    train_gpu: float | None
    """Wall time times the number of GPUs; None without one."""
    eval: float


class ResultDict(TypedDict):
    """A measurement with its provenance; keys absent from a network's config.json are None."""

    schema: int
    run: str
    stage: Literal["teach", "distill"] | None
    seed: int | None
    recipe_hash: str | None
    data: str
    part: NotRequired[dict[str, Any]]
    """Subset of the data set: `classes`, `train_per_class`."""
    split: Literal["test", "val"]
    data_split: NotRequired[str]
    """How the data set defines its test split."""
    trained_T: int | None
    """None for a teacher."""
    model: dict[str, Any]
    neuron: dict[str, Any] | None
    curve_note: NotRequired[str]
    loss: dict[str, Any] | None
    selection: Selection | None
    teacher: TeacherEntry | None
    precision: Literal["float32", "bf16"] | None
    weights_sha256: str
    data_sha256: str
    class_names: NotRequired[list[str]]
    """Names of the network's outputs in order, of its training data or as published for these."""
    resumed: NotRequired[list[str]]
    """Changes of versions, hardware or processes at which training was resumed: its last digits differ."""
    parameters: int
    command: str
    date: str
    versions: dict[str, str]
    hardware: dict[str, Any]
    seconds: Seconds
    images: int
    T: int
    curve: list[CurveEntry]
    """One entry per timestep; only the last one for neurons that are not causal."""
    top1_per_class: list[float | None]
    """In percent, after the last timestep, by class number; None for a class without images."""
    balanced_top1: float
    """Mean of `top1_per_class`: every class counts alike, however many images it has."""
    confusion: list[dict[str, int]]
    """Images of each class by the number of the predicted class, after the last timestep; no zeros."""
    rate: float | None
    """Spikes per neuron and timestep; None for a teacher."""
    rate_per_layer: dict[str, float] | None
    dynamic: list[DynamicEntry] | None
    ann: AnnCost | None
    energy_convention: dict[str, Any]
    energy_note: str | None
    recalibrated_on: NotRequired[int]
    """Number of training images used to re-estimate batch norm statistics."""


def make_result(curve: Curve, description: Mapping[str, Any], ann_macs: int | None = None) -> ResultDict:
    """Combine a measurement with the `description` of its run; `ann_macs` is of its topology as an ANN."""
    logits = running_means(curve.logits)[-1]
    per_class = accuracy_per_class(logits, curve.labels)
    values: dict[str, Any] = {
        "schema": 1,
        **description,
        "images": curve.images,
        "T": curve.entries[-1]["t"],
        "curve": curve.entries,
        "top1_per_class": per_class,
        "balanced_top1": balanced_accuracy(per_class),
        "confusion": confusion_counts(logits, curve.labels),
        "rate": curve.rate,
        "rate_per_layer": curve.rate_per_layer,
        "dynamic": dynamic_inference(curve.logits, curve.labels) if len(curve.entries) > 1 else None,
        "ann": None if ann_macs is None else {"macs": ann_macs, "energy_mj": energy_mj(ann_macs)},
        "energy_convention": CONVENTION,
    }
    result = cast(ResultDict, values)
    result["energy_note"] = cost_sentence(result)
    return result


def cost_sentence(result: ResultDict) -> str | None:
    """Compare a student's energy with its teacher's and its own topology's as an ANN; None for a teacher."""
    if result["rate"] is None:
        return None
    end = result["curve"][-1]
    references = {"its teacher": result["teacher"], "its own topology as an ANN": result["ann"]}
    comparisons = [
        _compare(end["energy_mj"], reference["energy_mj"], name)
        for name, reference in references.items()
        if reference and reference["energy_mj"]
    ]
    sentence = f"at t = {end['t']} the student takes {1000 * end['energy_mj']:.3f} µJ an image"
    return f"{sentence}: {', '.join(comparisons)}" if comparisons else sentence


def _compare(own: float, other: float, name: str) -> str:
    reference = f"{name} ({1000 * other:.3f} µJ)"
    return (
        f"{other / own:.1f} times less than {reference}" if own < other else f"{own / other:.2f}x {reference}"
    )
