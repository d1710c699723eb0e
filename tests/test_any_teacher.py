"""Teachers from anywhere: plain files of weights, safetensors, other libraries' networks, other sizes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, SMALL, Cli, random_npz, run_in
from torchvision import models
from torchvision.transforms import v2

from snnkd.console import Console
from snnkd.data import Split, load_data
from snnkd.models.files import load_network
from snnkd.models.libraries import IMAGENET_MEAN
from snnkd.models.resize import resize_images
from snnkd.recipe import resolve_stage

STUDENT = ["distill", *SMALL, "--T", 1, "--allow-weak-teacher", "--epochs", 1]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A finished teacher (width 4)."""

    root = tmp_path_factory.mktemp("taught")
    done = run_in(root, data_folder, "teach", *SMALL)
    assert done.code == 0, done.err
    return root / done.folder


def as_plain(folder: Path, path: str, **save: object) -> str:
    """The weights of a run's network without anything else, as torch.save writes them."""
    torch.save({"state_dict": load_network(folder).network.body.state_dict(), "epoch": 3, **save}, path)
    return path


def glyph_images() -> Split:
    """The test images of the runs here."""
    settings = [word for word in DATA if word != "--set"]
    return load_data(resolve_stage("glyphs", "distill", settings=settings).data, Console()).test


def statistics(folder: Path) -> list[str]:
    network = load_network(folder).network
    return [
        f"--set=teacher.{key}={json.dumps([float(x) for x in getattr(network, key)])}"
        for key in ("mean", "std")
    ]


def test_a_plain_file_teaches_as_the_run_that_it_is_from(cli: Cli, taught: Path) -> None:
    plain = as_plain(taught, "t.pt")
    by_run = cli(*STUDENT, "--teacher", taught, "--json").json
    done = cli(
        *STUDENT,
        "--teacher",
        plain,
        "--teacher-model",
        "resnet8",
        "--set",
        "teacher.model.width=4",
        *statistics(taught),
        "--json",
    )
    assert done.code == 0, done.err
    by_file = done.json
    assert by_file["weights_sha256"] == by_run["weights_sha256"], "the same answers teach the same student"
    assert by_file["teacher"]["top1"] == by_run["teacher"]["top1"]
    assert "teacher accuracy" in done.err
    assert "teacher: t.pt, as resnet8" in done.err
    assert Path(by_file["run"]) != Path(by_run["run"]), "other weights files are other teachers"


def test_without_statistics_it_sees_those_of_the_data(cli: Cli, taught: Path) -> None:
    words = [
        *STUDENT,
        "--teacher",
        as_plain(taught, "t.pt"),
        "--teacher-model",
        "resnet8",
        "--set",
        "teacher.model.width=4",
    ]
    assert (
        cli(*words, "--json").json["weights_sha256"]
        == cli(*STUDENT, "--teacher", taught, "--json").json["weights_sha256"]
    )


def test_the_recipe_of_such_a_run_finds_the_same_teacher_again(cli: Cli, taught: Path) -> None:
    words = [
        *STUDENT,
        "--teacher",
        as_plain(taught, "t.pt"),
        "--teacher-model",
        "resnet8",
        "--set",
        "teacher.model.width=4",
    ]
    first = cli(*words).folder
    again = cli("distill", first / "recipe.yaml")
    assert again.code == 0, again.err
    assert "already done" in again.err
    assert again.folder == first
    other = cli(*words, "--set", "teacher.mean=[0.9]", "--set", "teacher.std=[0.1]")
    assert other.folder != first, "how the teacher sees an image is part of what the run is"


def test_a_safetensors_file_with_its_config(cli: Cli, taught: Path) -> None:
    shutil.copy(taught / "model.safetensors", "good.safetensors")
    refused = cli(*STUDENT, "--teacher", "good.safetensors")
    assert refused.code == 3
    assert "config.json" in refused.complaint
    shutil.copy(taught / "config.json", "config.json")
    done = cli(*STUDENT, "--teacher", "good.safetensors")
    assert done.code == 0, done.err


@pytest.mark.parametrize("wrap", ["module.{}", "_orig_mod.{}", "module.model.{}"])
def test_prefixes_of_wrappers_are_taken_off(cli: Cli, taught: Path, wrap: str) -> None:
    state = load_network(taught).network.body.state_dict()
    torch.save(
        {wrap.format(name): tensor for name, tensor in state.items() if "num_batches" not in name}, "t.pth"
    )
    done = cli(*STUDENT, "--teacher", "t.pth", "--teacher-model", "resnet8", "--set", "teacher.model.width=4")
    assert done.code == 0, done.err


def test_missing_and_unexpected_names_are_listed(cli: Cli, taught: Path) -> None:
    state = load_network(taught).network.body.state_dict()
    state["fc.weight"] = state.pop("head.weight")
    torch.save(state, "t.pt")
    refused = cli(
        *STUDENT, "--teacher", "t.pt", "--teacher-model", "resnet8", "--set", "teacher.model.width=4"
    )
    assert refused.code == 3
    assert "head.weight is missing, fc.weight is unexpected" in refused.complaint


def test_an_average_beside_the_weights_is_offered_and_is_another_teacher(cli: Cli, taught: Path) -> None:
    network = load_network(taught).network.body
    average = {name: tensor.half() for name, tensor in network.state_dict().items()}
    plain = as_plain(taught, "t.pt", state_dict_ema=average)
    words = [*STUDENT, "--loss", "kl", "--teacher", plain, "--teacher-model", "resnet8"]
    words += ["--set", "teacher.model.width=4"]
    first = cli(*words)
    assert "t.pt, as resnet8" in first.err
    assert "the file also has state_dict_ema: --set teacher.state_dict=state_dict_ema takes it" in first.err
    other = cli(*words, "--set", "teacher.state_dict=state_dict_ema")
    assert other.code == 0, other.err
    assert other.folder != first.folder
    again = cli("distill", other.folder / "recipe.yaml")
    assert again.folder == other.folder, again.err


def test_another_width_is_said(cli: Cli, taught: Path) -> None:
    refused = cli(*STUDENT, "--teacher", as_plain(taught, "t.pt"), "--teacher-model", "resnet8")
    assert refused.code == 3
    assert "another width" in refused.complaint


def test_other_classes_are_refused(cli: Cli, taught: Path) -> None:
    words = [
        "--teacher",
        as_plain(taught, "t.pt"),
        "--teacher-model",
        "resnet8",
        "--set",
        "teacher.model.width=4",
    ]
    refused = cli(*STUDENT, *words, "--set", "data.classes=12")
    assert refused.code == 3
    assert "10 classes, the data 12" in refused.complaint


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", ["code", "text", "numbers", "two", "cut", "nan"])
def test_what_is_no_plain_state_dict(cli: Cli, taught: Path, content: str) -> None:
    state = load_network(taught).network.body.state_dict()
    if content == "text":
        Path("t.pt").write_text("not weights")
    elif content == "cut":
        torch.save(state, "t.pt")
        Path("t.pt").write_bytes(Path("t.pt").read_bytes()[:2000])
    elif content == "nan":
        torch.save(
            {
                name: tensor * float("nan") if tensor.is_floating_point() else tensor
                for name, tensor in state.items()
            },
            "t.pt",
        )
    else:
        torch.save(
            {"code": {"a": Evil()}, "numbers": [1, 2], "two": {"teacher": state, "student": state}}[content],
            "t.pt",
        )
    refused = cli(
        *STUDENT, "--teacher", "t.pt", "--teacher-model", "resnet8", "--set", "teacher.model.width=4"
    )
    assert refused.code == 3, refused.err
    assert refused.complaint.startswith("snnkd: t.pt: ")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--teacher", "t.pt"], "--teacher-model"),
        (["--teacher-model", "resnet8"], "--teacher-weights"),
        (["--teacher", "torchvision:resnet18"], "--teacher-weights"),
        (["--teacher", "torchvision:resnet81", "--teacher-weights", "t.pt"], "did you mean"),
        (["--teacher", "torchvision:resnet18", "--teacher-model", "resnet8"], "give one"),
        (["--teacher", "a", "--teacher-weights", "b"], "give one"),
        (["--teacher", "t.pt", "--teacher-model", "resnet88"], "did you mean"),
        (["--teacher", "runs/x", "--set", "teacher.size=32"], "teacher.size"),
        (["--teacher", "runs/x", "--set", "teacher.state_dict=ema"], "teacher.state_dict"),
        (
            ["--teacher", "t.pt", "--teacher-model", "resnet8", "--set", "teacher.mean=[0.5]"],
            "give both, one number per channel",
        ),
        (
            [
                "--teacher",
                "t.pt",
                "--teacher-model",
                "resnet8",
                "--set",
                "teacher.mean=[0.5]",
                "--set",
                "teacher.std=[0]",
            ],
            "above 0",
        ),
        (["--teacher", "latest", "--teacher-model", "resnet8"], "--teacher-weights"),
        (["--model", "torchvision:resnet18"], "no spiking form"),
        (["--teacher", "t.pt", "--teacher-model", "mine:build", "--set", "teacher.size=1"], "teacher.size"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_file(cli: Cli, words: list[str], said: str) -> None:
    refused = cli("distill", *words)
    assert refused.code == 2, refused.err
    assert said in refused.complaint
    assert not Path("runs").exists()


def test_a_file_that_is_not_there(cli: Cli) -> None:
    refused = cli(*STUDENT, "--teacher", "none.pt", "--teacher-model", "resnet8")
    assert refused.code == 3
    assert "none.pt" in refused.complaint


def test_a_network_of_torchvision(cli: Cli) -> None:
    torch.manual_seed(0)
    network = models.mobilenet_v3_small(weights=None, num_classes=10).eval()
    torch.save(network.state_dict(), "w.pth")
    words = [
        *STUDENT,
        "--teacher",
        "torchvision:mobilenet_v3_small",
        "--teacher-weights",
        "w.pth",
        "--set",
        "teacher.size=64",
    ]
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert "teacher input: 3x64x64, mean [0.485, 0.456, 0.406]" in done.err
    test = glyph_images()
    see = v2.Compose(
        [v2.Resize((64, 64), antialias=True), v2.Normalize(IMAGENET_MEAN, (0.229, 0.224, 0.225))]
    )
    with torch.inference_mode():
        images = test.images.expand(-1, 3, -1, -1).float() / 255
        right = (network(see(images)).argmax(1) == test.labels).float().mean()
    assert done.json["teacher"]["top1"] == pytest.approx(100 * float(right), abs=1.01), (
        "one image may lie on the edge"
    )


def test_a_network_of_torchvision_can_be_taught(cli: Cli) -> None:
    done = cli(
        "teach",
        *DATA,
        "--model",
        "torchvision:squeezenet1_1",
        "--epochs",
        1,
        "--batch-size",
        50,
        "--set",
        "data.size=32",
    )
    assert done.code == 0, done.err
    assert cli("eval", done.folder).code == 0
    student = cli(*STUDENT, "--teacher", done.folder, "--set", "data.size=32")
    assert student.code == 0, student.err


def test_a_network_of_timm(cli: Cli) -> None:
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=10).state_dict(), "vit.pth")
    words = [
        *STUDENT,
        "--teacher",
        "timm:vit_tiny_patch16_224",
        "--teacher-weights",
        "vit.pth",
        "--set",
        "data.train_images=50",
    ]
    words += ["--set", "data.test_images=10"]
    done = cli(*words)
    assert done.code == 0, done.err
    assert "3x224x224, mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]" in done.err
    refused = cli(*words, "--set", "teacher.size=32")
    assert refused.code == 2
    assert "does not accept 32x32 images" in refused.complaint


def test_a_network_of_timm_learns_further_under_another_head(cli: Cli) -> None:
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("test_resnet", num_classes=12).state_dict(), "twelve.pt")
    data = random_npz("ten.npz", 10, size=32, channels=(3,))
    words = ["teach", "--data", data, "--model", "timm:test_resnet", "--epochs", 1, "--batch-size", 50]
    done = cli(*words, "--init", "twelve.pt", "--set", "train.freeze=[conv1,layer1]")
    assert done.code == 0, done.err
    assert "initial weights: twelve.pt, without fc.weight, fc.bias" in done.err


def test_a_library_that_is_not_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnkd.recipe.teacher_section.find_spec", lambda name: None)
    refused = cli("distill", "--teacher", "timm:resnet18", "--teacher-weights", "w.pth")
    assert refused.code == 2
    assert "pip install timm" in refused.complaint


def test_a_teacher_of_another_size_sees_images_at_its_own(cli: Cli) -> None:
    large = cli("teach", *SMALL, "--set", "data.size=24", "--set", "data.channels=3")
    assert large.code == 0, large.err
    done = cli(*STUDENT, "--teacher", large.folder)
    assert done.code == 0, done.err
    assert "teacher input: 3x24x24, resized from the student's 1x16x16" in done.err


def test_images_are_fitted_as_torchvision_does() -> None:
    images = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    for size in (8, 20, 33):
        wanted = v2.functional.resize(images, [size, size], antialias=True)
        torch.testing.assert_close(resize_images(images, (3, size, size)), wanted)
    grey = v2.functional.rgb_to_grayscale(images)
    torch.testing.assert_close(resize_images(images, (1, 20, 20)), grey, rtol=0, atol=2e-4)
    assert torch.equal(resize_images(images[:, :1], (3, 20, 20))[:, 2], images[:, 0])
    assert resize_images(images, (3, 20, 20)) is images


def test_check_says_whether_the_file_is_here(cli: Cli) -> None:
    words = ["check", "mine.yaml"]
    Path("mine.yaml").write_text(
        "stage: distill\nloss: kl\ndata: glyphs\nteacher: {run: t.pt, model: resnet8}\n"
    )
    assert "teacher t.pt is missing" in cli(*words).err
    Path("t.pt").write_bytes(b"")
    assert "is missing" not in cli(*words).err


def test_random_data_of_three_channels(cli: Cli) -> None:
    name = random_npz("x.npz", 4, channels=(3,))
    network = models.mobilenet_v3_small(weights=None, num_classes=4)
    torch.save(network.state_dict(), "w.pth")
    words = [
        "--data",
        name,
        "--epochs",
        1,
        "--batch-size",
        50,
        "--T",
        1,
        "--set",
        "model.width=4",
        "--set",
        "teacher.size=32",
    ]
    done = cli(
        "distill",
        *words,
        "--loss",
        "kl",
        "--teacher",
        "w.pth",
        "--teacher-model",
        "torchvision:mobilenet_v3_small",
        "--allow-weak-teacher",
    )
    assert done.code == 0, done.err
    assert np.isfinite(json.loads((done.folder / "result.json").read_text())["curve"][0]["nll"])


def test_options_of_the_network_by_flags(cli: Cli, taught: Path) -> None:
    words = ["--teacher", as_plain(taught, "t.pt"), "--teacher-model", "resnet8"]
    assert cli(*STUDENT, *words, "--set", "teacher.model.width=4").code == 0


def test_a_network_that_computes_while_it_is_built(cli: Cli) -> None:
    done = cli(
        "teach",
        *DATA,
        "--model",
        "torchvision:regnet_y_400mf",
        "--epochs",
        1,
        "--batch-size",
        100,
        "--set",
        "data.size=32",
    )
    assert done.code == 0, done.err
    assert cli("eval", done.folder).code == 0


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet", "vit_b_16"])
def test_a_network_for_other_sizes_is_refused_before_the_run(cli: Cli, name: str) -> None:
    refused = cli("teach", *DATA, "--model", f"torchvision:{name}", "--epochs", 1)
    assert refused.code == 2, refused.err
    assert not any(Path("runs").glob("teach*")) if Path("runs").exists() else True


@pytest.mark.parametrize(
    ("name", "size"), [("vit_b_16", 224), ("regnet_y_16gf", 224), ("efficientnet_b1", 240), ("resnet50", 224)]
)
def test_a_library_network_sees_images_as_its_first_weights_did(name: str, size: int) -> None:
    from torch import nn

    from snnkd.models.libraries import LibraryNetwork, native_input

    network = nn.Identity()
    if name == "vit_b_16":
        network.image_size = 224
    assert native_input(LibraryNetwork(network, f"torchvision:{name}")).size == size


def test_the_source_of_a_teacher_of_your_own_is_part_of_the_run(cli: Cli) -> None:
    source = (
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, classes):\n        "
        "super().__init__()\n"
        "        self.head = nn.Linear(256, classes)\n\n    def forward(self, x, T):\n"
        "        return (FACTOR * self.head(x.flatten(1)))[None].expand(T, -1, -1)\n\n\n"
        "def build(*, classes, shape, activation):\n    return Net(classes)\n"
    )
    found = []
    for factor in (1, 100):
        Path("ownteacher.py").write_text(f"FACTOR = {factor}\n{source}")
        sys.modules.pop("ownteacher", None)
        torch.manual_seed(0)
        torch.save({"head.weight": torch.randn(10, 256), "head.bias": torch.zeros(10)}, "own.pt")
        done = cli(*STUDENT, "--teacher", "own.pt", "--teacher-model", "ownteacher:build", "--loss", "kl")
        assert done.code == 0, done.err
        found.append(done.folder)
    assert found[0] != found[1]


PLAIN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, width=8):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.fc, self.unused = nn.Linear(width, classes), nn.Linear(2, 2)

    def forward(self, x, return_features=False):
        x = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return (self.fc(x), x) if return_features else self.fc(x)

def build(width=8):
    return Net(width=width)

def wrapped(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(256, classes))

def tuples():
    net = Net()
    net.forward = lambda x: Net.forward(net, x, True)
    return net

def eleven():
    return Net(11)
"""


@pytest.mark.parametrize("name", ["build", "Net", "wrapped"])
def test_a_plain_module_teaches(cli: Cli, name: str) -> None:
    Path("plain.py").write_text(PLAIN)
    torch.manual_seed(0)
    exec(PLAIN, names := {})
    network = names["wrapped"](10) if name == "wrapped" else names["Net"](width=4)
    torch.save({"model": network.state_dict()}, "own.pt")
    words = [*STUDENT, "--loss", "kl", "--teacher", "own.pt", "--teacher-model", f"plain:{name}"]
    options = [] if name == "wrapped" else ["--set", "teacher.model.options.width=4"]
    done = cli(*words, *options, *("--set=teacher.mean=[0]", "--set=teacher.std=[1]"), "--json")
    assert done.code == 0, done.err
    with torch.inference_mode():
        images = glyph_images()
        right = (network.eval()(images.images.float() / 255).argmax(1) == images.labels).float().mean()
    assert done.json["teacher"]["top1"] == pytest.approx(100 * float(right), abs=1e-4)
    if name == "build":
        assert cli("teach", *DATA, "--epochs", 1, "--batch-size", 50, "--model", "plain:build").code == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tuples", "plain:tuples does not return logits [B, classes]"),
        ("eleven", "plain:eleven: forward(images) returned [3, 11], not [3, 10]"),
    ],
)
def test_a_plain_module_that_is_no_classifier_of_the_data(cli: Cli, name: str, message: str) -> None:
    Path("plain.py").write_text(PLAIN)
    torch.save({"model": {"a": torch.ones(1)}}, "own.pt")
    refused = cli(*STUDENT, "--loss", "kl", "--teacher", "own.pt", "--teacher-model", f"plain:{name}")
    assert refused.code == 2
    assert message in refused.complaint


def test_a_plain_module_is_no_student(cli: Cli) -> None:
    Path("plain.py").write_text(PLAIN + "def student(classes, shape, activation):\n    return Net(classes)\n")
    refused = cli("distill", *DATA, "--loss", "none", "--model", "plain:student")
    assert refused.code == 2
    assert "forward(images) is a teacher's; a student's is forward(images, T)" in refused.complaint


def test_sparse_weights_are_refused(cli: Cli, taught: Path) -> None:
    state = load_network(taught).network.body.state_dict()
    torch.save(
        {name: tensor.to_sparse() if tensor.ndim == 2 else tensor for name, tensor in state.items()}, "t.pt"
    )
    refused = cli(
        *STUDENT, "--teacher", "t.pt", "--teacher-model", "resnet8", "--set", "teacher.model.width=4"
    )
    assert refused.code == 3
    assert "sparse" in refused.complaint
