"""Run folders that were never trained: result.json, run.json and metrics.jsonl with chosen numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.recipe.loss_section import build_loss
from snnkd.schema.fields import to_plain

DATA = "d" * 64
TEACHER = "a" * 64


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_run(
    loss: Any = "kl",
    seed: int = 0,
    top1: float = 80.0,
    *,
    T: int = 2,
    root: Path = Path("runs"),
    val: float | None = None,
    teacher: str = TEACHER,
    data: str = DATA,
    rule: str = "last",
    epochs: int = 16,
    width: int | None = 16,
    val_fraction: float = 0.0,
    images: int = 200,
    weights: str = "",
    gpu: str = "",
    name: str = "glyphs",
    model: str = "resnet8",
    neuron: str = "lif",
    **train: Any,
) -> Path:
    """A finished student's folder; `name` is that of the data."""
    section = build_loss(loss)
    taught = (
        {"sha256": teacher, "run": "runs/teacher", "top1": 94.5, "energy_mj": 0.05}
        if section.needs_teacher
        else None
    )
    identity = {
        "schema": 1, "stage": "distill", "seed": seed,
        "data": {"sha256": data, "val_fraction": val_fraction, "augment": ["crop"]},
        "model": {"name": model, "T": T, **({"width": width} if width else {})},
        "train": {"epochs": epochs, "lr": 0.1, "select": rule, **train},
        "teacher": {"sha256": teacher if taught else None}, "neuron": {"name": neuron, "tau": 2.0}, "loss": to_plain(section),
    }  # fmt: skip
    recipe_hash = digest({**identity, "seed": None})[:6]
    ends = [
        {"t": t, "top1": top1 - (T - t), "synops": 500.0 * t + seed, "energy_mj": 0.001 * t}
        for t in range(1, T + 1)
    ]
    result = {
        "schema": 1, "stage": "distill", "seed": seed, "recipe_hash": recipe_hash, "data": name, "split": "test", "trained_T": T,
        "model": identity["model"], "neuron": identity["neuron"], "loss": to_plain(section), "selection": {"rule": rule, "epoch": epochs}, "teacher": taught,
        "weights_sha256": weights or digest(identity, weights), "data_sha256": data,
        "versions": {"torch": "2.15.0", "spikingjelly": "2.0.0"},
        "hardware": {"device": "cuda", "cpu": "x", "threads": 1, "gpu": gpu} if gpu else {"device": "cpu", "cpu": "x", "threads": 1},
        "seconds": {"train": 10.0 + seed, "train_cpu": 20.0 + seed, "train_gpu": 30.0 if gpu else None, "eval": 1.0}, "images": images, "T": T, "curve": ends, "rate": 0.18, "rate_per_layer": {},
    }  # fmt: skip
    folder = root / f"distill-{name}-{model}-{section.name}-T{T}-{recipe_hash}-s{seed}"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"schema": 1, "identity": identity}))
    (folder / "result.json").write_text(json.dumps(result))
    if val is not None:
        rows = [{"epoch": epoch, "val_top1": val if epoch == epochs else 1.0} for epoch in (1, epochs)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def change(folder: Path, **changes: Any) -> Path:
    """The run with other entries in its result."""
    path = folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def make_seeds(loss: Any, values: list[float], **options: Any) -> list[Path]:
    return [make_run(loss, seed, value, **options) for seed, value in enumerate(values)]


def make_logits(run: Path, path: Path, right: np.ndarray, **changes: Any) -> Path:
    """Logits of two classes, correct on the images of `right` (bool `[N]`); also set the run's accuracy.

    The first timestep is wrong everywhere: only the mean over timesteps predicts correctly.
    """
    result = json.loads((run / "result.json").read_text())
    T, labels = result["trained_T"], np.arange(len(right)) % 2
    answers = np.where(right, labels, 1 - labels)
    logits = np.full((T, len(right), 2), 0.0, np.float32)
    logits[:, np.arange(len(right)), answers] = 5.0
    logits[0] = 0.0
    logits[0, np.arange(len(right)), 1 - answers] = 1.0
    texts = {
        "weights_sha256": result["weights_sha256"],
        "data_sha256": result["data_sha256"],
        "split": result["split"],
    }
    np.savez(path, **({"logits": logits, "labels": labels, **texts} | changes))
    result["curve"][-1]["top1"], result["images"] = 100 * float(right.mean()), len(right)
    (run / "result.json").write_text(json.dumps(result))
    return path
