"""Starting or resuming a run in a directory; one with another run or other files is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnkd import distributed
from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.files import (
    RUN,
    check_guard,
    current_origin,
    from_os_error,
    read_json,
    sweep,
    write_atomic,
    write_json,
)
from snnkd.recipe.yaml_io import dump_yaml
from snnkd.runs.find import recorded_runs
from snnkd.runs.folder import RECIPE, difference
from snnkd.runs.lock import NAME as LOCK
from snnkd.runs.lock import is_held, read_holder
from snnkd.schema.fields import to_plain
from snnkd.schema.run import StageRecipe

if TYPE_CHECKING:  # it imports torch, without which runs are listed and removed
    from snnkd.runs.reproducibility import Reproducibility

_CONTENT = ("sha256", "class_names")
"""Keys of a run's `data` that follow from the files."""


def check_folder(folder: Path, identity: dict[str, Any] | None) -> None:
    """Check that `folder` is free or holds a run, with this `identity` unless that is None.

    Raises UsageError for another run or other files, FileError for a folder that cannot be read.
    """
    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise from_os_error(error, folder) from error
    if RUN not in names:
        # the lock is written before the recipe: without a lock, recipe.yaml belongs to the user
        own = {LOCK, RECIPE} if LOCK in names else set()
        if not all(map(_is_temporary, names - own)):
            raise UsageError(f"{folder}: has files but no run; choose another --out")
        return
    change = difference(read_json(folder / RUN).get("identity"), identity) if identity is not None else None
    if change:
        key, old, new = change
        raise UsageError(
            f"{folder}: its run has {key} = {_short(old)}, this command {_short(new)}; "
            "use another --out, or --fresh to set it aside"
        )


def check_same_data(runs: Path, identity: dict[str, Any], section: dict[str, Any], console: Console) -> None:
    """Raise UsageError if an unfinished run under `runs` differs from this one only in its data's content.

    Another Pillow draws other glyphs, a file was replaced or a class renamed: the run's name changes with its
    data, and the unfinished run would be abandoned silently.
    """
    for run in recorded_runs(runs, console):
        data = run.identity.get("data")
        if run.finished or run.data != section or not isinstance(data, dict):
            continue
        change = difference(_content(data), _content(identity["data"]), "data")
        if change and _without_content(run.identity) == _without_content(identity):
            key, old, new = change
            raise UsageError(
                f"{run.folder}: unfinished, {key} is {_short(old)}, here {_short(new)}; "
                f"resume it with its own {section['name']} data, or remove it"
            )


def _content(data: dict[str, Any]) -> dict[str, Any]:
    return {key: data.get(key) for key in _CONTENT}


def _without_content(identity: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in identity["data"].items() if key not in _CONTENT}
    return {**identity, "data": rest}


def _is_temporary(name: str) -> bool:
    """Whether the file was left by a kill inside write_atomic."""
    return name.startswith(".") and name.endswith(".tmp")


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:  # a sha256
        return f"{value[:12]}..."
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@distributed.on_rank0
def set_aside(folder: Path, console: Console) -> None:
    """Move a run to .aside/NAME-NUMBER beside it; nothing is deleted. Raises FileError if it is locked."""
    if not folder.exists():
        return
    if is_held(folder):
        raise FileError(f"{folder}: held by process {read_holder(folder).get('pid', '?')}; stop it first")
    aside = folder.parent / ".aside"
    try:
        aside.mkdir(exist_ok=True)
        number = 1
        while (target := aside / f"{folder.name}-{number}").exists():
            number += 1
        os.replace(folder, target)
    except OSError as error:
        raise from_os_error(error, f"{folder}: cannot be set aside") from error
    console.log(f"{folder} was set aside as {target}")


def sweep_run(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a run."""
    for place in (folder, folder / "eval", folder / "export"):
        check_guard(place)
        sweep(place)


def begin(
    folder: Path, recipe: StageRecipe, identity: dict[str, Any], setup: Reproducibility, command: str
) -> None:
    """Write recipe.yaml and run.json of a new run."""
    head = f"# {' '.join(command.split())}\n" if command else ""
    write_atomic(folder / RECIPE, (head + dump_yaml(recipe)).encode())
    values = {
        "schema": 1,
        "identity": identity,
        "data": to_plain(recipe.data),
        "needs": to_plain(setup),
        "command": command,
        "origin": current_origin(folder),
    }
    write_json(folder / RUN, values)


def record_resumed(folder: Path, setup: Reproducibility, change: str) -> None:
    """Record in run.json that the run goes on in `setup`, and add `change` to what its result will say."""
    values = read_json(folder / RUN)
    values |= {"needs": to_plain(setup), "resumed": [*values.get("resumed", []), change]}
    write_json(folder / RUN, values)


def read_resumed(folder: Path) -> list[str]:
    """The changes of setup that the run was resumed with."""
    return list(read_json(folder / RUN).get("resumed", []))
