"""Help in groups: commands by what they are for, options by whether they set recipe keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from snnkd.recipe import FLAGS

KEY_OPTIONS = {*FLAGS, "settings", "sweep"}
"""Parameters of commands that set keys of a recipe."""


def help_examples(commands: Sequence[str]) -> str:
    """The examples below a command's help; \\b keeps Typer from wrapping them."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


class GroupedCommand(TyperCommand):
    """A command whose help lists the options that set recipe keys apart from the others."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {
            "Arguments": [],
            "Options for recipe keys": [],
            "Options": [],
        }
        takes_recipe = any(parameter.name == "recipe" for parameter in self.get_params(ctx))
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                groups["Arguments"].append(record)
            elif takes_recipe and parameter.name in KEY_OPTIONS:
                groups["Options for recipe keys"].append(record)
            else:
                groups["Options"].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class GroupedCommands(TyperGroup):
    """Commands under the titles of `rich_help_panel`, in the order of their registration."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        limit = formatter.width - 6 - max(map(len, commands))
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands.items():
            title = str(command.rich_help_panel)  # type: ignore[union-attr]
            groups.setdefault(title, []).append((name, command.get_short_help_str(limit)))  # type: ignore[union-attr]
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
