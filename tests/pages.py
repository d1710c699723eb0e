"""The README and the guide as the tests read them: pages, code blocks, command lines."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from conftest import RESULTS

ROOT = RESULTS.parents[1]
GUIDE = ROOT / "snnkd" / "guide"
PAGES = [
    ROOT / "README.md",
    ROOT / "recipes" / "README.md",
    RESULTS / "README.md",
    *sorted(GUIDE.glob("*.md")),
]


def page(name: str) -> str:
    """Return the text of a page of the guide, or of README.md."""
    return (ROOT / "README.md" if name == "README" else GUIDE / f"{name}.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced code block: where it is, its language and its text."""

    place: str
    language: str
    text: str


def blocks_of(path: Path) -> list[Block]:
    """Return the fenced code blocks of a page in order."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    name = str(path.relative_to(ROOT))
    return [Block(f"{name}:{i}", language, text) for i, (language, text) in enumerate(fences)]


BLOCKS = [block for path in PAGES for block in blocks_of(path)]


def blocks(name: str, language: str) -> list[str]:
    """Return the blocks of one language in a page of the guide, or in README.md."""
    path = ROOT / "README.md" if name == "README" else GUIDE / f"{name}.md"
    return [block.text for block in blocks_of(path) if block.language == language]


def commands_in(block: Block) -> list[list[str]]:
    """Return the words of every `snnkd` command line of a bash or console block."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    text = re.sub(r"(^|\s)#.*|\$sweep\b", "", text)  # comments, and options in a variable
    word = r"""(?:'[^']*'|"[^"\n]*"|[^\s'";&|()<>])+"""
    calls = re.findall(rf"(?<![\w./-])snnkd((?:[^\S\n]+{word})*)", text)
    return [shlex.split(call.replace("\\$", "$")) for call in calls]
