"""From a recipe and flags to one checked recipe per stage."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnkd.catalog.losses import DIVERGENCES
from snnkd.errors import FileError, UsageError
from snnkd.recipe import dump_yaml, resolve_pipeline, resolve_stage, resolve_tasks
from snnkd.schema.loss import SoftmaxTerm
from snnkd.schema.run import DistillRecipe, TeachRecipe

# a recipe of one stage with every section
EXAMPLE = """\
# snnkd distill recipes/cifar100-resnet19-hta-kl.yaml
schema: 1
stage: distill
seed: 0
data: {name: cifar100, val_fraction: 0.0, augment: [crop, flip, autoaugment, cutout]}
teacher: {run: runs/teach-cifar100-resnet19-51ab0c-s0}   # its sha256 is added when the run starts
model: {name: resnet19, T: 4}
neuron: {name: lif, tau: 2.0, decay_input: false, threshold: 1.0, reset: hard, surrogate: sigmoid, alpha: 4.0, detach_reset: false}
loss:
  hard: {target: mean, weight: 1.0}
  terms: [{divergence: hta-kl, target: mean, weight: 1.0, temperature: 3.0, delta: 0.5, head: top1}]
train: {epochs: 300, batch_size: 128, lr: 0.1, momentum: 0.9, weight_decay: 5.0e-4, schedule: cosine, warmup_epochs: 0, select: last}
execution: {device: auto, precision: auto, compile: auto}   # never part of the identity
"""
PIPELINE = """\
data: {name: glyphs, classes: 10}
train: {batch_size: 50, lr: 0.2}
model: {name: resnet20, T: 6, width: 8}
loss: {name: hta-kl, head: strict}
teach: {seed: 100, train: {epochs: 3}}
distill: {train: {epochs: 4, lr: 0.05}, model: {width: 4}}
"""


def written(text: str) -> str:
    Path("mine.yaml").write_text(text)
    return "mine.yaml"


def distill(text: str = "stage: distill\nloss: none", **flags: object) -> DistillRecipe:
    made = resolve_stage(written(text), "distill", **flags)  # type: ignore[arg-type]
    assert isinstance(made, DistillRecipe)
    return made


def teach(text: str = "stage: teach", **flags: object) -> TeachRecipe:
    made = resolve_stage(written(text), "teach", **flags)  # type: ignore[arg-type]
    assert isinstance(made, TeachRecipe)
    return made


def refused(text: str = "stage: distill\nloss: none", stage: str = "distill", **flags: object) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_stage(written(text), stage, **flags)  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [str(caught.value)]
    return str(caught.value)


# shipped and designed recipes


def test_the_shipped_recipe_resolves_for_both_stages():
    teacher, student = resolve_stage("glyphs", "teach"), resolve_stage("glyphs", "distill")
    assert teacher.data == student.data
    assert (teacher.model.T, student.model.T) == (None, 4)
    assert student.loss.name == "hta-kl"
    whole = resolve_pipeline("glyphs")
    assert (whole.teach, whole.distill) == (teacher, student)
    assert whole.export.formats == ("safetensors",)


def test_the_designed_recipe_resolves_as_written():
    made = distill(EXAMPLE)
    assert made.data.augment == ("crop", "flip", "autoaugment", "cutout")
    assert (made.data.name, made.model.name, made.model.T, made.model.width) == (
        "cifar100",
        "resnet19",
        4,
        None,
    )
    assert made.teacher.run == "runs/teach-cifar100-resnet19-51ab0c-s0"
    assert made.loss.name == "hta-kl"  # not named there: the name of its only divergence
    assert made.loss.terms == (
        DIVERGENCES["hta-kl"].options(divergence="hta-kl", temperature=3.0, delta=0.5, head="top1"),
    )
    assert made.train.weight_decay == 5e-4


def test_what_is_written_there_are_the_defaults():
    assert (
        distill("stage: distill\ndata: cifar100\nmodel: resnet19\nloss: hta-kl").train
        == distill(EXAMPLE).train
    )
    assert distill("stage: distill\nloss: hta-kl").neuron == distill(EXAMPLE).neuron


def test_a_pipelines_section_lies_over_its_shared_keys():
    student, teacher = distill(PIPELINE), teach(PIPELINE)
    assert (student.train.epochs, student.train.batch_size, student.train.lr) == (4, 50, 0.05)
    assert (teacher.train.epochs, teacher.train.batch_size, teacher.train.lr) == (3, 50, 0.2)
    assert (student.seed, teacher.seed) == (0, 100)
    assert (student.model.name, student.model.width, student.model.T) == ("resnet20", 4, 6)
    assert student.loss.terms[0].head == "strict"


def test_a_shared_number_of_timesteps_is_not_the_teachers_but_its_own_is_refused():
    assert teach(PIPELINE).model.T is None
    assert "model.T: 2" in refused("teach: {model: {T: 2}}", "teach")
    assert "model.T: 2" in refused("stage: teach\nmodel: {T: 2}", "teach")


def test_a_loss_replaces_a_shared_loss_whole():
    made = distill("loss: {name: hta-kl, head: strict}\ndistill: {loss: {hard: {weight: 2}}}")
    assert made.loss.terms == ()
    assert made.loss.hard.weight == 2


def test_a_section_lies_over_a_shared_name():
    made = distill(
        "model: resnet20\ndata: cifar10\nloss: kl\ndistill: {model: {T: 2}, data: {augment: [flip]}}"
    )
    assert (made.model.name, made.model.T) == ("resnet20", 2)
    assert (made.data.name, made.data.augment) == ("cifar10", ("flip",))


# flags


def test_a_named_section_comes_with_its_defaults_and_keeps_the_timesteps():
    made = distill(PIPELINE, data="cifar10", model="resnet18", loss="kl")
    assert made.data.augment == ("crop", "flip")
    assert (made.model.name, made.model.T, made.model.width) == ("resnet18", 6, None)
    assert made.loss.name == "kl"
    assert made.loss.terms == (SoftmaxTerm(divergence="kl"),)
    assert made.train.epochs == 4


def test_flags_win_over_the_recipe():
    numbers = {"T": 2, "epochs": 9, "batch_size": 7, "lr": 0.5, "seed": 3, "temperature": 1.5}
    made = distill(PIPELINE, **numbers, device="cpu", teacher="there", allow_weak_teacher=True)
    assert (made.model.T, made.train.epochs, made.train.batch_size, made.train.lr, made.seed) == (
        2,
        9,
        7,
        0.5,
        3,
    )
    assert (made.execution.device, made.execution.allow_weak_teacher, made.teacher.run) == (
        "cpu",
        True,
        "there",
    )
    assert made.loss.terms[0].temperature == 1.5


def test_flags_apply_where_a_section_is_only_a_name():
    assert distill("stage: distill\nloss: none\nmodel: resnet20\ndata: cifar10", T=2).model.T == 2


def test_settings_apply_in_order_after_the_other_flags():
    made = distill(epochs=5, settings=["train.epochs=6", "train.lr=1", "train.lr=1e-4", "train.epochs=7"])
    assert (made.train.epochs, made.train.lr) == (7, 1e-4)


def test_another_data_set_keeps_of_the_section_what_every_data_set_has():
    section = "{name: glyphs, size: 16, classes: 7, val_fraction: 0.2, augment: [flip]}"
    recipe = f"stage: distill\nloss: none\ndata: {section}"
    made = distill(recipe, settings=["data.classes=5", "data.name=cifar10"])
    assert (made.data.name, made.data.augment, made.data.val_fraction) == ("cifar10", ("flip",), 0.2)
    assert made.data.classes == 5  # the setting's, not the recipe's
    assert distill(recipe, settings=["data.name=glyphs"]).data.classes == 7
    assert "data.size" in refused(recipe, settings=["data.size=16", "data.name=cifar10"])
    pipeline = resolve_pipeline("glyphs", ["data.name=mnist"])
    assert (pipeline.teach.data.name, pipeline.distill.data.name) == ("mnist", "mnist")


def test_settings_address_list_items_by_number():
    made = distill(
        loss="hta-kl",
        settings=[
            "loss.terms.0.weight=0",
            "loss.terms.0.head=cover",
            "data.augment=[crop, flip]",
            "data.augment.1=flip",
        ],
    )
    assert (made.loss.terms[0].weight, made.loss.terms[0].head) == (0, "cover")
    assert made.data.augment == ("crop", "flip")


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("train.epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("train.epoch=3", "did you mean 'train.epochs'"),
        ("trane.epochs=3", "did you mean 'train'"),
        ("train..epochs=3", "unknown key"),
        ("loss.terms.1.weight=0", "'1' is not an index"),
        ("loss.terms.-1.weight=0", "'-1' is not an index"),
        ("loss.terms.first.weight=0", "'first' is not an index"),
        ("loss.terms.0.delta.x=1", "loss.terms.0.delta"),
        ("data.augment.0.x=1", "data.augment.0 is 'crop'"),
        ("data.augment.0.x.y=1", "data.augment.0 is 'crop'"),
        ("train.lr=[1", "--set 'train.lr=[1'"),
        ("train.lr=a: b: c", "--set 'train.lr=a: b: c'"),
        ("train.lr=!!python/name:os.system", "tag"),
        ("train.lr=2024-13-45", "'2024-13-45' is not a number"),
        ("train.epochs=1:30", "'1:30' is not a whole number"),
        ("seed=" + "1" * 5000, "5000 characters"),
        ("train.lr=" + "[" * 3000, "--set"),
        ("train.lr=\nfast", "'fast'"),
    ],
)
def test_bad_settings(setting, hint):
    assert hint in refused(
        "stage: distill\ndata: {name: glyphs, augment: [crop]}\nloss: hta-kl", settings=[setting]
    )


def test_the_temperature_is_every_terms():
    text = (
        "stage: distill\nloss: {name: custom, terms: [{divergence: kl}, {divergence: rkl, temperature: 2}]}"
    )
    assert [term.temperature for term in distill(text, temperature=4.0).loss.terms] == [4.0, 4.0]


def test_the_temperature_is_refused_for_a_loss_without_terms():
    assert "'none'" in refused(loss="none", temperature=4.0)
    assert "--temperature 4.0" in refused(temperature=4.0)
    assert "too small" in refused(loss="kl", temperature=0.0)


# losses


@pytest.mark.parametrize(
    ("loss", "name", "divergences"),
    [
        ("none", "none", []),
        ("{name: kl}", "kl", ["kl"]),
        ("{name: hta-kl, head: strict}", "hta-kl", ["hta-kl"]),
        ("{terms: [{divergence: jeffreys}]}", "jeffreys", ["jeffreys"]),
        ("{hard: {weight: 2}}", "none", []),
        ("{terms: [{divergence: kl}, {divergence: rkl}]}", "custom", ["kl", "rkl"]),
        ("{name: custom, terms: [{divergence: kl}]}", "custom", ["kl"]),
    ],
)
def test_forms_of_a_loss(loss, name, divergences):
    made = distill(f"stage: distill\nloss: {loss}").loss
    assert made.name == name
    assert [term.divergence for term in made.terms] == divergences


@pytest.mark.parametrize(
    ("loss", "hint"),
    [
        ("hta_kl", "unknown loss 'hta_kl'; did you mean 'hta-kl'?"),
        ("{name: hta-kl, haed: strict}", "unknown key 'loss.haed'; did you mean 'head'?"),
        ("{name: kl, head: strict}", "loss.head"),
        ("{1: 2}", "unknown key 'loss.1'"),
        ("{name: hta-kl, head: round}", "'round' is not one of top1, strict, cover"),
        (
            "{name: custom, terms: [{divergence: htakl}]}",
            "unknown divergence 'htakl'; did you mean 'hta-kl'?",
        ),
        ("{name: custom, terms: [{divergence: kl, delta: 0.5}]}", "loss.terms.0.delta"),
        ("{name: custom}", "loss.terms"),
        ("{terms: kl}", "loss.terms: 'kl'"),
        ("{hard: {weight: -1}}", "loss.hard.weight: -1"),
        ("[kl]", "loss: ['kl']"),
        ("null", "loss: not given"),
        ("3", "loss: 3"),
    ],
)
def test_bad_losses(loss, hint):
    assert hint in refused(f"stage: distill\nloss: {loss}")


# refusals


def test_unknown_names_have_a_suggestion():
    assert "unknown data set 'glyps'; did you mean 'glyphs'?" in refused(data="glyps")
    assert "unknown model 'resnet81'; did you mean 'resnet8'?" in refused(model="resnet81")
    assert "lacks its PATH" in refused(data="npz")
    with pytest.raises(UsageError, match="unknown recipe 'glyph'; did you mean 'glyphs'"):
        resolve_stage("glyph", "teach")


def test_what_has_a_slash_or_ends_in_yaml_is_a_path():
    for path in ("./glyphs", "absent.yaml", "recipes/absent.yml"):
        with pytest.raises(FileError, match="no such file") as caught:
            resolve_stage(path, "teach")
        assert caught.value.exit_code == 3
    Path("mine").write_text("stage: teach")
    assert resolve_stage("./mine", "teach").stage == "teach"
    with pytest.raises(UsageError, match=r"for the file write \./mine"):
        resolve_stage("mine", "teach")


@pytest.mark.parametrize(
    ("text", "stage", "hint"),
    [
        ("stage: teach", "distill", "stage 'teach'; this command runs 'distill'"),
        ("stage: distil", "distill", "'distil'"),
        ("teach: {}", "distill", "nor a section 'distill'"),
        ("seed: 1", "teach", "nor a section 'teach'"),
        ("distill: {}\ndistil: {}", "distill", "unknown key 'distil'; did you mean 'distill'?"),
        ("distill: 3", "distill", "distill: 3"),
        ("stage: teach\nloss: kl", "teach", "unknown key 'loss'"),
        ("stage: teach\nschema: 2", "teach", "schema: 2"),
        ("stage: distill\ndata: [glyphs]", "distill", "data: ['glyphs']"),
        ("stage: teach\ntrain: {epochs: 3, warmup_epochs: 4}", "teach", "train.warmup_epochs: 4"),
        ("stage: teach\ntrain: {select: best}", "teach", "data.val_fraction"),
        ("stage: teach\ndata: {augment: [crop, flip, crop]}", "teach", "['crop', 'flip', 'crop']"),
        ("stage: teach\nexecution: {device: gpu}", "teach", "'gpu'"),
        ("stage: teach\nseed: -1", "teach", "seed: -1"),
    ],
)
def test_recipes_that_are_refused(text, stage, hint):
    assert hint in refused(text, stage)


def test_warmup_may_fill_the_training_and_best_may_have_a_hold_out():
    assert (
        teach(
            "stage: teach\ntrain: {epochs: 3, warmup_epochs: 3, select: best}\ndata: {val_fraction: 0.1}"
        ).train.select
        == "best"
    )
    assert (
        teach("stage: teach\ntrain: {select: best}\ndata: npz:mine.npz").train.select == "best"
    )  # it may bring its own


def test_a_comparison_is_a_section_of_recipes_with_students():
    made = resolve_pipeline(written(f"{PIPELINE}compare: {{baseline: kl}}"), ["compare.rank_on=val"])
    assert (made.compare.baseline, made.compare.rank_on, made.compare.split) == ("kl", "val", "test")
    with pytest.raises(UsageError, match="'compare' needs a section 'distill'; teachers are not compared"):
        resolve_pipeline(written("teach: {}\ncompare: {baseline: kl}"))


def test_a_pipelines_settings_lie_over_every_stage_that_has_the_key():
    """But those that begin with a section of the pipeline are paths from the top."""
    made = resolve_pipeline(
        written(PIPELINE),
        ["distill.train.epochs=1", "train.lr=0.3", "loss.terms.0.weight=0", "data.classes=5"],
    )
    assert made.distill.train.epochs == 1
    assert (made.teach.train.lr, made.distill.train.lr) == (0.3, 0.3)
    assert made.distill.loss.terms[0].weight == 0
    assert made.teach.data.classes == made.distill.data.classes == 5
    assert made.eval is None


def test_a_shared_setting_wins_over_a_path_from_the_top():
    for order in (1, -1):
        made = resolve_pipeline(written(PIPELINE), ["train.epochs=1", "distill.train.epochs=2"][::order])
        assert (made.teach.train.epochs, made.distill.train.epochs) == (1, 1)


def test_shared_timesteps_are_the_students():
    made = resolve_pipeline(
        "glyphs", ["model.T=2", "model.width=4", "data.noise=0.5", "train.epochs=1", "neuron.tau=3"]
    )
    assert (made.teach.model.T, made.distill.model.T) == (None, 2)
    for stage in (made.teach, made.distill):
        assert (stage.model.width, stage.data.noise, stage.train.epochs) == (4, 0.5, 1)
    assert made.distill.neuron.tau == 3


@pytest.mark.parametrize(
    ("text", "setting", "hint"),
    [
        (PIPELINE, "los=kl", "unknown key 'los'; did you mean 'loss'"),
        (PIPELINE, "tain.epochs=1", "unknown key 'tain'; did you mean 'train'"),
        (PIPELINE, "train.epoch=1", "teach: unknown key 'train.epoch'; did you mean 'train.epochs'"),
        (PIPELINE, "stage=teach", "stage"),
        ("teach: {}", "loss=kl", "unknown key 'loss'"),
        ("teach: {}", "model.T=2", "model"),
    ],
)
def test_settings_that_no_stage_has_are_refused(text, setting, hint):
    with pytest.raises(UsageError) as caught:
        resolve_pipeline(written(text), [setting])
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("teach: {}\ntrian: {epochs: 1}", "unknown key 'trian'; did you mean 'train'"),
        ("schema: 7\nteach: {}", "schema: 7"),
        ("schema: 7\nstage: teach", "schema: 7"),
        ("schema: 1\nseed: 0", "no stage; add"),
        ("{}", "no stage; add"),
        ("teach: {stage: teach}", "teach.stage"),
        ("stage: tech", "'tech'"),
    ],
)
def test_pipelines_that_are_refused(text, hint):
    with pytest.raises(UsageError) as caught:
        resolve_pipeline(written(text))
    assert hint in str(caught.value)


def test_numbers_of_settings_are_decimal():
    assert distill(settings=["seed=010"]).seed == 10
    assert distill(settings=["data.noise=1e-2"]).data.noise == 0.01
    assert distill(settings=["data.seed=1e3"]).data.seed == 1000


def test_a_recipe_of_one_stage_is_a_pipeline_of_one():
    made = resolve_pipeline(written("stage: teach"), ["train.epochs=1"])
    assert made.teach.train.epochs == 1
    assert made.distill is None


# keys without effect


def test_a_student_needs_a_loss():
    for text in ("stage: distill", "stage: distill\nloss: {}", "distill: {}"):
        assert "loss: not given; add --loss NAME" in refused(text)
    assert distill("stage: distill", loss="none").loss.name == "none"
    assert distill("stage: distill\nloss: {hard: {target: step}}").loss.hard.target == "step"
    swept = "distill: {}\nsweep: {distill.loss: [none, kl]}"
    assert "distill.loss: mine.yaml sweeps it; choose one with --loss NAME" in refused(swept)
    assert [task.pipeline.distill.loss.name for task in resolve_tasks("mine.yaml").all] == ["none", "kl"]
    assert distill(swept, loss="tet").loss.name == "tet"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"teacher": "missing"}, "--teacher missing: loss none uses no teacher; remove it"),
        ({"teacher": "latest"}, "--teacher latest: loss none uses no teacher; remove it"),
        ({"teacher": "w.pt", "teacher_model": "resnet8"}, "--teacher w.pt: loss none uses no teacher"),
        ({"settings": ["teacher.run=x"]}, "teacher.run: x, but loss none uses no teacher; remove it"),
        ({"settings": ["teacher.sha256=1a"]}, "teacher.sha256: 1a, but loss none uses no teacher"),
        (
            {"settings": ["loss=kl", "loss.hard.weight=0", "train.label_smoothing=0.1"]},
            "loss.hard.weight is 0",
        ),
        ({"settings": ["neuron={name: qif, reset: soft, v_reset: -1}"]}, "neuron.v_reset: -1.0, but"),
        ({"settings": ["neuron={name: izhikevich, tau_w: 3}"]}, "neuron.tau_w: 3.0, but"),
    ],
)
def test_what_would_be_ignored_is_refused(flags, message):
    assert message in refused(**flags)


@pytest.mark.parametrize(
    "text", ["loss: kl", "loss: none\ntrain: {init: teacher}", "loss: seal", "loss: kdsnn-feature"]
)
def test_a_teacher_that_is_used_is_taken(text):
    assert (
        distill(f"stage: distill\n{text}", teacher="runs/x", allow_weak_teacher=True).teacher.run == "runs/x"
    )


def test_a_teacher_beside_the_one_that_is_trained_is_refused():
    text = "teach: {}\ndistill: {loss: kl}"
    for key in ("teacher.run", "distill.teacher.run"):
        with pytest.raises(UsageError, match=r"teacher\.run: runs/x, but the section 'teach' trains the"):
            resolve_pipeline(written(text), [f"{key}=runs/x"])
    assert distill(text, teacher="runs/x").teacher.run == "runs/x", "one stage trains no teacher"


def test_a_sweep_may_have_losses_without_a_teacher_beside_others():
    shared = "teacher: runs/x\ndistill: {}\nsweep: {distill.loss: [none, kl]}"
    assert len(resolve_tasks(written(shared)).all) == 2
    with pytest.raises(UsageError, match=r"teacher\.run: runs/x, but loss none uses no teacher"):
        resolve_tasks(written(shared.replace("none, kl", "none, tet")))
    assert "--teacher runs/y: loss tet uses no teacher" in refused(shared, loss="tet", teacher="runs/y")


def test_a_shared_key_that_no_stage_takes_is_refused():
    for key in ("loss: kl", "model: {T: 4}", "neuron: plif", "teacher: runs/x"):
        with pytest.raises(
            UsageError, match=r"only a student takes it, and mine\.yaml has no section distill"
        ):
            resolve_stage(written(f"{key}\nteach: {{}}"), "teach")


# round trip


def again(made: DistillRecipe | TeachRecipe) -> object:
    Path("again.yaml").write_text(dump_yaml(made))
    return resolve_stage("again.yaml", made.stage)


@pytest.mark.parametrize("text", [EXAMPLE, PIPELINE, "stage: distill\nloss: none"])
def test_a_resolved_recipe_resolves_to_itself(text):
    made = distill(text)
    assert again(made) == made


optional = {
    "data": st.sampled_from(["glyphs", "cifar10", "cifar100", "npz:a/b c.npz"]),
    "model": st.sampled_from(["resnet8", "resnet18", "resnet19", "resnet20"]),
    "T": st.integers(1, 1024),
    "epochs": st.integers(1, 1000),
    "batch_size": st.integers(2, 1000),
    "lr": st.floats(1e-300, 1e38),
    "seed": st.integers(0, 2**63 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
    "teacher": st.sampled_from(["latest", "runs/a b", "../ä: [x]", "1e5", "null", "2020-01-01"]),
    "allow_weak_teacher": st.booleans(),
}
losses = st.sampled_from(["none", "kl", "rkl", "jeffreys", "hta-kl"])
temperatures = st.none() | st.floats(1e-6, 1e6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=optional), losses, temperatures, st.floats(1e-9, 1e9))
def test_whatever_the_flags_the_resolved_recipe_resolves_to_itself(flags, loss, temperature, weight):
    flags = {**flags, "loss": loss, "temperature": temperature}
    if loss == "none":
        flags |= {"temperature": None, "teacher": None, "allow_weak_teacher": False}
    made = distill(PIPELINE, **flags, settings=[f"loss.hard.weight={weight!r}", "train.weight_decay=1e-4"])
    assert made.loss.hard.weight == weight
    assert again(made) == made


def test_no_torch_is_imported():
    code = (
        "import sys; from snnkd.recipe import *; resolve_stage('glyphs', 'distill'); print('torch' in "
        "sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
