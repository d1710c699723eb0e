"""Energy by the 45 nm convention: 4.6 pJ per MAC, 0.9 pJ per synaptic operation (Horowitz 2014, float32).

Memory traffic, normalisation, pooling and neuron updates are not counted. Inputs other than spikes cost MACs,
those of the first layer among them: once for a static image, once per timestep for event frames.
"""

from __future__ import annotations

from typing import Any

PJ_PER_MAC = 4.6
PJ_PER_SYNOP = 0.9
CONVENTION: dict[str, Any] = {
    "pj_per_mac": PJ_PER_MAC,
    "pj_per_synop": PJ_PER_SYNOP,
    "process": "45 nm",
    "not_counted": "memory traffic, normalisation, pooling, neuron updates",
}


def energy_mj(macs: float, synops: float = 0.0) -> float:
    """Convert operations per image to millijoules per image."""
    return (PJ_PER_MAC * macs + PJ_PER_SYNOP * synops) * 1e-9
