"""The Typer app; maps errors to one line and an exit code."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer

from snnkd import __version__, distributed, usercode
from snnkd.cli import (
    bench,
    check,
    compare,
    data,
    distill,
    evaluate,
    export,
    guide,
    info,
    keys,
    listing,
    pick,
    predict,
    push,
    run,
    runs,
    status,
    submit,
    teach,
)
from snnkd.cli import options as o
from snnkd.cli.help import GroupedCommand, GroupedCommands, help_examples
from snnkd.errors import FileError, Interrupted, RunError, SnnkdError, UsageError, did_you_mean
from snnkd.files import from_os_error
from snnkd.limits import NO_THREADS, address_space
from snnkd.stopping import ignore_late_signals
from snnkd.streams import Stderr, prepare_streams

TYPER_SIGINT_CODE = 130
"""Exit code that Typer returns for KeyboardInterrupt."""
COMPILERS = ("torch._dynamo", "torch._inductor")
"""Packages that torch.compile raises errors from."""


INSTEAD = {
    "train": "`snnkd teach` trains a teacher, `snnkd distill` a student",
    "infer": "write `snnkd predict RUN PICTURE`",
    "classify": "write `snnkd predict RUN PICTURE`",
    "help": "write `snnkd --help`, or `snnkd guide` for the manual",
    "version": "write `snnkd --version`",
    "config": "`snnkd check RECIPE` prints every key, `snnkd check RECIPE > mine.yaml` a copy",
    "resume": "the command that began a run continues it; `snnkd status` lists runs",
    "evaluate": "write `snnkd eval`",
    "test": "write `snnkd eval`",
    "sweep": "write `snnkd run RECIPE --sweep KEY=VALUES`",
    "download": "write `snnkd data NAME`",
    "convert": "write `snnkd export`",
    "rm": "write `snnkd runs rm RUN`",
    "remove": "write `snnkd runs rm RUN`",
    "upload": "write `snnkd push RUN OWNER/NAME`",
    "benchmark": "write `snnkd bench`",
    "init": "write `snnkd check glyphs > mine.yaml`",
}
"""What does the work of commands that other tools have."""


app = typer.Typer(
    name="snnkd",
    cls=GroupedCommands,
    help="Distill spiking neural networks: teach, distill, eval, export.",
    epilog=help_examples(
        (
            "snnkd teach && snnkd distill --loss hta-kl --T 4 && snnkd eval",
            "snnkd keys train             # every key of a recipe, for --set KEY=VALUE",
            "snnkd guide                  # the manual",
        )
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS = {
    "Train": (
        ("teach", teach.teach, teach.EXAMPLES),
        ("distill", distill.distill, distill.EXAMPLES),
        ("run", run.run, run.EXAMPLES),
        ("submit", submit.submit, submit.EXAMPLES),
        ("check", check.check, check.EXAMPLES),
        ("bench", bench.bench, bench.EXAMPLES),
    ),
    "Use a network": (
        ("eval", evaluate.evaluate, evaluate.EXAMPLES),
        ("predict", predict.predict, predict.EXAMPLES),
        ("export", export.export, export.EXAMPLES),
        ("push", push.push, push.EXAMPLES),
    ),
    "Many runs": (
        ("status", status.status, status.EXAMPLES),
        ("compare", compare.compare, compare.EXAMPLES),
        ("pick", pick.pick, pick.EXAMPLES),
        ("runs", runs.runs, runs.EXAMPLES),
    ),
    "Look up": (
        ("list", listing.listing, listing.EXAMPLES),
        ("keys", keys.keys, keys.EXAMPLES),
        ("data", data.data, data.EXAMPLES),
        ("guide", guide.guide, guide.EXAMPLES),
        ("info", info.info, info.EXAMPLES),
    ),
}
"""The commands under the titles of `snnkd --help`."""
for title, commands in COMMANDS.items():
    for name, function, examples in commands:
        register = app.command(
            name, cls=GroupedCommand, rich_help_panel=title, epilog=help_examples(examples)
        )
        register(function)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"snnkd {__version__}")
        raise typer.Exit()


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print tracebacks; allowed anywhere on the line.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", help="Print only results and errors; allowed anywhere. RUN/log.txt has the rest."
        ),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line of sys.argv and exit: 0 when done, else with the code of its error (errors.py)."""
    prepare_streams()
    warnings.filterwarnings("ignore", module="PIL")  # of damaged EXIF and the like, in pictures it reads
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    o.set_quiet("--quiet" in arguments)
    arguments = [_expand_home(each) for each in arguments if each not in ("--debug", "--quiet")]
    usercode.permit(())  # permits of an earlier call in this process do not count
    distributed.exit_with_launcher()
    try:
        distributed.check_launcher()
        code = command()(arguments, prog_name="snnkd", standalone_mode=False)
        if code == TYPER_SIGINT_CODE:
            raise KeyboardInterrupt
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc(file=Stderr())
        _exit_with(error)
    ignore_late_signals()
    sys.exit(code if isinstance(code, int) else 0)


@functools.cache
def command() -> Any:
    """The commands and their options as click sees them."""
    return typer.main.get_command(app)


def _expand_home(argument: str) -> str:
    """`~` and `--option=~` as the home folder: shells expand neither inside quotes nor behind `=`."""
    option, path = re.fullmatch(r"(--[\w-]+=)?(.*)", argument, re.DOTALL).groups("")  # type: ignore[union-attr]
    return option + os.path.expanduser(path)


def _exit_with(error: BaseException) -> NoReturn:
    """Print the error on one line and exit with its code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("stopped by SIGINT")
    if type(error).__name__ == "NoArgsIsHelpError":  # a bare `snnkd`: the help, without an error line
        print(error.format_message(), file=Stderr())  # type: ignore[attr-defined]
        sys.exit(UsageError.exit_code)
    code, message = _explain(error)
    if distributed.should_report(error):
        rank = distributed.rank()
        prefix = "" if distributed.is_rank0() else f"process {rank} of {distributed.world_size()}: "
        print(f"snnkd: {prefix}{' '.join(message.split())}", file=Stderr())
    if isinstance(error, Interrupted):
        # a shell loop ends only if the process is killed by the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    ignore_late_signals()
    sys.exit(code)


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message."""
    kind = type(error).__name__
    if _is_short_of_threads(error):
        error = RunError(NO_THREADS)
    if isinstance(error, OSError) and error.errno is not None:
        error = from_os_error(error, error.filename or "a file")
    location = usercode.error_location(error.__traceback__)
    if isinstance(error, ModuleNotFoundError) and not location and not str(error.name).startswith("snnkd"):
        error = FileError(f"{error.name} is not installed; `snnkd info` lists what is needed")
    if isinstance(error, SnnkdError):
        return error.exit_code, str(error)
    if hasattr(error, "format_message"):  # Typer's usage errors; their module differs between versions
        return UsageError.exit_code, _usage(error)
    if location:
        return RunError.exit_code, f"{location}: {kind}: {error} (--debug prints the traceback)"
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _allocation_failed(error):
        limit = "" if address_space() is None else "raise `ulimit -v`, "
        remedy = "set execution.activation_checkpointing=true, or lower train.batch_size or model.T"
        return RunError.exit_code, f"out of memory; {limit}{remedy}"
    if _compiler_failed(error):
        message = (str(error).strip().splitlines() or [""])[0][:150]
        return RunError.exit_code, f"torch.compile failed ({kind}: {message}); set execution.compile=off"
    return 1, f"bug: {kind}: {error} (--debug prints the traceback; please report it)"


def _is_short_of_threads(error: BaseException) -> bool:
    text = str(error)
    return (isinstance(error, BlockingIOError) and error.filename is None) or (
        isinstance(error, RuntimeError)
        and ("can't start new thread" in text or "Resource temporarily unavailable" in text)
    )


def _compiler_failed(error: BaseException) -> bool:
    """Check the error's class and origin: torch's compiler also raises plain AssertionErrors."""
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = frames[-1].filename.replace(os.sep, "/") if frames else ""
    return type(error).__module__.startswith(COMPILERS) or any(
        f"/{package.replace('.', '/')}/" in raised_in for package in COMPILERS
    )


def _allocation_failed(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _usage(error: BaseException) -> str:
    """Typer's message, with only the closest option suggested."""
    message = str(error.format_message()).strip().rstrip(".")  # type: ignore[attr-defined]
    command = re.match(r"No such command '([^']+)'", message)
    if command and command[1].lower() in INSTEAD:
        return f"no command {command[1]!r}; {INSTEAD[command[1].lower()]}"
    if command and "Did you mean" not in message:
        return f"no command {command[1]!r}; `snnkd --help` lists them"
    if message.startswith("Missing ") and getattr(error, "ctx", None):
        return f"{message}; see `{error.ctx.command_path} --help`"  # type: ignore[attr-defined]
    unknown, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if unknown and context:
        names = (name for parameter in context.command.params for name in parameter.opts)
        options = [name for name in names if name.startswith("-")]  # arguments have names, too
        message = message.partition(" (Possible")[0].partition(" Did you mean")[0].rstrip(".")
        message += did_you_mean(unknown, options).partition("; known")[0]
    return message
