"""The folder that a run was started in, where the relative paths of its recipe are looked for, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snnkd.usercode import import_also_from

_PATHS = (("data", "name"), ("teacher", "run"), ("train", "init"))
"""Section and key of paths in a run's recipe."""
_NO_PATH = re.compile(r"latest|pretrained|random|teacher|~.*|(?!npz:|imagefolder:)[^/]*:.*", re.DOTALL)


def anchor(document: Mapping[str, Any], origin: Path | None) -> dict[str, Any]:
    """A run's recipe or config whose relative paths that are not here are those in its `origin`.

    The user's functions may then be imported from there.
    """
    result = dict(document)
    if origin is None or origin == Path.cwd():
        return result
    import_also_from(origin)
    for section, key in _PATHS:
        values = result.get(section)
        if isinstance(values, Mapping) and isinstance(name := values.get(key), str):
            result[section] = {**values, key: _anchored(name, section == "data", origin)}
    return result


def _anchored(name: str, is_data: bool, origin: Path) -> str:
    kind, colon, path = name.partition(":") if is_data else ("", "", name)
    if _NO_PATH.fullmatch(name) or (is_data and not colon) or Path(path).exists():
        return name
    return f"{kind}{colon}{origin / path}"
