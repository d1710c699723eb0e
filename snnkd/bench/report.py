"""The whole bench as one object, and as text."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from snnkd.bench import ablations
from snnkd.bench.baseline_loop import check_neuron
from snnkd.bench.baseline_transforms import check_augment
from snnkd.bench.clock import summary, time_steps
from snnkd.bench.parts import spiking_overhead, time_parts
from snnkd.bench.subject import make_stage, make_subject
from snnkd.errors import UsageError
from snnkd.recipe.loss_section import loss_label
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe
from snnkd.training.compiling import decide
from snnkd.training.environment import check_execution, hardware, in_bf16, pick_device, versions

LONG = 10**9
"""Images of a training long enough that compiling pays, if it can."""


def bench(recipe: DistillRecipe, rounds: int, baseline: bool, table: bool) -> dict[str, Any]:
    """Time the step of `recipe` on random data; see `snnkd bench`. With `table` the levers one by one, too."""
    if baseline or table:
        check_augment(recipe.data.augment)
        check_neuron(recipe.neuron)
    device = pick_device(recipe.execution.device)
    check_execution(recipe.train, recipe.execution, device)
    if recipe.execution.accumulate > 1:
        raise UsageError(
            f"execution.accumulate: {recipe.execution.accumulate}; bench times one batch, give --batch-size instead"
        )
    if recipe.execution.threads:
        torch.set_num_threads(recipe.execution.threads)
    # first: what cannot be said must not cost what was measured, and the next lines need the GPU awake, as this makes it
    about = {"versions": versions(), "hardware": hardware(device)}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    stage = make_stage(recipe, device)
    probe = make_subject(stage, "off")
    compile = decide(recipe.execution, probe.job.network, LONG, device)
    del probe
    subject = make_subject(stage, compile)
    step = time_steps({"step": subject.step}, rounds, device)["step"]
    batch = recipe.train.batch_size
    made: dict[str, Any] = {
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
        "peak_memory_bytes": peak_memory(device),
        "spiking_overhead": spiking_overhead(make_subject(stage, compile), rounds),
    }
    if baseline:
        made["baseline"] = ablations.time_baseline(_plain(stage, recipe), compile, rounds)
    if table:
        made["ablations"] = ablations.time_ablations(_plain(stage, recipe), compile, rounds)
    return {**made, "rounds": rounds, **about}


def _plain(stage: Any, recipe: DistillRecipe) -> Any:
    """The ablations are timed without what only saves memory."""
    execution = replace(recipe.execution, accumulate=1, activation_checkpointing=False)
    return replace(stage, recipe=replace(recipe, execution=execution))


def peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU what torch held at most, of a CPU the process's largest resident size, torch itself included."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def lines(found: dict[str, Any]) -> list[str]:
    """As text of at most 80 columns."""
    gpu = found["hardware"].get("gpu") or found["hardware"]["cpu"]
    told = [
        f"{found['model']['name']}, T = {found['T']}, batch {found['batch_size']}, {found['data']}, loss {found['loss']}",
        f"{gpu}, {found['hardware']['threads']} threads, torch {found['versions']['torch']}, "
        f"compile {found['compile']}, {'bf16' if found['bf16'] else 'float32'}",
        f"{found['images_per_s']:.1f} images/s, {_spread(found['step_ms'])} ms a step (median, quartiles; {found['rounds']} rounds)",
        "",
        "part            ms   share",
    ]
    whole = sum(part["median"] for part in found["parts"].values())
    told += [
        f"{name:<10} {part['median']:>7.1f}  {100 * part['median'] / whole:>5.1f} %"
        for name, part in found["parts"].items()
    ]
    told += ["", f"peak memory {found['peak_memory_bytes'] / 2**20:,.0f} MiB"]
    told += [f"spiking overhead {_spread(found['spiking_overhead'])} (student / ANN on T x B images)"]
    if "baseline" in found:
        base = found["baseline"]
        told += [
            "",
            f"published loop {base['images_per_s']:.1f} images/s; snnkd is {_spread(base['ratio'])} times as fast",
        ]
    if "ablations" in found:
        told += ["", "images/s   speedup (quartiles)      cumulative change"]
        told += [
            f"{row['images_per_s']:>8.1f}   {_spread(row['speedup']):<22}   {row['change']}"
            for row in found["ablations"]
        ]
    return told


def _spread(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['q1']:.2f} to {value['q3']:.2f})"
