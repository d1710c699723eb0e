"""What losses there are: divergences, penalties, feature terms, and the published methods as presets of them.

A preset is the recipe section that its name stands for. `basis` says where its formula was taken from: textbook, read
(in the authors' or others' code, or in a text that quotes it), or reconstructed (a part of it is inferred, remembered
or only noted); `note` says which part, and which numbers are ours.
"""

from __future__ import annotations

from typing import Any

from snnkd.catalog.references import REFERENCES
from snnkd.catalog.registry import Entry, Registry
from snnkd.schema import loss as s

Section = dict[str, Any]


def _divergence(
    name: str, help: str, options: type = s.TermConfig, module: str = "divergences", **details: Any
) -> Entry:
    target = f"snnkd.losses.{module}:{name.replace('-', '_')}"
    return Entry(name, help, options, target, details=tuple(details.items()))


DIVERGENCES = Registry(
    "divergence",
    [
        _divergence("kl", "forward KL(teacher || student)"),
        _divergence("rkl", "reverse KL(student || teacher)"),
        _divergence("mix", "0.2 forward KL + 0.7 reverse KL", s.MixTerm),
        _divergence("js", "Jensen-Shannon divergence"),
        _divergence("jeffreys", "forward plus reverse KL"),
        _divergence("ce", "cross-entropy with the teacher's distribution"),
        _divergence("mse", "squared difference of logits", s.MseTerm),
        _divergence(
            "hta-kl",
            "head-tail aware KL",
            s.HtaKlTerm,
            "hta_kl",
            measured="snnkd.losses.hta_kl:hta_kl_with_stats",
        ),
        _divergence(
            "akl",
            "adaptive KL, head by top-1",
            s.AklTerm,
            "adaptive",
            measured="snnkd.losses.adaptive:akl_with_stats",
        ),
        _divergence("todi", "forward and reverse KL weighted in each class", module="adaptive"),
        _divergence("abkd", "alpha-beta divergence", s.AbkdTerm, "adaptive"),
        _divergence(
            "dkd", "KL of true class and of the others, decoupled", s.DkdTerm, "relations", one_label=True
        ),
        _divergence(
            "dist", "correlation over classes and over the batch", s.DistTerm, "relations", across_batch=True
        ),
        _divergence(
            "wsld",
            "cross-entropy weighted by who knows the label better",
            s.WsldTerm,
            "relations",
            one_label=True,
        ),
    ],
    aliases={"sbds": "mix"},
    user=Entry(
        "MODULE:FUNCTION",
        "your own function of student and teacher logits",
        s.UserTerm,
        "snnkd.losses.user:measured",
    ),
)

PENALTIES = Registry(
    "penalty",
    [
        Entry(
            "confidence",
            "minus the entropy of the student",
            s.ConfidenceTerm,
            "snnkd.losses.penalties:confidence",
        ),
        Entry(
            "threshold",
            "squared distance of the logits to a level",
            s.ThresholdTerm,
            "snnkd.losses.penalties:threshold",
        ),
    ],
)


def _feature(
    name: str,
    help: str,
    options: type = s.FeatureTerm,
    student: str = "stages",
    teacher: str = "stages",
    **details: Any,
) -> Entry:
    """`student` and `teacher` are the features taken by default; a single name is the only one that makes sense."""
    names = (("student", student), ("teacher", teacher), *details.items())
    return Entry(name, help, options, f"snnkd.losses.features:{name.title()}", details=names)


FEATURES = Registry(
    "feature term",
    [
        _feature("mse", "squared difference of every stage's features"),
        _feature("attention", "squared difference of every stage's attention map"),
        # across the batch: the largest value, to which it rescales
        _feature(
            "blurred",
            "the teacher's last features from the student's with channels dropped",
            s.BlurredTerm,
            "last",
            "last",
            across_batch=True,
        ),
        _feature(
            "saliency",
            "KL of class and spike activation maps",
            s.SaliencyTerm,
            "last",
            "class_map",
            across_batch=True,
        ),
        _feature(
            "classifier",
            "KL of the teacher's classifier on both features",
            s.ClassifierTerm,
            "output",
            "output",
        ),
    ],
)

KINDS = {"divergence": DIVERGENCES, "penalty": PENALTIES, "feature": FEATURES}
"""The key that tells a term's kind, and where its values are listed."""


def _preset(
    name: str,
    help: str,
    section: Section,
    basis: str,
    *,
    source: str = "",
    note: str = "",
    also: Section | None = None,
) -> Entry:
    """`also` holds keys outside `loss:` that belong to the method; what a recipe says of them wins."""
    year = REFERENCES[source.split(maxsplit=1)[0]].year if source else None
    details = {
        "section": section,
        "basis": basis,
        "source": tuple(source.split()),
        "year": year,
        "note": note,
        "also": also or {},
    }
    return Entry(name, help, s.LossConfig, details=tuple(details.items()))


def _plain(name: str, basis: str, source: str = "", note: str = "", **options: Any) -> Entry:
    """Cross-entropy on the time mean + one divergence of it."""
    help = f"cross-entropy + {DIVERGENCES[name].help}"
    return _preset(name, help, {"terms": [{"divergence": name, **options}]}, basis, source=source, note=note)


STEP = {"target": "step"}
LOSSES = Registry(
    "loss",
    [
        _preset("none", "direct training: cross-entropy alone", {}, "textbook"),
        _plain("kl", "textbook", "hinton2015"),
        _plain("rkl", "textbook"),
        _plain("jeffreys", "textbook", "jeffreys1946"),
        _plain("js", "textbook", "lin1991"),
        _plain("ce", "textbook", "hinton2015"),
        _plain("mse", "textbook", "hinton2015"),
        _plain("hta-kl", "reconstructed", "zhang2025headtail wu2025rethinking",
               "L1 distance, KLs over all classes, detached weights and cross-entropy on the mean are inferred from AKL"),
        _plain("akl", "read", "wu2025rethinking"),
        _plain("mix", "read", "cai2026mar", "0.2 and 0.7 are the source's best"),
        _plain("todi", "reconstructed", "jung2025todi", "the formula from memory; its value is that of jeffreys, its gradient is not"),
        _plain("abkd", "reconstructed", "wang2025abkd cichocki2011alphabeta",
               "the general form with squares in its limits; alpha 0.8, beta 0.3 are one example of the authors'"),
        _plain("dkd", "read", "zhao2022decoupled", "the warm-up is 20 of 240 epochs there, the same share here", warmup=0.083),
        _plain("dist", "read", "huang2022dist"),
        _plain("wsld", "read", "zhou2021wsld"),
        _preset("tet", "cross-entropy of every timestep + distance to the threshold",
                {"hard": {**STEP, "weight": 0.95}, "terms": [{"penalty": "threshold", "weight": 0.05}]}, "read", source="deng2022tet"),
        _preset("tser", "cross-entropy and KL of every timestep + entropy",
                {"hard": {**STEP, "weight": 0.5},
                 "terms": [{"divergence": "kl", **STEP, "weight": 0.5}, {"penalty": "confidence", "weight": 0.1}]},
                "read", source="yu2025tser pereyra2017confidence", note="the weights 0.5, 0.5 and 0.1 are ours"),
        _preset("twsnn", "every timestep: cross-entropy, KL to teacher and to the timesteps that are right",
                {"hard": STEP,
                 "terms": [{"divergence": "kl", **STEP, "weight": 0.2},
                           {"divergence": "kl", **STEP, "against": "correct-mean", "weight": 0.5}]},
                "read", source="yu2025twsnn"),
        _preset("tks", "cross-entropy, more and more taught by the timesteps that are right",
                {"hard": {"weight": 1.0, "weight_end": 0.3},
                 "terms": [{"divergence": "ce", **STEP, "against": "correct-sum", "weight": 0.0, "weight_end": 0.7,
                            "student_temperature": 1.0}]},
                "read", source="dong2024tks"),
        _preset("w2s", "the least confident timestep teaches the most confident",
                {"terms": [{"divergence": "kl", "target": "strong", "against": "weak", "temperature": 2.0}]},
                "read", source="ding2025synergy", note="temperature squared and the detached side are ours"),
        _preset("s2w", "the most confident timestep teaches the least confident",
                {"terms": [{"divergence": "kl", "target": "weak", "against": "strong", "temperature": 2.0}]},
                "read", source="ding2025synergy", note="temperature squared and the detached side are ours"),
        _preset("seal", "every timestep: error-corrected KL, and KL to the other timesteps",
                {"hard": STEP,
                 "terms": [{"divergence": "kl", **STEP, "weight": 0.6, "correct_errors": True},
                           {"divergence": "kl", **STEP, "against": "other-steps", "weight": 0.15}]},
                "reconstructed", source="sun2026seal",
                note="confidence as 1 - entropy / log C and the cosine of probabilities are ours"),
        _preset("kdsnn-feature", "cross-entropy + distance of every stage's features",
                {"terms": [{"feature": "mse"}]}, "reconstructed", source="xu2023kdsnn", note="form from memory; weight 1 is ours"),
        _preset("lasnn", "cross-entropy + distance of every stage's attention map",
                {"terms": [{"feature": "attention"}]}, "reconstructed", source="hong2023lasnn zagoruyko2017attention",
                note="the attention map is Zagoruyko's; weight 1 is ours"),
        _preset("bkdsnn", "cross-entropy + weighted soft labels + blurred features",
                {"terms": [{"divergence": "wsld", "temperature": 2.0}, {"feature": "blurred", "weight": 2e-3}]},
                "read", source="xu2024bkdsnn zhou2021wsld",
                note="the weight 2e-3 is that of its event data, on ImageNet 7e-5; the teacher's features are rescaled as in the code"),
        _preset("ckdsnn", "cross-entropy + KL of saliency maps + KL to a noised teacher",
                {"terms": [{"feature": "saliency"}, {"divergence": "kl", "temperature": 2.0, "noise": 0.1}]},
                "reconstructed", source="liu2026ckdsnn",
                note="maps are scaled to 0..1 over the batch, noise has the teacher's spread; temperature squared on maps is ours"),
        _preset("enof", "cross-entropy + KL of the teacher's classifier on both features; last activation relu",
                {"terms": [{"feature": "classifier"}]}, "reconstructed", source="guo2024enof",
                note="from a note; temperature and weight 1 are ours", also={"neuron": {"last": "relu"}}),
        _preset("sakd", "starts from the weights of a teacher of its own architecture; features and logits",
                {"terms": [{"divergence": "kl"}, {"feature": "mse"}]}, "reconstructed", source="qiu2024sakd",
                note="from a note; form of the terms and weights are ours", also={"train": {"init": "teacher"}}),
    ],
    aliases={"sbds": "mix"},
    user=Entry("MODULE:FUNCTION", "cross-entropy + your own function of student and teacher logits", s.LossConfig),
)  # fmt: skip
