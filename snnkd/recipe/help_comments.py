"""Recipes as YAML with the help of every key as a comment."""

from __future__ import annotations

import dataclasses
from typing import Any

from snnkd.recipe.yaml_io import flow_yaml
from snnkd.schema.help import field_help


def commented_yaml(value: Any, indent: str = "") -> str:
    """Write a dataclass, or a mapping of them, as YAML with help; `parse_yaml` reads it back."""
    lines = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [
            (f.name, getattr(value, f.name), field_help(type(value), f.name))
            for f in dataclasses.fields(value)
        ]
    else:
        items = [(key, item, "") for key, item in value.items()]
    for name, item, help in items:
        if item is None:
            lines.append(f"{indent}# {name}:  # {help}" if help else f"{indent}# {name}:")
        elif isinstance(item, dict) and item and dataclasses.is_dataclass(value):  # options of user code
            lines.append(f"{indent}{name}: {flow_yaml(item)}  # {help}")
        elif dataclasses.is_dataclass(item) or (isinstance(item, dict) and item):
            lines += [
                f"{indent}{name}:{f'  # {help}' if help else ''}",
                commented_yaml(item, indent + "  "),
            ]
        elif isinstance(item, tuple) and item and all(map(dataclasses.is_dataclass, item)):
            lines.append(f"{indent}{name}:")
            for part in item:
                block = commented_yaml(part, indent + "    ")
                lines.append(f"{indent}  - {block.removeprefix(indent + '    ')}")
        else:
            text = f"{name}: {flow_yaml(item)}"
            lines.append(f"{indent}{text}  # {help}" if help else f"{indent}{text}")
    return "\n".join(lines)
