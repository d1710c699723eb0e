"""Saving and loading networks: model.safetensors and config.json, the layout of the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from snnkd.catalog.hub import check_address, is_address
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import build_neuron
from snnkd.errors import FileError, UsageError
from snnkd.files import (
    CONFIG,
    WEIGHTS,
    check_content,
    find_network,
    origin_of,
    read_bytes,
    read_json,
    sha256,
    user_path,
    write_atomic,
    write_json,
)
from snnkd.models.hub import PRETRAINED, hub_config, hub_weights, pretrained_weights
from snnkd.models.network import Network, Specification, build_for_weights
from snnkd.models.plain import plain_body
from snnkd.models.weights import WeightFile, read_weights
from snnkd.recipe.loss_section import loss_label
from snnkd.schema import fields
from snnkd.schema.fields import to_plain
from snnkd.usercode import check_permitted, import_also_from

FORMAT = "snnkd-network"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its config.json, the sha256 of its weights, and the path it was loaded from."""

    network: Network
    config: dict[str, Any]
    sha256: str
    folder: Path


def weights_bytes(network: Network) -> bytes:
    """The weights in safetensors format, independent of time, path and memory layout."""
    # safetensors needs contiguous tensors (not channels_last) that share no memory (as tied weights do)
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in sorted(network.state_dict().items())
    }
    return bytes(save_tensors(tensors))


def save_network(folder: Path, network: Network, provenance: dict[str, Any]) -> str:
    """Write weights, then config, into `folder`; return the sha256 of the weights.

    `provenance` is stored in config.json: data, teacher, loss, seed, ...
    """
    content = weights_bytes(network)
    digest = sha256(content)
    write_atomic(folder / WEIGHTS, content)
    write_json(folder / CONFIG, _network_config(network.specification, digest, provenance))
    return digest


def _network_config(specification: Specification, digest: str, provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": 1,
        "kind": specification.kind,
        "model": to_plain(specification.model),
        "neuron": to_plain(specification.neuron),
        "classes": specification.classes,
        "input": list(specification.shape),
        **({} if specification.frames is None else {"frames": specification.frames}),
        **provenance,
        "weights_sha256": digest,
    }


def load_network(path: Path) -> LoadedNetwork:
    """Load the network of a folder, of a .safetensors file with its config.json, or of `hf-hub:OWNER/NAME`.

    Raises FileError if a file is missing or damaged, or if weights and config disagree.
    """
    if is_address(path):
        return _load_export(str(path))
    folder, weights = find_network(path)
    if origin := origin_of(folder):
        import_also_from(origin)
    config = read_json(folder / CONFIG)
    specification = _specification(config, folder / CONFIG)
    _check_provenance(config, folder / CONFIG)
    content = read_bytes(weights)
    check_content(weights, content)
    digest = sha256(content)
    if digest != config.get("weights_sha256"):
        expected = str(config.get("weights_sha256"))[:12]
        raise FileError(
            f"{weights}: damaged: its sha256 is {digest[:12]}..., config.json expects {expected}..."
        )
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise FileError(f"{weights}: not a safetensors file: {error}") from error
    try:
        network = build_for_weights(specification, weights, len(content))
    except UsageError as error:
        if MODELS.is_user_defined(specification.model.name):
            raise
        # an impossible network, such as one for too small images
        raise FileError(f"{folder / CONFIG}: {error}") from error
    _check_tensors(network, tensors, weights)
    network.load_state_dict(tensors)
    return LoadedNetwork(network.eval(), config, digest, path)


def _specification(config: dict[str, Any], path: Path) -> Specification:
    if config.get("format") != FORMAT or config.get("schema") != 1:
        raise FileError(
            f"{path}: format {config.get('format')!r}, schema {config.get('schema')!r}; "
            f"this snnkd reads {FORMAT!r}, schema 1"
        )
    model = config.get("model")
    name = str(model.get("name")) if isinstance(model, dict) else ""
    if MODELS.is_user_defined(name):
        check_permitted(name, f"{path}: its model")
    try:
        model, neuron = config["model"], config["neuron"]
        shape = fields.coerce(tuple[int, ...], config["input"], "input")
        specification = Specification(
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
    if (
        len(shape) != 3
        or not 2 <= specification.classes <= 1_000_000
        or not all(0 < n <= 4096 for n in shape)
    ):
        raise FileError(
            f"{path}: damaged: input {list(shape)} or classes {specification.classes} out of range"
        )
    if specification.frames is not None and not 1 <= specification.frames <= 1024:
        raise FileError(f"{path}: damaged: 'frames' is {specification.frames}, not in 1 to 1024")
    if specification.neuron is not None and specification.model.T is None:
        raise FileError(f"{path}: damaged: 'model.T' is missing, which a spiking network needs")
    return specification


def _check_provenance(config: dict[str, Any], path: Path) -> None:
    """Raise FileError if a provenance key has another type than results and tables expect."""
    number, text = (int, float), (str,)
    types: dict[str, tuple[type, ...]] = {
        "seed": (int,),
        "seconds": number,
        "cpu_seconds": number,
        "gpu_seconds": number,
        "stage": text,
        "recipe_hash": text,
        "data_sha256": text,
    }
    nested: dict[str, dict[str, tuple[type, ...]]] = {
        "teacher": {"run": text, "sha256": text, "top1": number, "energy_mj": number},
        "selection": {"rule": text, "epoch": (int,)},
        "loss": {"name": text, "hard": (dict,), "terms": (list,)},
    }
    for key, expected in types.items():
        if config.get(key) is not None and (
            not isinstance(config[key], expected) or isinstance(config[key], bool)
        ):
            raise FileError(f"{path}: damaged: {key!r} is {str(config[key])[:40]!r}")
    for key, subkeys in nested.items():
        section = config.get(key)
        if section is None:
            continue
        if not isinstance(section, dict) or any(
            not isinstance(section.get(name), expected) for name, expected in subkeys.items()
        ):
            raise FileError(f"{path}: damaged: {key!r} is {str(section)[:40]!r}")
    names = config.get("class_names")
    if names is not None and not (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names) == config.get("classes")
    ):
        raise FileError(f"{path}: damaged: 'class_names' is {str(names)[:40]!r}")
    try:
        loss_label(config.get("loss"))
    except (UsageError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise FileError(f"{path}: damaged: loss: {error}") from error


def _check_tensors(network: Network, tensors: dict[str, Any], path: Path) -> None:
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise FileError(
            f"{path}: {'missing' if name in expected else 'unexpected'} tensor {name!r} for this config.json"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            raise FileError(
                f"{path}: tensor {name!r} is {tensor.dtype}, the network's is {expected[name].dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise FileError(f"{path}: tensor {name!r} has non-finite values")
        if tensor.shape != expected[name].shape:
            raise FileError(
                f"{path}: tensor {name!r} is {list(tensor.shape)}, "
                f"config.json implies {list(expected[name].shape)}"
            )


def load_hub_network(name: str) -> LoadedNetwork | None:
    """The network of an export at `hf-hub:OWNER/NAME`; None for another library's.

    Raises FileError.
    """
    folder, config = hub_config(name)
    if config.get("format") != FORMAT:
        return None
    hub_weights(name)  # into the same folder
    return replace(load_network(folder), folder=Path(name))


def _load_export(name: str) -> LoadedNetwork:
    check_address(name, "network")
    exported = load_hub_network(name)
    if exported is None:
        raise FileError(f"{name}: not an export of snnkd; another library's network can only be a teacher")
    return exported


def read_initial_weights(init: str, model: str) -> WeightFile | None:
    """The weights that `train.init` names for the network `model`; None for random and the teacher's.

    Raises FileError.
    """
    if init in ("random", "teacher"):
        return None
    if init == PRETRAINED:
        return pretrained_weights(model)
    if is_address(init):
        exported = load_hub_network(init)
        return hub_weights(init) if exported is None else _weights_of(exported)
    path = user_path(init)
    if path.is_file() and not (path.suffix == ".safetensors" and (path.parent / CONFIG).exists()):
        return read_weights(path)
    if not path.exists():
        raise FileError(f"{path}: no such run or file (train.init); give random, teacher, a run or a file")
    return _weights_of(load_network(path))


def _weights_of(loaded: LoadedNetwork) -> WeightFile:
    """A loaded network's weights, as those of a file."""
    state = plain_body(loaded.network.body).state_dict()
    size = sum(tensor.nbytes for tensor in state.values())
    return WeightFile(loaded.folder, {"": state}, loaded.sha256, loaded.config.get("class_names"), size)
