"""What shells complete: names of the catalogue, recipes, keys and runs, without importing torch."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.catalog.registry import Registry
from snnkd.catalog.trackers import TRACKERS
from snnkd.errors import FileError
from snnkd.recipe.key_table import all_keys
from snnkd.recipe.shipped import shipped_names
from snnkd.runs.find import is_run
from snnkd.runs.folder import runs_folder


def beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def one_of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """The function that completes one of `names`, which are asked for when a shell completes."""

    def complete(incomplete: str) -> list[str]:
        return beginning(names(), incomplete)

    return complete


def _entries(registry: Registry[Any]) -> Callable[[str], list[str]]:
    """Completes a name of the catalogue, or up to its colon where an argument follows."""
    return one_of(lambda: (f"{entry.name}:" if entry.argument else entry.name for entry in registry))


losses, models, neurons = _entries(LOSSES), _entries(MODELS), _entries(NEURONS)
data_sets, trackers = _entries(DATA), _entries(TRACKERS)


def recipes(incomplete: str) -> list[str]:
    """Shipped recipes, YAML files, and folders on the way to one."""
    files = [path for path in _paths(incomplete) if path.endswith((".yaml", ".yml", "/"))]
    return beginning(shipped_names(), incomplete) + files


def runs(incomplete: str) -> list[str]:
    """The runs of the runs folder and of any other, and folders on the way to one."""
    try:
        known = [str(path) for path in sorted(runs_folder().iterdir()) if is_run(path)]
    except (OSError, FileError):
        known = []
    names = beginning(known, incomplete)
    return names + [path for path in _paths(incomplete) if path.endswith("/") and path[:-1] not in names]


def _paths(incomplete: str) -> list[str]:
    """Files and folders, these with a slash; hidden ones only after a dot."""
    paths = sorted(glob.glob(f"{glob.escape(os.path.expanduser(incomplete))}*"))
    return [f"{path}/" if os.path.isdir(path) else path for path in paths]


def keys(incomplete: str) -> list[str]:
    """Sections and keys."""
    names = dict.fromkeys(part for key in all_keys() for part in (key.key.partition(".")[0], key.key))
    return beginning(names, incomplete)


def settings(incomplete: str) -> list[str]:
    """KEY= of `--set`; a key's value is up to the user."""
    return beginning(dict.fromkeys(f"{key.key}=" for key in all_keys()), incomplete)
