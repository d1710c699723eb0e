"""The app, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from snnkd import __version__, distributed, usercode
from snnkd.cli import bench, check, compare, data, distill, evaluate, export, listing, run, status, teach
from snnkd.errors import Interrupted, RunError, SnnkdError, UsageError, did_you_mean
from snnkd.files import from_os_error

SIGINT_AS_TYPER_SEES_IT = 130
"""Typer turns KeyboardInterrupt into this exit code."""
COMPILERS = ("torch._dynamo", "torch._inductor")
"""Packages whose errors are those of torch.compile."""

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
    ("compare", compare.compare),
    ("status", status.status),
    ("check", check.check),
    ("data", data.data),
    ("list", listing.listing),
    ("bench", bench.bench),
):
    app.command(command)(function)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"snnkd {__version__}")
        raise typer.Exit()


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; allowed anywhere on the line.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line of sys.argv and exit with the code of DESIGN's table."""
    words = sys.argv[1:]
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    usercode.permit(())  # only what this very line names
    distributed.exit_with_launcher()
    try:
        code = typer.main.get_command(app)(words, prog_name="snnkd", standalone_mode=False)
        if code == SIGINT_AS_TYPER_SEES_IT:
            raise KeyboardInterrupt
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        _end(error)
    sys.exit(code if isinstance(code, int) else 0)


def _end(error: BaseException) -> NoReturn:
    """Say what was wrong in one line and leave with its code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("stopped by SIGINT")
    if type(error).__name__ == "NoArgsIsHelpError":  # a bare `snnkd`: its help, as it is
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
        sys.exit(UsageError.exit_code)
    code, line = _explain(error)
    if distributed.should_report(error):
        who = (
            "" if distributed.is_rank0() else f"process {distributed.rank()} of {distributed.world_size()}: "
        )
        print(f"snnkd: {who}{' '.join(line.split())}", file=sys.stderr, flush=True)
    if isinstance(error, Interrupted):
        # dying of the signal, not just exiting, is what ends a shell's loop
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(code)


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, OSError) and error.errno is not None:
        error = from_os_error(error, error.filename or "a file")
    if isinstance(error, SnnkdError):
        return error.exit_code, str(error)
    if hasattr(error, "format_message"):  # Typer's usage errors, wherever its version keeps their class
        return UsageError.exit_code, _usage(error)
    place = usercode.culprit(error.__traceback__)
    if place:
        return RunError.exit_code, f"{place}: {type(error).__name__}: {error} (--debug shows the way there)"
    if (
        type(error).__name__ == "OutOfMemoryError"
        or isinstance(error, MemoryError)
        or _allocation_failed(error)
    ):
        return (
            RunError.exit_code,
            "out of memory; set execution.activation_checkpointing=true, or lower train.batch_size or model.T",
        )
    if _compiler_failed(error):
        said = (str(error).strip().splitlines() or [""])[0][:150]
        return (
            RunError.exit_code,
            f"torch.compile failed ({type(error).__name__}: {said}); --set execution.compile=off does without",
        )
    return 1, f"bug: {type(error).__name__}: {error} (--debug shows where; please report it)"


def _compiler_failed(error: BaseException) -> bool:
    """By the error's class, or by where it was raised: torch's compiler also fails by assertions."""
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = frames[-1].filename.replace(os.sep, "/") if frames else ""
    return type(error).__module__.startswith(COMPILERS) or any(
        f"/{name.replace('.', '/')}/" in raised_in for name in COMPILERS
    )


def _allocation_failed(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _usage(error: BaseException) -> str:
    """Typer's message with one suggestion for an option: the closest one."""
    message = str(error.format_message()).strip().rstrip(".")  # type: ignore[attr-defined]
    unknown, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if unknown and context:
        options = [option for parameter in context.command.params for option in parameter.opts]
        message = message.partition(" (Possible")[0].partition(" Did you mean")[0].rstrip(".")
        message += did_you_mean(unknown, options).partition("; known")[0]
    return message
