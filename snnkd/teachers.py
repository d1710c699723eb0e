"""Finding a teacher, checking that it fits the data, and freezing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from snnkd.catalog.models import LIBRARIES
from snnkd.console import Console
from snnkd.data import ImageSet
from snnkd.data.loader import measure_batches
from snnkd.errors import FileError, UsageError
from snnkd.measure.curve import measure_curve
from snnkd.models import Network, Specification, build_network
from snnkd.models.features import Features
from snnkd.models.files import LoadedNetwork, load_network
from snnkd.models.libraries import CHANNELS, LibraryNetwork, check_name, native_input
from snnkd.models.resize import resize_images
from snnkd.models.weights import load_weights, read_weights
from snnkd.runs.find import LATEST, choose, finished_runs
from snnkd.schema.run import DistillRecipe, ExecutionConfig, TeacherConfig

Began = Callable[[str], Literal["no", "unfinished", "finished"]]
"""From a teacher's sha256 to whether the run asked for was begun with it."""


def find_teacher(recipe: DistillRecipe, data: ImageSet, began: Began, console: Console) -> LoadedNetwork:
    """The teacher that the recipe names, else the one finished teacher run of the same data.

    Of several, the one that this very run was begun with, so that the same command continues also after another
    teacher was trained. Raises FileError when there is none or it does not fit, UsageError when several might be
    meant.
    """
    named = recipe.teacher.run
    if recipe.teacher.model is not None:
        return _of_weights(recipe.teacher, data, console)
    folder = (
        _search(data, named == LATEST, began)
        if named is None or named == LATEST
        else _named(Path(named), recipe.teacher.sha256)
    )
    loaded = load_network(folder)
    _check_fit(loaded, data)
    _check_sha256(recipe.teacher, loaded)
    console.log(f"teacher: {folder}")
    _let_fit(loaded.network, data, console)
    return loaded


def check_teacher(teacher: TeacherConfig) -> None:
    """Raise UsageError for what can be known of a request before any file is opened."""
    if teacher.model is not None and teacher.model.name.partition(":")[0] in LIBRARIES:
        check_name(teacher.model.name)


def fixed_teacher(asked: TeacherConfig, loaded: LoadedNetwork) -> TeacherConfig:
    """The section that finds the same weights again, and shows them images in the same way."""
    fixed = TeacherConfig(run=str(loaded.folder), sha256=loaded.sha256)
    if asked.model is None:
        return fixed
    network = loaded.network
    # the shortest digits that give the same float32 again
    mean, std = (tuple(float(str(x)) for x in values.cpu().numpy()) for values in (network.mean, network.std))
    return replace(fixed, model=asked.model, size=network.specification.shape[1], mean=mean, std=std)


def _of_weights(asked: TeacherConfig, data: ImageSet, console: Console) -> LoadedNetwork:
    """The network `asked.model` with the weights of a plain file. Raises FileError when they are not its."""
    assert asked.model is not None
    assert asked.run is not None
    path = Path(asked.run)
    if not path.is_file():
        raise FileError(f"{path}: no such file; give the weights of the teacher, {asked.model.name}")
    tensors, digest = read_weights(path)
    network = _empty(asked, data)
    loaded = LoadedNetwork(network, {}, digest, path)
    _check_sha256(asked, loaded)
    load_weights(
        network.body.network if isinstance(network.body, LibraryNetwork) else network.body,
        tensors,
        data.classes,
        path,
    )
    _try(network, path)
    console.log(f"teacher: {path}, as {asked.model.name}")
    mean, std = ([round(float(x), 4) for x in values] for values in (network.mean, network.std))
    console.log(
        f"the teacher sees images of {'x'.join(map(str, network.specification.shape))}, mean {mean}, std {std}"
    )
    network.resizes_input = True
    return loaded


def _empty(asked: TeacherConfig, data: ImageSet) -> Network:
    """The network without its weights; sizes and statistics as asked, else the library's own, else those of the data."""
    assert asked.model is not None
    specification = Specification(
        model=asked.model, neuron=None, classes=data.classes, shape=data.shape, frames=data.frames
    )
    size, mean, std = asked.size, asked.mean, asked.std
    if size is not None and data.frames is None:  # small networks may be built for their size
        specification = replace(specification, shape=(data.shape[0], size, size))
    with torch.random.fork_rng(devices=[]):
        network = build_network(specification)
    channels = data.shape[0]
    if isinstance(network.body, LibraryNetwork):
        own, channels = native_input(network.body), CHANNELS
        size, mean, std = size or own.size, mean or own.mean, std or own.std
    elif mean is None or std is None:
        mean, std = map(tuple, data.channel_statistics())
    if len(mean) != channels or len(std) != channels:
        raise UsageError(
            f"teacher.mean and teacher.std: {len(mean)} numbers; {asked.model.name} sees {channels} channels"
        )
    shape = (channels, size or data.shape[1], size or data.shape[2])
    if data.frames is not None and shape != data.shape:
        raise UsageError(
            f"teacher.model: {asked.model.name} sees {list(shape)}; event frames {list(data.shape)} are not brought to it"
        )
    if shape != specification.shape:
        with torch.random.fork_rng(devices=[]):
            network = build_network(replace(specification, shape=shape))
    network.mean.copy_(torch.tensor(mean))
    network.std.copy_(torch.tensor(std))
    return network.eval()


def _try(network: Network, path: Path) -> None:
    """Whether the network takes images of its size; a transformer's is fixed when it is built."""
    shape = network.specification.shape
    try:
        with torch.inference_mode():
            network(torch.zeros(network.specification.batch_shape(1)))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"teacher.size: {path} does not accept {shape[1]}x{shape[2]} images: {reason}"
        ) from error


def _check_sha256(asked: TeacherConfig, loaded: LoadedNetwork) -> None:
    if asked.sha256 not in (None, loaded.sha256):
        raise FileError(
            f"{loaded.folder}: weights have sha256 {loaded.sha256[:12]}..., the recipe asks for {str(asked.sha256)[:12]}..."
        )


def _let_fit(network: Network, data: ImageSet, console: Console) -> None:
    """Let a teacher of another size see the student's images at its own."""
    made = network.specification
    if made.shape != data.shape:
        resize_images(torch.zeros(1, *data.shape), made.shape)
        network.resizes_input = True
        console.log(
            f"the teacher sees images of {'x'.join(map(str, made.shape))}, the student of {'x'.join(map(str, data.shape))}"
        )


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


def _check_fit(loaded: LoadedNetwork, data: ImageSet) -> None:
    made = loaded.network.specification
    if made.kind != "ann":
        raise FileError(f"{loaded.folder}: a spiking student, not a teacher; give a run of `snnkd teach`")
    if made.classes != data.classes:
        raise FileError(
            f"{loaded.folder}: the teacher has {made.classes} classes, {data.name} has {data.classes}"
        )
    if made.frames != data.frames:
        seen, held = (
            f"{count} event frames" if count else "still images" for count in (made.frames, data.frames)
        )
        raise FileError(f"{loaded.folder}: the teacher sees {seen}, {data.name} has {held}")
    if made.frames is not None and made.shape != data.shape:  # at another size a pixel counts other events
        raise FileError(
            f"{loaded.folder}: the teacher takes event frames {list(made.shape)}, {data.name} has {list(data.shape)}"
        )


def evaluate_teacher(
    loaded: LoadedNetwork, data: ImageSet, execution: ExecutionConfig, device: torch.device, console: Console
) -> dict[str, Any]:
    """Measure the teacher on the test split and print it; returns what results say of it.

    Raises FileError below twice chance (of two classes: below 75 %), from which little can be learned, unless `allow_weak_teacher`.
    """
    network = loaded.network.to(device)
    curve = measure_curve(network, measure_batches(data.test, execution.eval_batch_size, device), 1)
    top1, chance = float(curve.entries[0]["top1"] or 0.0), 100 / data.classes
    needed = min(2 * chance, (chance + 100) / 2)  # of two classes nobody can be above twice chance
    console.log(f"teacher accuracy: {top1:.2f} % of {curve.images} test images")
    if top1 < needed and not execution.allow_weak_teacher:
        raise FileError(
            f"{loaded.folder}: teacher accuracy {top1:.2f} % is below {_rule(needed, chance)} ({needed:.2f} %); "
            "train it longer, or pass --allow-weak-teacher"
        )
    about = {
        "run": str(loaded.folder),
        "sha256": loaded.sha256,
        "top1": top1,
        "energy_mj": curve.entries[0]["energy_mj"],
    }
    return {
        **about,
        "model": network.specification.model.name,
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def _rule(needed: float, chance: float) -> str:
    return "twice chance" if needed == 2 * chance else "halfway from chance to 100 %"


def frozen(loaded: LoadedNetwork, device: torch.device) -> Callable[[Tensor, Features | None], Tensor]:
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
