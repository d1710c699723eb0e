"""Teachers: finding one, checking that it fits the data, measuring it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from snnkd.catalog.hub import is_address
from snnkd.catalog.models import LIBRARIES, MODELS
from snnkd.console import Console
from snnkd.data import ImageSet
from snnkd.data.loader import count_batches, measure_batches
from snnkd.errors import FileError, UsageError, counted
from snnkd.files import continue_command
from snnkd.measure.curve import measure_curve
from snnkd.models import Network, Specification
from snnkd.models.files import LoadedNetwork, load_hub_network, load_network
from snnkd.models.hub import PRETRAINED, WEIGHT_FILES, hub_config, hub_weights, pretrained_weights
from snnkd.models.libraries import CHANNELS, LibraryNetwork, check_name, native_input
from snnkd.models.network import build_for_weights
from snnkd.models.plain import plain_body
from snnkd.models.resize import resize_images
from snnkd.models.weights import WeightFile, load_weights, read_weights
from snnkd.recipe.teacher_section import build_teacher
from snnkd.runs.find import LATEST, Finished, choose, finished_runs, missing_teacher, recorded_runs
from snnkd.runs.folder import identity, runs_folder
from snnkd.schema.run import DistillRecipe, ExecutionConfig, TeacherConfig


def find_teacher(
    recipe: DistillRecipe,
    data: ImageSet,
    runs: Path | None,
    console: Console,
    init_sha256: str | None = None,
) -> LoadedNetwork:
    """The teacher that the recipe names, else the only finished teacher run of the same data.

    Of several, the one that a run of this recipe in `runs` was started with, so that a command still resumes
    after another teacher was trained. Raises FileError if there is none or it does not fit the data,
    UsageError if several are possible.
    """
    name = recipe.teacher.run
    if recipe.teacher.model is not None:
        return _from_weights(recipe.teacher, data, console)
    if name is None or name == LATEST:
        recorded = recorded_teachers(recipe, data, runs, console, init_sha256) if runs else []
        folder = _search(data, recorded, name == LATEST, console)
        loaded = load_network(folder)
    elif is_address(name):
        folder, exported = Path(name), load_hub_network(name)
        if exported is None:
            return _from_hub(recipe.teacher, name, data, console)
        loaded = exported
    else:
        folder = _existing(Path(name), recipe.teacher.sha256, console)
        loaded = load_network(folder)
    _check_fits(loaded, data)
    _check_sha256(recipe.teacher, loaded.folder, loaded.sha256)
    console.log(f"teacher: {folder}")
    _resize_images(loaded.network, data, console)
    return loaded


def recorded_teachers(
    recipe: DistillRecipe, data: ImageSet, runs: Path, console: Console, init_sha256: str | None = None
) -> list[set[str]]:
    """sha256 of the teachers of unfinished, and of finished, runs that differ from `recipe` only in it."""
    wanted = _without_teacher(identity(recipe, data.sha256, None, data.class_names, init_sha256))
    teachers: dict[bool, set[str]] = {False: set(), True: set()}
    for run in recorded_runs(runs, console):
        teacher = run.identity.get("teacher")
        if not isinstance(teacher, dict) or not isinstance(sha256 := teacher.get("sha256"), str):
            continue
        if _without_teacher(run.identity) == wanted:
            teachers[run.finished].add(sha256)
    return [teachers[False], teachers[True]]


def _without_teacher(identity: dict[str, Any]) -> dict[str, Any]:
    """A run's identity without its teacher's weights and order of classes."""
    data, teacher = identity["data"], identity["teacher"]
    if "class_names" in data:
        data = {**data, "class_names": sorted(data["class_names"])}
    return {**identity, "data": data, "teacher": {**teacher, "sha256": None}}


def _search(data: ImageSet, recorded: Sequence[set[str]], latest: bool, console: Console) -> Path:
    finished = finished_runs("teach", runs_folder(), console)
    runs = [run for run in finished if is_trained_on(run, data)]
    for sha256s in recorded[:1] if latest else recorded:
        matches = [run for run in runs if run.result.get("weights_sha256") in sha256s]
        if len(matches) == 1:
            return matches[0].folder
    message = missing_teacher(data.name, runs_folder(), console)
    return choose(runs, "teacher", latest, "--teacher latest", message).folder


def is_trained_on(run: Finished, data: ImageSet) -> bool:
    """Whether a run was trained on the images of `data`, their classes named alike where both have names."""
    names = run.result.get("class_names")
    same_names = names is None or data.class_names is None or set(names) == set(data.class_names)
    return same_names and run.result.get("data_sha256") == data.sha256


def _existing(folder: Path, sha256: str | None, console: Console) -> Path:
    """`folder`, or if it does not exist, a finished teacher with the weights that the recipe names."""
    if sha256 is not None and not folder.exists():
        for run in finished_runs("teach", runs_folder(), console):
            if run.result.get("weights_sha256") == sha256:
                return run.folder
    return folder


def check_teacher(teacher: TeacherConfig) -> None:
    """Raise UsageError for an unknown library model, before any file is opened."""
    if teacher.model is not None and teacher.model.name.partition(":")[0] in LIBRARIES:
        check_name(teacher.model.name)


def pinned_teacher(teacher: TeacherConfig, loaded: LoadedNetwork) -> TeacherConfig:
    """The teacher section with run and sha256 pinned, so that a rerun loads the same weights."""
    pinned = TeacherConfig(run=str(loaded.folder), sha256=loaded.sha256)
    if teacher.model is None:
        return pinned
    network = loaded.network
    # the shortest decimals that give the same float32
    mean, std = (tuple(float(str(x)) for x in values.cpu().numpy()) for values in (network.mean, network.std))
    return replace(
        pinned,
        model=teacher.model,
        state_dict=teacher.state_dict,
        size=network.specification.shape[1],
        mean=mean,
        std=std,
        class_names=teacher.class_names,
    )


def _from_hub(teacher: TeacherConfig, name: str, data: ImageSet, console: Console) -> LoadedNetwork:
    """timm's network `hf-hub:OWNER/NAME`: ours where its stem is 3x3, as timm's only in its config.

    Raises FileError if config or weights are malformed.
    """
    _, config = hub_config(name)
    labels = config.get("label_names")  # timm's key
    file = replace(hub_weights(name), class_names=labels if isinstance(labels, list) else None)
    architecture = str(config.get("architecture"))
    stem = next((state["conv1.weight"] for state in file.states.values() if "conv1.weight" in state), None)
    resnet = architecture in MODELS and MODELS[architecture].family == "resnet"
    ours = resnet and stem is not None and stem.shape[2:] == (3, 3)
    try:
        input = config.get("pretrained_cfg", config)
        values: dict[str, Any] = {
            key: input[key] for key in ("mean", "std", "input_size") if ours or key in input
        }
        if "input_size" in values:
            values["size"] = values.pop("input_size")[-1]
        values["model"] = {"name": f"timm:{name}"}
        if ours and stem is not None:
            values["model"] = {"name": architecture, "width": len(stem)}
        settings = build_teacher(values | {"run": WEIGHT_FILES[0], "sha256": teacher.sha256})
    except (UsageError, KeyError, TypeError, IndexError) as error:
        raise FileError(f"{name}: config.json: {error}") from error
    return _with_weights(replace(settings, run=name), file, data, console)


def _from_weights(teacher: TeacherConfig, data: ImageSet, console: Console) -> LoadedNetwork:
    """`teacher.model` with a plain weights file. Raises FileError for weights of another network."""
    assert teacher.model is not None
    assert teacher.run is not None
    path = Path(teacher.run)
    if teacher.run == PRETRAINED:
        return _with_weights(teacher, pretrained_weights(teacher.model.name), data, console)
    if not path.is_file():
        raise FileError(f"{path}: no such file; give the weights of the teacher, {teacher.model.name}")
    return _with_weights(teacher, read_weights(path), data, console)


def _with_weights(
    teacher: TeacherConfig, file: WeightFile, data: ImageSet, console: Console
) -> LoadedNetwork:
    assert teacher.model is not None
    path = file.path
    _check_sha256(teacher, path, file.sha256)
    network = _untrained(teacher, data, file)
    config = {"class_names": _output_names(teacher, file.class_names, data)}
    loaded = LoadedNetwork(network, config, file.sha256, path)
    source = load_weights(plain_body(network.body), file, teacher.model, data.classes, teacher.state_dict)
    _try_image(network, path)
    names = f", in names of {source.names}" if source.names else ""
    console.log(f"teacher: {path}, as {teacher.model.name}{names}")
    if source.others:
        console.log(
            f"teacher weights: {source.key}; the file also has {', '.join(source.others)}: "
            f"--set teacher.state_dict={source.others[0]} takes it"
        )
    mean, std = ([round(float(x), 4) for x in values] for values in (network.mean, network.std))
    console.log(f"teacher input: {_size(network.specification.shape)}, mean {mean}, std {std}")
    network.resizes_input = True
    return loaded


def _output_names(teacher: TeacherConfig, names: list[str] | None, data: ImageSet) -> list[str] | None:
    """Class names of a plain file's outputs: the recipe's, else the file's."""
    names = names if teacher.class_names is None else list(teacher.class_names)
    if names is not None and len(set(names)) != data.classes:
        raise FileError(
            f"{teacher.run}: {len(set(names))} class names for {data.classes} classes of {data.name}"
        )
    return names


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _untrained(teacher: TeacherConfig, data: ImageSet, file: WeightFile) -> Network:
    """The network with random weights; image size and statistics from the recipe, the library or the data."""
    assert teacher.model is not None
    specification = Specification(
        model=teacher.model, neuron=None, classes=data.classes, shape=data.shape, frames=data.frames
    )
    size, mean, std = teacher.size, teacher.mean, teacher.std
    if size is not None and data.frames is None:  # some networks depend on the image size
        specification = replace(specification, shape=(data.shape[0], size, size))
    with torch.random.fork_rng(devices=[]):
        network = build_for_weights(specification, file.path, file.size)
    channels = data.shape[0]
    if isinstance(network.body, LibraryNetwork):
        own, channels = native_input(network.body), CHANNELS
        size, mean, std = size or own.size, mean or own.mean, std or own.std
    elif mean is None or std is None:
        mean, std = map(tuple, data.channel_statistics())
    if len(mean) != channels or len(std) != channels:
        raise UsageError(
            f"teacher.mean and teacher.std: {len(mean)} numbers; "
            f"{teacher.model.name} takes {channels} channels"
        )
    shape = (channels, size or data.shape[1], size or data.shape[2])
    if data.frames is not None and shape != data.shape:
        raise UsageError(
            f"teacher.model: {teacher.model.name} takes {list(shape)}; "
            f"event frames {list(data.shape)} cannot be resized to the teacher's input"
        )
    if shape != specification.shape:
        with torch.random.fork_rng(devices=[]):
            network = build_for_weights(replace(specification, shape=shape), file.path, file.size)
    network.mean.copy_(torch.tensor(mean))
    network.std.copy_(torch.tensor(std))
    return network.eval()


def _try_image(network: Network, path: Path) -> None:
    """Raise UsageError for an image size that the network does not accept; a transformer's is fixed."""
    shape = network.specification.shape
    try:
        with torch.inference_mode():
            network(torch.zeros(network.specification.batch_shape(1)))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"teacher.size: {path} does not accept {shape[1]}x{shape[2]} images: {reason}"
        ) from error


def _check_sha256(teacher: TeacherConfig, path: Path, sha256: str) -> None:
    if teacher.sha256 not in (None, sha256):
        raise FileError(
            f"{path}: weights have sha256 {sha256[:12]}..., the recipe names {str(teacher.sha256)[:12]}..."
        )


def _resize_images(network: Network, data: ImageSet, console: Console) -> None:
    """Let a teacher with another image size resize the student's images."""
    shape = network.specification.shape
    if shape != data.shape:
        resize_images(torch.zeros(1, *data.shape), shape)
        network.resizes_input = True
        console.log(f"teacher input: {_size(shape)}, resized from the student's {_size(data.shape)}")


def _check_fits(loaded: LoadedNetwork, data: ImageSet) -> None:
    own = loaded.network.specification
    if own.classes != data.classes:
        raise FileError(
            f"{loaded.folder}: the teacher has {counted(own.classes, 'class')}, "
            f"{data.name} has {data.classes}"
        )
    if own.frames != data.frames:
        takes, has = (
            counted(count, "event frame") if count else "still images" for count in (own.frames, data.frames)
        )
        raise FileError(f"{loaded.folder}: the teacher takes {takes}, {data.name} has {has}")
    # event frames are not resized: larger pixels would count other events
    if own.frames is not None and own.shape != data.shape:
        raise FileError(
            f"{loaded.folder}: the teacher takes event frames {list(own.shape)}, "
            f"{data.name} has {list(data.shape)}"
        )


def evaluate_teacher(
    loaded: LoadedNetwork, data: ImageSet, execution: ExecutionConfig, device: torch.device, console: Console
) -> dict[str, Any]:
    """Measure the teacher on the test split and log its accuracy; return the `teacher` section of results.

    Raises FileError below twice chance (for two classes: below 75 %), and for one answer to all images,
    unless `allow_weak_teacher`.
    """
    network = loaded.network.to(device)
    T = network.specification.T
    batches = measure_batches(data.test, execution.eval_batch_size, device)
    with console.bar("measuring the teacher", count_batches(data.test, execution.eval_batch_size)) as bar:
        curve = measure_curve(network, bar.over(batches), T)
    last = curve.entries[-1]
    top1, chance = float(last["top1"] or 0.0), 100 / data.classes
    required = min(2 * chance, (chance + 100) / 2)  # with two classes, twice chance is 100 %
    spiking = f", spiking, of the mean over T = {T}" if network.specification.kind == "snn" else ""
    console.log(f"teacher accuracy: {top1:.2f} % of {curve.images} test images{spiking}")
    answers = curve.logits.mean(0).argmax(-1).unique()
    if len(answers) == 1 and not execution.allow_weak_teacher:
        raise FileError(
            f"{loaded.folder}: the teacher answers class {int(answers)} for every test image; "
            f"{_longer_training(loaded)}, or pass --allow-weak-teacher"
        )
    if top1 < required and not execution.allow_weak_teacher:
        rule = "twice chance" if required == 2 * chance else "halfway from chance to 100 %"
        raise FileError(
            f"{loaded.folder}: teacher accuracy {top1:.2f} % is below {rule} ({required:.2f} %); "
            f"{_longer_training(loaded)}, or pass --allow-weak-teacher"
        )
    return {
        "run": str(loaded.folder),
        "sha256": loaded.sha256,
        "top1": top1,
        "energy_mj": last["energy_mj"],
        "model": network.specification.model.name,
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def _longer_training(loaded: LoadedNetwork) -> str:
    """The remedy for a weak teacher: the command that began its run, with four times the epochs."""
    command, selection = continue_command(loaded.folder), loaded.config.get("selection")
    if command is None or not command.startswith("snnkd teach") or not selection:
        return "train it longer"
    words = re.sub(r" (--(epochs|out)[ =]|--set[ =]train\.epochs=)\S+", "", command)
    return f"train longer, `{words} --epochs {4 * selection['epoch']}`"
