"""A student beside its teacher and its own topology as an ANN."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from snnkd.measure.cost import macs_as_ann
from snnkd.measure.result import cost_sentence
from snnkd.models import Specification
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig


def specification(spiking: bool = True, width: int = 4) -> Specification:
    model = ResNetConfig(name="resnet8", width=width, T=4 if spiking else None)
    return Specification(
        model=model, neuron=NeuronConfig() if spiking else None, classes=10, shape=(3, 16, 16)
    )


def test_macs_of_the_topology_by_hand() -> None:
    w, size = 4, 16
    blocks = [(w, w, size), (w, 2 * w, size // 2), (2 * w, 4 * w, size // 4)]
    convolutions = 3 * w * 9 * size**2
    for inputs, outputs, side in blocks:
        convolutions += 9 * (inputs * outputs + outputs * outputs) * side**2 + (
            inputs * outputs * side**2 if inputs != outputs else 0
        )
    assert macs_as_ann(specification()) == convolutions + 4 * w * 10
    assert macs_as_ann(specification()) == macs_as_ann(specification(spiking=False))


def test_a_network_without_an_ann_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd.errors import UsageError

    def refuse(made: Specification) -> nn.Module:
        raise UsageError("no ANN of its own")

    monkeypatch.setattr("snnkd.measure.cost.build_network", refuse)
    assert macs_as_ann(specification()) is None


CHEAP: dict[str, Any] = {
    "rate": 0.2,
    "curve": [{"t": 1, "energy_mj": 0.0005}, {"t": 2, "energy_mj": 0.001}],
    "teacher": {"energy_mj": 0.05},
    "ann": {"energy_mj": 0.004},
}


def test_the_sentence_of_a_cheap_student() -> None:
    assert cost_sentence(CHEAP) == (
        "at t = 2 the student takes 1.000 µJ an image: 50.0 times less than its teacher (50.000 µJ), "
        "4.0 times less than its own topology as an ANN (4.000 µJ)"
    )


def test_it_says_when_the_student_costs_more() -> None:
    dear = copy.deepcopy(CHEAP)
    dear["ann"]["energy_mj"] = 0.0008
    assert "1.25x its own topology as an ANN (0.800 µJ)" in str(cost_sentence(dear))


def test_without_a_teacher_or_an_ann() -> None:
    assert (
        cost_sentence(CHEAP | {"teacher": None, "ann": None})
        == "at t = 2 the student takes 1.000 µJ an image"
    )
    assert cost_sentence(CHEAP | {"rate": None}) is None


def test_the_ann_of_a_network_on_events_sees_their_mean() -> None:
    still = specification()
    events = replace(still, shape=(2, 16, 16), frames=4)
    assert macs_as_ann(events) == macs_as_ann(replace(still, shape=(2, 16, 16)))
