"""YAML in and out: plain data only, so that no recipe can run code or swell."""

from __future__ import annotations

import re
from typing import Any

import yaml

from snnkd.errors import FileError
from snnkd.schema.fields import to_plain

LARGEST = 1_000_000
"""Bytes; a recipe is a page of text."""
MOST_ALIASES = 100
"""Ordinary anchors stay legal, alias bombs do not."""
DEEPEST = 20
"""Levels of nesting."""
MOST_NODES = 20_000
"""Keys and values, aliases written out: a few nested aliases can stand for gigabytes."""
LONGEST = 2_000
"""Characters of one value; longer whole numbers could not even be printed in a message."""


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that also refuses a key given twice, and that merges (<<) as YAML says whatever PyYAML's
    version.

    6.0.4 tells the keys of merged mappings apart by their strings' identity: of two keys of one letter, such
    as T, it
    takes the wrong one.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # before merge keys (<<) add to the node
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Write merged mappings out: a mapping's own keys win, then those of the first mapping that has
        them."""
        own: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for mapping in _mappings(value):
                    self.flatten_mapping(mapping)
                    for pair in mapping.value:
                        merged.setdefault(_name(pair[0]), pair)
            else:
                if key.tag == "tag:yaml.org,2002:value":  # a key =, which is text like any other
                    key.tag = "tag:yaml.org,2002:str"
                own[_name(key)] = (key, value)
        node.value = list({**merged, **own}.values())


def _mappings(merged: yaml.Node) -> list[yaml.MappingNode]:
    """What a merge key names: a mapping, or a list of them."""
    found = merged.value if isinstance(merged, yaml.SequenceNode) else [merged]
    for node in found:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(
                None, None, "<< takes a mapping or a list of mappings", node.start_mark
            )
    return list(found)


def _name(key: yaml.Node) -> Any:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _decimal_numbers_only() -> None:
    """Numbers as people mean them: YAML 1.1 reads 010 as 8, 1:30 as 90 and 2026-01-01 as a date; here they
    are text."""
    odd = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
    kept = {
        first: [pair for pair in pairs if pair[0] not in odd]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _PlainLoader.yaml_implicit_resolvers = kept
    whole = re.compile(r"[-+]?(?:0|[1-9][0-9]*)$")
    real = re.compile(
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    )
    _PlainLoader.add_implicit_resolver(odd[0], whole, list("-+0123456789"))
    _PlainLoader.add_implicit_resolver(odd[1], real, list("-+0123456789."))


_decimal_numbers_only()


def parse_yaml(text: bytes, where: str) -> dict[str, Any]:
    """A mapping from YAML text; `where` names the source in messages.

    Raises FileError when the text is not plain YAML: bad syntax, tags, too large, too deep, too many aliases,
    a
    key twice, or no mapping at the top.
    """
    if len(text) > LARGEST:
        raise FileError(f"{where}: {len(text)} bytes or more; a recipe has at most {LARGEST}")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{where}: not UTF-8 text (byte {error.start})") from error
    value = parse_value(decoded, where)
    if not isinstance(value, dict):
        raise FileError(f"{where}: a recipe is a mapping of keys to sections, this is {type(value).__name__}")
    for key in value:
        if not isinstance(key, str):
            raise FileError(
                f"{where}: the key {key!r} is not text; a recipe is a mapping of keys to sections"
            )
    return value


def parse_value(text: str, where: str) -> Any:
    """Any plain value from YAML text, as a file or the command line gives it; raises FileError like
    `parse_yaml`."""
    try:
        _refuse_tricks(text, where)
        return _apart(yaml.load(text, Loader=_PlainLoader))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise FileError(f"{where}: not plain YAML: {_one_line(error)}") from error


def _apart(value: Any) -> Any:
    """A copy in which an anchor and its aliases are no longer one object: a setting on one must not change
    the other."""
    if isinstance(value, dict):
        return {key: _apart(held) for key, held in value.items()}
    return [_apart(item) for item in value] if isinstance(value, list) else value


def _refuse_tricks(text: str, where: str) -> None:
    aliases = 0
    sizes: dict[str, int] = {}
    open_nodes = [("", 0)]  # anchor and size of the collections around this place
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
                    f"{where}: line {_line(event)}: the alias {'*' + name!r} stands inside what it stands for"
                )
            size = sizes.get(name, 0)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[name] = size = 1
            if not event.value.isprintable() and any(
                "\ud800" <= letter <= "\udfff" for letter in event.value
            ):
                raise FileError(f"{where}: line {_line(event)}: half a UTF-16 pair is no text")
            if len(event.value) > LONGEST:
                raise FileError(
                    f"{where}: line {_line(event)}: a value of {len(event.value)} characters; at most "
                    f"{LONGEST}"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            name, size = open_nodes.pop()
            sizes[name] = size
        around, before = open_nodes[-1]
        open_nodes[-1] = around, before + size
        if len(open_nodes) - 1 > DEEPEST or aliases > MOST_ALIASES or before + size > MOST_NODES:
            raise FileError(
                f"{where}: more than {DEEPEST} levels, {MOST_ALIASES} aliases or {MOST_NODES} values; that "
                f"is no recipe"
            )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = (
        _PlainLoader.yaml_implicit_resolvers
    )  # quotes the texts that would be read as something else, such as 1e5


def _short_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, (dict, list)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(list, _short_list)


def dump_yaml(value: Any) -> str:
    """YAML of a dataclass or plain mapping, keys in their own order; parse_yaml reads it back to the same
    value."""
    return yaml.dump(to_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _FlowDumper(_Dumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # what stands twice is written twice


def _escaped_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"'
    )  # on one line


_FlowDumper.add_representer(list, yaml.SafeDumper.represent_list)
_FlowDumper.add_representer(str, _escaped_text)


def flow_yaml(value: Any) -> str:
    """Any plain value as YAML on one line; parse_value reads it back."""
    text = yaml.dump(
        to_plain(value),
        Dumper=_FlowDumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
        default_flow_style=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")
