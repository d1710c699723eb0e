"""glyphs: generated images of characters, many of them look-alikes.

Look-alikes give a teacher's small probabilities a meaning, as in photographs. Characters of the DejaVu fonts
that matplotlib ships are drawn at twice the size; each image is one of them under a random affine map, with
random contrast, brightness and pixel noise. Training and test images use separate random streams, and the
same settings give the same bytes with the same versions of Pillow, matplotlib and numpy.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from snnkd.catalog.data import CHARACTERS
from snnkd.console import Console
from snnkd.data.download.archives import FetchOptions
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError, UsageError
from snnkd.files import data_folder, open_npz, sha256, write_atomic
from snnkd.schema.data import GlyphsConfig
from snnkd.seeds import derive

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
)
CACHE_VERSION = 1
"""Part of the cache's name; increase it when the drawing changes."""


def load(config: GlyphsConfig, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """The glyphs of `config`, from an intact cache, else drawn (and cached if the folder is writable)."""
    _check(config)
    path = data_folder() / f"glyphs-{_key(config)}.npz"
    arrays = _read_cache(path)
    if arrays is None:
        console.log(f"drawing {config.train_images + config.test_images} glyphs")
        arrays = draw(config)
        _write_cache(path, arrays, console)
    splits = {split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "test")}
    return from_arrays("glyphs", config.classes, splits, files=(path,))


def _check(config: GlyphsConfig) -> None:
    for key in ("train_images", "test_images"):
        if getattr(config, key) < config.classes:
            raise UsageError(f"data.{key}: {getattr(config, key)} is fewer than the {config.classes} classes")


def _key(config: GlyphsConfig) -> str:
    """A hash of everything that the images depend on."""
    keys = ("size", "channels", "classes", "train_images", "test_images", "noise", "seed")
    settings = {key: getattr(config, key) for key in keys}
    versions = {package: version(package) for package in ("pillow", "matplotlib", "numpy")}
    return sha256(json.dumps([CACHE_VERSION, settings, versions], sort_keys=True).encode())[:12]


def draw(config: GlyphsConfig) -> dict[str, np.ndarray]:
    """Draw SPLIT_images uint8 `[N, H, W]` or `[N, H, W, 3]` and SPLIT_labels int64 `[N]` of both splits."""
    arrays = {}
    for split, count in (("train", config.train_images), ("test", config.test_images)):
        rng = np.random.default_rng(derive(config.seed, "glyphs", split))
        labels = rng.permutation(np.arange(count, dtype=np.int64) % config.classes)
        ink = _draw_ink(labels, config.size, rng)
        arrays[f"{split}_images"] = _colour(ink, config, rng)
        arrays[f"{split}_labels"] = labels
    return arrays


def _draw_ink(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The ink of each pixel, uint8 `[N, size, size]`: each character under a random affine map."""
    count, double = len(labels), 2 * size
    fonts = rng.integers(len(FONTS), size=count)
    angle = rng.uniform(-0.2, 0.2, count)
    scale = rng.uniform(0.8, 1.15, (count, 2))
    shear = rng.uniform(-0.2, 0.2, count)
    shift = rng.uniform(-0.09, 0.09, (count, 2)) * double
    cosine, sine = np.cos(angle), np.sin(angle)
    # output pixel -> input pixel, relative to the centre
    a, b = cosine / scale[:, 0], (sine + shear) / scale[:, 0]
    d, e = -sine / scale[:, 1], cosine / scale[:, 1]
    centre = double / 2
    c = centre - a * (centre + shift[:, 0]) - b * (centre + shift[:, 1])
    f = centre - d * (centre + shift[:, 0]) - e * (centre + shift[:, 1])
    maps = np.stack([a, b, c, d, e, f], axis=1).tolist()
    ink = np.empty((count, size, size), np.uint8)
    for i, (label, font, affine) in enumerate(zip(labels.tolist(), fonts.tolist(), maps, strict=True)):
        large = _character(label, font, double).transform(
            (double, double), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
        ink[i] = np.asarray(large.reduce(2))
    return ink


@lru_cache(maxsize=4 * len(CHARACTERS) * len(FONTS))
def _character(label: int, font: int, canvas: int) -> Image.Image:
    """A character in a font, white on black, with a common baseline so that o, O and 0 keep their heights."""
    image = Image.new("L", (canvas, canvas))
    face = _load_font(font, round(canvas * 0.72))
    ImageDraw.Draw(image).text(
        (canvas / 2, canvas * 0.5), CHARACTERS[label], fill=255, font=face, anchor="mm"
    )
    return image


@lru_cache(maxsize=4 * len(FONTS))
def _load_font(font: int, size: int) -> ImageFont.FreeTypeFont:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise FileError("matplotlib, whose DejaVu fonts glyphs are drawn with, is not installed")
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{FONTS[font]}.ttf"
    try:
        # every build of Pillow has the basic layout; raqm is optional
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise FileError(f"{path}: {error}") from error


def _colour(ink: np.ndarray, config: GlyphsConfig, rng: np.random.Generator) -> np.ndarray:
    """Paper + contrast x ink + noise, clipped to 0..255, in blocks that bound the memory."""
    count = len(ink)
    shape = (count, 1, 1) if config.channels == 1 else (count, 1, 1, 3)
    paper = rng.uniform(0.0, 0.35, shape).astype(np.float32)
    contrast = rng.uniform(0.35, 0.65, shape).astype(np.float32)
    images = np.empty((*ink.shape, 3) if config.channels == 3 else ink.shape, np.uint8)
    for start in range(0, count, 1000):
        block = slice(start, start + 1000)
        strokes = ink[block].astype(np.float32) / 255
        bright = paper[block] + contrast[block] * (strokes[..., None] if config.channels == 3 else strokes)
        bright += config.noise * rng.standard_normal(bright.shape, dtype=np.float32)
        images[block] = np.clip(np.rint(bright * 255), 0, 255).astype(np.uint8)
    return images


def _read_cache(path: Path) -> dict[str, np.ndarray] | None:
    """The cached arrays, or None when the cache is missing or damaged."""
    try:
        with open_npz(path) as file:
            arrays = {key: file[key] for key in file.files}
        digest = str(arrays.pop("sha256"))
        return arrays if digest == _digest(arrays) else None
    except Exception:  # whatever is wrong with the cache, drawing again replaces it
        return None


def _digest(arrays: dict[str, np.ndarray]) -> str:
    return sha256(*(np.ascontiguousarray(arrays[key]).data.cast("B") for key in sorted(arrays)))


def _write_cache(path: Path, arrays: dict[str, np.ndarray], console: Console) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{"sha256": np.array(_digest(arrays)), **arrays})  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        console.log(f"not cached in {path.parent}: {error.strerror}")
