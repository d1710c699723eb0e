"""The one registry mechanism: losses, divergences, models and data sets are entries of the same kind.

An entry names the dataclass of its recipe section and, as text, the function behind it, so that listing names,
checking a recipe and `--help` import neither torch nor spikingjelly. A registry with a `user` entry also takes a
function of the user's own, `module:function`, where the command line named it (snnkd.usercode).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from snnkd.errors import UsageError, did_you_mean
from snnkd.usercode import check_permitted, is_user_code


def load_target(target: str) -> Any:
    """Import and return the object that `package.module:name` stands for."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Entry:
    """One name: its help line, its recipe section, the function that does the work, and what is particular to its kind."""

    name: str
    help: str
    options: type
    target: str = ""
    argument: str = ""
    """What follows the name after a colon (`npz:PATH`); empty when nothing may."""
    details: tuple[tuple[str, Any], ...] = ()

    def load(self) -> Any:
        """The function behind the name."""
        return load_target(self.target)

    def detail(self, key: str, default: Any = None) -> Any:
        return dict(self.details).get(key, default)

    @property
    def usage(self) -> str:
        return f"{self.name}:{self.argument}" if self.argument else self.name


class Registry:
    """Entries by name. `registry[name]` raises UsageError with a suggestion for a name that is not there."""

    def __init__(
        self,
        kind: str,
        entries: Iterable[Entry],
        aliases: Mapping[str, str] | None = None,
        user: Entry | None = None,
    ) -> None:
        self.kind = kind
        self.user = user
        """The entry that stands for a `module:function` of the user's; None where there is no such thing."""
        self._entries = {entry.name: entry for entry in entries}
        self._aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> Entry:
        head, colon, rest = name.partition(":")
        entry = self._entries.get(self._aliases.get(head, head))
        if entry is None:
            usages = [*(e.usage for e in self._entries.values()), *self._aliases]
            if self.user is None or not is_user_code(name):
                raise UsageError(f"unknown {self.kind} {name!r}{did_you_mean(name, usages)}")
            check_permitted(name, self.kind)
            return replace(self.user, name=name)
        if entry.argument and not rest:
            raise UsageError(f"{self.kind} {name!r} lacks its {entry.argument}; write {entry.usage}")
        if colon and not entry.argument:
            raise UsageError(f"{self.kind} {name!r}: {head!r} takes nothing after a colon")
        return entry

    def is_users(self, name: str) -> bool:
        """Whether `name` is a function of the user's, and not an entry that takes something after a colon."""
        return is_user_code(name) and name.partition(":")[0] not in self

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases
