"""Reading a recipe, and the recipes that it extends under it: `extends: NAME`, or a path from the file that
says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from snnkd.errors import FileError, UsageError
from snnkd.files import read_bytes
from snnkd.recipe.merge import merge_recipes
from snnkd.recipe.shipped import find_recipe, is_path
from snnkd.recipe.yaml_io import LARGEST, parse_yaml

MOST_BASES = 10
"""Longest chain of `extends`."""


def read_recipe(name: str) -> dict[str, Any]:
    """The mapping of a shipped recipe, or of a file when `name` has a slash or ends in .yaml, merged
    into what it extends.

    The result has no `extends` left; merge.py has the rule. Raises UsageError for an unknown name, a circle,
    a chain of more than 10 bases and keys that do not go together, FileError for a file, or a base's, that is
    missing or not plain YAML.
    """
    path = find_recipe(name)
    return _with_bases(parse_yaml(read_bytes(path, LARGEST + 1), str(path)), name, path, (path,))


def _with_bases(document: dict[str, Any], name: str, path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """`document`, read from `path`, over its bases; `chain`: the files that led here, this one last."""
    if "extends" not in document:
        return document
    extends = document.pop("extends")
    if not isinstance(extends, str) or not extends.isprintable():
        raise UsageError(f"{name}: extends: {extends!r} is not the name of a recipe or a path to one")
    try:
        under = find_recipe(extends, path.parent)
    except UsageError as error:
        raise UsageError(f"{name}: extends: {error}") from error
    called = str(under) if is_path(extends) else extends
    if os.path.realpath(under) in map(os.path.realpath, chain):
        raise UsageError(
            f"{name}: extends: {' -> '.join(map(str, (*chain, under)))} is a circle; "
            "one of them must stand by itself"
        )
    if len(chain) > MOST_BASES:
        raise UsageError(
            f"{name}: extends: {extends} would be base {len(chain)} of {chain[0]}; "
            f"at most {MOST_BASES} follow each other"
        )
    try:
        content = parse_yaml(read_bytes(under, LARGEST + 1), str(under))
    except FileError as error:
        raise FileError(f"{name} extends {extends}: {error}") from error
    base = _with_bases(content, called, under, (*chain, under))
    try:
        return merge_recipes(base, document, called)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
