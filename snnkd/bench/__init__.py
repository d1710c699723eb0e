"""Benchmark of the training step: its parts, its memory, and the baseline loop of published code."""
