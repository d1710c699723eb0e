"""`snnkd list`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.neurons import NEURONS, SURROGATES, describe_neuron
from snnkd.catalog.registry import Registry
from snnkd.cli import options as o
from snnkd.cli.text import columns, fitted
from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe import shipped_names
from snnkd.recipe.describe import bibtex, describe_loss, preset_recipe
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.shipped import first_comment

KINDS = ("losses", "models", "neurons", "surrogates", "data", "recipes")

EXAMPLES = (
    "snnkd list losses",
    "snnkd list losses hta-kl",
    "snnkd list losses --bibtex > losses.bib",
)


def listing(
    what: Annotated[
        str, typer.Argument(metavar="KIND", help="losses, models, neurons, surrogates, data or recipes.")
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a loss: print the recipe section that it stands for.",
            show_default=False,
        ),
    ] = None,
    references: Annotated[
        bool, typer.Option("--bibtex", help="Print the references of the losses as BibTeX.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """List losses, models, neurons, surrogates, data sets or recipes."""
    if what not in KINDS:
        raise UsageError(f"unknown kind {what!r}{did_you_mean(what, KINDS)}")
    if what != "losses" and (name or references):
        raise UsageError(f"list {what}: {'--bibtex' if references else repr(name)} is for losses only")
    if references:
        o.echo_json({"schema": 1, "bibtex": bibtex(name)}) if as_json else o.echo(bibtex(name))
    elif name:
        _say_loss(name, as_json)
    elif what == "losses":
        _say_losses(as_json)
    elif what == "models":
        _say_models(as_json)
    elif what == "neurons":
        _say_neurons(as_json)
    else:
        known: dict[str, Registry[Any]] = {"data": DATA, "surrogates": SURROGATES}
        rows = [(entry.usage, entry.help) for entry in known[what]] if what in known else _recipes()
        _say_rows(what, rows, as_json)


def _recipes() -> list[tuple[str, str]]:
    return [(name, first_comment(name)) for name in shipped_names()]


def _say_rows(what: str, rows: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        o.echo_json({"schema": 1, what: [{"name": name, "help": help} for name, help in rows]})
    elif rows:
        o.echo(fitted(columns(rows, left=2)))


def _say_losses(as_json: bool) -> None:
    found = [describe_loss(entry.name) for entry in LOSSES]
    if as_json:
        o.echo_json({"schema": 1, "losses": found})
        return
    head = ("loss", "year", "teacher", "formula", "source", "is")
    rows = [
        (
            x["name"],
            str(x["year"] or ""),
            "yes" if x["needs_teacher"] else "no",
            x["basis"],
            x["found_at"],
            x["help"],
        )
        for x in found
    ]
    o.echo(fitted(columns([head, *rows], left=6)))


def _say_models(as_json: bool) -> None:
    from snnkd.preflight import NOMINAL_CLASSES, NOMINAL_INPUT, model_facts  # late: it counts with torch

    found = model_facts()
    if as_json:
        o.echo_json(
            {
                "schema": 1,
                "nominal": {"input": list(NOMINAL_INPUT), "classes": NOMINAL_CLASSES},
                "models": found,
            }
        )
        return
    rows = [(x["name"], x["help"], _millions(x["parameters"], 2), _millions(x["macs"], 0)) for x in found]
    o.echo(fitted(columns([("model", "is", "params", "MACs"), *rows], left=2)))


def _millions(count: int | None, digits: int) -> str:
    return "" if count is None else f"{count / 1e6:,.{digits}f} M"


def _say_neurons(as_json: bool) -> None:
    found = [describe_neuron(entry.name) for entry in NEURONS]
    if as_json:
        o.echo_json({"schema": 1, "neurons": found})
        return
    rows = [
        (x["name"], "yes" if x["learned"] else "no", "yes" if x["causal"] else "no", x["help"]) for x in found
    ]
    o.echo(fitted(columns([("neuron", "learns", "causal", "is"), *rows], left=4)))


def _say_loss(name: str, as_json: bool) -> None:
    """The section that a name stands for, complete, with its help and its source."""
    about, sections = describe_loss(name), preset_recipe(name)
    if as_json:
        from snnkd.schema.fields import to_plain

        o.echo_json({"schema": 1, **about, "recipe": to_plain(sections)})
        return
    o.echo(f"# {about['name']}: {about['help']}")
    for line in (
        *about["source"],
        *([f"formula {about['basis']}{': ' if about['note'] else ''}{about['note']}"]),
    ):
        o.echo(f"# {line}")
    o.echo(commented_yaml(sections))
