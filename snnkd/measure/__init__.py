"""Measuring a network: the timestep curve, rates, synaptic operations, energy, calibration."""
