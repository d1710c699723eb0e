"""Where recipes stand: a path the user names, or one of those that travel with snnkd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snnkd.errors import RequestError, did_you_mean
from snnkd.files import read_bytes
from snnkd.recipe.text import LARGEST, parse_yaml


def recipes_folder() -> Path:
    """recipes/ beside the package in a checkout, snnkd/shipped_recipes in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped_names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def read_recipe(name: str) -> dict[str, Any]:
    """The mapping of a shipped recipe, or of a file when `name` has a slash or ends in .yaml.

    Raises RequestError for an unknown name, PlaceError for a file that is missing or not plain YAML.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in shipped_names():
        path = recipes_folder() / f"{name}.yaml"
    else:
        hint = f"; for the file write ./{name}" if Path(name).is_file() else did_you_mean(name, shipped_names())
        raise RequestError(f"unknown recipe {name!r}{hint}")
    return parse_yaml(read_bytes(path, LARGEST + 1), str(path))


def first_comment(name: str) -> str:
    """What a shipped recipe is: its first comment line after the command that runs it."""
    for line in (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# snnkd "):
            return line.lstrip("# ").rstrip()
    return ""
