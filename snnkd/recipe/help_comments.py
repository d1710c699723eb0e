"""A recipe as YAML in which every key has its help beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from snnkd.recipe.yaml_io import flow_yaml
from snnkd.schema.help import field_help


def commented_yaml(value: Any, indent: str = "", without: Collection[str] = ()) -> str:
    """YAML of a dataclass or of a mapping of them, but for the keys at the dotted paths of `without`.

    `parse_yaml` reads it like that of `dump_yaml`.
    """
    lines = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [
            (f.name, getattr(value, f.name), field_help(type(value), f.name))
            for f in dataclasses.fields(value)
        ]
    else:
        items = [(key, held, "") for key, held in value.items()]
    for name, held, help in items:
        within = [path.partition(".")[2] for path in without if path.startswith(f"{name}.")]
        if name in without:
            continue
        if held is None:
            lines.append(f"{indent}# {name}:  # {help}" if help else f"{indent}# {name}:")
        elif (
            isinstance(held, dict) and held and dataclasses.is_dataclass(value)
        ):  # options of the user's own, plain values
            lines.append(f"{indent}{name}: {flow_yaml(held)}  # {help}")
        elif dataclasses.is_dataclass(held) or (isinstance(held, dict) and held):
            lines += [
                f"{indent}{name}:{f'  # {help}' if help else ''}",
                commented_yaml(held, indent + "  ", within),
            ]
        elif isinstance(held, tuple) and held and all(map(dataclasses.is_dataclass, held)):
            lines.append(f"{indent}{name}:")
            for item in held:
                block = commented_yaml(item, indent + "    ")
                lines.append(f"{indent}  - {block.removeprefix(indent + '    ')}")
        else:
            text = f"{name}: {flow_yaml(held)}"
            lines.append(f"{indent}{text}  # {help}" if help else f"{indent}{text}")
    return "\n".join(lines)
