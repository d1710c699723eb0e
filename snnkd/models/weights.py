"""Weight files: state_dicts saved by torch.save or safetensors, without a config."""

from __future__ import annotations

import argparse
import codecs
import io
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from snnkd.errors import FileError, UsageError, counted
from snnkd.files import check_compression, check_content, read_bytes, sha256
from snnkd.models.dialects import OWN, Fit, Misfit, best_fit
from snnkd.schema.model import ModelConfig

SHOWN = 3
"""Tensors named in an error message."""
NESTING = 4
"""Depth at which state_dicts are looked for in a checkpoint."""
_AVERAGED = re.compile(r"ema|average|swa", re.IGNORECASE)


@dataclass(frozen=True)
class WeightFile:
    """The state_dicts of a file by their keys, joined by dots (empty for the file itself), and its sha256."""

    path: Path
    states: dict[str, dict[str, Tensor]]
    sha256: str
    class_names: list[str] | None
    """Names of the outputs, if the file has them."""
    size: int
    """Bytes of the file."""


@dataclass(frozen=True)
class Source:
    """Where loaded weights came from: whose names, which state_dict, and the others that fit."""

    names: str | None
    """None for our own names."""
    key: str
    others: list[str]
    left_out: list[str]
    """Tensors of the file's classifier, which has other classes."""


def read_weights(path: Path) -> WeightFile:
    """Read the state_dicts and class names of a torch.save or safetensors file.

    Nothing but tensors, plain values, NumPy's arrays and scalars, paths and argparse.Namespace is unpickled;
    what lies beside the weights is ignored. Raises FileError.
    """
    content = read_bytes(path)
    check_content(path, content)
    saved = _safetensors(path, content) if path.suffix == ".safetensors" else _torch(path, content)
    states = dict(_states(saved))
    if not states:
        raise FileError(
            f"{path}: no state_dict but {_describe(saved)}; save torch.save(network.state_dict(), FILE)"
        )
    nested = [name for tensors in states.values() for name, tensor in tensors.items() if tensor.is_nested]
    if nested:  # which have no shape
        raise FileError(f"{path}: {nested[0]} is a nested tensor; save dense ones")
    return WeightFile(path, states, sha256(content), _class_names(saved), len(content))


def _describe(saved: Any) -> str:
    keys = ", ".join(map(str, saved)) if isinstance(saved, Mapping) else ""
    return keys[:80] or type(saved).__name__


def _safetensors(path: Path, content: bytes) -> Any:
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise FileError(f"{path}: not a safetensors file: {error}") from error


def _torch(path: Path, content: bytes) -> Any:
    _check_archive(path, content)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_harmless_globals()):
            warnings.simplefilter("ignore")  # about tensor types that are refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+) (?:was not|whose module)", str(error))
        reason = f"contains {refused[1]}, whose loading could run code" if refused else "is damaged"
        raise FileError(f"{path}: {reason}; save torch.save(network.state_dict(), FILE)") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything inside torch
        raise FileError(
            f"{path}: not a torch.save file ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error


def _check_archive(path: Path, content: bytes) -> None:
    """Refuse a zip archive of code, and one that expands to far more than its size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
        check_compression(path, io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError):  # older files are none
        return
    if any(name.endswith("/constants.pkl") for name in names):
        raise FileError(
            f"{path}: a TorchScript file, which is code; save torch.save(network.state_dict(), FILE)"
        )


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


def _harmless_globals() -> list[Any]:
    """What checkpoints hold beside weights and only stores values; each by the names it was pickled under."""
    # arrays of objects (O) stay refused
    dtypes = [type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"]
    functions: dict[str, Any] = {
        "scalar": np.float64(0).__reduce__()[0],
        "_reconstruct": np.zeros(0).__reduce__()[0],
    }
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [
        np.ndarray,
        np.dtype,
        *dict.fromkeys(dtypes),
        *((function, f"{module}.{name}") for name, function in functions.items() for module in modules),
        (codecs.encode, "_codecs.encode"),
        argparse.Namespace,
        *((pathlib.PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
        *((pathlib.PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
    ]


def _states(saved: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping of names to tensors in `saved`, with its key; numbers among them are counters."""
    if not isinstance(saved, Mapping) or depth > NESTING:
        return
    named = {name: value for name, value in saved.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        yield key, tensors
    for name, value in named.items():
        yield from _states(value, f"{key}.{name}" if key else name, depth + 1)


def load_weights(
    network: nn.Module,
    file: WeightFile,
    config: ModelConfig,
    classes: int,
    key: str | None = None,
    *,
    own: Collection[str] = (),
    head: bool = False,
) -> Source:
    """Load the state_dict of `file` that fits `network`, built from `config`, or the one under `key`.

    Names may be those of any dialect of the model, behind any prefix that all share. Of several that fit, an
    average of weights (EMA) is taken only by `key`. The file may lack the parameters in `own`, and with
    `head` its classifier may have other classes; these keep their values. Raises FileError,
    and UsageError for a network that computes something else than the dialect's.
    """
    model = config.name
    expected = network.state_dict()
    states = file.states if key is None else {key: _state_of(file, key)}
    fits = {name: best_fit(tensors, expected, model) for name, tensors in states.items()}

    def keeps(misfit: Misfit) -> bool:
        return (misfit.given is None and misfit.name in own) or (head and _is_head(misfit, classes))

    fitting = [name for name, fit in fits.items() if all(map(keeps, fit.misfits))]
    parts = [] if fitting else _fitting_parts(states, expected, model)
    if not fitting and not parts:
        raise FileError(f"{file.path}: {_refusal(list(fits.values()), model, classes)}")
    plain = [name for name in fitting if not _AVERAGED.search(name)] if len(fitting) > 1 else fitting
    if len(plain) != 1:
        choices = ", ".join(parts or fitting)
        remedy = "save one alone" if head else f"choose with --set teacher.state_dict={(parts or fitting)[0]}"
        raise FileError(f"{file.path}: weights of {choices} fit; {remedy}")
    fit = fits[plain[0]]
    if not head:
        _check_options(fit, config, file.path)
    tensors, biases = (
        {name: _usable(tensor, expected[name], name, file.path) for name, tensor in part.items()}
        for part in (fit.tensors, fit.biases)
    )
    tensors |= {name: tensors[name] - bias for name, bias in biases.items()}
    network.load_state_dict(tensors, strict=False)
    names = None if fit.dialect is OWN else fit.dialect.source
    others = [name for name in fitting if name != plain[0]]
    return Source(names, plain[0], others, [m.name for m in fit.misfits if m.given is not None])


def _is_head(misfit: Misfit, classes: int) -> bool:
    """Whether a tensor differs only in the number of classes, its first dimension."""
    given, expected = misfit.given, misfit.expected
    return bool(given) and given is not None and expected == (classes, *given[1:])


def _fitting_parts(
    states: Mapping[str, Mapping[str, Tensor]], expected: Mapping[str, Tensor], model: str
) -> list[str]:
    """Keys of the parts that fit where other tensors lie beside them: state_dict keys with a prefix."""
    return [
        f"{key}.{prefix}" if key else prefix
        for key, tensors in states.items()
        for prefix in dict.fromkeys(name.partition(".")[0] for name in tensors)
        if not best_fit(_below(tensors, f"{prefix}."), expected, model).misfits
    ]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}


def _state_of(file: WeightFile, key: str) -> dict[str, Tensor]:
    """The state_dict under `key`, which may end in a prefix of names."""
    for name, tensors in file.states.items():
        if name == key:
            return tensors
        if inside := _below(tensors, f"{key.removeprefix(f'{name}.')}."):
            return inside
    raise FileError(
        f"{file.path}: no state_dict {key!r} (teacher.state_dict); there is {', '.join(file.states) or 'one'}"
    )


def _refusal(fits: list[Fit], model: str, classes: int) -> str:
    """Why the nearest of `fits` is none: other classes, or the first tensors that do not fit."""
    nearest = min(fits, key=lambda fit: fit.distance)
    misfits = nearest.misfits
    counts = {misfit.given[0] for misfit in misfits if misfit.given}
    if all(_is_head(misfit, classes) for misfit in misfits) and len(counts) == 1:
        return f"the teacher has {counted(counts.pop(), 'class')}, the data {classes}"
    shown = ", ".join(map(str, misfits[:SHOWN]))
    return (
        f"not {model}; nearest in names of {nearest.dialect.source}, "
        f"{counted(len(misfits), 'tensor')} different: {shown}; another width or network?"
    )


def _check_options(fit: Fit, config: ModelConfig, path: Path) -> None:
    for key, value in fit.dialect.options.items():
        if getattr(config, key) != value:
            raise UsageError(
                f"teacher.model.{key}: {getattr(config, key)}, but {path} is of {fit.dialect.source}; "
                f"set it to {value}"
            )


def _usable(tensor: Tensor, expected: Tensor, name: str, path: Path) -> Tensor:
    """`tensor` as the network computes with it, also from float8. Raises FileError for other kinds."""
    if tensor.is_meta:
        raise FileError(f"{path}: {name} has no values (device meta); save the weights themselves")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise FileError(f"{path}: {name} is a sparse or quantized tensor; save dense ones")
    if not expected.is_floating_point():  # a counter
        return tensor
    if not tensor.is_floating_point():
        raise FileError(f"{path}: {name} is {tensor.dtype}, not floating point; save float32")
    try:
        values = tensor.to(expected.dtype)
    except RuntimeError as error:  # packed types have no values of their own
        raise FileError(
            f"{path}: {name} is {tensor.dtype}, which torch cannot convert; save float32"
        ) from error
    if not torch.isfinite(values).all():
        raise FileError(f"{path}: {name} has non-finite values")
    return values
