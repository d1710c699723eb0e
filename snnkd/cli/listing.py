"""`snnkd list`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.tables import columns
from snnkd.errors import RequestError, did_you_mean
from snnkd.recipe import DATA, LOSSES, MODELS, shipped_names
from snnkd.recipe.shipped import first_comment


def listing(
    what: Annotated[str, typer.Argument(metavar="losses|models|data|recipes", help="What to list.")],
    as_json: o.Json = False,
) -> None:
    """What there is, one line each."""
    kinds = {
        "losses": lambda: [(e.usage, e.help) for e in LOSSES],
        "models": lambda: [(e.usage, e.help) for e in MODELS],
        "data": lambda: [(e.usage, e.help) for e in DATA],
        "recipes": lambda: [(name, first_comment(name)) for name in shipped_names()],
    }
    if what not in kinds:
        raise RequestError(f"cannot list {what!r}{did_you_mean(what, kinds)}")
    rows = kinds[what]()
    if as_json:
        o.say_json({"schema": 1, what: [{"name": name, "help": help} for name, help in rows]})
    elif rows:
        o.say(columns(rows, left=2))
