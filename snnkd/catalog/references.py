"""The papers behind losses and networks, read from references.bib."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One paper."""

    key: str
    bibtex: str
    """Its entry in references.bib, as written there."""
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str
    """Journal or conference; empty for a preprint."""
    arxiv: str

    @property
    def short(self) -> str:
        """Where it appeared, in a few words: `CVPR 2025, arXiv 2503.03144`."""
        published = f"{self.venue} {self.year}" if self.venue else "" if self.arxiv else str(self.year)
        return ", ".join(part for part in (published, f"arXiv {self.arxiv}" if self.arxiv else "") if part)

    @property
    def cited(self) -> str:
        """The authors' surnames up to two, else the first with `et al.`."""
        surnames = [author.split()[-1] for author in self.authors]
        few = len(surnames) <= 2 and "others" not in surnames
        return " and ".join(surnames) if few else f"{surnames[0]} et al."


def _read(path: Path) -> dict[str, Reference]:
    """References by key: entries start with `@kind{key,`, have one field per line and end with `}`."""
    references = {}
    for entry in re.finditer(r"^@\w+\{(\S+),\n(.*?)^\}$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        fields: dict[str, str] = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry[2], re.MULTILINE))
        references[entry[1]] = Reference(
            key=entry[1],
            bibtex=entry[0],
            authors=tuple(fields["author"].split(" and ")),
            title=fields["title"].strip("{}"),
            year=int(fields["year"]),
            venue=fields.get("journal", fields.get("booktitle", "")),
            arxiv=fields.get("eprint", ""),
        )
    return references


REFERENCES = _read(Path(__file__).with_suffix(".bib"))
