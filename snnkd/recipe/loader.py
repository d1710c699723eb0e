"""Reading a recipe and its bases: `extends: NAME`, or a path relative to the recipe's file."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from snnkd.errors import FileError, UsageError
from snnkd.files import origin_of, read_bytes
from snnkd.recipe.merge import check_taken, merge_recipes
from snnkd.recipe.origin import anchor
from snnkd.recipe.shipped import find_recipe, is_path
from snnkd.recipe.yaml_io import MAX_BYTES, parse_yaml

MAX_BASES = 10
"""Maximum length of a chain of `extends`."""


def read_recipe(name: str) -> dict[str, Any]:
    """Read a shipped recipe, or a file if `name` has a slash or ends in .yaml, merged into its bases.

    The result has no `extends`; merge.py defines the merge. The recipe of a run finds files where the run was
    started (origin.py). Raises UsageError for an unknown name, a cycle,
    more than 10 bases and keys that contradict each other, FileError for a file (or a base's) that is missing
    or not plain YAML.
    """
    path = find_recipe(name)
    return _with_bases(_read_document(path), name, path, (path,))


def _read_document(path: Path) -> dict[str, Any]:
    if os.path.isdir(path):
        inside = path / "recipe.yaml"
        remedy = f"write {inside}" if inside.is_file() else "give a .yaml file"
        raise FileError(f"{path}: is a directory, not a recipe; {remedy}")
    names = [] if os.path.exists(path) else [other.name for other in path.parent.glob("*.y*ml")]
    for guess in difflib.get_close_matches(path.name, names, n=1, cutoff=0.8):
        raise FileError(f"{path}: no such file; did you mean {str(path.with_name(guess))!r}?")
    return anchor(parse_yaml(read_bytes(path, MAX_BYTES + 1), str(path)), origin_of(path))


def _with_bases(document: dict[str, Any], name: str, path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """Merge `document`, read from `path`, into its bases; `chain`: the files read so far, `path` last."""
    if "extends" not in document:
        check_taken(document, name)
        return document
    extends = document.pop("extends")
    if not isinstance(extends, str) or not extends.isprintable():
        raise UsageError(f"{name}: extends: {extends!r} is neither the name of a recipe nor a path")
    try:
        base_path = find_recipe(extends, path.parent)
    except UsageError as error:
        raise UsageError(f"{name}: extends: {error}") from error
    base_name = str(base_path) if is_path(extends) else extends
    if os.path.realpath(base_path) in map(os.path.realpath, chain):
        cycle = " -> ".join(map(str, (*chain, base_path)))
        raise UsageError(f"{name}: extends: {cycle} is a cycle; remove one `extends`")
    if len(chain) > MAX_BASES:
        raise UsageError(
            f"{name}: extends: {extends} is base {len(chain)} of {chain[0]}; at most {MAX_BASES} are allowed"
        )
    try:
        base = _read_document(base_path)
    except FileError as error:
        raise FileError(f"{name} extends {extends}: {error}") from error
    base = _with_bases(base, base_name, base_path, (*chain, base_path))
    try:
        return merge_recipes(base, document, base_name)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
