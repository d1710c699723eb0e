"""Render the generated parts of README.md, of the guide, and of the pages of the recipes.

    python recipes/results/render.py            rewrite the pages, and the end of recipes' opening comments
    python recipes/results/render.py --check    exit 1 if a file would change

A part is what is between `<!-- NAME -->` and `<!-- end -->`, and the counts of names in the README.
Numbers come from the result files in recipes/results/.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

# for the modules of this folder, also when a test imports this file by its path
sys.path.insert(0, str(Path(__file__).resolve().parent))
import accuracy
import levers
import searches
import speed_tables
import studies
import time_to_accuracy
import tour

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import LOSSES, LossEntry
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.catalog.references import REFERENCES, Reference
from snnkd.cli.app import app
from snnkd.preflight import model_facts
from snnkd.recipe.describe import describe_loss
from snnkd.recipe.loss_section import build_loss, find_trait
from snnkd.recipe.shipped import shipped_names
from snnkd.schema.loss import DivergenceTerm, FeatureTerm

ROOT = Path(__file__).resolve().parents[2]


def pages() -> list[Path]:
    """Return the README, the pages of the recipes, and the guide."""
    readmes = [ROOT / "README.md", ROOT / "recipes" / "README.md", ROOT / "recipes" / "results" / "README.md"]
    return readmes + sorted((ROOT / "snnkd" / "guide").glob("*.md"))


def losses_table() -> str:
    """Render every loss with its source and what it needs."""
    rows = ["| `--loss` | | source | formula | needs |", "|---|---|---|---|---|"]
    for entry in LOSSES:
        facts = describe_loss(entry.name)
        links = ", ".join(_link(REFERENCES[key]) for key in facts["bibtex"])
        rows.append(
            f"| `{facts['name']}` | {_escape(facts['help'])} | {links} | {facts['basis']} | {_needs(facts)} |"
        )
    return "\n".join(rows)


def _needs(facts: dict[str, Any]) -> str:
    loss = build_loss(facts["name"])
    needs = {
        "teacher": facts["needs_teacher"],
        "one label": find_trait(loss, "one_label"),
        "whole batch": find_trait(loss, "across_batch"),
    }
    return ", ".join(name for name, needed in needs.items() if needed)


def families_table() -> str:
    """Render the names of the losses by family."""
    families: dict[str, list[str]] = {}
    for entry in LOSSES:
        families.setdefault(_family(entry), []).append(f"`{entry.name}`")
    rows = [f"| {family} | {' '.join(names)} |" for family, names in families.items()]
    return "\n".join(["| family | `--loss` |", "|---|---|", *rows])


def _family(entry: LossEntry) -> str:
    loss = build_loss(entry.name)
    divergences = [term for term in loss.terms if isinstance(term, DivergenceTerm)]
    if any(isinstance(term, FeatureTerm) for term in loss.terms):
        return "features"
    if not divergences:
        return "direct training"
    if not loss.needs_teacher:
        return "self-distillation"
    if any(term.target != "mean" for term in divergences):
        return "every timestep"
    return "textbook divergences" if entry.basis == "textbook" else "published divergences"


def counts() -> str:
    """Count the names of the catalogue, as the README states them."""
    models = [entry for entry in MODELS if not entry.argument]
    losses, neurons, data = len(list(LOSSES)), len(list(NEURONS)), len(list(DATA))
    return f"{losses} losses, {len(models)} networks, {neurons} neurons and {data} data sets"


def models_table() -> str:
    """Render the networks as `snnkd list models --json` counts them, each with its source."""
    rows = ["| `--model` | | parameters | MACs | source |", "|---|---|---|---|---|"]
    for entry, facts in zip(MODELS, model_facts(), strict=True):
        links = ", ".join(_link(REFERENCES[key]) for key in entry.source)
        sizes = f"{_millions(facts['parameters'], 2)} | {_millions(facts['macs'], 0)}"
        rows.append(f"| `{facts['name']}` | {facts['help']} | {sizes} | {links} |")
    return "\n".join(rows)


def _millions(count: int | None, digits: int) -> str:
    return "" if count is None else f"{count / 1e6:,.{digits}f} M"


def _link(reference: Reference) -> str:
    name = f"{reference.cited} {reference.year}"
    return f"[{name}](https://arxiv.org/abs/{reference.arxiv})" if reference.arxiv else name


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def commands_table() -> str:
    """Render every command with its arguments, from the command line's own declarations."""
    rows = ["| command | |", "|---|---|"]
    for name, command in _commands().items():
        arguments = [_argument(each) for each in command.params if not _is_option(each)]
        help_text = " ".join(command.help.partition("\n\n")[0].split())
        rows.append(f"| `{_escape(' '.join(['snnkd', name, *arguments]))}` | {_escape(help_text)} |")
    return "\n".join(rows)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[].")
    optional = name if parameter.required else f"[{name}]"
    return f"{optional}..." if parameter.nargs == -1 else optional


def options_table() -> str:
    """Render every option with the commands that take it."""
    takers: dict[tuple[str, str], list[str]] = {}
    for name, command in _commands().items():
        for option in filter(_is_option, command.params):
            flags = ", ".join(sorted(option.opts, key=lambda flag: (len(flag), flag)))
            usage = f"`{_escape(flags)}{' ' + _escape(option.metavar) if option.metavar else ''}`"
            takers.setdefault((usage, option.help), []).append(name)
    rows = ["| option | of | |", "|---|---|---|"]
    for (usage, help_text), names in sorted(takers.items(), key=lambda item: item[0][0].lower().lstrip("`-")):
        rows.append(f"| {usage} | {', '.join(names)} | {_escape(help_text)} |")
    return "\n".join(rows)


def _commands() -> dict[str, Any]:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands


def _is_option(parameter: Any) -> bool:
    return any(flag.startswith("-") for flag in parameter.opts)


PARTS: dict[str, Callable[[], str]] = {
    "tour": tour.console,
    "losses": losses_table,
    "families": families_table,
    "models": models_table,
    "commands": commands_table,
    "options": options_table,
    "results": accuracy.glyphs_table,
    "gaps": accuracy.glyphs_gaps,
    "conditions": accuracy.glyphs_conditions,
    "comparison": accuracy.comparison_table,
    "compared_conditions": accuracy.comparison_conditions,
    "tables": studies.results,
    "headline": studies.headline,
    "searches": searches.tables,
    "cost": speed_tables.hta_kl_cost,
    "speed": speed_tables.steps,
    "growth": speed_tables.growth,
    "augment": speed_tables.augment,
    "curve": speed_tables.curve,
    "time": time_to_accuracy.table,
    "levers": levers.tables,
}


def render(text: str, only: set[str] | None = None) -> str:
    """Return the text of a page with every generated part (or those in `only`) rendered again."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if only is not None and name not in only:
            return match[0]
        return f"<!-- {name} -->\n{PARTS[name]()}\n<!-- end -->"

    text = re.sub(r"\d+ losses, \d+ networks, \d+ neurons and \d+ data sets", counts(), text)
    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


def rendered_files() -> dict[Path, str]:
    """Return what every page and every shipped recipe should contain."""
    files = {page: render(page.read_text(encoding="utf-8")) for page in pages()}
    return files | {studies.recipe_file(name): studies.with_header(name) for name in shipped_names()}


def main() -> None:
    changed = {
        path: text for path, text in rendered_files().items() if path.read_text(encoding="utf-8") != text
    }
    if "--check" in sys.argv and changed:
        names = ", ".join(str(path.relative_to(ROOT)) for path in changed)
        sys.exit(f"out of date: {names}; run python recipes/results/render.py")
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
