"""Options shared by several commands; handling of stdout, signals and user code."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnkd import distributed, slurm, usercode
from snnkd.cli import complete
from snnkd.errors import UsageError
from snnkd.files import from_os_error
from snnkd.limits import check_address_space
from snnkd.recipe import FLAGS
from snnkd.stopping import Stop, ignore_late_signals
from snnkd.streams import Stderr, discard

if TYPE_CHECKING:
    from snnkd.console import Console
    from snnkd.context import RunContext

# numbers stay strings: the recipe converts them, and names key, value and rule in its errors
NamedRecipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.", autocompletion=complete.recipes
    ),
]
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="Name of a shipped recipe, or a YAML file; glyphs by default.",
        autocompletion=complete.recipes,
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME",
        help="Data set (`snnkd list data`), at its defaults.",
        autocompletion=complete.data_sets,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Network (`snnkd list models`), at its defaults; keeps T.",
        autocompletion=complete.models,
    ),
]
EPOCHS = (
    "Epochs of training; for data without a recipe enough for 1,000 steps of a teacher, 1,600 of a student."
)
BATCH_SIZE = "Images per training step; for data without a recipe a tenth of the training images, 8 to 100."
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="N", help=EPOCHS)]
BatchSize = Annotated[str | None, typer.Option("--batch-size", metavar="N", help=BATCH_SIZE)]
Lr = Annotated[str | None, typer.Option("--lr", metavar="X", help="Learning rate.")]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="RUN|FILE",
        autocompletion=complete.runs,
        help="Initial weights: a run, an export, a weights file, or pretrained.",
    ),
]
Seed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Seed of weights, data order and augmentation.")
]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Run directory; named after the recipe under runs/ by default."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any recipe key, e.g. train.weight_decay=1e-4; repeatable. `snnkd keys` lists them.",
        autocompletion=complete.settings,
    ),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=VALUES",
        help="Sweep a key without a file, e.g. loss=kl,hta-kl, T=2,4 or seed=0-4; repeatable.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over; move an existing run directory to .aside.")]
ContinueAnyway = Annotated[
    bool,
    typer.Option(
        "--continue-anyway",
        help="Resume a run on other versions or hardware than it was started with; the last digits differ.",
    ),
]
MaxTime = Annotated[
    str | None,
    typer.Option(
        "--max-time",
        metavar="H:MM:SS",
        help="Save and stop (exit 75) after this time; also 90s, 45m, 2h; auto: before a Slurm job's limit.",
    ),
]
Code = Annotated[
    list[str] | None,
    typer.Option(
        "--code",
        metavar="MODULE:FUNCTION",
        help="Allow a recipe or run to call your function; repeatable.",
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Also log to tensorboard, wandb or mlflow; repeatable.",
        autocompletion=complete.trackers,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]

STARTED = time.monotonic()


def parse_duration(text: str | None) -> float | None:
    """Convert `3:50:00`, `50:00`, `1-12:00:00`, `90s`, `45m` or `2h` to seconds. Raises UsageError."""
    if text is None:
        return None
    unit = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if unit:
        return float(unit[1]) * {"s": 1, "m": 60, "h": 3600}[unit[2]]
    clock = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):([0-5]\d)", text)
    if clock is None:
        formats = "auto, H:MM:SS, MM:SS, D-H:MM:SS or a number with s, m or h"
        raise UsageError(f"--max-time {text!r} is not {formats}")
    days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def time_limit(text: str | None) -> float | None:
    """Seconds from this command's start: of `auto` what the Slurm job has left. Raises UsageError."""
    if text != "auto":
        return parse_duration(text)
    return time.monotonic() - STARTED + slurm.usable_seconds()


def permit(
    code: Sequence[str] | None,
    *names: str | None,
    settings: Sequence[str] | None = None,
    sweep: Sequence[str] | None = None,
) -> None:
    """Permit the user functions on the command line: by --code, --set, --sweep, or as loss, model or data."""
    values = [setting.partition("=")[2] for setting in settings or ()]
    swept = [value.strip() for axis in sweep or () for value in axis.partition("=")[2].split(",")]
    usercode.permit([*(code or ()), *(name for name in names if name), *values, *swept])


def stage_flags(context: typer.Context) -> dict[str, Any]:
    """The options of a command that set keys of a stage's recipe."""
    return {flag: context.params[flag] for flag in FLAGS if flag in context.params}


_quiet = False
"""Whether this command prints only results and errors."""


def set_quiet(quiet: bool) -> None:
    """Print nothing but results and errors from here on, or all again."""
    global _quiet  # noqa: PLW0603  # of the command line, as sys.argv
    _quiet = quiet


def command_line() -> str:
    """Quote the command for a shell."""
    return shlex.join(["snnkd", *sys.argv[1:]])


def watch_signals(max_time: str | None = None) -> Stop:
    """Turn signals and the time limit into stop requests; called before torch's slow import."""
    limit = time_limit(max_time)
    announce_torch()
    return Stop(limit, since=STARTED)


def announce_torch() -> None:
    """Say that PyTorch is loaded, which takes seconds, unless it is; raise RunError if it cannot be."""
    if "torch" not in sys.modules:
        note("loading PyTorch")
        check_address_space()


def make_console(notes: Sequence[str] = ()) -> Console:
    """Console on stderr, silent on all ranks but 0; logs `notes` first."""
    from snnkd.console import Console

    console = Console(quiet=_quiet or not distributed.is_rank0())
    for line in notes:
        console.log(line)
    return console


def make_context(
    stop: Stop, out: Path | None = None, fresh: bool = False, notes: Sequence[str] = ()
) -> RunContext:
    """The pipeline's context; logs `notes`. Imports torch."""
    from snnkd.context import RunContext

    return RunContext(out=out, fresh=fresh, command=command_line(), stop=stop, console=make_console(notes))


def echo(text: object) -> None:
    """Print a result to stdout, on rank 0; the last act of a command, which no signal may end any more.

    A closed pipe (`snnkd list losses | head -1`) is no error. Raises FileError or RunError when stdout takes
    nothing.
    """
    if not distributed.is_rank0():
        return
    ignore_late_signals()
    try:
        print(text, flush=True)
    except BrokenPipeError:
        discard(sys.stdout)
    except OSError as error:
        discard(sys.stdout)
        raise from_os_error(error, "standard output") from error


def note(text: str) -> None:
    """Print to stderr, on rank 0 and unless quiet; what stderr does not take is lost."""
    if distributed.is_rank0() and not _quiet:
        print(text, file=Stderr())


def echo_json(value: Any) -> None:
    """Print one JSON object to stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # no replacement may change a value
        text = json.dumps(value, indent=2, allow_nan=False)
    echo(text)
