"""Pictures of every depth, mode and orientation give the pixels that a viewer shows, or are refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from data.pictures import laid_out, picture_folder
from PIL import Image

from snnkd.data.picture import PictureError, to_mode

GREY = np.tile(np.arange(8, dtype=np.uint8) * 32, (4, 1))
WIDE = GREY.astype(np.uint16) * 257
COLOUR = np.dstack([GREY, 255 - GREY, GREY // 2])
ALPHA = np.dstack([np.zeros_like(GREY)] * 3 + [GREY])
ON_WHITE = 255 - GREY
"""Black with the alpha of ALPHA."""
TURNED = Image.Exif()
TURNED[274] = 6


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(content: bytes, mode: str = "L") -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(to_mode(picture, mode)[0])


@pytest.mark.parametrize("array", [WIDE, WIDE.astype(">u2")])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_scaled(array, format):
    assert np.array_equal(pixels(saved(Image.fromarray(array), format)), GREY)


def test_depth_is_the_files():
    values = np.array([0, 500, 1000], ">u2").tobytes()
    assert pixels(b"P5 3 1 1000\n" + values).tolist() == [[0, 128, 255]]
    inverted = saved(Image.fromarray(WIDE), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(pixels(inverted), 255 - GREY)
    twelve = saved(Image.fromarray(np.zeros((1, 2), np.uint16)), "TIFF")
    twelve = twelve.replace(b"\x02\x01\x03\x00\x01\x00\x00\x00\x10", b"\x02\x01\x03\x00\x01\x00\x00\x00\x0c")
    with Image.open(io.BytesIO(twelve[:-4] + bytes([0xFF, 0xF0, 0x00, 0x00]))) as picture:
        assert (picture.mode, picture.tag_v2[258]) == ("I;16", (12,))
        assert np.asarray(to_mode(picture, "L")[0]).tolist() == [[255, 0]]


def test_signed_bytes_and_float_portable_pictures_are_refused():
    with pytest.raises(PictureError, match="signed or 32-bit values have no known white"):
        pixels(saved(Image.fromarray(GREY), "TIFF", tiffinfo={339: 2}))
    with pytest.raises(PictureError, match="float values have no known white"):
        pixels(b"Pf\n8 4\n-1.0\n" + (GREY / 255).astype("<f4").tobytes())


@pytest.mark.parametrize(
    ("array", "kind"), [(WIDE.astype(np.int32), "signed or 32-bit"), (WIDE.astype(np.float32), "float")]
)
def test_values_of_unknown_range_are_refused(array, kind):
    with pytest.raises(PictureError, match=f"{kind} values have no known white"):
        pixels(saved(Image.fromarray(array), "TIFF"))


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(ALPHA), "PNG"),
        saved(Image.fromarray(ALPHA), "TIFF"),
        saved(Image.fromarray(ALPHA), "WEBP", lossless=True),
        saved(Image.fromarray(ALPHA).convert("LA"), "PNG"),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_transparency_is_put_on_white(content, mode):
    expected = ON_WHITE if mode == "L" else np.dstack([ON_WHITE] * 3)
    assert np.array_equal(pixels(content, mode), expected)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "I;16"])
def test_a_transparent_value_is_white(mode):
    picture = Image.fromarray(WIDE) if mode == "I;16" else Image.fromarray(GREY).convert(mode)
    content = saved(picture, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (pixels(content)[:, 0] == 255).all()
    if mode != "1":
        assert np.array_equal(pixels(content)[:, 1:], GREY[:, 1:])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(format):
    options = {"lossless": True} if format == "WEBP" else {}
    plain = pixels(saved(Image.fromarray(COLOUR), format, **options), "RGB")
    turned = pixels(saved(Image.fromarray(COLOUR), format, exif=TURNED, **options), "RGB")
    assert np.array_equal(turned, np.rot90(plain, -1))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_taken(format):
    second = Image.fromarray(255 - GREY)
    options = {"lossless": True} if format == "WEBP" else {}
    content = saved(Image.fromarray(GREY), format, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(content)) as picture:
        image, changes = to_mode(picture, "L")
    assert np.array_equal(np.asarray(image), GREY)
    assert changes == ["reduced to their first frame"]


def test_cmyk_keeps_its_colours():
    content = saved(Image.fromarray(COLOUR).convert("CMYK"), "TIFF")
    assert np.array_equal(pixels(content, "RGB"), COLOUR)


def test_a_mixed_folder_says_what_was_converted(cli):
    wide, alpha = saved(Image.fromarray(WIDE), "PNG"), saved(Image.fromarray(ALPHA), "PNG")
    opaque = saved(Image.fromarray(COLOUR).convert("RGBA"), "PNG")
    root = picture_folder(Path("mine"), classes=2)
    laid_out({"train/class0/a.png": wide, "test/class1/b.png": alpha, "train/class1/c.png": opaque}, root)
    described = cli("data", "imagefolder:mine", "--set", "data.size=8")
    assert described.code == 0
    counts = "1 scaled from 16 to 8 bits, 1 with transparency blended with white"
    assert f"of 15 pictures {counts}\n" in described.err


def test_damaged_exif_is_no_warning(cli, recwarn):
    damaged = saved(Image.fromarray(COLOUR), "JPEG", exif=TURNED.tobytes()[:22])
    laid_out({"train/class0/a.jpg": damaged}, picture_folder(Path("mine"), classes=2))
    assert cli("data", "imagefolder:mine", "--set", "data.size=8").code == 0
    assert [str(each.message) for each in recwarn] == []


def test_a_folder_with_a_picture_of_unknown_range_is_refused(cli):
    unknown = saved(Image.fromarray(WIDE.astype(np.float32)), "TIFF")
    laid_out({"train/class0/a.tif": unknown}, picture_folder(Path("mine"), classes=2))
    refused = cli("data", "imagefolder:mine", "--set", "data.size=8")
    assert refused.code == 3
    assert "mine/train/class0/a.tif: float values have no known white" in refused.complaint
