"""Reading and writing YAML: plain data of bounded size; no recipe can run code."""

from __future__ import annotations

import functools
import re
from typing import Any

import yaml

from snnkd.errors import FileError
from snnkd.schema.fields import copy_plain, to_plain

MAX_BYTES = 1_000_000
"""Maximum size of a file."""
MAX_ALIASES = 100
"""Maximum aliases in a file: allows ordinary anchors, not alias bombs."""
MAX_DEPTH = 20
"""Maximum levels of nesting."""
MAX_NODES = 20_000
"""Maximum keys and values with aliases expanded: a few nested aliases can expand to gigabytes."""
MAX_CHARS = 2_000
"""Maximum characters of a value; Python does not print integers of more than 4,300 digits."""


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            keys.add(key.value)
        return node


def _decimal_numbers_only() -> None:
    """Parse only decimal numbers as numbers.

    YAML 1.1 reads 010 as 8, 1:30 as 90 and 2026-01-01 as a date; here they are strings.
    """
    replaced = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
    resolvers = {
        first: [pair for pair in pairs if pair[0] not in replaced]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _PlainLoader.yaml_implicit_resolvers = resolvers
    integer = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
    decimal = re.compile(
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    )
    _PlainLoader.add_implicit_resolver(replaced[0], integer, list("-+0123456789"))
    _PlainLoader.add_implicit_resolver(replaced[1], decimal, list("-+0123456789."))


_decimal_numbers_only()


def parse_yaml(text: bytes, where: str) -> dict[str, Any]:
    """Parse YAML text whose top level is a mapping; `where` names the source in messages.

    Raises FileError for anything but plain YAML: bad syntax, a tag, a merge key, a duplicate key, a file too
    large or nested too deeply, too many aliases, no mapping at the top.
    """
    if len(text) > MAX_BYTES:
        raise FileError(f"{where}: at least {len(text)} bytes; a recipe has at most {MAX_BYTES}")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{where}: not UTF-8 text (byte {error.start})") from error
    value = parse_value(decoded, where)
    if not isinstance(value, dict):
        raise FileError(f"{where}: a recipe is a mapping of keys to values, not {type(value).__name__}")
    for key in value:
        if not isinstance(key, str):
            raise FileError(f"{where}: the key {key!r} is not a string; quote it")
    return value


def parse_value(text: str, where: str) -> Any:
    """Parse YAML text of any plain value. Raises FileError like `parse_yaml`."""
    try:
        # a copy of the value of an anchor for each alias, so that a setting on one does not change the other
        return copy_plain(_load(text, where))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise FileError(f"{where}: not plain YAML: {_one_line(error)}") from error


@functools.lru_cache(64)  # the recipe and its bases are read once for each stage
def _load(text: str, where: str) -> Any:
    _check_events(text, where)
    return yaml.load(text, Loader=_PlainLoader)


def _check_events(text: str, where: str) -> None:
    """Refuse tags, merge keys, surrogates and alias bombs before any object is built."""
    aliases = 0
    sizes: dict[str, int] = {}
    open_nodes = [("", 0)]  # anchor and size of each enclosing collection
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise FileError(
                f"{where}: line {_line(event)}: the tag {tag!r} is not allowed; recipes are plain data"
            )
        name, size = getattr(event, "anchor", None) or "", 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((name, 1))
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if any(name == anchor for anchor, _ in open_nodes):
                raise FileError(
                    f"{where}: line {_line(event)}: the alias {'*' + name!r} is inside its own anchor"
                )
            size = sizes.get(name, 0)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[name] = size = 1
            if event.value == "<<" and event.implicit[0]:
                raise FileError(
                    f"{where}: line {_line(event)}: merge keys (<<) are not supported; "
                    "use `extends`, or write the keys out"
                )
            if not event.value.isprintable() and any(
                "\ud800" <= letter <= "\udfff" for letter in event.value
            ):
                raise FileError(f"{where}: line {_line(event)}: unpaired UTF-16 surrogate")
            if (length := len(event.value)) > MAX_CHARS:
                raise FileError(
                    f"{where}: line {_line(event)}: a value of {length} characters; at most {MAX_CHARS}"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            name, size = open_nodes.pop()
            sizes[name] = size
        parent, total = open_nodes[-1]
        open_nodes[-1] = parent, total + size
        if len(open_nodes) - 1 > MAX_DEPTH or aliases > MAX_ALIASES or total + size > MAX_NODES:
            raise FileError(
                f"{where}: more than {MAX_DEPTH} levels, {MAX_ALIASES} aliases or {MAX_NODES} values"
            )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


class _Dumper(yaml.SafeDumper):
    # quotes strings that would be read as another type, such as 1e5
    yaml_implicit_resolvers = _PlainLoader.yaml_implicit_resolvers


def _short_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, (dict, list)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(list, _short_list)


def dump_yaml(value: Any) -> str:
    """Write a dataclass or plain mapping as YAML, keys in order; `parse_yaml` reads it back."""
    return yaml.dump(to_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _FlowDumper(_Dumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _escaped_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if value.isprintable() else '"'  # escapes keep it on one line
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_FlowDumper.add_representer(list, yaml.SafeDumper.represent_list)
_FlowDumper.add_representer(str, _escaped_text)


def flow_yaml(value: Any) -> str:
    """Write any plain value as YAML on one line; `parse_value` reads it back."""
    text = yaml.dump(
        to_plain(value),
        Dumper=_FlowDumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
        default_flow_style=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")
