"""Help of a recipe key: the docstring below a dataclass field, or `metadata["help"]` of a generated one."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Mapping
from functools import cache


def field_help(cls: type, name: str) -> str:
    """Help of field `name` of the dataclass `cls` on one line, from the most derived class that has it.

    For a field called `name` without help, the docstring of `cls`. Empty if there is neither.
    """
    (field,) = (f for f in dataclasses.fields(cls) if f.name == name)
    if "help" in field.metadata:
        return str(field.metadata["help"])
    bases = (base for base in cls.__mro__ if dataclasses.is_dataclass(base))
    helps = (_docstrings(base.__module__).get((base.__name__, name)) for base in bases)
    return next(filter(None, helps), "") or (" ".join(str(cls.__doc__).split()) if name == "name" else "")


@cache  # parsing a module takes milliseconds, and a recipe has a hundred keys
def _docstrings(module: str) -> Mapping[tuple[str, str], str]:
    """The docstrings of the annotated class attributes of a module, by class and attribute."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # no source: an interactive session
        return {}
    return {
        (node.name, above.target.id): " ".join(below.value.value.split())
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for above, below in zip(node.body, node.body[1:], strict=False)
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name)
        if isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
