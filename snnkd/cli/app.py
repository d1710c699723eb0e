"""The app, and how errors become one line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from snnkd import __version__
from snnkd.cli import check, distill, evaluate, export, listing, run, status, teach
from snnkd.errors import Interrupted, SnnkdError, WorkError, did_you_mean

app = typer.Typer(
    name="snnkd",
    help="Distill spiking neural networks from ordinary ones: teach, distill, eval, export.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command, function in (
    ("teach", teach.teach),
    ("distill", distill.distill),
    ("eval", evaluate.evaluate),
    ("export", export.export),
    ("run", run.run),
    ("status", status.status),
    ("check", check.check),
    ("list", listing.listing),
):
    app.command(command)(function)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"snnkd {__version__}")
        raise typer.Exit()


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; allowed anywhere on the line.")] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line of sys.argv and exit with the code of DESIGN's table."""
    words = sys.argv[1:]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = typer.main.get_command(app)(words, prog_name="snnkd", standalone_mode=False)
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        _end(error, words)
    sys.exit(code if isinstance(code, int) else 0)


def _end(error: BaseException, words: list[str]) -> NoReturn:
    """Say what was wrong in one line and leave with its code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("stopped by SIGINT")
    code, line = _explain(error, words)
    if line:
        print(f"snnkd: {' '.join(line.split())}", file=sys.stderr, flush=True)
    if isinstance(error, Interrupted):
        # dying of the signal, not just exiting, is what ends a shell's loop
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(code)


def _explain(error: BaseException, words: list[str]) -> tuple[int, str]:
    if isinstance(error, SnnkdError):
        return error.exit_code, str(error)
    if hasattr(error, "format_message"):  # Typer's usage errors, wherever its version keeps their class
        return _usage(error, words)
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or _allocation_failed(error):
        return WorkError.exit_code, "out of memory; lower train.batch_size or model.T"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            WorkError.exit_code,
            f"the disk is full ({error.filename or error.strerror}); earlier checkpoints are intact, the same command continues",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return 3, f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}"
    return 1, f"bug: {type(error).__name__}: {error} (--debug shows where; please report it)"


def _allocation_failed(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _usage(error: BaseException, words: list[str]) -> tuple[int, str]:
    message = str(error.format_message()).strip()  # type: ignore[attr-defined]
    if not message:  # the help of a bare `snnkd`
        return 2, ""
    unknown = getattr(error, "option_name", None)
    if unknown and "did you mean" not in message.lower():
        context = getattr(error, "ctx", None)
        options = [o for parameter in context.command.params for o in parameter.opts] if context else []
        message = message.rstrip(".") + did_you_mean(unknown, options).partition("; known")[0]
    return 2, message.rstrip(".")
