"""One picture of any kind that Pillow opens, as 8-bit RGB or grey."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

BACKGROUND = "white"
"""Colour behind transparent pixels, as in browsers; their own colour is often black and means nothing."""
WIDE_MODES = ("I", "F")
"""Beginnings of Pillow's modes of more than 8 bits; of I and F alone no file says which value is white."""
ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 274, 258, 262, 339
"""Tags of EXIF and TIFF."""
WHITE_IS_ZERO, SIGNED = 0, 2
"""Values of PHOTOMETRIC and SAMPLE_FORMAT."""


class PictureError(ValueError):
    """A picture that can be read, but not converted; the message is shown to the user."""


def to_mode(picture: Image.Image, mode: str) -> tuple[Image.Image, list[str]]:
    """The first frame in `mode` (RGB or L), upright as EXIF says, of 8 bits, transparency on BACKGROUND.

    16-bit grey is scaled by the depth that the file states. Returns also what was changed besides the mode,
    in words that follow a count of pictures. Raises PictureError for values of unknown range.
    """
    changes = []
    if getattr(picture, "is_animated", False):
        changes.append("reduced to their first frame")
    if picture.getexif().get(ORIENTATION, 1) != 1:
        changes.append("rotated by their EXIF orientation")
    ImageOps.exif_transpose(picture, in_place=True)
    _check_range(picture)
    if picture.mode.startswith(WIDE_MODES):
        picture = _to_8_bits(picture)
        changes.append("scaled from 16 to 8 bits")
    if picture.mode == "La":  # Pillow converts premultiplied grey only to LA
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            changes.append(f"with transparency blended with {BACKGROUND}")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture)
    return picture.convert(mode), changes


def fit(picture: Image.Image, shape: tuple[int, int, int]) -> tuple[Image.Image, list[str]]:
    """`to_mode`, scaled to cover the height and width of `shape`, then cropped at the centre.

    For a square that is torchvision's Resize of the shorter side (bilinear, antialiased) and CenterCrop.
    """
    from torchvision.transforms import functional

    channels, height, width = shape
    converted, changes = to_mode(picture, "RGB" if channels == 3 else "L")
    scaled = functional.resize(converted, _covering(converted.size, height, width), antialias=True)
    return functional.center_crop(scaled, [height, width]), changes


def _covering(size: tuple[int, int], height: int, width: int) -> list[int]:
    """The smallest height and width in the proportions of `size` (width, height) that cover a picture."""
    own_width, own_height = size
    if own_width * height <= own_height * width:
        return [max(height, int(width * own_height / own_width)), width]
    return [height, max(width, int(height * own_width / own_height))]


def _check_range(picture: Image.Image) -> None:
    """Raise PictureError for values of unknown range."""
    signed = SIGNED in getattr(picture, "tag_v2", {}).get(SAMPLE_FORMAT, ())  # Pillow wraps 8 signed bits
    wide = picture.mode == "I" and picture.format != "PPM"  # Pillow scales PPM to 16 bits
    if picture.mode == "F" or signed or wide:
        kind = "float" if picture.mode == "F" else "signed or 32-bit"
        raise PictureError(f"{kind} values have no known white; save the picture with 8 or 16 bits")


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Grey in mode L, of a picture whose range is known."""
    tags = getattr(picture, "tag_v2", {})
    values = np.asarray(picture).astype(np.uint32)
    white = 2 ** int(tags.get(BITS_PER_SAMPLE, (16,))[0]) - 1
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = white - values
    grey = Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    if "transparency" in picture.info:
        grey.putalpha(
            Image.fromarray(np.where(values == picture.info["transparency"], 0, 255).astype(np.uint8))
        )
    return grey
