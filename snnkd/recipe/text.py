"""YAML in and out: plain data only, so that no recipe can run code or swell."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from snnkd.errors import PlaceError

LARGEST = 1_000_000
"""Bytes; a recipe is a page of text."""
MOST_ALIASES = 100
"""Ordinary anchors stay legal, alias bombs do not."""
DEEPEST = 20
"""Levels of nesting."""


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that also refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else str(key.start_mark))
        return super().construct_mapping(node, deep)


def parse_yaml(text: bytes, where: str) -> dict[str, Any]:
    """A mapping from YAML text; `where` names the source in messages.

    Raises PlaceError when the text is not plain YAML: bad syntax, tags, too large, too deep, too many aliases, a
    key twice, or no mapping at the top.
    """
    if len(text) > LARGEST:
        raise PlaceError(f"{where}: {len(text)} bytes; a recipe has at most {LARGEST}")
    try:
        decoded = text.decode("utf-8")
        _refuse_tricks(decoded, where)
        value = yaml.load(decoded, Loader=_PlainLoader)
    except UnicodeDecodeError as error:
        raise PlaceError(f"{where}: not UTF-8 text (byte {error.start})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlaceError(f"{where}: not plain YAML: {_one_line(error)}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise PlaceError(f"{where}: a recipe is a mapping of keys to sections, this is {type(value).__name__}")
    return value


def _refuse_tricks(text: str, where: str) -> None:
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise PlaceError(f"{where}: line {_line(event)}: the tag {tag!r} is not allowed; recipes are plain data")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > DEEPEST or aliases > MOST_ALIASES:
            raise PlaceError(f"{where}: more than {DEEPEST} levels or {MOST_ALIASES} aliases; that is no recipe")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def to_plain(value: Any) -> Any:
    """Dataclasses as mappings and tuples as lists, empty optional keys left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (getattr(value, f.name) is None and f.default is None)
        }
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


class _Dumper(yaml.SafeDumper):
    pass


def _short_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, (dict, list)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(list, _short_list)


def dump_yaml(value: Any) -> str:
    """YAML of a dataclass or plain mapping, keys in their own order; parse_yaml reads it back to the same value."""
    return yaml.dump(to_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
