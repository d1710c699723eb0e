"""A network on disk: model.safetensors and config.json, the layout of the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from snnkd.catalog.models import LIBRARIES, MODELS
from snnkd.catalog.neurons import build_neuron
from snnkd.errors import FileError, UsageError
from snnkd.files import read_bytes, read_json, sha256, write_atomic, write_json
from snnkd.models.network import Network, Specification, build_network
from snnkd.recipe.loss_section import loss_label
from snnkd.schema import fields
from snnkd.schema.fields import to_plain
from snnkd.usercode import check_permitted

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FORMAT = "snnkd-network"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with where it came from: its config.json and the sha256 of its weights."""

    network: Network
    config: dict[str, Any]
    sha256: str
    folder: Path


def weights_bytes(network: Network) -> bytes:
    """The weights as safetensors: nothing in them depends on time, place or path."""
    # safetensors stores rows; contiguous() also undoes channels_last
    # safetensors refuses tensors that share memory, as tied weights do: each is a copy
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in sorted(network.state_dict().items())
    }
    return bytes(save_tensors(tensors))


def save_network(folder: Path, network: Network, about: dict[str, Any]) -> str:
    """Write both files into `folder`, the config last; returns the sha256 of the weights."""
    content = weights_bytes(network)
    digest = sha256(content)
    write_atomic(folder / WEIGHTS, content)
    write_json(folder / CONFIG, describe(network.specification, digest, about))
    return digest


def describe(specification: Specification, digest: str, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": 1,
        "kind": specification.kind,
        "model": to_plain(specification.model),
        "neuron": to_plain(specification.neuron),
        "classes": specification.classes,
        "input": list(specification.shape),
        **({} if specification.frames is None else {"frames": specification.frames}),
        **about,
        "weights_sha256": digest,
    }


def load_network(place: Path) -> LoadedNetwork:
    """The network of a folder, or of a .safetensors file with its config.json beside it.

    Raises FileError when a file is missing, damaged, or not what the config says.
    """
    folder, weights = (
        (place.parent, place)
        if place.suffix == ".safetensors" and place.is_file()
        else (place, place / WEIGHTS)
    )
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; give a finished run or an export")
    if not (folder / CONFIG).exists():
        raise FileError(
            f"{folder}: has no {CONFIG}; it is neither a finished run (see `snnkd status`) nor an export"
        )
    config = read_json(folder / CONFIG)
    specification = _specification(config, folder / CONFIG)
    _check_about(config, folder / CONFIG)
    content = read_bytes(weights)
    digest = sha256(content)
    if digest != config.get("weights_sha256"):
        wanted = str(config.get("weights_sha256"))[:12]
        raise FileError(
            f"{weights}: sha256 {digest[:12]}..., config.json says {wanted}...: the file is damaged"
        )
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise FileError(f"{weights}: not a safetensors file: {error}") from error
    name = specification.model.name
    if (
        not MODELS.is_users(name) and name.partition(":")[0] not in LIBRARIES
    ):  # those may compute with numbers while they are built
        try:
            with torch.device(
                "meta"
            ):  # sizes are compared before a wrong config.json can take memory for them
                _check_tensors(build_network(specification), tensors, weights)
        except (
            UsageError
        ) as error:  # a network that there cannot be, such as one for smaller images than it takes
            raise FileError(f"{folder / CONFIG}: {error}") from error
    network = build_network(specification)
    _check_tensors(network, tensors, weights)
    network.load_state_dict(tensors)
    return LoadedNetwork(network.eval(), config, digest, place)


def _specification(config: dict[str, Any], path: Path) -> Specification:
    if config.get("format") != FORMAT or config.get("schema") != 1:
        raise FileError(
            f"{path}: format {config.get('format')!r}, schema {config.get('schema')!r}; this snnkd reads {FORMAT!r}, schema 1"
        )
    model = config.get("model")
    name = str(model.get("name")) if isinstance(model, dict) else ""
    if MODELS.is_users(name):
        check_permitted(name, f"{path}: its model")
    try:
        model, neuron = config["model"], config["neuron"]
        shape = fields.coerce(tuple[int, ...], config["input"], "input")
        made = Specification(
            model=fields.build(MODELS[str(model["name"])].options, model, "model"),
            neuron=None if neuron is None else build_neuron(neuron),
            classes=fields.coerce(int, config["classes"], "classes"),
            shape=shape,
            frames=None if config.get("frames") is None else fields.coerce(int, config["frames"], "frames"),
        )
    except (KeyError, TypeError) as error:
        raise FileError(f"{path}: damaged: {error} is missing or malformed") from error
    except UsageError as error:
        raise FileError(f"{path}: {error}") from error
    if len(shape) != 3 or not 2 <= made.classes <= 1_000_000 or not all(0 < n <= 4096 for n in shape):
        raise FileError(f"{path}: input {list(shape)} and classes {made.classes} are not those of a network")
    if made.frames is not None and not 1 <= made.frames <= 1024:
        raise FileError(f"{path}: damaged: 'frames' is {made.frames}")
    if made.neuron is not None and made.model.T is None:
        raise FileError(f"{path}: damaged: 'model.T' is missing; a spiking network has timesteps")
    return made


def _check_about(config: dict[str, Any], path: Path) -> None:
    """What is said beside the network is of the kinds that results and tables take. Raises FileError."""
    number, text = (int, float), (str,)
    kinds: dict[str, tuple[type, ...]] = {
        "seed": (int,),
        "seconds": number,
        "stage": text,
        "recipe_hash": text,
        "data_sha256": text,
    }
    inside: dict[str, dict[str, tuple[type, ...]]] = {
        "teacher": {"run": text, "sha256": text, "top1": number, "energy_mj": number},
        "selection": {"rule": text, "epoch": (int,)},
        "loss": {"name": text, "hard": (dict,), "terms": (list,)},
    }
    for key, wanted in kinds.items():
        if config.get(key) is not None and (
            not isinstance(config[key], wanted) or isinstance(config[key], bool)
        ):
            raise FileError(f"{path}: damaged: {key!r} is {str(config[key])[:40]!r}")
    for key, fields_of in inside.items():
        held = config.get(key)
        if held is None:
            continue
        if not isinstance(held, dict) or any(
            not isinstance(held.get(name), wanted) for name, wanted in fields_of.items()
        ):
            raise FileError(f"{path}: damaged: {key!r} is {str(held)[:40]!r}")
    try:
        loss_label(config.get("loss"))
    except (UsageError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileError(f"{path}: damaged: its loss: {error}") from error


def _check_tensors(network: Network, tensors: dict[str, Any], path: Path) -> None:
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise FileError(
            f"{path}: {'lacks' if name in expected else 'has an unknown'} tensor {name!r}; not this config.json's"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise FileError(
                f"{path}: tensor {name!r} is {tensor.dtype}, this network's is {expected[name].dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise FileError(f"{path}: tensor {name!r} holds values that are not finite")
        if tensor.shape != expected[name].shape:
            raise FileError(
                f"{path}: tensor {name!r} is {list(tensor.shape)}, config.json makes it {list(expected[name].shape)}"
            )


def load(folder: str | Path) -> Network:
    """The network of a finished run or an export, in eval mode: images float 0..1 `[B, C, H, W]` to logits `[T, B, C]`.

    One of event data takes frames `[frames, B, 2, H, W]`, events counted and divided by 255.

    Raises FileError when a file is missing or damaged.
    """
    return load_network(Path(folder)).network
