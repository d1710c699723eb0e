"""The errors shown to users, each with its exit code.

    SnnkdError          1   a bug
    ├── UsageError      2   the request is wrong: an option, key, name or value
    ├── FileError       3   a file or folder is bad: missing, damaged, locked, read-only
    ├── RunError        4   the work failed: non-finite loss, out of memory, disk full
    ├── Preempted      75   stopped after saving; the same command continues
    └── Interrupted     -   stopped by SIGINT after saving; the process dies of SIGINT

A message is one line: key, value, rule and remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SnnkdError(Exception):
    """Base of all errors that end a command with one line; exit code 1."""

    exit_code = 1


class UsageError(SnnkdError):
    """The request is wrong; exit code 2."""

    exit_code = 2


class FileError(SnnkdError):
    """A file or folder is bad; exit code 3."""

    exit_code = 3


class RunError(SnnkdError):
    """The work failed; exit code 4."""

    exit_code = 4


class Preempted(SnnkdError):
    """Stopped by a signal or --max-time after saving; exit code 75 (EX_TEMPFAIL)."""

    exit_code = 75


class Interrupted(SnnkdError):
    """Stopped by SIGINT after saving; the command line dies of SIGINT so that a shell loop ends too."""

    exit_code = 130


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'hta-kl'?` for the closest known name, or the list of names when none is close."""
    names = sorted(known)
    # dashes or a section that all names share must not count as similarity
    plain = {_plain(known_name): known_name for known_name in names}
    close = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.6)
    if close:
        return f"; did you mean {plain[close[0]]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def _plain(name: str) -> str:
    return name.lstrip("-").rpartition(".")[2]
