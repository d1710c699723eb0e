"""Addresses of networks on the Hugging Face hub: hf-hub:OWNER/NAME, with @REVISION if not the newest."""

from __future__ import annotations

import re

from snnkd.errors import UsageError

HUB = "hf-hub"
_NAME = r"[\w.-]+/[\w.-]+"


def is_address(text: object) -> bool:
    """Whether `text`, or a path, means a network of the hub."""
    return str(text).startswith(f"{HUB}:")


def check_address(address: str, key: str) -> None:
    """Raise UsageError, naming `key`, for a malformed address."""
    if not re.fullmatch(rf"{HUB}:{_NAME}(@[\w./-]+)?", address):
        raise UsageError(f"{key}: {address!r} is not hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION")


def check_repository(name: str) -> None:
    """Raise UsageError for a name that is not OWNER/NAME."""
    if not re.fullmatch(_NAME, name):
        raise UsageError(f"{name!r} is not OWNER/NAME, a repository of the hub")
