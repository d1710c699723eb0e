"""npz:PATH: MedMNIST's key names, and one plain line for each rule that a file breaks."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import random_npz

from snnkd.console import Console
from snnkd.data import load_data
from snnkd.errors import FileError, UsageError
from snnkd.schema.data import NpzConfig

PATH = Path("mine.npz")
RNG = np.random.default_rng(0)


def arrays(**changes: object) -> dict[str, object]:
    made: dict[str, object] = {
        "train_images": RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    made |= changes
    return {key: value for key, value in made.items() if value is not None}


def write(**changes: object) -> None:
    np.savez_compressed(PATH, **arrays(**changes))


def load(**words: object) -> object:
    return load_data(NpzConfig(name=f"npz:{PATH}", **words), Console(quiet=True))


def refusal() -> str:
    with pytest.raises(FileError) as caught:
        load()
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert message.startswith(f"{PATH}: ")
    return message


def test_grey_images():
    content = arrays()
    np.savez(PATH, **content)
    made = load()
    assert (made.name, made.classes, made.shape, made.val) == ("npz:mine.npz", 3, (1, 8, 8), None)
    assert np.array_equal(made.train.images[:, 0].numpy(), content["train_images"])
    assert made.test.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_colour_images():
    pixels = RNG.integers(0, 256, (12, 8, 10, 3), dtype=np.uint8)
    write(train_images=pixels, test_images=pixels[:6])
    made = load()
    assert made.shape == (3, 8, 10)
    assert np.array_equal(made.train.images.permute(0, 2, 3, 1).numpy(), pixels)


@pytest.mark.parametrize("kind", ["uint8", "int16", "int64", ">i4"])
def test_labels_may_stand_in_a_column(kind):
    write(train_labels=(np.arange(12) % 3)[:, None].astype(kind), test_labels=(np.arange(6) % 3).astype(kind))
    assert load().train.labels.tolist() == [0, 1, 2] * 4


def test_validation_images_and_further_keys():
    write(
        val_images=np.zeros((4, 8, 8), np.uint8), val_labels=np.array([0, 1, 2, 0]), about=np.array("hello")
    )
    made = load()
    assert len(made.val) == 4
    assert made.split("val") is made.val
    with pytest.raises(UsageError, match=r"data\.val_fraction: 0\.1, but .* has its own"):
        load(val_fraction=0.1)


def test_without_validation_images_the_split_is_refused():
    write()
    with pytest.raises(UsageError, match="--split val"):
        load().split("val")


def test_the_checksum_covers_pixels_labels_and_not_further_keys():
    content = arrays()
    digests = []
    for changes in (
        {},
        {"about": np.zeros(3)},
        {"train_images": content["train_images"] ^ 1},
        {"test_labels": np.zeros(6, int)},
    ):
        np.savez(PATH, **{**content, **changes})
        digests.append(load().sha256)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


IMAGES, LABELS = np.zeros((12, 8, 8), np.uint8), np.arange(12) % 3


@pytest.mark.parametrize(
    ("changes", "hints"),
    [
        ({"train_images": None}, ["'train_images'", "train_labels"]),
        ({"test_labels": None}, ["'test_labels'"]),
        ({"val_images": IMAGES}, ["'val_labels'"]),
        ({"train_images": IMAGES.astype(np.float32)}, ["train_images", "float32", "uint8"]),
        ({"train_images": IMAGES.reshape(12, 64)}, ["train_images", "(12, 64)"]),
        ({"train_images": np.zeros((12, 8, 8, 4), np.uint8)}, ["train_images", "(12, 8, 8, 4)"]),
        (
            {"test_images": np.zeros((0, 8, 8), np.uint8), "test_labels": LABELS[:0]},
            ["test_images", "(0, 8, 8)"],
        ),
        ({"train_labels": LABELS[:11]}, ["train_labels", "(11,)", "12 images"]),
        ({"train_labels": np.zeros((12, 2), int)}, ["train_labels", "(12, 2)"]),
        ({"train_labels": LABELS.astype(float)}, ["train_labels", "float64", "integers"]),
        ({"train_labels": LABELS > 0}, ["train_labels", "bool"]),
        ({"train_labels": LABELS - 1}, ["train_labels", "-1"]),
        ({"train_labels": LABELS * 0}, ["train_labels", "2 to 100000"]),
        ({"train_labels": LABELS * 100_000}, ["train_labels", "200000"]),
        ({"test_labels": np.full(6, 3)}, ["test_labels", "3", "0 to 2"]),
        ({"test_labels": np.array([0, 1, -2, 0, 0, 0])}, ["test_labels", "-2"]),
        ({"test_images": np.zeros((6, 8, 9), np.uint8)}, ["test_images", "(8, 9)", "(8, 8)"]),
        ({"test_images": np.zeros((6, 8, 8, 3), np.uint8)}, ["test_images", "(8, 8, 3)"]),
        ({"train_images": np.array([IMAGES[0], None], object)}, ["damaged, or not an npz file"]),
    ],
    ids=lambda value: "-".join(value)[:30] if isinstance(value, (list, dict)) else None,
)
def test_each_rule_that_a_file_breaks(changes, hints):
    write(**changes)
    message = refusal()
    assert all(hint in message for hint in hints), message


def test_files_that_are_no_npz():
    for content in (b"", b"not a zip file\nof two lines", b"PK\x03\x04", b"\x93NUMPY"):
        PATH.write_bytes(content)
        refusal()
    assert "damaged, or not an npz file" in refusal()


def test_a_single_array_is_no_npz():
    with PATH.open("wb") as file:
        np.save(file, IMAGES)
    assert "a single array" in refusal()


def test_a_zip_bomb_is_refused_before_it_expands():
    write(train_images=np.zeros((2**15, 64, 64), np.uint8))
    assert "train_images.npy has a compression ratio above 200:1, refused as a possible zip bomb" in refusal()
    write(train_images=np.zeros((2**13, 64, 64), np.uint8), train_labels=np.arange(2**13) % 3)
    assert "(64, 64)" in refusal(), "one of 32 MiB may have any ratio, here the test images do not fit it"


def test_a_missing_file_and_a_folder():
    assert refusal().endswith("no such file or directory")
    PATH.mkdir()
    assert "directory" in refusal()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(share):
    write()
    raw = PATH.read_bytes()
    PATH.write_bytes(raw[: int(len(raw) * share)])
    assert "damaged, or not an npz file" in refusal()


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_damaged_bytes_anywhere_are_one_line_or_harmless(writer):
    writer(PATH, **arrays())
    raw, whole = PATH.read_bytes(), load().sha256
    for place in range(0, len(raw) - 8, 13):
        PATH.write_bytes(
            raw[:place] + bytes(255 - byte for byte in raw[place : place + 8]) + raw[place + 8 :]
        )
        try:
            made = load().sha256
        except FileError as error:
            made = str(error)
        assert made == whole or (made.startswith("mine.npz: ") and len(made.splitlines()) == 1)


def test_members_that_are_no_arrays():
    with zipfile.ZipFile(PATH, "w") as file:
        for key in arrays():
            file.writestr(f"{key}.npy", "hello")
    assert "b'hello'" in refusal()


class Trap:
    """Unpickling this makes a folder."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("key", ["train_images", "train_labels", "about"])
def test_nothing_is_ever_unpickled(key):
    content = {**arrays(), key: np.array([Trap()] * 12, object)}
    np.savez(PATH, **content)
    if key == "about":  # not one of ours: not even read
        load()
    else:
        refusal()
    assert not Path("sprung").exists()


def test_a_bare_pickle_is_never_unpickled():
    np.array([Trap()], object).dump(PATH)
    refusal()
    assert not Path("sprung").exists()


def test_classes_without_a_training_image_are_named(capfd):
    write(train_labels=np.array([0, 2, 4] * 100)[: len(arrays()["train_labels"])])
    load_data(NpzConfig(name=f"npz:{PATH}"), Console())
    assert "2 of 5 classes have no training image (1, 3)" in capfd.readouterr().err


def event_frames(path: str = "events.npz", frames: int = 3) -> None:
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    counts = rng.poisson(0.1, (40, frames, 2, 16, 16)).astype(np.uint8)
    counts[labels == 1, :, 0] += rng.poisson(1, (20, frames, 16, 16)).astype(np.uint8)
    np.savez(path, train_images=counts, train_labels=labels, test_images=counts, test_labels=labels)


def test_event_frames_are_trained_on_and_distilled(cli):
    event_frames()
    words = ["--data", "npz:events.npz", "--set", "data.frames=3", "--model", "resnet8", "--batch-size", 10]
    small = [*words, "--set", "model.width=2", "--epochs", 1, "--json"]
    taught = cli("teach", *small)
    assert taught.code == 0, taught.err
    refused = cli("distill", *small, "--loss", "kl", "--T", 4)
    assert "model.T: 4 differs from data.frames, 3; add --T 3" in refused.complaint
    student = cli("distill", *small, "--loss", "kl", "--T", 3, "--allow-weak-teacher")
    assert student.code == 0, student.err
    assert [point["t"] for point in student.json["curve"]] == [1, 2, 3]
    described = cli("data", "npz:events.npz", "--set", "data.frames=3", "--json").json
    assert (described["frames"], described["shape"]) == (3, [2, 16, 16])
    assert cli("eval", student.json["run"]).code == 0


def test_event_frames_are_asked_for(cli):
    event_frames()
    refused = cli("teach", "--data", "npz:events.npz")
    assert (refused.code, "add --set data.frames=3" in refused.complaint) == (2, True)
    Path("events.py").write_text("import numpy\ndef load():\n    return dict(numpy.load('events.npz'))\n")
    assert "add --set data.frames=3" in cli("data", "events:load").complaint
    assert cli("data", "events:load", "--set", "data.frames=3", "--json").json["frames"] == 3
    random_npz("still.npz", 3)
    refused = cli("data", "npz:still.npz", "--set", "data.frames=3")
    assert (refused.code, "has still images; remove the key" in refused.complaint) == (2, True)
