"""Optional packages of the extra `all`: lazy imports, one-line errors, silenced output."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from snnkd.catalog.formats import FormatEntry
from snnkd.errors import RunError, SnnkdError, UsageError


def check_installed(format: FormatEntry) -> None:
    """Raise UsageError with the install command if packages of `format` are missing."""
    missing = [name for name in format.packages if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"--format {format.name} needs {', '.join(missing)}, which {verb} not installed: "
            "pip install 'snnkd[all]'"
        )


def package(name: str) -> Any:
    """Import a package of the extra. Raises UsageError if that fails."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} cannot be imported ({error}): pip install 'snnkd[all]'") from error


@contextlib.contextmanager
def quietly(task: str) -> Iterator[None]:
    """Silence an exporter's prints, logs and warnings; turn its exceptions into a one-line RunError."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    except (SnnkdError, OSError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise RunError(f"{task} failed ({type(error).__name__}: {reason})") from error
    finally:
        logging.disable(before)
