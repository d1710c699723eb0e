"""Facts about a data set, for `snnkd data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.data.imageset import ImageSet
from snnkd.recipe.data_section import data_label


def describe(data: ImageSet, name: str) -> dict[str, Any]:
    """The description of `data` that `snnkd data --json` prints, under `name` as the user wrote it; null for what is unknown.

    `part` is the subset, `shape` [channels, height, width], `images` the number in each split, `sha256` what runs record,
    `bytes` the size of `files`, `rule` how the test images were chosen.
    """
    entry = DATA[name]
    splits = {"train": data.train, "test": data.test, **({"val": data.val} if data.val is not None else {})}
    files = [path for path in data.files if path.exists()]
    return {
        "name": name,
        "part": data.subset,
        "classes": data.classes,
        "shape": list(data.shape),
        "frames": data.frames,
        "images": {split: len(images) for split, images in splits.items()},
        "sha256": data.sha256,
        "files": [str(path.absolute()) for path in files],
        "bytes": sum(path.stat().st_size for path in files),
        "mapped": data.mapped,
        "source": entry.source or None,
        "licence": entry.licence or None,
        "rule": data.split_rule or None,
    }


def description_rows(description: dict[str, Any]) -> list[tuple[str, str]]:
    """`describe` as rows of a text table, name and value; rows without a value are left out."""
    channels, *sides = description["shape"]
    colour = {1: "grey", 2: "2 polarities", 3: "RGB"}.get(channels, f"{channels} channels")
    frames = f", {description['frames']} frames" if description["frames"] else ""
    mapped = ", memory-mapped" if description["mapped"] else ""
    place = _common_place(description["files"])
    rows = [
        ("name", data_label(description["name"], description["part"])),
        ("images", ", ".join(f"{count:,} {split}" for split, count in description["images"].items())),
        ("shape", f"{'x'.join(map(str, sides))} {colour}{frames}"),
        ("classes", str(description["classes"])),
        ("sha256", description["sha256"]),
        ("files", f"{place} ({description['bytes']:,} bytes{mapped})" if place else ""),
        ("test split", (description["rule"] or "").removeprefix("test: ")),
        ("source", description["source"] or ""),
        ("licence", description["licence"] or ""),
    ]
    return [(name, value) for name, value in rows if value]


def _common_place(files: list[str]) -> str:
    """The only file, else the folder that holds them all, else their folders."""
    return files[0] if len(files) == 1 else ", ".join(sorted({str(Path(file).parent) for file in files}))
