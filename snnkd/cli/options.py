"""Options that several commands share, and from words to the pipeline's objects."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snnkd import distributed, usercode
from snnkd.errors import UsageError

if TYPE_CHECKING:
    from snnkd.console import Console
    from snnkd.context import RunContext
    from snnkd.stopping import Stop

# numbers come as text: the recipe's own coercion then names key, value and rule
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="[RECIPE]",
        help="A shipped recipe's name or a YAML file; glyphs by default.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME", help="Data set (`snnkd list data`), with its defaults."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Network (`snnkd list models`), with its defaults; T is kept."
    ),
]
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="N", help="Epochs of training.")]
BatchSize = Annotated[str | None, typer.Option("--batch-size", metavar="N", help="Images per training step.")]
Lr = Annotated[str | None, typer.Option("--lr", metavar="X", help="Learning rate.")]
Seed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Seed of initialisation, order and augmentation.")
]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Run directory instead of one named by the recipe."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key of the recipe, such as train.weight_decay=1e-4; may be repeated.",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Set an existing run directory aside (under .aside) and start anew.")
]
MaxTime = Annotated[
    str | None,
    typer.Option(
        "--max-time", metavar="H:MM:SS", help="Save and stop (exit 75) after this long; also 90s, 45m, 2h."
    ),
]
Code = Annotated[
    list[str] | None,
    typer.Option(
        "--code",
        metavar="MODULE:FUNCTION",
        help="Your function that a recipe or run names and that may run; may be repeated.",
    ),
]
Track = Annotated[
    str | None,
    typer.Option("--track", metavar="NAME", help="tensorboard: the metrics also as event files in the run."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

STARTED = time.monotonic()


def seconds(text: str | None) -> float | None:
    """`3:50:00`, `50:00`, `1-12:00:00`, `90s`, `45m` or `2h` as seconds. Raises UsageError for anything else."""
    if text is None:
        return None
    unit = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if unit:
        return float(unit[1]) * {"s": 1, "m": 60, "h": 3600}[unit[2]]
    clock = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):([0-5]\d)", text)
    if clock is None:
        raise UsageError(f"--max-time {text!r} is not H:MM:SS, MM:SS, D-H:MM:SS or a number with s, m or h")
    days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + rest


def permit(code: Sequence[str] | None, *names: str | None, settings: Sequence[str] | None = None) -> None:
    """Let those functions of the user's run that the command line names: by --code, as a loss, model or data set, or in --set."""
    usercode.permit(
        [
            *(code or ()),
            *(name for name in names if name),
            *(setting.partition("=")[2] for setting in settings or ()),
        ]
    )


def command_line() -> str:
    return shlex.join(["snnkd", *sys.argv[1:]])


def stopping(max_time: str | None = None) -> Stop:
    """Watch for signals and the time limit, from before torch's slow import on."""
    limit = seconds(max_time)
    from snnkd.stopping import Stop

    return Stop(limit, since=STARTED)


def reporter(notes: Sequence[str] = ()) -> Console:
    """Says on stderr what a run has to say, beginning with `notes`."""
    from snnkd.console import Console

    made = Console(quiet=not distributed.is_rank0())
    for line in notes:
        made.log(line)
    return made


def make_context(
    stop: Stop, out: Path | None = None, fresh: bool = False, notes: Sequence[str] = ()
) -> RunContext:
    """The pipeline's options; imports torch. `notes` are said at once."""
    from snnkd.context import RunContext

    return RunContext(out=out, fresh=fresh, command=command_line(), stop=stop, console=reporter(notes))


def say(text: object) -> None:
    """Print to stdout, which carries data only. A reader that left (`snnkd list losses | head -1`) is no error."""
    if not distributed.is_rank0():
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_json(value: Any) -> None:
    """Print one JSON object to stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
