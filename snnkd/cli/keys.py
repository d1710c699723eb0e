"""`snnkd keys`."""

from __future__ import annotations

import shutil
import textwrap
from typing import Annotated

import typer

from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.recipe.key_table import Key, all_keys, described, find_keys

EXAMPLES = (
    "snnkd keys train",
    "snnkd keys lr",
    "snnkd keys --json",
)
MAX_WIDTH = 110


def keys(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION",
            help="A section (train), a key (train.lr), or the last part of keys (lr); all by default.",
            show_default=False,
            autocompletion=complete.keys,
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Print recipe keys with type, default and help.

    Each is written in a recipe, or as `--set KEY=VALUE`. "only:" names the networks, data sets, neurons or
    terms that have the key; 0 stands for any number of a list's item.
    """
    chosen = all_keys() if section is None else find_keys(section)
    if as_json:
        o.echo_json({"schema": 1, "keys": described(chosen)})
        return
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    o.echo("\n".join(line for key in chosen for line in _lines(key, width)))


def _lines(key: Key, width: int) -> list[str]:
    default = "required" if key.default is None else f"default {key.default}"
    only = f" only: {', '.join(key.only)}" if key.only else ""
    text = f"{key.help}{only}"
    return [
        f"{key.key}: {key.type}; {default}",
        *textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False),
    ]
