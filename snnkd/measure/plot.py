"""The timestep curve of one or more results as a picture; results that differ only in seed become one line with spread."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnkd.errors import PlaceError, RequestError
from snnkd.files import trouble
from snnkd.recipe.loss_section import loss_label

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot_path(path: Path) -> None:
    """Raise RequestError for a suffix that cannot be drawn, PlaceError for a folder that is not there."""
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"--plot {path}: the file must end in one of {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise PlaceError(f"--plot {path}: the folder {path.parent} does not exist")


def group_by_seed(results: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results under a label each, those that differ only in seed under one; a result given twice counts once.

    The label says the loss, the timesteps trained, the epochs and, where it differs, the model.
    """
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        key = json.dumps([result.get(k) for k in ("recipe_hash", "data_sha256", "split", "model", "loss")])
        groups.setdefault(key, {})[result["weights_sha256"]] = result
    members = [list(group.values()) for group in groups.values()]
    models = {group[0]["model"]["name"] for group in members}
    labels = [_label(group[0], len(models) > 1) for group in members]
    for label in {label for label in labels if labels.count(label) > 1}:  # other settings, such as lr: tell them apart by hash
        labels = [f"{name} ({group[0]['recipe_hash']})" if name == label else name for name, group in zip(labels, members, strict=True)]
    return dict(zip(labels, members, strict=True))


def _label(result: dict[str, Any], with_model: bool) -> str:
    model = f"{result['model']['name']} " if with_model else ""
    if result["trained_T"] is None:
        return f"{model}teacher"
    selection = result["selection"]  # a network that was put together elsewhere has none
    epochs = f"{selection['epoch']} epoch{'s' if selection['epoch'] != 1 else ''}" if selection else "epochs unknown"
    trained = "best epoch" if selection and selection["rule"] == "best" else epochs
    split = "" if result["split"] == "test" else f", {result['split']}"
    return f"{model}{loss_label(result['loss'])}, T = {result['trained_T']}, {trained}{split}"


def plot_curves(groups: Mapping[str, Sequence[dict[str, Any]]], path: Path) -> None:
    """Draw top-1 against t. `groups` maps a label to the results of its seeds; several seeds show mean and +- 1 s.d."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    longest = 1
    for i, (label, results) in enumerate(groups.items()):
        t, means, spreads, n = _statistics(results)
        longest = max(longest, *t)
        colour, style = f"C{i % 10}", "-o" if len(t) > 1 else "o"
        shown = f"{label} (n = {n})" if n > 1 else label
        axes.plot(t, means, style, color=colour, label=shown, markersize=4)
        if n > 1:
            low, high = ([m - k * s for m, s in zip(means, spreads, strict=True)] for k in (1, -1))
            axes.fill_between(t, low, high, color=colour, alpha=0.2, linewidth=0)
    for top1 in _teachers(groups):
        axes.axhline(top1, color="0.4", linestyle="--", linewidth=1, label=f"teacher {top1:.1f} %")
    axes.set_xlabel("timesteps t")
    axes.set_ylabel(f"top-1 accuracy (%), {_splits(groups)}")
    axes.set_xticks(range(1, longest + 1, max(1, longest // 10)))
    axes.grid(alpha=0.3)
    # outside: within the axes it would lie on the teacher's level or on a band
    title = "band: ± 1 s.d. over n seeds" if any(len(results) > 1 for results in groups.values()) else None
    figure.legend(loc="outside upper center", ncols=2, frameon=False, title=title, fontsize="small", title_fontsize="small")
    try:
        with matplotlib.rc_context({"svg.hashsalt": "snnkd"}):  # otherwise the ids in an SVG are random
            figure.savefig(path, dpi=150, metadata=_dateless(path))
    except OSError as error:
        raise trouble(error, f"--plot {path}") from error
    finally:
        plt.close(figure)


def _statistics(results: Sequence[dict[str, Any]]) -> tuple[list[int], list[float], list[float], int]:
    """The t that all results have, means and sample deviations there, and how many results."""
    shared = min(len(result["curve"]) for result in results)
    columns = [[result["curve"][i]["top1"] for result in results] for i in range(shared)]
    means = [statistics.fmean(column) for column in columns]
    spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
    return [entry["t"] for entry in results[0]["curve"][:shared]], means, spreads, len(results)


def _teachers(groups: Mapping[str, Sequence[dict[str, Any]]]) -> list[float]:
    drawn = {r.get("weights_sha256") for results in groups.values() for r in results}
    found = {r["teacher"]["sha256"]: r["teacher"]["top1"] for results in groups.values() for r in results if r.get("teacher")}
    return sorted(top1 for sha256, top1 in found.items() if sha256 not in drawn)


def _splits(groups: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    return ", ".join(sorted({f"{r['data']} {r['split']}" for results in groups.values() for r in results}))


def _dateless(path: Path) -> dict[str, Any]:
    """Metadata without a date, so that the same results give the same bytes."""
    return {} if path.suffix.lower() == ".png" else {"Date": None} if path.suffix.lower() == ".svg" else {"CreationDate": None}
