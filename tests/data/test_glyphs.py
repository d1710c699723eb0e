"""Generated glyphs: the same bytes for the same settings, separate streams, a cache that is never trusted
blindly."""

import errno
from importlib.metadata import version

import numpy as np
import pytest
import torch

from snnkd.console import Console
from snnkd.data.sets import glyphs
from snnkd.errors import UsageError
from snnkd.schema.data import GlyphsConfig

SMALL = {"classes": 7, "train_images": 70, "test_images": 28}
QUIET = Console(quiet=True)
LOCKED = {"pillow": "13.0.0", "matplotlib": "3.11.2", "numpy": "2.4.6"}
PINNED = {
    1: "7a69f8094182c787e96bb4148f945e301acab8d145fa85c132c1abfebfa36a2b",
    3: "d57c8a7c9a405a3a09024c9dd48929f07646ee5b88748a92dc2637378f41563d",
}


def config(**words: object) -> GlyphsConfig:
    return GlyphsConfig(**{**SMALL, **words})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def notes(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(QUIET, "log", lines.append)
    return lines


def digest(**words: object) -> str:
    return glyphs.load(config(**words), QUIET).sha256


def test_the_same_settings_give_the_same_bytes(folder):
    first = glyphs.draw(config())
    glyphs._character.cache_clear()
    second = glyphs.draw(config())
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("channels", [1, 3])
def test_pinned_bytes(channels):
    here = {package: version(package) for package in LOCKED}
    if here != LOCKED:
        pytest.skip(f"bytes are pinned for {LOCKED}, here are {here}")
    assert digest(channels=channels) == PINNED[channels]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"noise": 0.06}, {"size": 17}, {"channels": 3}, {"classes": 6}, {"train_images": 71}],
)
def test_other_settings_give_other_bytes(change):
    assert digest(**change) != digest()


def test_train_and_test_images_do_not_depend_on_each_others_number():
    usual, more_train, more_test = (
        glyphs.draw(config()),
        glyphs.draw(config(train_images=80)),
        glyphs.draw(config(test_images=30)),
    )
    for part in ("images", "labels"):
        assert np.array_equal(usual[f"test_{part}"], more_train[f"test_{part}"])
        assert np.array_equal(usual[f"train_{part}"], more_test[f"train_{part}"])


def test_train_and_test_images_differ():
    made = glyphs.draw(config(test_images=70))
    assert not np.array_equal(made["train_images"], made["test_images"])
    assert not {image.tobytes() for image in made["train_images"]} & {
        image.tobytes() for image in made["test_images"]
    }


@pytest.mark.parametrize(("images", "counts"), [(70, {10}), (75, {10, 11})])
def test_labels_are_balanced_and_shuffled(images, counts):
    labels = glyphs.draw(config(train_images=images))["train_labels"]
    assert set(np.bincount(labels, minlength=7)) == counts
    assert not np.array_equal(labels, np.arange(images) % 7)


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_classes_and_size(channels):
    made = glyphs.load(config(size=20, channels=channels), QUIET)
    assert made.shape == (channels, 20, 20)
    assert (made.classes, len(made.train), len(made.test), made.val) == (7, 70, 28, None)
    assert made.train.images.dtype.is_floating_point is False
    assert int(made.train.images.float().std()) > 10  # something is drawn


def test_colour_differs_between_channels_and_grey_has_one():
    images = glyphs.draw(config(channels=3, noise=0.0))["train_images"]
    assert images.shape == (70, 16, 16, 3)
    assert not np.array_equal(images[..., 0], images[..., 1])
    assert glyphs.draw(config())["train_images"].shape == (70, 16, 16)


def test_there_are_a_hundred_distinct_characters_and_the_faces_have_them_all():
    assert len(glyphs.CHARACTERS) == len(set(glyphs.CHARACTERS)) == 100
    font = glyphs._load_font(0, 40)
    missing = font.getmask("\U0010fffd")
    assert missing.getbbox(), "the missing-glyph box is not empty"
    for face in range(len(glyphs.FONTS)):
        font = glyphs._load_font(face, 40)
        box = bytes(font.getmask("\U0010fffd"))
        absent = [
            character for character in glyphs.CHARACTERS if bytes(font.getmask(character)) in (box, b"")
        ]
        assert not absent, f"{glyphs.FONTS[face]} lacks {absent}"


def test_no_two_characters_are_drawn_alike():
    drawn = [glyphs._character(label, 0, 32).tobytes() for label in range(100)]
    assert len(set(drawn)) == 100
    assert all(any(image) for image in drawn)


def test_the_second_load_draws_nothing(monkeypatch, notes):
    first = glyphs.load(config(), QUIET)
    monkeypatch.setattr(glyphs, "draw", None)
    second = glyphs.load(config(), QUIET)
    assert first.sha256 == second.sha256
    assert first.train.images.equal(second.train.images)
    assert notes == ["drawing 98 glyphs"]


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[: len(raw) // 2], lambda raw: raw.replace(b"sha256", b"sha257"), lambda raw: b""],
)
def test_a_damaged_cache_is_drawn_anew(folder, notes, damage):
    whole = digest()
    (path,) = folder.iterdir()
    raw = path.read_bytes()
    path.write_bytes(damage(raw))
    assert digest() == whole
    assert len(notes) == 2
    assert path.read_bytes() == raw


def test_a_cache_with_other_pixels_is_drawn_anew(folder, notes):
    whole = digest()
    (path,) = folder.iterdir()
    with np.load(path) as file:
        arrays = dict(file)
    arrays["train_images"][0, 0, 0] ^= 1
    np.savez(path, **arrays)
    assert digest() == whole
    assert len(notes) == 2


def test_a_cache_of_other_library_versions_is_not_used(folder, monkeypatch):
    digest()
    monkeypatch.setattr(glyphs, "version", lambda package: "0")
    digest()
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_only_noted(monkeypatch, notes):
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(glyphs, "write_atomic", read_only)
    assert len(glyphs.load(config(), QUIET).train) == 70
    assert "Read-only file system" in notes[-1]


def test_a_file_in_the_folders_place_is_only_noted(folder, notes):
    folder.write_text("a file")
    assert len(glyphs.load(config(), QUIET).train) == 70
    assert str(folder) in notes[-1]


@pytest.mark.parametrize("key", ["train_images", "test_images"])
def test_too_few_images_for_the_classes(key):
    with pytest.raises(UsageError, match=rf"^data\.{key}: 6 is fewer than the 7 classes$"):
        glyphs.load(config(**{key: 6}), QUIET)


def test_the_default_glyphs():
    made = glyphs.load(GlyphsConfig(), QUIET)
    assert (made.train.images.shape, made.test.images.shape) == ((10_000, 1, 16, 16), (2_000, 1, 16, 16))
    assert made.classes == 100
    assert torch.bincount(made.train.labels).tolist() == [100] * 100
    assert torch.bincount(made.test.labels).tolist() == [20] * 100
