"""`snnkd submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import batch
from snnkd.cli import options as o
from snnkd.cli.places import check_pipelines
from snnkd.compare.plan import check_compare
from snnkd.errors import UsageError
from snnkd.recipe import resolve_tasks
from snnkd.schema import fields
from snnkd.schema.marks import Bounds

Count = Annotated[int, Bounds(1, 100_000)]
EXAMPLES = (
    "snnkd submit table.yaml",
    "snnkd submit table.yaml --lines cluster.txt --parallel 8 --go",
    "snnkd submit glyphs --sweep seed=0-4 --shell --parallel 2 > sweep.sh",
)


def submit(
    recipe: o.NamedRecipe,
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
    work = batch.make_work(tasks, settings or (), sweep or (), code or (), at_once)
    script = batch.shell_script(work) if shell else batch.slurm_script(work, batch.first_lines(lines))
    if go:
        batch.run_script(script)
    else:
        o.echo(script.rstrip("\n"))
