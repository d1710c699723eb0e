"""Finding a teacher, checking that it fits the data, and freezing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from snnkd.data import ImageSet
from snnkd.data.loader import measure_batches
from snnkd.errors import PlaceError
from snnkd.measure.curve import measure_curve
from snnkd.models.features import Features
from snnkd.models.files import Loaded, load_network
from snnkd.recipe.schema import DistillRecipe, ExecutionConfig
from snnkd.report import Reporter
from snnkd.runs.find import LATEST, choose, finished_runs

Began = Callable[[str], Literal["no", "unfinished", "finished"]]
"""From a teacher's sha256 to whether the run asked for was begun with it."""


def find_teacher(recipe: DistillRecipe, data: ImageSet, began: Began, report: Reporter) -> Loaded:
    """The teacher that the recipe names, else the one finished teacher run of the same data.

    Of several, the one that this very run was begun with, so that the same command continues also after another
    teacher was trained. Raises PlaceError when there is none or it does not fit, RequestError when several might be
    meant.
    """
    named = recipe.teacher.run
    folder = _search(data, named == LATEST, began) if named is None or named == LATEST else _named(Path(named), recipe.teacher.sha256)
    loaded = load_network(folder)
    _check_fit(loaded, data)
    if recipe.teacher.sha256 not in (None, loaded.sha256):
        raise PlaceError(f"{folder}: weights have sha256 {loaded.sha256[:12]}..., the recipe asks for {str(recipe.teacher.sha256)[:12]}...")
    report.note(f"teacher: {folder}")
    return loaded


def _search(data: ImageSet, latest: bool, began: Began) -> Path:
    same = [run for run in finished_runs("teach") if run.result.get("data_sha256") == data.sha256]
    states = [began(str(run.result.get("weights_sha256"))) for run in same]
    for wanted in ("unfinished",) if latest else ("unfinished", "finished"):
        if states.count(wanted) == 1:  # type: ignore[arg-type]
            return same[states.index(wanted)].folder  # type: ignore[arg-type]
    absent = f"no finished teacher of this data ({data.name}) under the runs folder; run `snnkd teach` first, or give --teacher RUN"
    return choose(same, "teacher", latest, "--teacher latest", absent).folder


def _named(folder: Path, sha256: str | None) -> Path:
    """`folder`; where it is not there, a finished teacher with the weights that the recipe asks for."""
    if sha256 is not None and not folder.exists():
        for run in finished_runs("teach"):
            if run.result.get("weights_sha256") == sha256:
                return run.folder
    return folder


def _check_fit(loaded: Loaded, data: ImageSet) -> None:
    made = loaded.network.specification
    if made.kind != "ann":
        raise PlaceError(f"{loaded.folder}: a spiking student, not a teacher; give a run of `snnkd teach`")
    if made.classes != data.classes:
        raise PlaceError(f"{loaded.folder}: the teacher has {made.classes} classes, {data.name} has {data.classes}")
    if made.shape != data.shape:
        raise PlaceError(f"{loaded.folder}: the teacher takes images {list(made.shape)}, {data.name} has {list(data.shape)}")


def judge_teacher(loaded: Loaded, data: ImageSet, execution: ExecutionConfig, device: torch.device, report: Reporter) -> dict[str, Any]:
    """Measure the teacher on the test split and print it; returns what results say of it.

    Raises PlaceError below twice chance (of two classes: below 75 %), from which little can be learned, unless `allow_weak_teacher`.
    """
    network = loaded.network.to(device)
    curve = measure_curve(network, measure_batches(data.test, execution.eval_batch_size, device), 1)
    top1, chance = float(curve.entries[0]["top1"] or 0.0), 100 / data.classes
    needed = min(2 * chance, (chance + 100) / 2)  # of two classes nobody can be above twice chance
    report.note(f"teacher accuracy: {top1:.2f} % of {curve.images} test images")
    if top1 < needed and not execution.allow_weak_teacher:
        raise PlaceError(
            f"{loaded.folder}: teacher accuracy {top1:.2f} % is below {_rule(needed, chance)} ({needed:.2f} %); "
            "train it longer, or pass --allow-weak-teacher"
        )
    about = {"run": str(loaded.folder), "sha256": loaded.sha256, "top1": top1, "energy_mj": curve.entries[0]["energy_mj"]}
    return {**about, "model": network.specification.model.name, "parameters": sum(p.numel() for p in network.parameters())}


def _rule(needed: float, chance: float) -> str:
    return "twice chance" if needed == 2 * chance else "halfway from chance to 100 %"


def frozen(loaded: Loaded, device: torch.device) -> Callable[[Tensor, Features | None], Tensor]:
    """Images to teacher logits `[B, C]`, in eval mode and without gradient; features are kept as wanted."""
    network = loaded.network.to(device).eval().requires_grad_(False)

    def logits(images: Tensor, features: Features | None = None) -> Tensor:
        with torch.inference_mode():
            answer: Tensor = (network(images, 1) if features is None else network(images, 1, features))[0]
        # what was made in inference mode cannot be kept for a backward pass; a copy made outside can
        if features is not None:
            features.kept = {name: value.clone() for name, value in features.kept.items()}
        return answer.clone()

    return logits
