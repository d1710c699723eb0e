"""Plain files of weights: the state_dict of a network, without the network."""

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
"""Prefixes that DataParallel, torch.compile and a holder of the network put before every name."""
SHOWN = 6


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file by torch.save or safetensors, by name, and the sha256 of the file.

    Of what is nested beside an optimizer (`{"state_dict": ...}`) the one state_dict is taken; nothing but tensors is ever
    unpickled. Raises FileError.
    """
    content = read_bytes(path)
    held = _safetensors(path, content) if path.suffix == ".safetensors" else _torch(path, content)
    return _state_dict(held, path), sha256(content)


def _safetensors(path: Path, content: bytes) -> Any:
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise FileError(f"{path}: not a safetensors file: {error}") from error


def _torch(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that are refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"{path}: not a plain state_dict: it holds objects whose loading would run code, or is damaged; "
            "write torch.save(network.state_dict(), FILE) where it was made"
        ) from error
    except Exception as error:  # whatever a damaged file leads torch to
        raise FileError(
            f"{path}: not a file of torch.save ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error


def _state_dict(held: Any, path: Path) -> dict[str, Tensor]:
    if _is_state(held):
        return dict(held)
    inside = (
        {key: value for key, value in held.items() if _is_state(value)} if isinstance(held, Mapping) else {}
    )
    usual = [key for key in ("state_dict", "model_state_dict", "model", "net", "network") if key in inside]
    chosen = usual[0] if len(usual) == 1 else next(iter(inside)) if len(inside) == 1 else None
    if chosen is None:
        found = f"it holds {', '.join(map(str, inside))}" if inside else f"it holds {type(held).__name__}"
        raise FileError(f"{path}: no state_dict of one network ({found}); save network.state_dict() alone")
    return dict(inside[chosen])


def _is_state(held: Any) -> bool:
    return (
        isinstance(held, Mapping)
        and bool(held)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in held.items())
    )


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], classes: int, path: Path) -> None:
    """Load `tensors` into `network`, whose names and shapes must be theirs (prefixes of wrappers aside).

    Raises FileError that lists what is missing and what is unexpected, and says so when only the number of classes differs.
    """
    wanted = network.state_dict()
    # files from before torch counted batches lack these; they matter to no answer
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    named = _unwrapped(tensors, needed)
    missing, unexpected = sorted(needed - named.keys()), sorted(named.keys() - wanted.keys())
    if missing or unexpected:
        lists = [
            f"{word}: {_listed(names)}"
            for word, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise FileError(f"{path}: not the weights of this network; {'; '.join(lists)}")
    other = {name for name in named if named[name].shape != wanted[name].shape}
    counts = {
        named[name].shape[0] for name in other if named[name].ndim and wanted[name].shape[:1] == (classes,)
    }
    if other and len(counts) == 1 and all(named[name].shape[1:] == wanted[name].shape[1:] for name in other):
        raise FileError(f"{path}: the teacher has {counts.pop()} classes, the data {classes}")
    for name in sorted(other):
        theirs, ours = list(named[name].shape), list(wanted[name].shape)
        raise FileError(f"{path}: {name} is {theirs}, this network's is {ours}; another width or size?")
    for name, tensor in named.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise FileError(f"{path}: {name} is a sparse or quantized tensor; save plain ones")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FileError(f"{path}: {name} holds values that are not finite")
    network.load_state_dict(named, strict=False)


def _unwrapped(tensors: Mapping[str, Tensor], needed: set[str]) -> dict[str, Tensor]:
    """Without the prefixes that all names share and the network's do not."""
    named = dict(tensors)
    while named and not needed & named.keys():
        found = {match[0] for name in named if (match := WRAPPERS.match(name))}
        if len(found) != 1 or not all(WRAPPERS.match(name) for name in named):
            break
        named = {name[len(next(iter(found))) :]: tensor for name, tensor in named.items()}
    return named


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} ({len(names)})"
