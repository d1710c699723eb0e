"""Neurons by name through the command line: trained, saved, resumed, measured, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, tiers
from processes.jobs import Jobs
from safetensors.torch import load_file

from snnkd import pipeline
from snnkd.catalog.neurons import NEURONS, describe_neuron
from snnkd.console import Console
from snnkd.errors import Preempted, UsageError
from snnkd.models.files import load_network
from snnkd.recipe import resolve_stage, resolve_tasks
from snnkd.runs.folder import identity, recipe_hash
from snnkd.schema.run import DistillRecipe
from snnkd.stopping import Stop

TINY = ["--set", "data.classes=4", "--set", "data.train_images=48", "--set", "data.test_images=20", "--set", "data.size=8",
        "--batch-size", 16, "--set", "model.width=4"]  # fmt: skip
DISTILL = ["distill", *TINY, "--epochs", 2, "--loss", "none", "--T", 2]
NAMES = [entry.name for entry in NEURONS]


@pytest.mark.parametrize("name", tiers(NAMES, ["lif", "plif", "glif", "clif", "psn", "izhikevich"]))
def test_every_neuron_trains_is_measured_and_exported(cli: Cli, name: str) -> None:
    made = cli(*DISTILL, "--neuron", name, "--out", "run", "--json")
    assert made.code == 0, made.err
    about = describe_neuron(name)
    assert (
        made.json["neuron"] == about["defaults"] == json.loads(Path("run/config.json").read_text())["neuron"]
    )
    assert [entry["t"] for entry in made.json["curve"]] == ([1, 2] if about["causal"] else [2])
    assert made.json["T"] == 2
    assert made.json["curve"][-1]["synops"] > 0
    assert 0 < made.json["rate"] < 1
    weights = load_file("run/model.safetensors")
    learned = sorted({key.rpartition(".")[2] for key in weights if key.startswith("body.act.")})
    assert learned == sorted(about["learned"])
    again = cli("eval", "run", "--json").json
    assert again["curve"] == made.json["curve"]
    exported = cli("export", "run", "--format", "safetensors", "--json")
    assert exported.code == 0, exported.err
    assert exported.json["agreement"] == 1


def test_learned_numbers_are_trained(cli: Cli) -> None:
    for name in ("plif", "glif", "psn"):
        for epochs in (1, 2):
            assert (
                cli(
                    *DISTILL, "--set", f"neuron.name={name}", "--epochs", epochs, "--out", f"{name}{epochs}"
                ).code
                == 0
            )
        one, two = (load_file(f"{name}{epochs}/model.safetensors") for epochs in (1, 2))
        for key in describe_neuron(name)["learned"]:
            assert not torch.equal(one[f"body.act.{key}"], two[f"body.act.{key}"]), (
                f"{name}: {key} is not trained"
            )


def test_no_curve_without_causality(cli: Cli) -> None:
    made = cli(*DISTILL, "--neuron", "psn", "--out", "run")
    assert "its neurons are not causal" in made.err
    result = json.loads(Path("run/result.json").read_text())
    assert "not causal" in result["curve_note"]
    for T in (1, 3):
        refused = cli("eval", "run", "--T", T)
        assert refused.code == 2
        assert refused.complaint.startswith(f"snnkd: --T {T}: psn is not causal; trained at T = 2")
    assert not Path("run/eval").exists()
    assert cli("eval", "run", "--T", 2).code == 0
    network = load_network(Path("run")).network
    with pytest.raises(UsageError, match="psn is not causal"):
        network(torch.zeros(1, 1, 8, 8), 1)


def test_numbers_of_each_timestep_bound_t(cli: Cli) -> None:
    assert cli(*DISTILL, "--neuron", "masked-psn", "--out", "run").code == 0
    assert [entry["t"] for entry in cli("eval", "run", "--T", 1, "--json").json["curve"]] == [1]
    refused = cli("eval", "run", "--T", 3)
    assert refused.code == 2
    assert (
        "--T 3: masked-psn has weights for each timestep; trained at T = 2, it runs for at most 2"
        in refused.complaint
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--neuron", "plfi"], "unknown neuron 'plfi'; did you mean 'plif'"),
        (["--neuron", "clif", "--set", "neuron.reset=soft"], "neuron.reset: clif has no such key"),
        (["--set", "neuron.surrogate=sigmoidal"], "neuron.surrogate: 'sigmoidal' is not one of sigmoid"),
        (["--neuron", "qif", "--set", "neuron.v_reset=0.2"], "neuron.v_reset: 0.2 is too large"),
        (["--neuron", "plif", "--set", "neuron.tau=1"], "neuron.tau: 1"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(cli: Cli, words: list[str], said: str) -> None:
    refused = cli(*DISTILL, *words)
    assert refused.code == 2
    assert said in refused.complaint
    assert not Path("runs").exists()


def test_a_pipeline_that_would_ask_for_a_curve_is_refused_at_once(cli: Cli) -> None:
    Path("recipe.yaml").write_text(
        "schema: 1\ndata: glyphs\ndistill: {loss: none, neuron: psn, model: {T: 4}}\neval: {T: 2}\n"
    )
    for command in (["check", "./recipe.yaml"], ["run", "./recipe.yaml"]):
        refused = cli(*command)
        assert refused.code == 2
        assert "eval.T: 2: psn is not causal" in refused.complaint


def resolved(*settings: str, **flags: Any) -> DistillRecipe:
    made = resolve_stage("glyphs", "distill", settings=settings, **flags)
    assert isinstance(made, DistillRecipe)
    return made


def test_a_name_replaces_the_section_and_a_setting_a_key() -> None:
    made = resolved("neuron.alpha=2", neuron="plif")
    assert (made.neuron.name, made.neuron.alpha, made.neuron.tau) == ("plif", 2.0, 2.0)  # type: ignore[attr-defined]
    assert (
        resolved("neuron=klif").neuron
        == resolved("neuron.name=klif").neuron
        == resolved(neuron="klif").neuron
    )
    assert resolved(neuron="if", loss="enof").neuron.last == "relu"  # type: ignore[attr-defined]


def test_every_neuron_is_a_run_of_its_own_and_lif_the_old_one() -> None:
    hashes = {name: recipe_hash(identity(resolved(neuron=name), "data", None)) for name in NAMES}
    assert len(set(hashes.values())) == len(NAMES)
    assert hashes["lif"] == recipe_hash(identity(resolved(), "data", None)) == "0691f7"


def test_neurons_can_be_swept(cli: Cli) -> None:
    Path("recipe.yaml").write_text(
        "schema: 1\nstage: distill\nloss: none\nneuron: {name: lif, tau: 3.0}\nmodel: {T: 2}\nsweep: {neuron: [lif, if, "
        "{name: psn, alpha: 2}]}\n"
    )
    found = [task.pipeline.distill.neuron for task in resolve_tasks("./recipe.yaml").all]  # type: ignore[union-attr]
    assert [neuron.name for neuron in found] == ["lif", "if", "psn"]
    assert found[0].tau == 2.0, "a swept neuron replaces the section"  # type: ignore[attr-defined]
    written = cli("check", "./recipe.yaml")
    Path("again.yaml").write_text(written.out)
    assert [task.pipeline.distill.neuron for task in resolve_tasks("./again.yaml").all] == found  # type: ignore[union-attr]


class StopAfter(Stop):
    """Asks to stop after so many steps, as a signal would."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def reason(self) -> str | None:
        import signal

        self._left -= 1
        if self._left < 0:
            self._signal = signal.SIGTERM
        return super().reason


def train(name: str, out: str, *settings: str, stop: Stop | None = None) -> bytes:
    words = [str(word) for word in TINY if "." in str(word)]
    recipe = resolved(*words, *settings, neuron=name, loss="none", T=2, epochs=2, batch_size=16)
    done = pipeline.distill(
        recipe, pipeline.RunContext(out=Path(out), console=Console(quiet=True), stop=stop or Stop())
    )
    return (done.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", [pytest.param("plif", marks=pytest.mark.nightly), "glif", "psn"])
def test_resumed_and_recomputed_runs_have_the_same_bytes(name: str) -> None:
    whole = train(name, "whole")
    with pytest.raises(Preempted):
        train(name, "stopped", stop=StopAfter(4))
    assert train(name, "stopped") == whole
    assert train(name, "recomputed", "execution.activation_checkpointing=true") == whole


@pytest.mark.parametrize("name", [pytest.param("plif", marks=pytest.mark.nightly), "psn"])
@pytest.mark.nightly  # other weights: processes/test_two_processes
def test_two_processes_keep_one_set_of_learned_numbers(torchrun: Jobs, tmp_path: Path, name: str) -> None:
    words = [*map(str, DISTILL), "--neuron", name, "--out", "run"]
    torchrun.done(tmp_path, words)
    left, right = (torch.load(tmp_path / f"weights-{i}.pt") for i in (0, 1))
    keys = [
        key for key in left if key.rpartition(".")[2] in describe_neuron(name)["learned"] and ".act" in key
    ]
    assert keys
    assert all(torch.equal(left[key], right[key]) for key in keys)


def test_a_student_with_learned_neurons_takes_over_a_teachers_weights(cli: Cli) -> None:
    assert cli("teach", *TINY, "--epochs", 1).code == 0
    words = [
        "distill",
        *TINY,
        "--epochs",
        1,
        "--loss",
        "sakd",
        "--T",
        2,
        "--allow-weak-teacher",
        "--neuron",
        "plif",
        "--out",
        "run",
    ]
    made = cli(*words)
    assert made.code == 0, made.err
    assert "body.act.w" in load_file("run/model.safetensors")


def test_bench_has_every_neuron_and_its_baseline_lif(cli: Cli) -> None:
    words = [
        "bench",
        "--batch-size",
        4,
        "--T",
        2,
        "--set",
        "data.size=8",
        "--set",
        "model.width=2",
        "--rounds",
        2,
    ]
    assert (
        cli(*words, "--set", "neuron.name=glif", "--set", "execution.compile=off", "--json").json[
            "images_per_s"
        ]
        > 0
    )
    for setting in ("neuron.name=plif", "neuron.surrogate=erf"):
        refused = cli(*words, "--baseline", "--set", setting)
        assert refused.code == 2
        assert "the baseline loop has" in refused.complaint


@pytest.mark.parametrize("T", [1, 2])
def test_a_network_of_your_own_takes_neurons_bound_to_t(cli: Cli, T: int) -> None:
    Path("mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes, shape, activation):\n"
        "        super().__init__()\n"
        "        self.conv, self.act, self.head = nn.Conv2d(shape[0], 4, 3, 1, 1), activation(), "
        "nn.Linear(4, classes)\n"
        "    def forward(self, images, T):\n"
        "        x = self.act(self.conv(images.repeat(T, 1, 1, 1)), T)\n"
        "        return self.head(x.mean((2, 3))).unflatten(0, (T, -1))\n"
        "def build(*, classes, shape, activation):\n"
        "    return Net(classes, shape, activation)\n"
    )
    words = list(TINY[:-2])
    for name in ("psn", "glif"):
        made = cli(
            "distill",
            *words,
            "--epochs",
            1,
            "--loss",
            "none",
            "--T",
            T,
            "--model",
            "mine:build",
            "--neuron",
            name,
            "--json",
        )
        assert made.code == 0, made.err
        assert made.json["curve"][-1]["t"] == T


def test_they_are_listed(cli: Cli) -> None:
    rows = cli("list", "neurons").out.splitlines()
    assert rows[0].split() == ["neuron", "learns", "causal", "description"]
    assert [row.split()[0] for row in rows[1:]] == NAMES
    found = cli("list", "neurons", "--json").json
    assert found["schema"] == 1
    assert {x["name"] for x in found["neurons"] if not x["causal"]} == {"psn"}
    assert found["neurons"][0]["defaults"]["tau"] == 2.0
    surrogates = cli("list", "surrogates", "--json").json["surrogates"]
    assert [x["name"] for x in surrogates][:2] == ["sigmoid", "atan"]


def test_an_old_config_without_new_keys_still_loads(cli: Cli) -> None:
    assert cli(*DISTILL, "--out", "run").code == 0
    shutil.copytree("run", "old")
    config = json.loads(Path("old/config.json").read_text())
    del config["neuron"]["last"]
    Path("old/config.json").write_text(json.dumps(config))
    assert cli("eval", "old", "--json").json["curve"] == cli("eval", "run", "--json").json["curve"]
    config["neuron"] = {**config["neuron"], "name": "nlif"}
    Path("old/config.json").write_text(json.dumps(config))
    refused = cli("eval", "old")
    assert refused.code == 3
    assert "unknown neuron 'nlif'" in refused.complaint
