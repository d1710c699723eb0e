"""What a data set is, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.data.imageset import ImageSet
from snnkd.recipe.data_section import data_label


def describe(data: ImageSet, name: str) -> dict[str, Any]:
    """`name` as it was asked for; which part of it, if not all; classes, shape [channels, height, width], images of each split, the
    sha256 that runs record, the files that hold it with their bytes, source, licence and the rule by which the test images were
    told (null where nothing is known)."""
    entry = DATA[name]
    splits = {"train": data.train, "test": data.test, **({"val": data.val} if data.val is not None else {})}
    files = [path for path in data.files if path.exists()]
    return {
        "name": name,
        "part": data.part,
        "classes": data.classes,
        "shape": list(data.shape),
        "frames": data.frames,
        "images": {split: len(images) for split, images in splits.items()},
        "sha256": data.sha256,
        "files": [str(path.absolute()) for path in files],
        "bytes": sum(_size(path) for path in files),
        "mapped": data.mapped,
        "source": entry.source or None,
        "licence": entry.licence or None,
        "rule": data.rule or None,
    }


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    """`describe` for people: what, and its value; what is not known is left out."""
    size = "x".join(map(str, described["shape"][1:]))
    channels = {1: "grey", 2: "2 polarities", 3: "RGB"}.get(
        described["shape"][0], f"{described['shape'][0]} channels"
    )
    frames = f", {described['frames']} frames" if described["frames"] else ""
    images = ", ".join(f"{count:,} {split}" for split, count in described["images"].items())
    place = described["files"][0] if len(described["files"]) == 1 else _folder(described["files"])
    held = (
        f"{place} ({described['bytes']:,} bytes{', mapped into memory' if described['mapped'] else ''})"
        if place
        else ""
    )
    rows = [
        ("name", data_label(described["name"], described["part"])),
        ("images", images),
        ("shape", f"{size} {channels}{frames}"),
        ("classes", str(described["classes"])),
        ("sha256", described["sha256"]),
        ("files", held),
        ("test split", (described["rule"] or "").removeprefix("test: ")),
        ("source", described["source"] or ""),
        ("licence", described["licence"] or ""),
    ]
    return [(key, value) for key, value in rows if value]


def _folder(files: list[str]) -> str:
    parents = {str(Path(file).parent) for file in files}
    return parents.pop() if len(parents) == 1 else ", ".join(files)
