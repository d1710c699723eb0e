"""Panels of the picture of one result: its training, its accuracy by class, and what it confuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Values = Mapping[str, Any]
FEW_CLASSES = 12
"""Up to this number, each class is named on its axis, and each cell of the confusion matrix has its count."""
NAME_WIDTH = 12
WORST = 3
"""Classes of lowest accuracy that the title names."""


def draw_loss(axes: Any, epochs: Sequence[Values]) -> None:
    """Draw the loss of each epoch, as in metrics.jsonl."""
    _draw_epochs(axes, epochs, {"loss": "loss"})
    axes.set_ylabel("training loss")


def draw_training(axes: Any, epochs: Sequence[Values]) -> None:
    """Draw the accuracy on training and validation images of each epoch."""
    _draw_epochs(axes, epochs, {"train_top1": "training images", "val_top1": "validation images"})
    axes.set_ylabel("top-1 accuracy (%)")
    if axes.lines:
        axes.legend(frameon=False, fontsize="small")


def _draw_epochs(axes: Any, epochs: Sequence[Values], labels: Mapping[str, str]) -> None:
    for key, label in labels.items():
        points = [(row["epoch"], row[key]) for row in epochs if isinstance(row.get(key), (int, float))]
        if points:
            axes.plot(
                *zip(*points, strict=True), "-o" if len(points) < 30 else "-", label=label, markersize=3
            )
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)


def draw_confusion(axes: Any, result: Values) -> None:
    """Draw the confusion matrix, each row in percent of the images of its class."""
    import numpy as np  # commands that draw nothing do without

    confusion = result["confusion"]
    counts = np.zeros((len(confusion), len(confusion)))
    for i, row in enumerate(confusion):
        for predicted, count in row.items():
            counts[i, int(predicted)] = count
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    picture = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    axes.figure.colorbar(picture, ax=axes, label="% of the class", fraction=0.06, pad=0.03)
    if len(counts) <= FEW_CLASSES:
        names = _names(result)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize="small")
        axes.set_yticks(range(len(names)), names, fontsize="small")
        for i, k in zip(*counts.nonzero(), strict=True):
            colour = "white" if percent[i, k] > 50 else "black"
            axes.text(k, i, f"{counts[i, k]:.0f}", ha="center", va="center", color=colour, fontsize="x-small")
    else:
        axes.locator_params(integer=True)  # there is no class 2.5
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class")


def draw_classes(axes: Any, result: Values) -> None:
    """Draw the accuracy of each class, lowest first; the title names the lowest."""
    names = _names(result)
    known = [
        (top1, name) for top1, name in zip(result["top1_per_class"], names, strict=True) if top1 is not None
    ]
    known.sort(key=lambda pair: pair[0])
    axes.bar(range(len(known)), [top1 for top1, _ in known], width=1.0 if len(known) > FEW_CLASSES else 0.8)
    axes.axhline(result["balanced_top1"], color="0.4", linestyle="--", linewidth=1)
    if len(known) <= FEW_CLASSES:
        axes.set_xticks(
            range(len(known)), [name for _, name in known], rotation=45, ha="right", fontsize="small"
        )
    else:
        lowest = ", ".join(f"{name}: {top1:.0f} %" for top1, name in known[:WORST])
        axes.set_title(f"lowest are {lowest}", fontsize="small", loc="left")
        axes.set_xticks([])
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"{len(known)} classes, dashed: their mean")
    axes.set_ylabel("top-1 by class (%)")


def _names(result: Values) -> list[str]:
    """The class names, else numbers, shortened; `$` would begin a formula."""
    names = result.get("class_names") or [str(number) for number in range(len(result["top1_per_class"]))]
    short = (name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…" for name in names)
    return [name.replace("$", r"\$") for name in short]
