"""What shells complete: names of the catalogue, recipes, keys and runs, without importing torch."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.catalog.trackers import TRACKERS
from snnkd.errors import FileError
from snnkd.recipe.key_table import all_keys
from snnkd.recipe.shipped import shipped_names
from snnkd.runs.find import is_run
from snnkd.runs.folder import runs_folder


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def losses(incomplete: str) -> list[str]:
    return _beginning((entry.name for entry in LOSSES), incomplete)


def models(incomplete: str) -> list[str]:
    return _beginning((f"{each.name}:" if each.argument else each.name for each in MODELS), incomplete)


def neurons(incomplete: str) -> list[str]:
    return _beginning((entry.name for entry in NEURONS), incomplete)


def trackers(incomplete: str) -> list[str]:
    return _beginning((entry.name for entry in TRACKERS), incomplete)


def data_sets(incomplete: str) -> list[str]:
    return _beginning((f"{each.name}:" if each.argument else each.name for each in DATA), incomplete)


def recipes(incomplete: str) -> list[str]:
    """Shipped recipes, YAML files, and folders on the way to one."""
    files = [path for path in _paths(incomplete) if path.endswith((".yaml", ".yml", "/"))]
    return _beginning(shipped_names(), incomplete) + files


def runs(incomplete: str) -> list[str]:
    """The runs of the runs folder and of any other, and folders on the way to one."""
    try:
        known = [str(path) for path in sorted(runs_folder().iterdir()) if is_run(path)]
    except (OSError, FileError):
        known = []
    names = _beginning(known, incomplete)
    return names + [path for path in _paths(incomplete) if path.endswith("/") and path[:-1] not in names]


def _paths(incomplete: str) -> list[str]:
    """Files and folders, these with a slash; hidden ones only after a dot."""
    paths = sorted(glob.glob(f"{glob.escape(os.path.expanduser(incomplete))}*"))
    return [f"{path}/" if os.path.isdir(path) else path for path in paths]


def keys(incomplete: str) -> list[str]:
    """Sections and keys."""
    names = dict.fromkeys(part for key in all_keys() for part in (key.key.partition(".")[0], key.key))
    return _beginning(names, incomplete)


def settings(incomplete: str) -> list[str]:
    """KEY= of `--set`; a key's value is up to the user."""
    return _beginning(dict.fromkeys(f"{key.key}=" for key in all_keys()), incomplete)
