"""Weight files: a state_dict saved by torch.save or safetensors, without a config."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from snnkd.errors import FileError
from snnkd.files import read_bytes, sha256

WRAPPERS = re.compile(r"^(module|_orig_mod|model|body)\.")
"""Prefixes that DataParallel, torch.compile and wrapper modules add to every name."""
SHOWN = 6
"""Names listed in an error message."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], str, list[str] | None]:
    """Read the tensors of a torch.save or safetensors file, by name, the file's sha256, and its class names.

    From a training checkpoint (`{"state_dict": ..., "optimizer": ...}`) the only state_dict is used. Nothing
    but tensors is unpickled. Raises FileError.
    """
    content = read_bytes(path)
    saved = _safetensors(path, content) if path.suffix == ".safetensors" else _torch(path, content)
    return _state_dict(saved, path), sha256(content), _class_names(saved)


def _safetensors(path: Path, content: bytes) -> Any:
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise FileError(f"{path}: not a safetensors file: {error}") from error


def _torch(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tensor types that are refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"{path}: not a plain state_dict (it contains objects whose loading would run code), or damaged; "
            "save torch.save(network.state_dict(), FILE)"
        ) from error
    except Exception as error:  # a damaged file can raise anything inside torch
        raise FileError(
            f"{path}: not a torch.save file ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error


def _state_dict(saved: Any, path: Path) -> dict[str, Tensor]:
    if _is_state(saved):
        return dict(saved)
    nested = (
        {key: value for key, value in saved.items() if _is_state(value)} if isinstance(saved, Mapping) else {}
    )
    common = [key for key in ("state_dict", "model_state_dict", "model", "net", "network") if key in nested]
    key = common[0] if len(common) == 1 else next(iter(nested)) if len(nested) == 1 else None
    if key is None:
        content = ", ".join(map(str, nested)) or type(saved).__name__
        raise FileError(f"{path}: not one state_dict but {content}; save network.state_dict() alone")
    return dict(nested[key])


def _class_names(saved: Any) -> list[str] | None:
    """The names of the outputs, if a checkpoint lists them or maps them to numbers."""
    for key in ("class_names", "classes", "class_to_idx"):
        value = saved.get(key) if isinstance(saved, Mapping) else None
        if isinstance(value, Mapping):  # torchvision's ImageFolder numbers the names
            numbers = {number: name for name, number in value.items()}
            value = [numbers.get(number) for number in range(len(value))]
        if isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value):
            return list(value)
    return None


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], classes: int, path: Path) -> None:
    """Load `tensors` into `network`; names, up to the prefixes of wrappers, and shapes must match.

    Raises FileError that lists missing and unexpected names, or reports that only the number of classes
    differs.
    """
    expected = network.state_dict()
    # old files lack these counters, which do not affect outputs
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    named = _unwrapped(tensors, needed)
    missing, unexpected = sorted(needed - named.keys()), sorted(named.keys() - expected.keys())
    if missing or unexpected:
        lists = [
            f"{word}: {_listed(names)}"
            for word, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise FileError(f"{path}: names differ from this network's; {'; '.join(lists)}")
    differing = {name for name in named if named[name].shape != expected[name].shape}
    counts = {
        named[name].shape[0]
        for name in differing
        if named[name].ndim and expected[name].shape[:1] == (classes,)
    }
    rest_matches = all(named[name].shape[1:] == expected[name].shape[1:] for name in differing)
    if len(counts) == 1 and rest_matches:
        raise FileError(f"{path}: the teacher has {counts.pop()} classes, the data {classes}")
    for name in sorted(differing):
        theirs, ours = list(named[name].shape), list(expected[name].shape)
        raise FileError(f"{path}: {name} is {theirs}, this network's is {ours}; another width or size?")
    for name, tensor in named.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise FileError(f"{path}: {name} is a sparse or quantized tensor; save dense ones")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FileError(f"{path}: {name} has non-finite values")
    network.load_state_dict(named, strict=False)


def _unwrapped(tensors: Mapping[str, Tensor], needed: set[str]) -> dict[str, Tensor]:
    """Strip wrapper prefixes that all names share and the network does not have."""
    named = dict(tensors)
    while named and not needed & named.keys():
        prefixes = {match[0] if (match := WRAPPERS.match(name)) else "" for name in named}
        if len(prefixes) != 1 or "" in prefixes:
            break
        named = {name[len(next(iter(prefixes))) :]: tensor for name, tensor in named.items()}
    return named


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} ({len(names)})"
