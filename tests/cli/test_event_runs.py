"""Teachers and students on event data, through the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, Outcome
from data.event_writers import convert, publish

import snnkd
from snnkd import distributed
from snnkd.catalog.models import MODELS
from snnkd.console import Console
from snnkd.data import load_data
from snnkd.measure.counting import Counter
from snnkd.models import Specification, build_network
from snnkd.schema.events import SplitEventConfig
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

KEYS = {
    "n-mnist": ["--set", "data.frames=3", "--set", "data.size=16"],
    "cifar10-dvs": ["--set", "data.frames=3", "--set", "data.size=16", "--set", "data.test_fraction=0.25"],
    "dvs128-gesture": ["--set", "data.frames=3", "--set", "data.size=16"],
}
PLAIN = ["--loss", "none"]
TRAIN = ["--epochs", "1", "--batch-size", "10", "--set", "model.width=4"]


def words(name: str) -> list[str]:
    return ["--data", name, *KEYS[name], *TRAIN]


@pytest.fixture(scope="session")
def event_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SNNKD_DATA with the events of all data sets, whose frames the tests share."""
    root = tmp_path_factory.mktemp("events")
    convert(root, publish(tmp_path_factory.mktemp("archives")))
    return root


@pytest.fixture(autouse=True)
def _there(event_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_DATA", str(event_data))


def fine(done: Outcome) -> Outcome:
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize(
    ("name", "sees"), [("n-mnist", "mean"), ("cifar10-dvs", "stack"), ("dvs128-gesture", None)]
)
def test_a_teacher_and_its_student(cli: Cli, name: str, sees: str | None) -> None:
    taught = fine(
        cli("teach", *words(name), *(["--set", f"model.event_input={sees}"] if sees else []), "--json")
    ).json
    assert (taught["model"]["event_input"], taught["T"], taught["trained_T"]) == (sees or "mean", 1, None)
    done = fine(cli("distill", *words(name), "--loss", "hta-kl", "--allow-weak-teacher", "--json")).json
    assert (done["T"], done["trained_T"], done["data_sha256"]) == (3, 3, taught["data_sha256"])
    assert done["teacher"]["sha256"] == taught["weights_sha256"]
    assert done["teacher"]["top1"] == taught["curve"][0]["top1"]
    assert done.get("data_split") == taught.get("data_split") == {
        "cifar10-dvs": "snnkd's own, 75/25 of each class, seed 0; cifar10-dvs has no official split"
    }.get(name)  # fmt: skip
    again = fine(cli("eval", "--json")).json
    assert again["curve"] == done["curve"]
    shorter = fine(cli("eval", "--T", 2, "--json")).json
    assert [entry["top1"] for entry in shorter["curve"]] == [entry["top1"] for entry in done["curve"][:2]]
    beyond = cli("eval", "--T", 4)
    assert beyond.code == 2
    assert "--T 4: each timestep takes one event frame; use at most 3 (data.frames)" in beyond.complaint


def test_the_same_command_gives_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    made = [
        fine(cli("distill", *words("dvs128-gesture"), *PLAIN, "--out", tmp_path / place)).folder
        for place in ("a", "b")
    ]
    assert len({(folder / "model.safetensors").read_bytes() for folder in made}) == 1


def test_what_comes_later_changes_nothing_before(cli: Cli) -> None:
    """The answer at t is of the frames 1..t alone."""
    network = snnkd.load(fine(cli("distill", *words("n-mnist"), *PLAIN)).folder)
    assert network.mean.tolist() == [0.0, 0.0]
    images = torch.randint(0, 5, (3, 4, 2, 16, 16), generator=torch.Generator().manual_seed(0)).float() / 255
    with torch.inference_mode():
        whole = network(images)
        for t in (1, 2):
            other = images.clone()
            other[t:] = images[t:].flip(-1, 1) + 3 / 255
            assert torch.equal(network(other)[:t], whole[:t])
            assert not torch.equal(network(other)[t:], whole[t:])
            assert torch.equal(network(images, t), whole[:t])


def test_a_teacher_sees_the_mean_or_the_stack() -> None:
    images = torch.rand(3, 5, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    for sees, channels in (("mean", 2), ("stack", 6)):
        model = ResNetConfig(width=4, event_input=sees)  # type: ignore[arg-type]
        network = build_network(
            Specification(model=model, neuron=None, classes=7, shape=(2, 16, 16), frames=3)
        ).eval()
        still = build_network(
            Specification(model=ResNetConfig(width=4), neuron=None, classes=7, shape=(channels, 16, 16))
        ).eval()
        still.body.load_state_dict(network.body.state_dict())
        network.std.copy_(torch.tensor([0.5, 2.0]))
        scaled = images / network.std.view(-1, 1, 1)
        image = scaled.mean(0) if sees == "mean" else torch.cat(list(scaled), 1)
        torch.testing.assert_close(network(images), still(image))
        with pytest.raises(snnkd.errors.UsageError, match="2 event frames; this network expects exactly 3"):
            network(images[:2])
        with pytest.raises(snnkd.errors.UsageError, match="this network expects event frames"):
            network(images[0])


@pytest.mark.parametrize(
    "entry", [e for e in MODELS if not e.argument and not e.ann_only], ids=lambda e: str(e.name)
)
def test_frames_that_are_all_alike_are_a_still_image(entry: object) -> None:
    """Of every topology: a timestep sees its frame as it would see an image."""
    options = entry.options  # type: ignore[attr-defined]
    width = {"width": 4} if "width" in options.__dataclass_fields__ else {}
    config = options(name=entry.name, T=2, **width)  # type: ignore[attr-defined]
    made = []
    for frames in (None, 2):
        torch.manual_seed(0)
        specification = Specification(
            model=config, neuron=NeuronConfig(threshold=0.2), classes=5, shape=(2, 32, 32), frames=frames
        )
        made.append(build_network(specification))
    still, moving = made
    image = torch.rand(3, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    for norm in still.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.momentum = 1.0
    with torch.no_grad():
        still.train()(image)  # without its statistics a fresh network is silent
    moving.load_state_dict(still.state_dict())
    still.eval()
    moving.eval()
    with torch.inference_mode():
        alike = moving(image.expand(2, -1, -1, -1, -1))
        torch.testing.assert_close(alike, still(image))
        other = moving(torch.stack((image, image.flip(-1))))
    assert torch.equal(other[0], alike[0])
    assert not torch.equal(other[1], alike[1])


def test_the_first_layer_makes_macs_at_every_timestep() -> None:
    config = ResNetConfig(width=4, T=3)
    for frames, once in ((None, 4 * 2 * 9 * 256), (3, 0)):
        network = build_network(
            Specification(model=config, neuron=NeuronConfig(), classes=5, shape=(2, 16, 16), frames=frames)
        ).eval()
        with torch.inference_mode(), Counter(network) as counter:
            network(torch.rand(network.specification.batch_shape(6)))
        head = counter.counts.macs_per_step - (0 if once else 4 * 2 * 9 * 256)
        assert (counter.counts.images, counter.counts.macs_once) == (6, once)
        assert head == 16 * 5


def test_timesteps_are_frames(cli: Cli) -> None:
    refused = cli("distill", *words("n-mnist"), "--T", 4)
    assert refused.code == 2
    assert "model.T: 4 differs from data.frames, 3" in refused.complaint
    assert "--set data.frames=4" in refused.complaint
    assert fine(cli("distill", *words("n-mnist"), *PLAIN, "--T", 3, "--json")).json["T"] == 3


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            ["--data", "dvs128-gesture", "--set", "data.augment=[flip]"],
            "flip does not apply to dvs128-gesture",
        ),
        (
            ["--data", "n-mnist", "--set", "data.augment=[autoaugment]"],
            "autoaugment does not apply to event counts",
        ),
        (["--data", "n-mnist", "--set", "data.augment=[mixup]"], "mixup does not apply to event counts"),
        (["--data", "n-mnist", "--set", "data.frames=0"], "data.frames: 0 is too small"),
        (["--data", "n-mnist", "--set", "data.size=35"], "data.size: 35 is too large"),
        (["--data", "cifar10-dvs", "--set", "data.test_fraction=0"], "data.test_fraction: 0"),
        (
            ["--set", "model.event_input=stack"],
            "model.event_input: stack applies to event data, not glyphs",
        ),
        (
            ["--data", "n-mnist", "--set", "model.event_input=sum"],
            "model.event_input: 'sum' is not one of mean, stack",
        ),
    ],
)
def test_requests_that_are_refused(cli: Cli, setting: list[str], said: str) -> None:
    refused = cli("teach", *setting)
    assert refused.code == 2
    assert said in refused.complaint


def test_a_student_sees_no_stack_and_bench_takes_still_images(cli: Cli) -> None:
    refused = cli("distill", *words("n-mnist"), "--set", "model.event_input=mean")
    assert (refused.code, "applies to teachers, not students" in refused.complaint) == (2, True)
    Path("events.yaml").write_text("stage: distill\nloss: none\ndata: n-mnist\n")
    refused = cli("bench", "./events.yaml")
    assert (refused.code, "bench needs still images" in refused.complaint) == (2, True)


def test_a_teacher_of_other_frames_does_not_fit(cli: Cli) -> None:
    teacher = fine(cli("teach", *words("n-mnist"))).folder
    other = [word if word != "data.frames=3" else "data.frames=2" for word in words("n-mnist")]
    refused = cli("distill", *other, "--loss", "kl", "--teacher", teacher)
    assert refused.code == 3
    assert "the teacher takes 3 event frames, n-mnist has 2 event frames" in refused.complaint
    smaller = [word if word != "data.size=16" else "data.size=12" for word in words("n-mnist")]
    refused = cli("distill", *smaller, "--loss", "kl", "--teacher", teacher)
    assert (refused.code, "takes event frames [2, 16, 16], n-mnist has [2, 12, 12]" in refused.complaint) == (
        3,
        True,
    )
    assert "no finished teacher of this data" in cli("distill", *other, "--loss", "kl").complaint


def test_a_teacher_from_a_plain_file_of_weights(cli: Cli) -> None:
    """The network is told apart from its weights; `event_input` says how it looks at events."""
    model = ResNetConfig(width=4, event_input="stack")
    network = build_network(Specification(model=model, neuron=None, classes=10, shape=(2, 16, 16), frames=3))
    torch.save(network.body.state_dict(), "teacher.pt")
    given = [
        "--loss",
        "kl",
        "--teacher-weights",
        "teacher.pt",
        "--teacher-model",
        "resnet8",
        "--allow-weak-teacher",
    ]
    done = fine(
        cli(
            "distill",
            *words("n-mnist"),
            *given,
            "--set",
            "teacher.model.width=4",
            "--set",
            "teacher.model.event_input=stack",
            "--json",
        )
    )
    assert done.json["teacher"]["parameters"] == sum(p.numel() for p in network.parameters())
    refused = cli(
        "distill", *words("n-mnist"), *given, "--set", "teacher.model.width=4", "--set", "teacher.size=20"
    )
    assert (refused.code, "resnet8 takes [2, 20, 20]; event frames" in refused.complaint) == (2, True)


def test_micro_batches_features_and_validation(cli: Cli) -> None:
    """What cuts, looks into, or holds back a batch of event frames."""
    base = words("cifar10-dvs")
    fine(cli("teach", *base))
    fine(cli("distill", *base, *PLAIN, "--set", "execution.accumulate=2"))
    fine(cli("distill", *base, "--loss", "ckdsnn", "--allow-weak-teacher"))
    held = ["--set", "data.val_fraction=0.2", "--set", "train.select=best", "--batch-size", "8", "--json"]
    done = fine(cli("distill", *base, *PLAIN, *held)).json
    assert done["images"] == 10
    assert fine(cli("eval", done["run"], "--split", "val", "--json")).json["images"] == 6


def test_check_knows_sizes_before_the_data_are_there(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "none"))
    sizes = {}
    for sees in ("mean", "stack"):
        keys = "{name: cifar10-dvs, frames: 8, size: 32, test_fraction: 0.2}"
        Path("events.yaml").write_text(
            f"data: {keys}\nteach: {{model: {{event_input: {sees}}}}}\ndistill: {{loss: kl, train: {{batch_size: "
            f"100}}}}\n"
        )
        done = fine(cli("check", "./events.yaml"))
        assert "distill: 24,000 steps" in done.err  # 8,000 of 10,000 samples in 80 steps, 300 epochs
        assert "data cifar10-dvs is missing: cifar10-dvs is not under" in done.err
        assert "T: 8" in done.out
        sizes[sees] = next(line for line in done.err.splitlines() if line.startswith("teach: resnet8"))
    assert sizes["mean"] != sizes["stack"]  # 2 channels and 16


def test_missing_files_end_with_what_to_do(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "none"))
    for name, file in (("n-mnist", "Train.zip"), ("dvs128-gesture", "DvsGesture.tar.gz")):
        refused = cli("teach", "--data", name)
        assert refused.code == 3
        assert file in refused.complaint
        assert f"run `snnkd data {name} --from FOLDER`" in refused.complaint


def test_exports_answer_alike(cli: Cli) -> None:
    folder = fine(cli("distill", *words("n-mnist"), *PLAIN)).folder
    done = fine(cli("export", folder, "--format", "safetensors", "--json")).json
    assert (done["agreement"], done["T"], done["images"]) == (1.0, 3, 10)
    config = json.loads((folder / "config.json").read_text())
    assert (config["input"], config["frames"]) == ([2, 16, 16], 3)
    config["frames"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    refused = cli("eval", folder)
    assert (refused.code, "'frames' is 0" in refused.complaint) == (3, True)


USERS = """
import torch
from snnkd.models import encode_images

class Small(torch.nn.Module):
    def __init__(self, classes, shape, activation, still):
        super().__init__()
        self.conv, self.act, self.still = torch.nn.Conv2d(shape[0], 4, 3), activation(), still
        self.head = torch.nn.Linear(4, classes)

    def forward(self, images, T):
        x = self.conv(images).repeat(T, 1, 1, 1) if self.still else encode_images(self.conv, images, T)
        return self.head(self.act(3 * x, T).mean((2, 3))).unflatten(0, (T, -1))

def small(*, classes, shape, activation):
    return Small(classes, shape, activation, False)

def still(*, classes, shape, activation):
    return Small(classes, shape, activation, True)
"""


def test_a_network_of_the_users(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USERS)
    base = ["--data", "n-mnist", *KEYS["n-mnist"], "--epochs", "1", "--batch-size", "10"]
    fine(cli("distill", *base, *PLAIN, "--model", "mine:small"))
    fine(cli("teach", *base, "--model", "mine:small", "--set", "model.event_input=stack"))
    refused = cli("distill", *base, *PLAIN, "--model", "mine:still")
    assert refused.code == 2
    assert "mine:still: forward(images [1, 3, 2, 16, 16], 1) raised" in refused.complaint


def test_every_process_gets_its_part_of_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd.data.loader import TrainBatches

    config = SplitEventConfig(name="cifar10-dvs", frames=3, size=16, test_fraction=0.25)
    data = load_data(config, Console(quiet=True))
    whole, labels = TrainBatches(data.train, 10, config.augment, 0, torch.device("cpu")).batch(0, 1)
    parts = []
    for part in (slice(0, 5), slice(5, 10)):
        monkeypatch.setattr(distributed, "rank_slice", lambda total, part=part: part)
        parts.append(TrainBatches(data.train, 10, config.augment, 0, torch.device("cpu")).batch(0, 1))
    assert torch.equal(torch.cat([images for images, _ in parts], 1), whole)
    assert torch.equal(torch.cat([some for _, some in parts]), labels)


def test_energy_of_the_curve(cli: Cli) -> None:
    """4.6 pJ a MAC at every timestep, 0.9 pJ a synaptic operation."""
    done = fine(cli("distill", *words("dvs128-gesture"), *PLAIN, "--json")).json
    per_step = 4 * 2 * 9 * 16 * 16 + 16 * 11
    for entry in done["curve"]:
        wanted = (4.6 * entry["t"] * per_step + 0.9 * entry["synops"]) * 1e-9
        assert math.isclose(entry["energy_mj"], wanted, rel_tol=1e-9)
    assert np.all(np.diff([entry["synops"] for entry in done["curve"]]) >= 0)
