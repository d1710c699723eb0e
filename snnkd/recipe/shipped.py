"""Finding a recipe: a path, or the name of a recipe shipped with snnkd."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from snnkd.errors import UsageError, did_you_mean
from snnkd.files import user_path

COMMANDS = ("snnkd ", "sbatch ", "srun ", "torchrun ")
"""First words of comment lines that show a command."""
MAX_HINT_LENGTH = 200
"""Maximum characters of the hint in a message."""


def recipes_folder() -> Path:
    """recipes/ next to the package in a checkout, snnkd/shipped_recipes in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped_names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def is_path(name: str) -> bool:
    """Whether `name` is a path rather than the name of a shipped recipe."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def find_recipe(name: str, folder: Path = Path()) -> Path:
    """The file of a shipped recipe, or `name` relative to `folder` if it is a path.

    Raises UsageError for an unknown name; does not check that the file exists.
    """
    if is_path(name):
        return folder / user_path(name)
    if name in shipped_names():
        return recipes_folder() / f"{name}.yaml"
    if name.replace(".", "").isdecimal():  # the second value behind an option
        raise UsageError(
            f"unknown recipe {name!r}; an option takes one value, for a run each: "
            f"snnkd run RECIPE --sweep KEY=VALUE,{name}"
        )
    hint = _path_hint(name, folder) or did_you_mean(name, shipped_names())
    if len(hint) > MAX_HINT_LENGTH:
        hint = "; see `snnkd list recipes`"
    raise UsageError(f"unknown recipe {name!r}{hint}")


def _path_hint(name: str, folder: Path) -> str:
    """Name the file that is called almost as `name`, in `folder`, or the option; empty if there is none."""
    if "=" in name:
        return f"; did you mean '--set {name}'?"
    if os.path.isfile(folder / name):
        return f"; for the file write ./{name}"
    for path in (f"{name}.yaml", f"{name}.yml", f"{name}/recipe.yaml"):
        if os.path.isfile(folder / path):
            return f"; did you mean {path!r}?"
    return ""


def first_comment(name: str) -> str:
    """Describe a shipped recipe: its opening comment after the commands, up to a full stop."""
    lines = (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    opening = [
        line.lstrip("#").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)
    ]
    sentence = []
    for line in itertools.dropwhile(lambda line: not line or line.startswith(COMMANDS), opening):
        sentence.append(line)
        if not line or line.endswith("."):
            break
    return " ".join(sentence).strip()
