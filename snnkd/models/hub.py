"""Published weights: files of the Hugging Face hub, and the pretrained weights of torchvision and timm.

Both libraries download to their own caches; HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE apply.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

from snnkd.catalog.hub import HUB, is_address
from snnkd.errors import FileError, UsageError
from snnkd.files import read_json, sha256
from snnkd.models.libraries import check_name
from snnkd.models.weights import WeightFile, read_weights

PRETRAINED = "pretrained"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def hub_config(name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of `hf-hub:OWNER/NAME` in the hub's cache, and its config. Raises FileError."""
    path = _download(name, "config.json")
    return path.parent, read_json(path)


def hub_weights(name: str) -> WeightFile:
    """The weights of `hf-hub:OWNER/NAME`, model.safetensors or pytorch_model.bin. Raises FileError."""
    return replace(read_weights(_download(name, *WEIGHT_FILES)), path=Path(name))


def _download(name: str, *files: str) -> Path:
    """The first of `files` that the repository has, in the hub's cache."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise UsageError(f"{name}: needs huggingface_hub, which is not installed: pip install it") from error
    repository, _, revision = name.removeprefix(f"{HUB}:").partition("@")
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision or None))
        except RemoteEntryNotFoundError:
            continue
        except RepositoryNotFoundError as error:
            raise FileError(
                f"{name}: no such repository, or a private one; check the name or log in"
            ) from error
        except Exception as error:  # the hub's client and HTTP library raise errors of many kinds
            raise _not_loaded(name, error) from error
    raise FileError(f"{name}: the repository has no {' or '.join(files)}")


def pretrained_weights(name: str) -> WeightFile:
    """The published weights of `torchvision:NAME` or `timm:NAME`, for all of their classes.

    Raises UsageError for an unknown name, FileError for weights that cannot be loaded.
    """
    check_name(name)
    library, _, member = name.partition(":")
    if is_address(member):
        return hub_weights(member)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = _library_network(library, member).state_dict()
    except Exception as error:  # no weights, no network, a damaged cache: each library has its own errors
        raise _not_loaded(name, error) from error
    content = save_tensors({key: value.contiguous().clone() for key, value in sorted(state.items())})
    return WeightFile(Path(PRETRAINED), {"": dict(state)}, sha256(content), None, len(content))


def _library_network(library: str, member: str) -> Any:
    if library == "timm":
        import timm

        return timm.create_model(member, pretrained=True)
    from torchvision import models

    return models.get_model(member, weights="DEFAULT")


def _not_loaded(name: str, error: Exception) -> FileError:
    reason = " ".join(str(error).split()).split(". ")[0][:120] or type(error).__name__
    return FileError(f"{name}: weights not loaded ({reason}); connect to the network, or give a file")
