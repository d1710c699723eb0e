"""`snnkd submit`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from snnkd.batch import Work, shell_script, slurm_script
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_pipelines
from snnkd.compare.plan import check_compare
from snnkd.errors import FileError, RunError, UsageError
from snnkd.files import read_bytes
from snnkd.recipe import resolve_stage, resolve_tasks
from snnkd.recipe.sweep import Tasks
from snnkd.schema import fields
from snnkd.schema.marks import Bounds

Count = Annotated[int, Bounds(1, 100_000)]
EXAMPLES = (
    "snnkd submit table.yaml",
    "snnkd submit table.yaml --lines cluster.txt --parallel 8 --go",
    "snnkd submit glyphs --sweep seed=0-4 --shell --parallel 2 > sweep.sh",
)


def submit(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Name of a shipped recipe, or a YAML file.",
            autocompletion=complete.recipes,
        ),
    ],
    sweep: o.Sweep = None,
    settings: o.Set = None,
    code: o.Code = None,
    lines: Annotated[
        Path | None,
        typer.Option(
            "--lines",
            metavar="FILE",
            help="First lines of every job: #SBATCH options (partition, account, gres, time), module load.",
        ),
    ] = None,
    parallel: Annotated[
        str | None, typer.Option("--parallel", metavar="N", help="Run at most N tasks at once.")
    ] = None,
    shell: Annotated[
        bool,
        typer.Option("--shell", help="Without Slurm: a plain shell script; task I of N takes GPU I."),
    ] = False,
    go: Annotated[bool, typer.Option("--go", help="Run the script by bash, which submits the jobs.")] = False,
) -> None:
    """Print a script that submits a sweep to Slurm.

    The teacher's job, then an array of the sweep's tasks; they requeue themselves until they are done. With
    --go the script is run instead.
    """
    o.permit(code, settings=settings, sweep=sweep)
    if shell and lines:
        raise UsageError("--lines are the first lines of Slurm jobs; leave it out with --shell")
    at_once = None if parallel is None else fields.coerce(Count, parallel, "--parallel")
    tasks = resolve_tasks(recipe, settings or (), sweep or ())
    check_compare(tasks)
    check_pipelines(task.pipeline for task in tasks.all)
    options = _options(("--sweep", sweep), ("--set", settings), ("--code", code))
    work = Work(
        run=shlex.join(["snnkd", "run", recipe, *options]),
        teach=_teacher_command(tasks, settings or (), code or ()),
        tasks=len(tasks.all),
        parallel=at_once,
    )
    script = shell_script(work) if shell else slurm_script(work, _first_lines(lines))
    if go:
        _run(script)
    else:
        o.echo(script.rstrip("\n"))


def _options(*options: tuple[str, Sequence[str] | None]) -> list[str]:
    """The words of options that are given once for each value."""
    return [word for option, values in options for value in values or () for word in (option, value)]


def _teacher_command(tasks: Tasks, settings: Sequence[str], code: Sequence[str]) -> str | None:
    """The command that trains the one teacher of all tasks; None if they have several, or none to train."""
    teachers = {repr(task.pipeline.teach) for task in tasks.all}
    if len(teachers) > 1 or tasks.all[0].pipeline.teach is None:
        return None
    for words in (settings, [each for each in settings if not each.startswith(("sweep.", "distill."))]):
        with suppress(UsageError):
            if {repr(resolve_stage(tasks.recipe, "teach", settings=words))} == teachers:
                options = _options(("--set", words), ("--code", code))
                return shlex.join(["snnkd", "teach", tasks.recipe, *options])
    return None


def _first_lines(path: Path | None) -> str:
    """The lines of a file as they stand, without a first line that names a shell. Raises FileError."""
    if path is None:
        return ""
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not a text file; give #SBATCH lines") from error
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    return "".join(f"{line}\n" for line in lines)


def _run(script: str) -> None:
    if "sbatch" in script and shutil.which("sbatch") is None:
        raise FileError("sbatch is not installed; submit where Slurm is, or give --shell")
    code = subprocess.run(["bash", "-c", script], check=False).returncode
    if code:
        raise RunError(f"the script ended with {code}; print it without --go")
