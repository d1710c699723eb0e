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


def counted(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`, `2 classes`."""
    return f"{number:,} {noun if number == 1 else noun + ('es' if noun.endswith('s') else 's')}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'hta-kl'?` for the closest known name, or the list of names when none is close."""
    names = sorted(known)
    guess = closest(name, names)
    if guess:
        return f"; did you mean {guess!r}?"
    return f"; known: {', '.join(names)}" if names else ""


SYNONYMS = {
    "bs": "batch-size",
    "learning-rate": "lr",
    "lr-scheduler": "schedule",
    "opt": "optimizer",
    "scheduler": "schedule",
    "time-steps": "t",
    "timesteps": "t",
    "wd": "weight-decay",
}
"""What other tools call our keys, as `plain_name` writes both."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, whatever the case, `-` or `_`; of equals that of fewest sections."""
    plain = {plain_name(each): each for each in sorted(known, key=lambda each: (-each.count("."), each))}
    name = plain_name(name)
    if SYNONYMS.get(name) in plain:
        return plain[SYNONYMS[name]]
    close = difflib.get_close_matches(name, list(plain), n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def plain_name(name: str) -> str:
    """`name` without what similarity must not count: dashes before it, a key's section, case, `_` for `-`."""
    return name.lstrip("-").rpartition(".")[2].lower().replace("_", "-")
