"""Energy by the 45 nm convention: 4.6 pJ a MAC, 0.9 pJ a synaptic operation (Horowitz 2014, float32 add and
multiply).

Memory traffic is not counted, nor are normalisation, pooling and the neurons' own updates. Inputs that are
not spikes,
the first layer among them, count as MACs; a first layer computed once for a static image is counted once, on
event
frames once a timestep.
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
    """Millijoule per image."""
    return (PJ_PER_MAC * macs + PJ_PER_SYNOP * synops) * 1e-9
