"""What papers report for methods, data sets and networks that snnkd has: to stand beside our numbers, never among them.

All are the papers' numbers, none was measured here. Most are of the best TEST epoch, which snnkd never selects, and were
reached with each paper's own recipe and teacher. Whatever prints them says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """One number (or two) of one paper."""

    method: str
    """As `snnkd list losses` has it, else one of `NOT_HERE`."""
    data: str
    """As `snnkd list data` has it; the whole data set."""
    model: str
    """As `snnkd list models` has it, with its default options."""
    T: int | None
    """Timesteps; None where our source tells none."""
    top1: float | None
    """In percent on the test split; None where only the rate is known."""
    rate: float | None = None
    """Firing rate, a fraction, as the paper counts it."""
    source: str
    """Key of `references.REFERENCES`: the paper that reports it."""
    neuron: str = "lif"
    """As the recipe's neuron.name has it, where the number is that of another neuron."""


NOT_HERE = ("MEOM",)
"""Methods of which too little is known for a preset."""


def _row(
    method: str, data: str, model: str, source: str, by_T: Mapping[int | None, float], neuron: str = "lif"
) -> tuple[Published, ...]:
    return tuple(
        Published(method=method, data=data, model=model, T=T, top1=top1, source=source, neuron=neuron)
        for T, top1 in by_T.items()
    )


PUBLISHED: tuple[Published, ...] = (
    *_row("hta-kl", "cifar10", "resnet19", "zhang2025headtail", {2: 96.68, 4: 96.76}),
    *_row("hta-kl", "cifar100", "resnet19", "zhang2025headtail", {2: 80.51, 4: 81.03}),
    *_row("twsnn", "cifar10", "resnet19", "yu2025twsnn", {2: 96.65, 4: 96.97, 6: 97.00}),
    *_row("twsnn", "cifar100", "resnet19", "yu2025twsnn", {2: 81.47, 4: 82.47, 6: 82.56}),
    *_row("MEOM", "cifar10", "resnet19", "sun2026meom", {2: 96.65, 4: 97.13, 6: 97.08}),
    *_row("MEOM", "cifar100", "resnet19", "sun2026meom", {2: 81.82, 4: 82.85, 6: 83.22}),
    *_row("ckdsnn", "cifar10", "resnet19", "liu2026ckdsnn", {1: 96.11, 4: 97.81}),
    *_row("ckdsnn", "cifar100", "resnet19", "liu2026ckdsnn", {1: 79.11, 4: 83.88}),
    *_row("w2s", "cifar10", "resnet19", "ding2025synergy", {4: 96.66}),
    *_row("w2s", "cifar100", "resnet19", "ding2025synergy", {4: 82.02}),
    *_row("tks", "cifar10", "resnet19", "dong2024tks", {4: 96.35}),
    *_row("tks", "cifar100", "resnet19", "dong2024tks", {4: 79.89}),
    *_row("enof", "cifar10", "resnet19", "guo2024enof", {1: 95.37, 4: 96.19}),
    *_row("enof", "cifar100", "resnet19", "guo2024enof", {1: 77.08, 4: 82.43}),
    *_row("enof", "cifar10", "resnet20w", "guo2024enof", {4: 94.74}),
    *_row("enof", "cifar100", "resnet20w", "guo2024enof", {4: 73.01}),
    *_row("tser", "cifar10", "resnet18", "yu2025tser", {None: 95.58}),
    *_row("tser", "cifar100", "resnet18", "yu2025tser", {None: 78.30}),
    *_row("sakd", "cifar100", "resnet18", "qiu2024sakd", {4: 80.48}),
    *_row("none", "tiny-imagenet", "vgg13", "huang2024clif", {4: 63.16}, neuron="clif"),
    Published(
        method="hta-kl",
        data="cifar100",
        model="resnet19",
        T=None,
        top1=None,
        rate=0.2744,
        source="zhang2025headtail",
    ),
    # of another paper's method, as HTA-KL's authors set it beside theirs
    Published(
        method="lasnn",
        data="cifar100",
        model="resnet19",
        T=None,
        top1=None,
        rate=0.3649,
        source="zhang2025headtail",
    ),
)


def find_published(data: str, model: str, T: int) -> tuple[Published, ...]:
    """The papers' numbers for a whole data set and a network at T timesteps, then those whose T is not told.

    They are no measurements of snnkd's, and mostly of the best test epoch.
    """
    same = [each for each in PUBLISHED if (each.data, each.model) == (data, model)]
    return (*(each for each in same if each.T == T), *(each for each in same if each.T is None))
