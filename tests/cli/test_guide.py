"""`snnkd guide`, and the help of every command."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import Cli

from snnkd.cli import app, guide

COMMANDS = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manual of two pages."""
    folder = tmp_path / "guide"
    folder.mkdir()
    (folder / "losses.md").write_text("# Choose a loss\n\nText with µ.\n", encoding="utf-8")
    (folder / "cluster.md").write_text("# Run on a cluster\n\nText.\n")
    (folder / "notes.txt").write_text("no page")
    monkeypatch.setattr(guide, "PAGES", folder)
    return folder


def test_lists_pages_with_their_titles(cli: Cli, pages: Path) -> None:
    result = cli("guide")
    assert result.code == 0
    assert result.out.splitlines() == ["cluster  Run on a cluster", "losses   Choose a loss"]
    assert cli("guide", "--json").json == {
        "schema": 1,
        "pages": [
            {"name": "cluster", "title": "Run on a cluster"},
            {"name": "losses", "title": "Choose a loss"},
        ],
    }


def test_prints_a_page_as_markdown(cli: Cli, pages: Path) -> None:
    text = (pages / "losses.md").read_text(encoding="utf-8")
    assert cli("guide", "losses").out == text
    assert cli("guide", "losses", "--json").json == {"schema": 1, "name": "losses", "text": text}


@pytest.mark.usefixtures("pages")
def test_unknown_page(cli: Cli) -> None:
    result = cli("guide", "loses")
    assert result.code == 2
    assert result.complaint == "snnkd: no guide page 'loses'; did you mean 'losses'?"
    assert cli("guide", "../secret").complaint.endswith("; known: cluster, losses")


def test_opens_a_pager_on_a_terminal(pages: Path) -> None:
    """$PAGER gets the page when stdout is a terminal."""
    terminal, stdout = pty.openpty()
    code = (
        f"import pathlib, sys; from snnkd.cli import guide, main; guide.PAGES = pathlib.Path({str(pages)!r});"
        "sys.argv = ['snnkd', 'guide', 'losses']; main()"
    )
    environment = {**os.environ, "PAGER": "tr a-z A-Z", "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=stdout, stdout=stdout, env=environment)
    os.close(stdout)
    assert process.wait(timeout=60) == 0
    assert b"CHOOSE A LOSS" in os.read(terminal, 4096)
    os.close(terminal)


def test_every_page_begins_with_a_title() -> None:
    pages = guide.read_pages()
    assert pages
    for name, text in pages.items():
        title = text.partition("\n")[0]
        assert title.startswith("# "), name
        assert len(title) <= 62, f"{name}: fits beside its name in 80 columns"


def test_help_names_the_guide(cli: Cli) -> None:
    assert "snnkd guide " in cli("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli(name, "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    summary = next(line for line in cli("--help").out.splitlines() if line.startswith(f"  {name} "))
    assert not summary.endswith("..."), "the first sentence fits the list of commands"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_examples_are_valid(name: str) -> None:
    """Each example names this command, and arguments and options that it has."""
    command = COMMANDS[name]
    examples = [line.strip() for line in command.epilog.splitlines() if line.startswith("  ")]
    assert 2 <= len(examples) <= 3
    for example in examples:
        program, called, *arguments = shlex.split(example.partition(" > ")[0])
        assert (program, called) == ("snnkd", name)
        command.make_context(name, arguments)


def test_an_example_with_an_unknown_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["teach"].make_context("teach", ["--no-such-option"])
