"""The benchmark and its result as a JSON object."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from snnkd.bench.ablations import time_ablations, time_baseline
from snnkd.bench.baseline_loop import check_neuron
from snnkd.bench.baseline_transforms import check_augment
from snnkd.bench.clock import summary, time_steps
from snnkd.bench.efficiency import measure_efficiency
from snnkd.bench.parts import spiking_overhead, time_parts
from snnkd.bench.subject import make_stage, make_subject
from snnkd.console import Console
from snnkd.environment import hardware, in_bf16, pick_device, versions
from snnkd.errors import UsageError
from snnkd.limits import check_threads
from snnkd.recipe.loss_section import loss_label
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe
from snnkd.training.compiling import decide
from snnkd.training.setup import Stage, check_execution

MANY_IMAGES = 10**9
"""Training images for which `compile: auto` compiles wherever possible."""


def bench(
    recipe: DistillRecipe, rounds: int, console: Console, baseline: bool, ablations: bool
) -> dict[str, Any]:
    """Time the training step of `recipe` on random data; optionally the baseline loop and its ablations.

    Each measurement is logged before it begins.
    """
    if baseline or ablations:
        check_augment(recipe.data.augment)
        check_neuron(recipe.neuron)
    device = pick_device(recipe.execution.device)
    check_execution(recipe.train, recipe.execution, device)
    if recipe.execution.accumulate > 1:
        raise UsageError(
            f"execution.accumulate: {recipe.execution.accumulate}; bench times one batch, use --batch-size"
        )
    if recipe.execution.threads:
        check_threads(recipe.execution.threads, torch.get_num_threads())
        torch.set_num_threads(recipe.execution.threads)
    # first: it may fail, which must not waste a measurement, and it initialises the GPU for the next lines
    environment = {"versions": versions(), "hardware": hardware(device)}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    stage = make_stage(recipe, device)
    probe = make_subject(stage, "off")
    compile = decide(recipe.execution, probe.network, MANY_IMAGES, device)
    del probe
    console.log(f"timing the step, {rounds} rounds, compile: {compile}")
    subject = make_subject(stage, compile)
    step = time_steps({"step": subject.step}, rounds, device)["step"]
    batch = recipe.train.batch_size
    console.log("timing its parts, a matrix product and the ANN of the student's topology")
    result: dict[str, Any] = {
        "schema": 1,
        "data": recipe.data.name,
        "model": to_plain(recipe.model),
        "T": recipe.model.T,
        "date": time.strftime("%Y-%m-%d"),
        "batch_size": batch,
        "loss": loss_label(to_plain(recipe.loss)),
        "compile": compile,
        "bf16": in_bf16(recipe.execution, device),
        "images_per_s": round(batch / summary(step, 9)["median"], 2),
        "step_ms": summary([1000 * s for s in step], 2),
        "parts": time_parts(subject, rounds),
        "efficiency": measure_efficiency(subject, rounds),
        "peak_memory_bytes": peak_memory(device),
        "spiking_overhead": spiking_overhead(make_subject(stage, compile), rounds),
    }
    if baseline:
        console.log("timing the baseline loop")
        result["baseline"] = time_baseline(_without_checkpointing(stage), compile, rounds)
    if ablations:
        console.log("timing the ablations, one change at a time")
        result["ablations"] = time_ablations(_without_checkpointing(stage), compile, rounds)
    return {**result, "rounds": rounds, **environment}


def _without_checkpointing(stage: Stage) -> Stage:
    """`stage` without activation checkpointing, which the baseline loop does not have."""
    execution = replace(stage.recipe.execution, activation_checkpointing=False)
    return replace(stage, recipe=replace(stage.recipe, execution=execution))


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU torch's peak allocation, on a CPU the process's peak resident size, including torch."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
