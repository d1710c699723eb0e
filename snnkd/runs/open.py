"""Opening a run directory: new, to be continued, or finished; never somebody else's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error, read_json, write_atomic, write_json
from snnkd.recipe.yaml_io import dump_yaml
from snnkd.runs.folder import RECIPE, RESULT, RUN, difference
from snnkd.runs.lock import NAME as LOCK
from snnkd.runs.lock import is_held, read_holder
from snnkd.schema.fields import to_plain
from snnkd.schema.run import StageRecipe

MOST_THREADS = 4096
"""As in the recipe's schema; torch does not survive any number."""


def check_folder(folder: Path, same: dict[str, Any] | None) -> None:
    """Check that `folder` is free or holds a run, that of identity `same` where one is given.

    Raises UsageError when another run or other files stand there, FileError when the folder is unusable.
    """
    try:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise from_os_error(error, folder) from error
    if RUN not in names:
        # the lock comes first, then the recipe: without a lock, a recipe.yaml is somebody's own
        begun = {LOCK, RECIPE} if LOCK in names else set()
        if not all(map(_is_leftover, names - begun)):
            raise UsageError(f"{folder}: holds files but no run; choose another --out")
        return
    found = difference(read_json(folder / RUN).get("identity"), same) if same is not None else None
    if found:
        key, before, now = found
        raise UsageError(
            f"{folder}: its run has {key} = {_short(before)}, this request {_short(now)}; use another --out, or --fresh to set it aside"
        )


def check_same_data(runs: Path, same: dict[str, Any], section: dict[str, Any]) -> None:
    """Refuse to start anew what an unfinished run under `runs` began on other bytes of the same `data:` section.

    Such as glyphs drawn by another Pillow, or a file that was replaced: the run's name changes with the bytes, and
    the one begun would be forgotten silently. Raises UsageError.
    """
    for folder in runs.iterdir() if runs.is_dir() else ():
        if not (folder / RUN).is_file() or (folder / RESULT).exists():
            continue
        try:
            about = read_json(folder / RUN)
        except FileError:
            continue
        old = about.get("identity")
        if about.get("data") != section or not isinstance(old, dict) or not isinstance(old.get("data"), dict):
            continue
        if not isinstance(old["data"].get("sha256"), str):
            continue
        if old != same and {**old, "data": {**old["data"], "sha256": same["data"]["sha256"]}} == same:
            raise UsageError(
                f"{folder}: was begun on other bytes of {section['name']} (data.sha256 = {old['data']['sha256'][:12]}..., now "
                f"{same['data']['sha256'][:12]}...); continue it where its data are, or remove it"
            )


def _is_leftover(name: str) -> bool:
    """Whether a kill inside write_atomic left this file."""
    return name.startswith(".") and name.endswith(".tmp")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def set_aside(folder: Path, console: Console) -> None:
    """Move a run to .aside/ beside it, numbered; nothing is deleted. Raises FileError when it is held."""
    if not folder.exists():
        return
    if is_held(folder):
        raise FileError(
            f"{folder}: held by process {read_holder(folder).get('pid', '?')}; stop it before --fresh"
        )
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


def begin(
    folder: Path, recipe: StageRecipe, same: dict[str, Any], needs: dict[str, Any], command: str
) -> None:
    """Write recipe.yaml and run.json of a run that begins."""
    head = f"# {' '.join(command.split())}\n" if command else ""  # one line, whatever the command held
    write_atomic(folder / RECIPE, (head + dump_yaml(recipe)).encode())
    about = {"schema": 1, "identity": same, "data": to_plain(recipe.data), "needs": needs, "command": command}
    write_json(folder / RUN, about)


def recorded_requirements(folder: Path) -> dict[str, Any]:
    """What the run's bytes depend on, as it began."""
    needs = read_json(folder / RUN).get("needs")
    if not isinstance(needs, dict):
        raise FileError(f"{folder / RUN}: damaged: 'needs' is missing")
    threads = needs.get("threads")
    if not isinstance(threads, int) or isinstance(threads, bool) or not 0 < threads <= MOST_THREADS:
        raise FileError(f"{folder / RUN}: damaged: 'needs.threads' is {str(threads)[:40]!r}")
    compile, processes = needs.get("compile"), needs.get("processes", 1)
    if isinstance(compile, bool):  # as version 0.1 wrote it
        compile = "on" if compile else "off"
    if compile not in ("neurons", "on", "off") or not isinstance(processes, int):
        raise FileError(
            f"{folder / RUN}: damaged: 'needs.compile' is {str(compile)[:40]!r}, 'needs.processes' {str(processes)[:40]!r}"
        )
    return {"accumulate": 1, "sync_norm": False, **needs, "compile": compile, "processes": processes}


def check_resumable(folder: Path, began: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UsageError when continuing here could not give the bytes that an uninterrupted run would have given."""
    # threads are restored, not refused, except with another number of processes, which is allowed
    found = difference(began, {**now, "threads": began.get("threads"), "processes": began.get("processes")})
    if found:
        key, before, here = found
        raise UsageError(
            f"{folder}: began with {key} = {before!r}, here it is {here!r}, which gives other bytes; continue where it began, or --fresh"
        )
