"""`snnkd list`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.neurons import NEURONS, SURROGATES, describe_neuron
from snnkd.catalog.registry import Registry
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.text import columns, fitted
from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe import shipped_names
from snnkd.recipe.describe import bibtex, describe_loss, preset_recipe
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.shipped import first_comment

KINDS = ("losses", "models", "neurons", "surrogates", "data", "recipes")


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


EXAMPLES = (
    "snnkd list losses",
    "snnkd list losses hta-kl",
    "snnkd list losses --bibtex > losses.bib",
)


def listing(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="losses, models, neurons, surrogates, data or recipes.",
            autocompletion=_kinds,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a loss: print its recipe section.",
            autocompletion=complete.losses,
            show_default=False,
        ),
    ] = None,
    references: Annotated[
        bool, typer.Option("--bibtex", help="Print the references of the losses as BibTeX.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """List losses, models, neurons, surrogates, data sets or recipes."""
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)}")
    if kind != "losses" and (name or references):
        raise UsageError(f"list {kind}: {'--bibtex' if references else repr(name)} is for losses only")
    if references:
        o.echo_json({"schema": 1, "bibtex": bibtex(name)}) if as_json else o.echo(bibtex(name))
    elif name:
        _echo_loss(name, as_json)
    elif kind == "losses":
        _echo_losses(as_json)
    elif kind == "models":
        _echo_models(as_json)
    elif kind == "neurons":
        _echo_neurons(as_json)
    else:
        known: dict[str, Registry[Any]] = {"data": DATA, "surrogates": SURROGATES}
        rows = [(entry.usage, entry.help) for entry in known[kind]] if kind in known else _recipes()
        _echo_rows(kind, rows, as_json)


def _recipes() -> list[tuple[str, str]]:
    return [(name, first_comment(name)) for name in shipped_names()]


def _echo_rows(kind: str, rows: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        o.echo_json({"schema": 1, kind: [{"name": name, "help": help} for name, help in rows]})
    elif rows:
        o.echo(fitted(columns(rows, left=2)))


def _echo_losses(as_json: bool) -> None:
    losses = [describe_loss(entry.name) for entry in LOSSES]
    if as_json:
        o.echo_json({"schema": 1, "losses": losses})
        return
    rows = [("loss", "year", "teacher", "formula", "source", "description")]
    for loss in losses:
        year, teacher = str(loss["year"] or ""), _yes_no(loss["needs_teacher"])
        rows.append((loss["name"], year, teacher, loss["basis"], loss["found_at"], loss["help"]))
    o.echo(fitted(columns(rows, left=6)))


def _echo_models(as_json: bool) -> None:
    from snnkd.preflight import NOMINAL_CLASSES, NOMINAL_INPUT, model_facts  # counts with torch

    models = model_facts()
    if as_json:
        nominal = {"input": list(NOMINAL_INPUT), "classes": NOMINAL_CLASSES}
        o.echo_json({"schema": 1, "nominal": nominal, "models": models})
        return
    rows = [("model", "description", "params", "MACs")]
    for model in models:
        size = _millions(model["parameters"], 2), _millions(model["macs"], 0)
        rows.append((model["name"], model["help"], *size))
    o.echo(fitted(columns(rows, left=2)))


def _millions(count: int | None, digits: int) -> str:
    return "" if count is None else f"{count / 1e6:,.{digits}f} M"


def _echo_neurons(as_json: bool) -> None:
    neurons = [describe_neuron(entry.name) for entry in NEURONS]
    if as_json:
        o.echo_json({"schema": 1, "neurons": neurons})
        return
    rows = [("neuron", "learns", "causal", "description")]
    for neuron in neurons:
        rows.append((neuron["name"], _yes_no(neuron["learned"]), _yes_no(neuron["causal"]), neuron["help"]))
    o.echo(fitted(columns(rows, left=4)))


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _echo_loss(name: str, as_json: bool) -> None:
    """The full recipe section of a loss, with its help and its source."""
    loss, sections = describe_loss(name), preset_recipe(name)
    if as_json:
        from snnkd.schema.fields import to_plain

        o.echo_json({"schema": 1, **loss, "recipe": to_plain(sections)})
        return
    formula = f"formula {loss['basis']}" + (f": {loss['note']}" if loss["note"] else "")
    comments = [f"{loss['name']}: {loss['help']}", *loss["source"], formula]
    o.echo("\n".join(f"# {line}" for line in comments))
    o.echo(commented_yaml(sections))
