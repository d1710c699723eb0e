"""`snnkd guide`."""

from __future__ import annotations

import pydoc
import sys
from importlib.resources import files
from typing import Annotated

import typer

from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.text import columns
from snnkd.errors import UsageError, did_you_mean

PAGES = files("snnkd") / "guide"
EXAMPLES = ("snnkd guide", "snnkd guide losses", "snnkd guide cluster > cluster.md")


def read_pages() -> dict[str, str]:
    """Text of every page by name, in alphabetical order."""
    pages = sorted(
        (page for page in PAGES.iterdir() if page.name.endswith(".md")), key=lambda page: page.name
    )
    return {page.name.removesuffix(".md"): page.read_text(encoding="utf-8") for page in pages}


def guide(
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="PAGE",
            help="Page to show; without it, the list of pages.",
            show_default=False,
            autocompletion=complete.one_of(read_pages),
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Read the manual: list its pages, or show one.

    A page opens in a pager on a terminal and is plain Markdown elsewhere.
    """
    pages = read_pages()
    if page is None:
        rows = [(name, text.partition("\n")[0].removeprefix("# ")) for name, text in pages.items()]
        if as_json:
            o.echo_json({"schema": 1, "pages": [{"name": name, "title": title} for name, title in rows]})
        else:
            o.echo(columns(rows, left=2))
        return
    if page not in pages:
        raise UsageError(f"no guide page {page!r}{did_you_mean(page, pages)}")
    if as_json:
        o.echo_json({"schema": 1, "name": page, "text": pages[page]})
    elif sys.stdout.isatty():
        pydoc.pager(pages[page])  # $PAGER, or less
    else:
        o.echo(pages[page].rstrip())
