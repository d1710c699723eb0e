"""`snnkd runs`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from snnkd import distributed
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.errors import UsageError, did_you_mean
from snnkd.files import continue_command
from snnkd.runs import manage
from snnkd.runs.folder import is_finished

EXAMPLES = (
    "snnkd runs rm RUN",
    "snnkd runs rename RUN best-student",
    "snnkd runs tag RUN paper table-2",
)
ACTIONS = ("rm", "rename", "tag")


def runs(
    action: Annotated[
        str,
        typer.Argument(
            metavar="ACTION", help="rm, rename or tag.", autocompletion=complete.one_of(lambda: ACTIONS)
        ),
    ],
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run.", autocompletion=complete.runs)],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="rm: more runs; rename: the new name; tag: the tags, none to remove them.",
            show_default=False,
            autocompletion=complete.runs,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="rm: do not ask.")] = False,
) -> None:
    """Set runs aside, rename one, or tag it.

    rm asks first, then moves runs to .aside beside them: delete them there, or move them back. Tags are shown
    by `snnkd status`. A run that a process is working in is refused.
    """
    distributed.refuse_torchrun("runs")
    if action not in ACTIONS:
        raise UsageError(f"runs {action}: no such action{did_you_mean(action, ACTIONS)}")
    if yes and action != "rm":
        raise UsageError(f"--yes: runs {action} asks nothing; omit the option")
    given = words or []
    if action == "rm":
        _remove([run, *map(Path, given)], yes)
    elif action == "rename":
        _rename(run, given)
    else:
        manage.tag(run, given)


def _remove(folders: list[Path], yes: bool) -> None:
    manage.check_runs(folders)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"runs rm: {len(folders)} runs, and nobody to ask; add --yes")
        named = str(folders[0]) if len(folders) == 1 else f"{len(folders)} runs"
        if not typer.confirm(f"move {named} to .aside?", err=True):
            return
    manage.remove(folders, o.make_console())


def _rename(run: Path, words: list[str]) -> None:
    if len(words) != 1:
        raise UsageError(f"runs rename: {len(words)} new names; give one")
    target = manage.rename(run, words[0])
    if not is_finished(target) and (command := continue_command(target)):
        o.note(f"what continues it needs its name: {command} --out {shlex.quote(str(target.absolute()))}")
    o.echo(target)
