"""Small data sets of pictures as their makers lay them out, and what torchvision makes of them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def jpeg(size: tuple[int, int] = (64, 64), mode: str = "RGB", quality: int = 90) -> bytes:
    """A picture of few frequencies, of which JPEG keeps most."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    coarse = RNG.integers(0, 256, (4, 4, *channels), dtype=np.uint8)
    buffer = io.BytesIO()
    picture = (
        Image.fromarray(coarse, mode).resize(size, Image.Resampling.BILINEAR)
        if mode != "L"
        else Image.fromarray(coarse).resize(size)
    )
    picture.save(
        buffer, "PNG" if mode == "RGBA" else "JPEG", **({} if mode == "RGBA" else {"quality": quality})
    )
    return buffer.getvalue()


def tiny_imagenet(classes: int = 3, train: int = 4, test: int = 2) -> dict[str, bytes]:
    """The published files of a smaller Tiny ImageNet; in wnids.txt the classes stand in another order than
    their names'."""
    wnids = [f"n{10000000 + 7 * i}" for i in range(classes)]
    files = {
        "wnids.txt": "\n".join(reversed(wnids)).encode(),
        "words.txt": b"",
        "test/images/test_0.JPEG": jpeg(),
    }
    for wnid in wnids:
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for i in range(train):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(mode="L" if i == 1 else "RGB")
    lines = []
    for i in range(classes * test):
        files[f"val/images/val_{i}.JPEG"] = jpeg()
        lines.append(f"val_{i}.JPEG\t{wnids[(2 * i + 1) % classes]}\t0\t0\t62\t62")
    files["val/val_annotations.txt"] = "\n".join(lines).encode() + b"\n"
    return files


def zipped(files: dict[str, bytes], folder: str = "tiny-imagenet-200") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content)
    return buffer.getvalue()


def laid_out(files: dict[str, bytes], root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def picture_folder(
    root: Path, classes: int = 3, train: int = 4, test: int = 2, size: tuple[int, int] = (40, 30)
) -> Path:
    """PATH/train/CLASS and PATH/test/CLASS."""
    files = {
        f"{split}/class{label}/{i:05}.jpg": jpeg(size)
        for split, count in (("train", train), ("test", test))
        for label in range(classes)
        for i in range(count)
    }
    return laid_out(files, root)
