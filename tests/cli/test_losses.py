"""Every published method through the command line: listed, explained, trained, stopped and continued."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import DATA, SMALL, Cli, run_in, tiers

from snnkd.catalog.losses import DIVERGENCES, LOSSES, divergence
from snnkd.schema.options import option

NAMES = [entry.name for entry in LOSSES]
WITHOUT_TEACHER = {"none", "tet", "tks", "w2s", "s2w"}
WITH_ALIGNER = {"kdsnn-feature", "bkdsnn", "enof"}
ONE_OF_EACH_STATE = ["none", "hta-kl", "tks", "bkdsnn", "ckdsnn", "enof", "sakd"]
"""No teacher; plain; scheduled weights; aligner and random channels; noise; last relu; the
teacher's weights."""
DEFAULT = ["tks", "bkdsnn", "ckdsnn", "sakd"]
"""Those with more state than weights; the others stop and continue in training/test_resume."""
ONE_EPOCH = [*DATA, "--epochs", 1, "--batch-size", 50, "--set", "model.width=4", "--T", 2]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, Path]:
    """A teacher of the student's width, and a wider one that needs aligners."""

    root = tmp_path_factory.mktemp("teachers")
    made = {}
    for name, width in (("same", 4), ("wider", 6)):
        words = [*SMALL, "--set", f"model.width={width}", "--out", name]
        done = run_in(root, data_folder, "teach", *words)
        assert done.code == 0, done.err
        made[name] = root / name
    return made


@pytest.mark.parametrize("loss", tiers(NAMES, DEFAULT))
def test_it_trains_stops_continues_and_ends_as_if_it_never_stopped(
    cli: Cli, teachers: dict[str, Path], loss: str
) -> None:
    teacher = teachers["wider" if loss in WITH_ALIGNER else "same"]
    words = [*ONE_EPOCH, "--loss", loss, "--allow-weak-teacher"]
    words += [] if loss in WITHOUT_TEACHER else ["--teacher", teacher]
    whole = cli("distill", *words, "--out", "whole", "--json")
    assert whole.code == 0, whole.err
    assert whole.json["loss"]["name"] == loss
    assert (whole.json["teacher"] is None) == (loss in WITHOUT_TEACHER)
    stopped = [cli("distill", *words, "--out", "parts", "--max-time", "0s") for _ in range(2)]
    assert [ended.code for ended in stopped] == [75, 75]
    assert "after step 2 of 6" in stopped[-1].complaint
    assert cli("distill", *words, "--out", "parts").code == 0
    for file in ("model.safetensors", "metrics.jsonl"):
        parts, at_once = (_without_times(Path(run, file).read_bytes()) for run in ("parts", "whole"))
        assert parts == at_once, file


def _without_times(content: bytes) -> bytes:
    return re.sub(rb'"(images_per_s|seconds|cpu_seconds)": [\d.]+', b"", content)


@pytest.mark.parametrize("loss", sorted(WITH_ALIGNER))
def test_the_aligner_is_in_the_checkpoint_and_not_in_the_student(
    cli: Cli, teachers: dict[str, Path], loss: str
) -> None:
    import torch
    from safetensors.torch import load_file

    words = [
        *ONE_EPOCH,
        "--loss",
        loss,
        "--teacher",
        teachers["wider"],
        "--allow-weak-teacher",
        "--out",
        "run",
    ]
    assert cli("distill", *words, "--max-time", "0s").code == 75
    first = _aligner("run/last.pt")
    assert first
    assert cli("distill", *words, "--set", "execution.keep_state=true").code == 0
    last = _aligner("run/last.pt")
    assert any(not torch.equal(first[key], last[key]) for key in first), "it is trained"
    assert not any("aligner" in key or "feature" in key for key in load_file("run/model.safetensors"))


def _aligner(path: str) -> dict[str, object]:
    import io

    import torch

    content = Path(path).read_bytes()
    state = torch.load(io.BytesIO(content[content.index(b"\n") + 1 :]), weights_only=True)
    return dict(state["objective"])


@pytest.mark.parametrize("loss", tiers(NAMES, ["hta-kl", "lasnn", "sakd"]))
def test_what_a_name_stands_for_is_a_recipe_of_the_same_run(cli: Cli, loss: str) -> None:
    """`list losses NAME` pasted under `stage: distill` names the run that `--loss NAME` names."""
    printed = cli("list", "losses", loss)
    assert printed.code == 0
    Path("pasted.yaml").write_text("schema: 1\nstage: distill\n" + printed.out)
    Path("plain.yaml").write_text("schema: 1\nstage: distill\nloss: none\n")
    pasted, named = (
        cli("check", file, "--json", *words).json
        for file, words in (("pasted.yaml", ()), ("plain.yaml", ("--set", f"loss={loss}")))
    )
    assert pasted["recipe"] == named["recipe"]


def test_the_table_says_source_year_teacher_and_basis(cli: Cli) -> None:
    listed = {x["name"]: x for x in cli("list", "losses", "--json").json["losses"]}
    assert list(listed) == NAMES
    assert {name for name, x in listed.items() if not x["needs_teacher"]} == WITHOUT_TEACHER
    assert {x["basis"] for x in listed.values()} == {"textbook", "read", "reconstructed"}
    assert all(x["source"] and x["year"] for name, x in listed.items() if x["basis"] != "textbook")
    assert all(x["note"] for x in listed.values() if x["basis"] == "reconstructed"), "it says which part"
    lines = {line.split()[0]: line for line in cli("list", "losses").out.splitlines()}
    assert lines["twsnn"].split()[1:4] == ["2025", "yes", "read"]
    assert "arXiv 2501.15925" in lines["twsnn"]


def test_bibtex(cli: Cli) -> None:
    everything = cli("list", "losses", "--bibtex").out
    keys = re.findall(r"^@\w+\{(\w+),$", everything, re.M)
    assert len(keys) == len(set(keys)) >= 20
    listed = cli("list", "losses", "--json").json["losses"]
    assert {key for x in listed for key in x["bibtex"]} == set(keys)
    assert everything.count("{") == everything.count("}")
    one = cli("list", "losses", "hta-kl", "--bibtex").out
    assert "2504.20445" in one
    assert "2404.02657" in one


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "losses", "twsn"], "did you mean 'twsnn'"),
        (["list", "losses", "none", "--bibtex"], "has no reference"),
        (["list", "models", "resnet8"], "is for losses only"),
        (["list", "data", "--bibtex"], "is for losses only"),
        (
            ["distill", "--loss", "w2s", "--T", "1"],
            "loss.terms.0.target: strong compares timesteps; set model.T to at least 2",
        ),
        (["distill", "--loss", "seal", "--T", "1"], "loss.terms.1.against: other-steps compares timesteps"),
        (["distill", "--loss", "tet", "--temperature", "2"], "has no temperature; omit it"),
        (["distill", "--loss", "mse", "--temperature", "2"], "has no temperature; omit it"),
        (
            ["teach", "--set", "train.init=teacher"],
            "train.init: teacher, but a teacher has none",
        ),
        (["distill", "--loss", "kl", "--set", "loss.against=other-steps"], "it needs target: step"),
        (["distill", "--set", "loss.terms=[{divergence: kl, penalty: confidence}]"], "a term has one of"),
    ],
)
def test_a_wrong_request_says_what_is_right(cli: Cli, words: list[str], said: str) -> None:
    ended = cli(*words)
    assert ended.code == 2
    assert said in ended.complaint


def test_features_that_are_not_there(cli: Cli, teachers: dict[str, Path]) -> None:
    words = [*ONE_EPOCH, "--loss", "lasnn", "--teacher", teachers["same"], "--allow-weak-teacher"]
    ended = cli("distill", *words, "--set", "loss.student=[stage9]", "--set", "loss.teacher=[stage1]")
    assert ended.code == 2
    assert "has no feature 'stage9'; it has stage1, stage2, stage3" in ended.complaint


def test_named_features_are_compared(cli: Cli, teachers: dict[str, Path]) -> None:
    words = [*ONE_EPOCH, "--loss", "lasnn", "--teacher", teachers["same"], "--allow-weak-teacher"]
    ended = cli(
        "distill", *words, "--set", "loss.student=[stage1]", "--set", "loss.teacher=[stage2]", "--json"
    )
    assert ended.code == 0, ended.err
    assert ended.json["loss"]["terms"][0]["teacher"] == ["stage2"]


def test_sakd_needs_a_teacher_of_its_own_architecture(cli: Cli, teachers: dict[str, Path]) -> None:
    ended = cli(
        "distill",
        *ONE_EPOCH,
        "--loss",
        "sakd",
        "--teacher",
        teachers["wider"],
        "--allow-weak-teacher",
        "--out",
        "run",
    )
    assert ended.code == 2
    assert "train.init: teacher: weights of resnet8 do not fit" in ended.complaint


def test_sakd_starts_from_the_teachers_weights(cli: Cli, teachers: dict[str, Path]) -> None:
    """With next to no learning rate the student's weights stay those of the teacher."""
    import torch
    from safetensors.torch import load_file

    words = [
        *ONE_EPOCH,
        "--loss",
        "sakd",
        "--teacher",
        teachers["same"],
        "--allow-weak-teacher",
        "--out",
        "run",
        "--lr",
        "1e-30",
    ]
    assert cli("distill", *words).code == 0
    student, teacher = load_file("run/model.safetensors"), load_file(teachers["same"] / "model.safetensors")
    assert torch.equal(student["body.conv.weight"], teacher["body.conv.weight"])


def test_enof_replaces_the_last_spikes(cli: Cli, teachers: dict[str, Path]) -> None:
    words = [*ONE_EPOCH, "--teacher", teachers["same"], "--allow-weak-teacher", "--json"]
    enof, kl = (
        cli("distill", *words, "--loss", "enof", "--out", "enof"),
        cli("distill", *words, "--loss", "kl", "--out", "kl"),
    )
    assert enof.code == kl.code == 0
    assert len(enof.json["rate_per_layer"]) == len(kl.json["rate_per_layer"]) - 1
    assert json.loads(Path("enof/config.json").read_text())["neuron"]["last"] == "relu"
    spiking = ["--loss", "enof", "--set", "neuron.last=spike", "--out", "spiking"]
    refused = cli("distill", *words, *spiking)
    assert refused.code == 2
    assert (
        "neuron.last: 'spike', but the loss 'enof' needs relu; change it, or set loss.name: custom"
        in refused.complaint
    )
    named = cli("distill", *words, *spiking, "--set", "loss.name=custom")
    assert len(named.json["rate_per_layer"]) == len(kl.json["rate_per_layer"])


def test_a_loss_takes_what_belongs_to_it_along(cli: Cli) -> None:
    """Replacing enof in its own complete recipe by another loss brings the spikes back."""
    Path("enof.yaml").write_text(cli("check", "glyphs", "--set", "distill.loss=enof").out)
    for loss, last in (("kl", "spike"), ("enof", "relu")):
        recipe = cli("check", "enof.yaml", "--json").json["recipe"]["distill"]
        assert recipe["neuron"]["last"] == "relu"
        Path("student.yaml").write_text(json.dumps({"schema": 1, "stage": "distill", **recipe}))
        stopped = cli("distill", "student.yaml", *ONE_EPOCH, "--loss", loss, "--teacher", "nowhere")
        assert stopped.code == 3
        from snnkd.recipe import resolve_stage

        made = resolve_stage("./student.yaml", "distill", loss=loss)
        assert made.neuron.last == last  # type: ignore[attr-defined]


def test_a_divergence_declared_outside_the_package_trains_by_its_name(
    cli: Cli, teachers: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the call that the catalogue uses; its option has range, help and a place in the result."""
    for registry in (DIVERGENCES, LOSSES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    Path("outside.py").write_text(
        "def gap(student, teacher, *, temperature=1.0, labels=None, power=2.0):\n"
        "    q, p = ((z / temperature).softmax(-1) for z in (student, teacher.detach()))\n"
        "    return temperature**2 * ((p - q).abs() ** power).sum(-1).mean()\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    power = option(2.0, 1, 4, "Power of the difference of probabilities.")
    divergence("gap", "distance of distributions", "outside:gap", basis="textbook", power=power)
    words = [*ONE_EPOCH, "--teacher", teachers["same"], "--allow-weak-teacher", "--loss", "gap"]
    ended = cli("distill", *words, "--set", "loss.power=3", "--out", "run", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["loss"]["terms"][0]["power"] == 3.0
    assert json.loads(Path("run/metrics.jsonl").read_text())["gap"] > 0
    assert "power: 2.0  # Power of the difference" in cli("list", "losses", "gap").out
    assert "gap" in {row["name"] for row in cli("list", "losses", "--json").json["losses"]}
    refused = cli("distill", *words, "--set", "loss.power=5")
    assert refused.code == 2
    assert "loss.terms.0.power: 5.0 is too large; it must be at most 4" in refused.complaint
