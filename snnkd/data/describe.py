"""Facts about a data set, for `snnkd data`."""

from __future__ import annotations

from typing import Any

from snnkd.catalog.data import DATA
from snnkd.data.imageset import ImageSet


def describe(data: ImageSet, name: str) -> dict[str, Any]:
    """The description that `snnkd data --json` prints; `name` is the user's, unknown values are null.

    `part` is the subset, `shape` [channels, height, width], `images` the number in each split, `sha256` what
    runs record, `class_names` by number, `bytes` the size of `files`, `rule` how the test images were chosen.
    """
    entry = DATA[name]
    splits = {"train": data.train, "test": data.test, **({"val": data.val} if data.val is not None else {})}
    files = [path for path in data.files if path.exists()]
    return {
        "name": name,
        "part": data.subset,
        "classes": data.classes,
        "class_names": data.class_names and list(data.class_names),
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
