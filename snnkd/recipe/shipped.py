"""Where recipes stand: a path the user names, or one of those that travel with snnkd."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from snnkd.errors import UsageError, did_you_mean

COMMANDS = ("snnkd ", "sbatch ", "srun ", "torchrun ")
"""How a line begins that says how the recipe is run."""
LONGEST = 200
"""Characters of a list of known names in a message."""


def recipes_folder() -> Path:
    """recipes/ beside the package in a checkout, snnkd/shipped_recipes in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped_names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def is_path(name: str) -> bool:
    """Whether a recipe is named by its file."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def find_recipe(name: str, folder: Path = Path()) -> Path:
    """The file of a shipped recipe, or the path `name`, from `folder`, when it has a slash or ends in .yaml.

    Raises UsageError for an unknown name; whether the file is there is not looked at.
    """
    if is_path(name):
        return folder / name
    if name in shipped_names():
        return recipes_folder() / f"{name}.yaml"
    hint = (
        f"; for the file write ./{name}"
        if os.path.isfile(folder / name)
        else did_you_mean(name, shipped_names())
    )
    if len(hint) > LONGEST:
        hint = "; `snnkd list recipes` shows those there are"
    raise UsageError(f"unknown recipe {name!r}{hint}")


def first_comment(name: str) -> str:
    """What a shipped recipe is: its opening comment after the commands that run it, up to the first line with
    a full stop at its end."""
    lines = (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    opening = [
        line.lstrip("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)
    ]
    told = []
    for line in itertools.dropwhile(lambda line: not line or line.startswith(COMMANDS), opening):
        told.append(line)
        if not line or line.endswith("."):
            break
    return " ".join(told).strip()
