"""The losses: divergences, penalties and feature terms, and the published methods composed of them.

A call of `divergence`, `penalty`, `feature` or `loss` declares everything of a name but its function. `basis`
is where a formula comes from: textbook, read (in code of the authors or others, or in a text that quotes it),
or reconstructed (partly inferred, remembered or only noted); `note` tells which part, and which numbers are
ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnkd.catalog.registry import Entry, Registry, SectionEntry
from snnkd.schema import loss as s
from snnkd.schema.options import Option, make_section, option

Section = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TargetEntry(Entry):
    """Logits that a divergence compares: a function (BatchOutputs, temperature) to logits `[R, B, C]`."""

    needs_timesteps: bool = False
    """Compares timesteps, so that T must be at least 2."""
    one_label: bool = False
    """Needs the one true label of an image, which mixed images do not have."""
    across_batch: bool = False
    """Compares the samples of a batch, so that micro-batches would change the loss."""


@dataclass(frozen=True, kw_only=True)
class DivergenceEntry(SectionEntry):
    """A function of student and teacher logits `[B, C]` to a scalar, and the properties it is tested for."""

    with_stats: str = ""
    """Function that returns the divergence and a mapping of scalars to log."""
    one_label: bool = False
    across_batch: bool = False
    shift_invariant: bool = True
    """Unchanged by a constant added to all logits of a sample."""
    constant_weights: bool = False
    """Weighs by detached numbers, so that the gradient is not that of the value."""
    zero_at_teacher: bool = True
    """0 for a student that equals its teacher."""

    @property
    def function_name(self) -> str:
        """Its name in `snnkd.losses`."""
        return self.target.partition(":")[2]


@dataclass(frozen=True, kw_only=True)
class FeatureEntry(SectionEntry):
    """A module over pairs of features; `student` and `teacher` are the features it takes by default."""

    student: str
    """A feature by name; `last` or `stages`: the last stage, or every stage, of the network."""
    teacher: str
    """As `student`; a feature by name is the only one it takes."""
    across_batch: bool = False
    needs_maps: bool = False
    """Compares maps `[C, H, W]` only."""
    needs_classifier: bool = False
    """Runs the teacher's last layer."""


@dataclass(frozen=True, kw_only=True)
class LossEntry(Entry):
    """A loss by name: its `loss:` section and its source."""

    section: Section
    basis: str
    source: tuple[str, ...] = ()
    """Keys of references.bib, first the paper that it is named after."""
    note: str = ""
    overrides: Mapping[str, Section]
    """Keys outside `loss:` that belong to the method, by section."""


# fmt: off
TARGETS = Registry("target", [
    TargetEntry("mean", "the mean over time", "snnkd.losses.targets:mean"),
    TargetEntry("step", "every timestep, averaged", "snnkd.losses.targets:step"),
    TargetEntry("strong", "the timestep of highest mean confidence", "snnkd.losses.targets:strong",
                needs_timesteps=True, across_batch=True),
    TargetEntry("weak", "the timestep of lowest mean confidence", "snnkd.losses.targets:weak",
                needs_timesteps=True, across_batch=True),
])
"""Values of a term's `target`: which of the student's logits the divergence takes."""

AGAINST = Registry("comparison", [
    TargetEntry("teacher", "the teacher's logits", "snnkd.losses.targets:teacher"),
    TargetEntry("correct-mean", "mean of the timesteps that predict the label",
                "snnkd.losses.targets:correct_mean", one_label=True),
    TargetEntry("correct-sum", "sum of the timesteps that predict the label",
                "snnkd.losses.targets:correct_sum", one_label=True),
    TargetEntry("strong", "the timestep of highest mean confidence", "snnkd.losses.targets:strong",
                needs_timesteps=True, across_batch=True),
    TargetEntry("weak", "the timestep of lowest mean confidence", "snnkd.losses.targets:weak",
                needs_timesteps=True, across_batch=True),
    TargetEntry("other-steps", "for each timestep a mixture of the others",
                "snnkd.losses.targets:other_steps", needs_timesteps=True),
])
"""Values of a term's `against`: the teacher's logits, or those of the student's own timesteps, detached."""
# fmt: on

DIVERGENCES = Registry(
    "divergence",
    user=DivergenceEntry(
        "MODULE:FUNCTION",
        "your own function of student and teacher logits",
        "snnkd.losses.user:load_divergence",
        options=s.UserTerm,
        one_label=True,  # it gets the labels and the batch, and may use them
        across_batch=True,
    ),
)
PENALTIES: Registry[SectionEntry] = Registry("penalty")
FEATURES: Registry[FeatureEntry] = Registry("feature term")
KINDS: dict[str, Registry[Any]] = {"divergence": DIVERGENCES, "penalty": PENALTIES, "feature": FEATURES}
"""The key that names a term, and the registry of its values."""
LOSSES = Registry(
    "loss",
    user=LossEntry(
        "MODULE:FUNCTION",
        "cross-entropy + your own function of student and teacher logits",
        section={},
        basis="",
        overrides={},
    ),
)


def divergence(
    name: str,
    help: str,
    target: str,
    *,
    keys: type[s.DivergenceTerm] = s.SoftmaxTerm,
    basis: str,
    source: str = "",
    note: str = "",
    preset: Section | None = None,
    aliases: tuple[str, ...] = (),
    with_stats: str = "",
    one_label: bool = False,
    across_batch: bool = False,
    shift_invariant: bool = True,
    constant_weights: bool = False,
    zero_at_teacher: bool = True,
    **options: Any,
) -> None:
    """Declare a divergence, and the loss of that name: cross-entropy and divergence on the time mean.

    `keys` is the section that it extends by `options`: an Option each, or a new default for a key of `keys`.
    `preset` holds keys of its term in the loss.
    """
    DIVERGENCES.add(
        DivergenceEntry(
            name,
            help,
            target,
            aliases=aliases,
            options=make_section(name, keys, options),
            with_stats=with_stats,
            one_label=one_label,
            across_batch=across_batch,
            shift_invariant=shift_invariant,
            constant_weights=constant_weights,
            zero_at_teacher=zero_at_teacher,
        )
    )
    term = {"divergence": name, **(preset or {})}
    loss(
        name, f"cross-entropy + {help}", terms=[term], basis=basis, source=source, note=note, aliases=aliases
    )


def penalty(name: str, help: str, target: str, **options: Option) -> None:
    """Declare a penalty on the student's logits alone."""
    PENALTIES.add(SectionEntry(name, help, target, options=make_section(name, s.PenaltyTerm, options)))


def feature(
    name: str,
    help: str,
    target: str,
    *,
    student: str = "stages",
    teacher: str = "stages",
    across_batch: bool = False,
    needs_maps: bool = False,
    needs_classifier: bool = False,
    **options: Option,
) -> None:
    """Declare a distance between features of student and teacher."""
    FEATURES.add(
        FeatureEntry(
            name,
            help,
            target,
            options=make_section(name, s.FeatureTerm, options),
            student=student,
            teacher=teacher,
            across_batch=across_batch,
            needs_maps=needs_maps,
            needs_classifier=needs_classifier,
        )
    )


def loss(
    name: str,
    help: str,
    *,
    hard: Section | None = None,
    terms: list[dict[str, Any]] | None = None,
    basis: str,
    source: str = "",
    note: str = "",
    aliases: tuple[str, ...] = (),
    overrides: Mapping[str, Section] | None = None,
) -> None:
    """Declare a loss: its `loss:` section, and in `overrides` the method's keys of other sections."""
    LOSSES.add(
        LossEntry(
            name,
            help,
            aliases=aliases,
            section={"hard": hard or {}, "terms": terms or []},
            basis=basis,
            source=tuple(source.split()),
            note=note,
            overrides=overrides or {},
        )
    )


# fmt: off
loss("none", "direct training: cross-entropy alone", basis="textbook")
divergence("kl", "forward KL(teacher || student)", "snnkd.losses.divergences:kl",
           basis="textbook", source="hinton2015")
divergence("rkl", "reverse KL(student || teacher)", "snnkd.losses.divergences:rkl", basis="textbook")
divergence("jeffreys", "forward plus reverse KL", "snnkd.losses.divergences:jeffreys",
           basis="textbook", source="jeffreys1946")
divergence("js", "Jensen-Shannon divergence", "snnkd.losses.divergences:js",
           basis="textbook", source="lin1991")
divergence("ce", "cross-entropy with the teacher's distribution", "snnkd.losses.divergences:ce",
           basis="textbook", source="hinton2015", zero_at_teacher=False)
divergence("mse", "squared difference of logits", "snnkd.losses.divergences:mse", keys=s.LogitTerm,
           basis="textbook", source="hinton2015", shift_invariant=False)
divergence("hta-kl", "head-tail aware KL", "snnkd.losses.hta_kl:hta_kl",
           with_stats="snnkd.losses.hta_kl:hta_kl_with_stats", constant_weights=True,
           basis="reconstructed", source="zhang2025headtail wu2025rethinking",
           note="L1 distance, KLs over all classes, detached weights and cross-entropy on the mean are "
                "inferred from AKL",
           delta=option(s.DELTA, 0, 1, "Cumulative teacher probability that bounds the head.", open_low=True),
           head=Option(s.Head, "top1", "Head rule: cumulative sum <= delta or the first class (top1), "
                                       "< delta (strict), smallest set reaching delta (cover)."))
divergence("akl", "adaptive KL, head by top-1", "snnkd.losses.adaptive:akl",
           with_stats="snnkd.losses.adaptive:akl_with_stats", constant_weights=True,
           basis="read", source="wu2025rethinking",
           temperature=1.0,
           delta=option(s.DELTA, 0, 1, "Cumulative teacher probability that bounds the head.", open_low=True))
divergence("mix", "0.2 forward KL + 0.7 reverse KL", "snnkd.losses.divergences:mix", aliases=("sbds",),
           basis="read", source="cai2026mar", note="0.2 and 0.7 are the source's best",
           forward=option(0.2, 0, None, "Weight of KL(teacher || student)."),
           reverse=option(0.7, 0, None, "Weight of KL(student || teacher)."))
divergence("todi", "forward and reverse KL weighted in each class", "snnkd.losses.adaptive:todi",
           constant_weights=True,
           basis="reconstructed", source="jung2025todi",
           note="the formula from memory; its value is that of jeffreys, its gradient is not")
divergence("abkd", "alpha-beta divergence", "snnkd.losses.adaptive:abkd",
           basis="reconstructed", source="wang2025abkd cichocki2011alphabeta",
           note="the general form with squares in its limits; alpha 0.8, beta 0.3 are one example of the "
                "authors'",
           alpha=option(0.8, -5, 5, "Power of the teacher's probabilities; alpha 1, beta 0 is forward KL."),
           beta=option(0.3, -5, 5, "Power of the student's probabilities; alpha 0, beta 1 is reverse KL."))
divergence("dkd", "KL of true class and of the others, decoupled", "snnkd.losses.relations:dkd",
           one_label=True,
           basis="read", source="zhao2022decoupled",
           note="the warm-up is 20 of 240 epochs there, the same share here",
           preset={"warmup": 0.083},
           alpha=option(1.0, 0, None, "Weight of the true class against all others."),
           beta=option(8.0, 0, None, "Weight of the other classes among themselves."))
divergence("dist", "correlation over classes and over the batch", "snnkd.losses.relations:dist",
           across_batch=True,
           basis="read", source="huang2022dist",
           beta=option(1.0, 0, None, "Weight of the correlation over the classes of a sample."),
           gamma=option(1.0, 0, None, "Weight of the correlation over the samples of a class."))
# its weights are of the logits as they are: no transform may come before
divergence("wsld", "cross-entropy weighted by who knows the label better", "snnkd.losses.relations:wsld",
           keys=s.DivergenceTerm, one_label=True, constant_weights=True, zero_at_teacher=False,
           basis="read", source="zhou2021wsld",
           temperature=Option(s.Temperature, 3.0, "Softmax temperature of teacher and student; the "
                                                  "divergence is scaled by its square."))

penalty("confidence", "minus the entropy of the student", "snnkd.losses.penalties:confidence",
        temperature=Option(s.Temperature, 3.0, "Softmax temperature."))
penalty("threshold", "squared distance of the logits to a level", "snnkd.losses.penalties:threshold",
        level=option(1.0, None, None, "Level that every logit is drawn to; TET takes the firing threshold."))

feature("mse", "squared difference of every stage's features", "snnkd.losses.features:Mse")
feature("attention", "squared difference of every stage's attention map", "snnkd.losses.features:Attention",
        needs_maps=True)
# across the batch: it rescales by the largest value
feature("blurred", "the teacher's last features from the student's with channels dropped",
        "snnkd.losses.features:Blurred", student="last", teacher="last", across_batch=True, needs_maps=True,
        drop=option(0.15, 0, 1, "Probability to set a channel of the aligned student feature to 0.",
                    open_high=True),
        rescale=Option(bool, True, "Whether the teacher's features are scaled to the student's maximum, as "
                                   "in the authors' code."))
feature("saliency", "KL of class and spike activation maps", "snnkd.losses.features:Saliency",
        student="last", teacher="class_map", across_batch=True, needs_maps=True,
        temperature=Option(s.Temperature, 2.0, "Softmax temperature over positions; the divergence is scaled "
                                               "by its square."))
feature("classifier", "KL of the teacher's classifier on both features", "snnkd.losses.features:Classifier",
        student="output", teacher="output", needs_classifier=True,
        temperature=Option(s.Temperature, 1.0, "Softmax temperature; the divergence is scaled by its "
                                               "square."))

STEP = {"target": "step"}
loss("tet", "cross-entropy of every timestep + distance to the threshold",
     hard={**STEP, "weight": 0.95}, terms=[{"penalty": "threshold", "weight": 0.05}],
     basis="read", source="deng2022tet")
loss("tser", "cross-entropy and KL of every timestep + entropy",
     hard={**STEP, "weight": 0.5},
     terms=[{"divergence": "kl", **STEP, "weight": 0.5}, {"penalty": "confidence", "weight": 0.1}],
     basis="read", source="yu2025tser pereyra2017confidence", note="the weights 0.5, 0.5 and 0.1 are ours")
loss("twsnn", "every timestep: cross-entropy, KL to teacher and to the timesteps that are right",
     hard=STEP,
     terms=[{"divergence": "kl", **STEP, "weight": 0.2},
            {"divergence": "kl", **STEP, "against": "correct-mean", "weight": 0.5}],
     basis="read", source="yu2025twsnn")
loss("tks", "cross-entropy, more and more taught by the timesteps that are right",
     hard={"weight": 1.0, "weight_end": 0.3},
     terms=[{"divergence": "ce", **STEP, "against": "correct-sum", "weight": 0.0, "weight_end": 0.7,
             "student_temperature": 1.0}],
     basis="read", source="dong2024tks")
loss("w2s", "the least confident timestep teaches the most confident",
     terms=[{"divergence": "kl", "target": "strong", "against": "weak", "temperature": 2.0}],
     basis="read", source="ding2025synergy", note="temperature squared and the detached side are ours")
loss("s2w", "the most confident timestep teaches the least confident",
     terms=[{"divergence": "kl", "target": "weak", "against": "strong", "temperature": 2.0}],
     basis="read", source="ding2025synergy", note="temperature squared and the detached side are ours")
loss("seal", "every timestep: error-corrected KL, and KL to the other timesteps",
     hard=STEP,
     terms=[{"divergence": "kl", **STEP, "weight": 0.6, "correct_errors": True},
            {"divergence": "kl", **STEP, "against": "other-steps", "weight": 0.15}],
     basis="reconstructed", source="sun2026seal",
     note="confidence as 1 - entropy / log C and the cosine of probabilities are ours")
loss("kdsnn-feature", "cross-entropy + distance of every stage's features", terms=[{"feature": "mse"}],
     basis="reconstructed", source="xu2023kdsnn", note="form from memory; weight 1 is ours")
loss("lasnn", "cross-entropy + distance of every stage's attention map", terms=[{"feature": "attention"}],
     basis="reconstructed", source="hong2023lasnn zagoruyko2017attention",
     note="the attention map is Zagoruyko's; weight 1 is ours")
loss("bkdsnn", "cross-entropy + weighted soft labels + blurred features",
     terms=[{"divergence": "wsld", "temperature": 2.0}, {"feature": "blurred", "weight": 2e-3}],
     basis="read", source="xu2024bkdsnn zhou2021wsld",
     note="the weight 2e-3 is that of its event data, on ImageNet 7e-5; the teacher's features are rescaled "
          "as in the code")
loss("ckdsnn", "cross-entropy + KL of saliency maps + KL to a noised teacher",
     terms=[{"feature": "saliency"}, {"divergence": "kl", "temperature": 2.0, "noise": 0.1}],
     basis="reconstructed", source="liu2026ckdsnn",
     note="maps are scaled to 0..1 over the batch, noise has the teacher's spread; temperature squared on "
          "maps is ours")
loss("enof", "cross-entropy + KL of the teacher's classifier on both features; last activation relu",
     terms=[{"feature": "classifier"}], overrides={"neuron": {"last": "relu"}},
     basis="reconstructed", source="guo2024enof", note="from a note; temperature and weight 1 are ours")
loss("sakd", "starts from the weights of a teacher of its own architecture; features and logits",
     terms=[{"divergence": "kl"}, {"feature": "mse"}], overrides={"train": {"init": "teacher"}},
     basis="reconstructed", source="qiu2024sakd", note="from a note; form of the terms and weights are ours")
