"""`snnkd predict`: classes of pictures, as the network sees the pictures of its data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image
from torchvision.datasets import FashionMNIST

import snnkd
from snnkd.catalog.data import DATA, class_names_of
from snnkd.catalog.neurons import build_neuron
from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.loader import to_batch
from snnkd.measure.curve import running_means
from snnkd.models import Specification, build_network
from snnkd.models.files import save_network
from snnkd.schema import fields
from snnkd.schema.data import GlyphsConfig, ImageFolderConfig
from snnkd.schema.model import ResNetConfig

NAMES = ["ant", "bee", "cat"]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def network(
    folder: str = "net",
    shape: tuple[int, int, int] = (3, 16, 16),
    neuron: str | None = "lif",
    frames: int | None = None,
    names: list[str] | None = NAMES,
) -> Path:
    """A network of random weights, as a run or an export holds it."""
    torch.manual_seed(0)
    model = fields.build(ResNetConfig, {"name": "resnet8", "width": 4, "T": 3}, "model")
    own = None if neuron is None else build_neuron({"name": neuron})
    built = build_network(Specification(model=model, neuron=own, classes=3, shape=shape, frames=frames))
    built.mean.fill_(0.4)
    built.std.fill_(0.3)
    Path(folder).mkdir()
    save_network(Path(folder), built, {"class_names": names} if names else {})
    return Path(folder)


def saved(path: str, picture: Image.Image, **options: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def odd_pictures(root: str) -> None:
    """A picture of each kind that needs care, in folders of classes with a train/ and a test/."""
    picture, turned = Image.fromarray(PIXELS), Image.Exif()
    turned[274] = 6
    wide = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    clear = Image.fromarray(np.dstack([PIXELS, PIXELS[..., :1]]))
    for split in ("train", "test"):
        saved(f"{root}/{split}/a/1-wide.png", wide)
        saved(f"{root}/{split}/a/2-clear.png", clear)
        saved(f"{root}/{split}/b/deeper/3-turned.jpg", picture, exif=turned)
        saved(f"{root}/{split}/b/deeper/4-cmyk.tif", picture.convert("CMYK"))
        saved(f"{root}/{split}/b/deeper/5-grey.gif", picture.convert("L"))


def test_pictures_are_seen_as_those_of_an_image_folder(cli: Cli) -> None:
    run = network()
    odd_pictures("mine")
    data = load_data(ImageFolderConfig(name="imagefolder:mine", size=16), Console(quiet=True))
    logits = snnkd.load(run)(to_batch(data.test.images))
    expected = running_means(logits)[-1].softmax(-1).max(-1)
    done = cli("predict", run, "mine/test", "--json")
    assert done.code == 0, done.err
    predictions = done.json["predictions"]
    assert [Path(each["picture"]).name[0] for each in predictions] == ["1", "2", "3", "4", "5"]
    assert [each["class"] for each in predictions] == expected.indices.tolist()
    assert [each["probability"] for each in predictions] == pytest.approx(expected.values.tolist(), abs=1e-6)


def test_a_picture_covers_a_network_that_is_not_square(cli: Cli) -> None:
    run = network(shape=(3, 12, 20))
    for name, size in (("wide", (50, 12)), ("high", (20, 31)), ("small", (3, 2)), ("exact", (20, 12))):
        saved(f"{name}.png", Image.fromarray(PIXELS).resize(size))
    done = cli("predict", run, "wide.png", "high.png", "small.png", "exact.png", "--json")
    assert done.code == 0, done.err
    for each, box in zip(done.json["predictions"], ((15, 0, 35, 12), (0, 10, 20, 22)), strict=False):
        cropped = np.asarray(Image.open(each["picture"]).crop(box))
        logits = snnkd.load(run)(torch.tensor(cropped).permute(2, 0, 1)[None] / 255)
        assert each["probability"] == pytest.approx(logits.mean(0).softmax(-1).max().item(), abs=1e-6)


def test_the_text_names_class_and_timestep(cli: Cli) -> None:
    run = network()
    saved("some.png", Image.fromarray(PIXELS))
    never = cli("predict", run, "some.png", "--confidence", 1)
    assert "device: cpu, " in never.err
    head, row = never.out.splitlines()
    assert head.split() == ["picture", "class", "probability", "sure", "at", "t"]
    picture, name, probability, sure_at = row.split()
    assert (picture, name in NAMES, sure_at) == ("some.png", True, "-")
    assert 1 / 3 <= float(probability) < 1
    always = cli("predict", run, "some.png", "--confidence", 1e-6)
    assert always.out.splitlines()[1].split() == [picture, name, probability, "1"]
    nameless = network("other", names=None)
    assert cli("predict", nameless, "some.png").out.splitlines()[1].split()[1] == str(NAMES.index(name))


def test_names_of_published_data() -> None:
    entries = [entry for entry in DATA if entry.class_names]
    assert {entry.name for entry in entries} == {"glyphs", "cifar10", "cifar100", "fashion-mnist"}
    for entry in entries:
        assert len(set(entry.class_names)) == (100 if entry.nominal is None else entry.nominal[0])
    assert tuple(FashionMNIST.classes) == DATA["fashion-mnist"].class_names
    assert list(DATA["cifar100"].class_names) == sorted(DATA["cifar100"].class_names)
    cifar = {"data": {"name": "cifar10"}, "classes": 10}
    assert class_names_of(cifar) == list(DATA["cifar10"].class_names)
    assert class_names_of(cifar | {"classes": 4}) == ["airplane", "automobile", "bird", "cat"]
    assert class_names_of(cifar | {"classes": 11}) is None
    assert class_names_of(cifar | {"class_names": NAMES}) == NAMES
    assert class_names_of({"data": {"name": "mnist"}, "classes": 10}) is None
    assert class_names_of({}) is None


def test_the_share_of_right_classes_is_evals(cli: Cli, trained: dict[str, Path]) -> None:
    config = GlyphsConfig(classes=10, train_images=1000, test_images=300)
    test = load_data(config, Console(quiet=True)).test
    for i, image in enumerate(test.images[:, 0].numpy()):
        saved(f"test/{i:03}.png", Image.fromarray(image))
    done = cli("predict", trained["distill"], "test", "--json", "--batch-size", 128, "--confidence", 0.7)
    assert done.code == 0, done.err
    predictions = done.json["predictions"]
    result = json.loads((trained["distill"] / "result.json").read_text())
    for t, entry in enumerate(result["curve"]):
        right = [
            each["curve"][t]["class"] == label for each, label in zip(predictions, test.labels, strict=True)
        ]
        assert 100 * np.mean(right) == pytest.approx(entry["top1"])
    (exit_entry,) = [entry for entry in result["dynamic"] if entry["threshold"] == 0.7]
    first = [
        next((each["t"] for each in entry["curve"] if each["probability"] >= 0.7), 3) for entry in predictions
    ]
    assert np.mean(first) == pytest.approx(exit_entry["timesteps"])
    for each in predictions:
        own = [e["t"] for e in each["curve"] if e["class"] == each["class"] and e["probability"] >= 0.7]
        assert each["sure_at"] == (own[0] if own else None)


@pytest.mark.parametrize("neuron", [None, "psn"])
def test_a_teacher_and_a_neuron_that_is_not_causal_have_one_entry(cli: Cli, neuron: str | None) -> None:
    saved("some.png", Image.fromarray(PIXELS))
    (only,) = cli("predict", network(neuron=neuron), "some.png", "--json", "--confidence", 1e-6).json[
        "predictions"
    ]
    T = 1 if neuron is None else 3
    assert only["sure_at"] == T
    assert only["curve"] == [
        {"t": T, "class": only["class"], "name": only["name"], "probability": only["probability"]}
    ]


def test_pictures_that_cannot_be_read_are_left_out(cli: Cli) -> None:
    run = network()
    saved("mine/good.png", Image.fromarray(PIXELS))
    Path("mine/torn.png").write_bytes(Path("mine/good.png").read_bytes()[:100])
    Path("mine/text.jpg").write_text("no picture")
    Path("mine/notes.txt").write_text("not looked at")
    saved("mine/float.tif", Image.fromarray(PIXELS[..., 0].astype(np.float32)))
    done = cli("predict", run, "mine")
    assert done.code == 3
    assert "3 of 4 pictures cannot be read; the reasons are above" in done.complaint
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["mine/good.png"]
    left_out = sorted(line for line in done.err.splitlines() if line.startswith("left out: "))
    assert [line.split(": ")[1] for line in left_out] == ["mine/float.tif", "mine/text.jpg", "mine/torn.png"]
    assert "float values have no known white" in left_out[0]
    assert "not a readable picture" in left_out[1]
    as_json = cli("predict", run, "mine/torn.png", "--json")
    assert (as_json.code, as_json.json["predictions"]) == (3, [])
    assert as_json.json["left_out"][0]["picture"] == "mine/torn.png"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["net", "absent.png"], 3, "absent.png: no such file or folder; give pictures"),
        (["absent", "some.png"], 3, "absent: no such folder; pass a finished run or an export"),
        (["net", "empty"], 3, "empty: contains no picture (.jpg"),
        (
            ["net", "some.png", "--confidence", "1.5"],
            2,
            "--confidence: 1.5 is too large; it must be at most 1",
        ),
        (["events", "some.png"], 2, "events: takes event frames, not pictures"),
    ],
)
def test_refusals(cli: Cli, words: list[str], code: int, message: str) -> None:
    network()
    network("events", shape=(2, 16, 16), frames=3)
    saved("some.png", Image.fromarray(PIXELS))
    Path("empty").mkdir()
    refused = cli("predict", *words)
    assert (refused.code, message in refused.complaint) == (code, True), refused.err


def test_from_python(cli: Cli) -> None:
    run = network()
    saved("mine/some.png", Image.fromarray(PIXELS))
    shutil.copy("mine/some.png", "other.png")
    first, second = snnkd.predict(run, ["mine", "other.png"], confidence=0.1, quiet=True)
    (printed,) = cli("predict", run, "other.png", "--json", "--confidence", 0.1).json["predictions"]
    assert (first.picture, second.picture) == (Path("mine/some.png"), Path("other.png"))
    assert second.class_name == printed["name"]
    assert second.probability == first.probability == printed["probability"]
    assert (second.sure_at, [guess.t for guess in second.curve]) == (printed["sure_at"], [1, 2, 3])
    assert snnkd.predict(run, "other.png", confidence=0.1, quiet=True) == [second]
    Path("torn.png").write_text("torn")
    with pytest.raises(snnkd.errors.FileError, match=r"torn\.png: not a readable picture"):
        snnkd.predict(run, "torn.png", quiet=True)
