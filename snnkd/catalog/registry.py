"""The registry of names: losses, divergences, networks, data sets and the like are entries of one kind.

An entry gives the dataclass of its recipe section and, as text, the function behind it, so that listing
names, checking a recipe and `--help` import neither torch nor spikingjelly. A registry with a `user` entry
also takes a function of the user's own, `module:function`, where the command line named it (snnkd.usercode).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from snnkd.errors import UsageError, did_you_mean
from snnkd.usercode import check_permitted, is_user_code


def load_target(target: str) -> Any:
    """Import the object `package.module:name`, or the module `package.module`."""
    module, _, name = target.partition(":")
    imported = importlib.import_module(module)
    return getattr(imported, name) if name else imported


@dataclass(frozen=True)
class Entry:
    """One name, with its help line and the function or module behind it."""

    name: str
    help: str
    target: str = ""
    """`package.module:name`, or `package.module`, imported by `load`."""
    argument: str = ""
    """Argument after a colon (`npz:PATH`); empty for a name without argument."""
    aliases: tuple[str, ...] = ()

    def load(self) -> Any:
        """Import and return the `target`."""
        return load_target(self.target)

    @property
    def usage(self) -> str:
        return f"{self.name}:{self.argument}" if self.argument else self.name


@dataclass(frozen=True, kw_only=True)
class SectionEntry(Entry):
    """An entry that has a section of the recipe."""

    options: type
    """The section's dataclass."""


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """Entries by name, in the order declared. The entry `user` is for user-defined functions."""

    def __init__(
        self,
        kind: str,
        entries: Iterable[E] = (),
        user: E | None = None,
        name_at: Callable[[str], str | None] = lambda path: None,
    ) -> None:
        """`kind` is the entries' noun in messages, `name_at` the name that stands for an existing path."""
        self.kind = kind
        self.user = user
        self._name_at = name_at
        self._entries: dict[str, E] = {}
        self._aliases: dict[str, str] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: E) -> None:
        """Add an entry. Raises ValueError for a name that exists."""
        for name in (entry.name, *entry.aliases):
            if name in self:
                raise ValueError(f"{self.kind} {name!r} exists already")
        self._entries[entry.name] = entry
        self._aliases.update(dict.fromkeys(entry.aliases, entry.name))

    def __getitem__(self, name: str) -> E:
        """The entry of a name. Raises UsageError for an unknown name, a missing or an extra argument."""
        entry = self.find(name)
        if entry is self.user:
            check_permitted(name, self.kind)
        return replace(entry, name=name) if entry is self.user else entry

    def find(self, name: str) -> E:
        """As `registry[name]`, but `user` for a function of the user's, whether it may run or not."""
        head, colon, argument = name.partition(":")
        entry = self._entries.get(self._aliases.get(head, head))
        if entry is None:
            if self.user is None or not is_user_code(name):
                raise UsageError(f"unknown {self.kind} {name!r}{self._hint(name)}")
            return self.user
        if entry.argument and not argument:
            raise UsageError(f"{self.kind} {name!r} lacks its {entry.argument}; write {entry.usage}")
        if colon and not entry.argument:
            raise UsageError(f"{self.kind} {name!r}: {head!r} takes no argument")
        return entry

    def _hint(self, name: str) -> str:
        """What to write instead of an unknown name."""
        at_path, several = self._name_at(name), name.split(",")
        if at_path is not None:
            return f"; did you mean {at_path!r}?"
        if len(several) > 1 and all(each.strip() in self for each in several):
            return f"; for a run each: snnkd run RECIPE --sweep {self.kind.split()[0]}={name}"
        return did_you_mean(name, [*(entry.usage for entry in self), *self._aliases])

    def is_user_defined(self, name: str) -> bool:
        """Whether `name` is a function of the user's, and not an entry with an argument."""
        return is_user_code(name) and name.partition(":")[0] not in self

    def __iter__(self) -> Iterator[E]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases
