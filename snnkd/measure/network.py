"""Measure a network on a split of its data in one forward pass per batch."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path

import torch

from snnkd.catalog.data import class_names_of
from snnkd.catalog.neurons import NOT_CAUSAL, is_causal
from snnkd.context import RunContext
from snnkd.data import ImageSet
from snnkd.data.loader import count_batches, measure_batches
from snnkd.environment import hardware, versions
from snnkd.errors import RunError, UsageError
from snnkd.measure.cost import macs_as_ann
from snnkd.measure.curve import measure_curve
from snnkd.measure.logits import save_logits
from snnkd.measure.result import ResultDict, make_result
from snnkd.models.files import LoadedNetwork
from snnkd.schema.fields import to_plain
from snnkd.schema.run import EvalConfig, ExecutionConfig


def measure_network(
    loaded: LoadedNetwork,
    data: ImageSet,
    settings: EvalConfig,
    execution: ExecutionConfig,
    device: torch.device,
    context: RunContext,
    logits: Path | None = None,
) -> ResultDict:
    """Measure a network on a split of `data`; also write its logits to the file `logits`.

    Raises Preempted or Interrupted between batches, RunError for logits that are not finite.
    """
    network, config = loaded.network.to(device), loaded.config
    spiking, trained_T = network.specification.kind == "snn", network.specification.T
    if data.frames and spiking and (settings.T or 0) > data.frames:
        raise UsageError(
            f"--T {settings.T}: each timestep takes one event frame; use at most {data.frames} (data.frames)"
        )
    split = data.split(settings.split)
    batches = measure_batches(split, execution.eval_batch_size, device)
    context.stop.check_together("before measuring")
    start = time.monotonic()
    neuron = network.specification.neuron
    if not is_causal(neuron):
        context.console.log(f"{NOT_CAUSAL}: measured at t = {trained_T} only")
    check = partial(context.stop.check, "while measuring")
    with context.console.bar("measuring", count_batches(split, execution.eval_batch_size)) as bar:
        curve = measure_curve(network, bar.over(batches), settings.T or trained_T, check)
    # large finite weights may give non-finite logits
    if not all(math.isfinite(entry["nll"] or 0.0) for entry in curve.entries):
        raise RunError(f"{loaded.folder}: the logits are not finite; lower train.lr or the loss weights")
    if logits:
        weights = f"{loaded.sha256}{'+recalibrated' if settings.recalibrate_bn else ''}"
        save_logits(logits, curve, weights, data.sha256, settings.split)
    description = {
        "run": str(loaded.folder),
        **{key: config.get(key) for key in ("stage", "seed", "recipe_hash")},
        "data": data.name,
        **({"part": data.subset} if data.subset else {}),
        "split": settings.split,
        **({"data_split": data.split_rule} if data.split_rule else {}),
        "trained_T": trained_T if spiking else None,
        "model": to_plain(network.specification.model),
        "neuron": None if neuron is None else to_plain(neuron),
        **({} if is_causal(neuron) else {"curve_note": f"{NOT_CAUSAL}; the curve has only its last entry"}),
        **{key: config.get(key) for key in ("loss", "selection", "teacher", "precision")},
        "weights_sha256": loaded.sha256,
        "data_sha256": data.sha256,
        **({"class_names": names} if (names := class_names_of(config)) else {}),
        **({"resumed": config["resumed"]} if config.get("resumed") else {}),
        "parameters": sum(p.numel() for p in network.parameters()),
        "command": context.command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
        "hardware": hardware(device),
        "seconds": {
            "train": config.get("seconds"),
            "train_cpu": config.get("cpu_seconds"),
            "train_gpu": config.get("gpu_seconds"),
            "eval": round(time.monotonic() - start, 2),
        },
    }
    return make_result(curve, description, macs_as_ann(network.specification) if spiking else None)


def summary_line(result: ResultDict) -> str:
    """Format the accuracy after the last timestep and the rate on one line."""
    end = result["curve"][-1]
    rate = "" if result["rate"] is None else f", rate {result['rate']:.3f}"
    at = "" if result["trained_T"] is None else f" at t = {end['t']}"
    return f"{result['split']} accuracy {end['top1']:.2f} %{at}{rate}"
