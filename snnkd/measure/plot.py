"""Plot of accuracy, energy and firing rates of results; seeds of one recipe are one line with its spread.

One result alone also shows its training, its accuracy by class and its confusion matrix.
"""

from __future__ import annotations

import io
import json
import logging
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnkd import distributed
from snnkd.errors import FileError, UsageError, counted
from snnkd.files import from_os_error, write_atomic
from snnkd.measure.panels import Values, draw_classes, draw_confusion, draw_loss, draw_training
from snnkd.recipe.loss_section import loss_label

SUFFIXES = (".png", ".svg", ".pdf")
NO_BREAK = "\u00a0"
WIDE, NARROW = 85, 40
"""Characters per line of a legend in one column, and in two."""
LINES, LINE_HEIGHT = 4, 0.18
"""Legend lines that the figure has room for, and inches that each further line adds."""


@distributed.on_rank0
def check_plot_path(path: Path) -> None:
    """Raise UsageError for an unknown suffix, FileError for a missing folder."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--plot {path}: the file name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if not path.parent.is_dir():
        raise FileError(f"--plot {path}: the folder {path.parent} does not exist")


def group_by_seed(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group results that differ only in seed, by label; duplicates count once.

    A label shows the loss, the trained T, the epochs and, if models differ, the model.
    """
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for result in results:
        key = json.dumps([result.get(k) for k in ("recipe_hash", "data_sha256", "split", "model", "loss")])
        groups.setdefault(key, {})[result["weights_sha256"]] = result
    members = [list(group.values()) for group in groups.values()]
    models = {group[0]["model"]["name"] for group in members}
    labels = [_label(group[0], len(models) > 1) for group in members]
    # equal labels with other settings, such as lr: add the recipe hash
    for label in {label for label in labels if labels.count(label) > 1}:
        labels = [
            f"{name} ({group[0]['recipe_hash']})" if name == label else name
            for name, group in zip(labels, members, strict=True)
        ]
    return dict(zip(labels, members, strict=True))


def _label(result: Mapping[str, Any], with_model: bool) -> str:
    model = f"{result['model']['name']} " if with_model else ""
    if result["trained_T"] is None:
        return f"{model}teacher"
    selection = result["selection"]  # none in a network from another tool
    epochs = counted(selection["epoch"], "epoch") if selection else "epochs unknown"
    trained = "best epoch" if selection and selection["rule"] == "best" else epochs
    split = "" if result["split"] == "test" else f", {result['split']}"
    return f"{model}{loss_label(result['loss'])}, T = {result['trained_T']}, {trained}{split}"


def wrap_label(label: str, width: int) -> str:
    """`label` in lines of at most `width` characters, unbroken within `n = 3`, `T = 4` and `16 epochs`."""
    joined = re.sub(r"(?<=\b[nT]) = (?=\d)", f"{NO_BREAK}={NO_BREAK}", label)
    joined = re.sub(r"(?<=\d) (?=epoch)", NO_BREAK, joined)
    words = " ".join(part for word in joined.split(" ") for part in _parts(word, width))
    return textwrap.fill(words, width, break_on_hyphens=False).replace(NO_BREAK, " ")


def _parts(word: str, width: int) -> list[str]:
    """A word longer than `width` in parts, broken behind `=`, `+`, `,` or `(`."""
    parts = [""]
    for piece in re.split(r"(?<=[=+,(])", word):
        if parts[-1] and len(parts[-1] + piece) > width:
            parts.append("")
        parts[-1] += piece
    return parts


def plot_curves(groups: Mapping[str, Sequence[Values]], path: Path, epochs: Sequence[Values] = ()) -> None:
    """Draw top-1 and energy against t with the teacher as a line, and the rate of each layer.

    `groups` maps a label to the results of its seeds; several seeds show mean and +- 1 s.d. A single result
    also has its confusion matrix, its accuracy by class and, from `epochs`, the rows of metrics.jsonl, its
    training.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # on its cache and fonts
    groups = {wrap_label(label, WIDE): results for label, results in groups.items()}
    spiking = {label: results for label, results in groups.items() if results[0].get("rate_per_layer")}
    results = [result for group in groups.values() for result in group]
    only = results[0] if len(results) == 1 and "confusion" in results[0] else None
    timed = not only or only["trained_T"] is not None  # a teacher alone has no curve
    lines = [line for label in groups for line in label.splitlines()]
    columns = 2 if max(map(len, lines)) <= NARROW else 1
    more_lines = max(0, len(lines) // columns - LINES)
    layout = [
        *([["loss", "training"]] if epochs else []),
        *([["top1", "top1"]] if timed else []),
        *([["energy", "rates"]] if spiking else []),
        *([["confusion", "classes"]] if only else []),
    ]
    height = 0.5 + 2.9 * len(layout) + (1.0 if timed else 0.0) + LINE_HEIGHT * more_lines
    figure, panels = plt.subplot_mosaic(
        layout,
        figsize=(7.2 if len(layout) > 1 else 6.4, height),
        layout="constrained",
        height_ratios=[1.4 if row[0] == "top1" else 1 for row in layout],
    )
    colours = {label: f"C{i % 10}" for i, label in enumerate(groups)}
    if timed:
        _draw_accuracy(panels["top1"], groups, colours)
        _draw_legend(figure, panels["top1"], columns, any(len(same) > 1 for same in groups.values()))
    else:
        (label,) = groups
        figure.suptitle(
            f"{label}: {results[0]['curve'][0]['top1']:.1f} %, {_splits(groups)}", fontsize="small"
        )
    if epochs:
        draw_loss(panels["loss"], epochs)
        draw_training(panels["training"], epochs)
    if spiking:
        _draw_energy(panels["energy"], spiking, colours)
        _draw_rates(panels["rates"], spiking, colours)
    if only:
        draw_confusion(panels["confusion"], only)
        draw_classes(panels["classes"], only)
    try:
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _draw_legend(figure: Any, axes: Any, columns: int, with_bands: bool) -> None:
    """Draw the legend of `axes` outside, so that it covers neither the teacher's line nor a band."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        title="band: ± 1 s.d. over n seeds" if with_bands else None,
        fontsize="small",
        title_fontsize="small",
    )


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure with reproducible bytes, as a whole or not at all. Raises FileError or RunError."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "snnkd"}):  # SVG ids are random otherwise
        figure.savefig(content, format=path.suffix.lower()[1:], dpi=150, metadata=_metadata(path))
    try:
        write_atomic(path, content.getvalue())
    except OSError as error:
        raise from_os_error(error, f"--plot {path}") from error


Groups = Mapping[str, Sequence[Mapping[str, Any]]]


def _draw_accuracy(axes: Any, groups: Groups, colours: Mapping[str, str]) -> None:
    for label, results in groups.items():
        if results[0]["trained_T"] is None:  # a teacher has no timesteps: a horizontal line
            level = statistics.fmean(result["curve"][0]["top1"] for result in results)
            axes.axhline(
                level, color=colours[label], linestyle="--", linewidth=1, label=f"{label} {level:.1f} %"
            )
            continue
        shown = f"{label} (n = {len(results)})" if len(results) > 1 else label
        _line(axes, *_statistics(results, "top1"), colours[label], shown)
    for top1 in _teachers(groups, "top1"):
        axes.axhline(top1, color="0.4", linestyle="--", linewidth=1, label=f"teacher {top1:.1f} %")
    axes.set_ylabel(f"top-1 accuracy (%), {_splits(groups)}")
    _against_t(axes, groups)


def _draw_energy(axes: Any, groups: Groups, colours: Mapping[str, str]) -> None:
    for label, results in groups.items():
        t, means, spreads = _statistics(results, "energy_mj")
        _line(axes, t, [1000 * m for m in means], [1000 * s for s in spreads], colours[label])
    for energy in _teachers(groups, "energy_mj"):
        axes.axhline(1000 * energy, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(
            f"teacher {1000 * energy:.3g}",
            (0.98, 1000 * energy),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize="small",
            color="0.4",
        )
    axes.set_ylabel("energy (µJ an image)")
    if _teachers(groups, "energy_mj"):
        axes.set_yscale("log")  # a teacher may cost 100 times more
        axes.yaxis.set_major_formatter("{x:g}")
    _against_t(axes, groups)


def _draw_rates(axes: Any, groups: Groups, colours: Mapping[str, str]) -> None:
    """Draw the rate of each neuron layer, by layer number in the network."""
    most = 0
    for label, results in groups.items():
        columns = list(zip(*(result["rate_per_layer"].values() for result in results), strict=False))
        means = [statistics.fmean(column) for column in columns]
        spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
        _line(axes, list(range(1, len(means) + 1)), means, spreads, colours[label])
        most = max(most, len(means))
    axes.set_xlabel("neuron layer")
    axes.set_ylabel("rate (spikes per neuron, step)")
    axes.set_xticks(range(1, most + 1, max(1, most // 10)))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _line(
    axes: Any, x: list[int], means: list[float], spreads: list[float], colour: str, label: str | None = None
) -> None:
    axes.plot(x, means, "-o" if len(x) > 1 else "o", color=colour, label=label, markersize=4)
    if any(spreads):
        low, high = ([m + k * s for m, s in zip(means, spreads, strict=True)] for k in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _against_t(axes: Any, groups: Groups) -> None:
    longest = max(result["curve"][-1]["t"] for results in groups.values() for result in results)
    axes.set_xlabel("timesteps t")
    axes.set_xticks(range(1, longest + 1, max(1, longest // 10)))
    axes.grid(alpha=0.3)


def _statistics(results: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float], list[float]]:
    """Compute the shared timesteps of all results, and mean and standard deviation of `key` at each."""
    shared = min(len(result["curve"]) for result in results)
    columns = [[result["curve"][i][key] for result in results] for i in range(shared)]
    means = [statistics.fmean(column) for column in columns]
    spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
    return [entry["t"] for entry in results[0]["curve"][:shared]], means, spreads


def _teachers(groups: Groups, key: str) -> list[float]:
    """List `key` of each teacher that has no curve of its own."""
    drawn = {r.get("weights_sha256") for results in groups.values() for r in results}
    values = {
        r["teacher"]["sha256"]: r["teacher"].get(key)
        for results in groups.values()
        for r in results
        if r.get("teacher")
    }
    return sorted(value for sha256, value in values.items() if sha256 not in drawn and value is not None)


def _splits(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    return ", ".join(sorted({f"{r['data']} {r['split']}" for results in groups.values() for r in results}))


def _metadata(path: Path) -> dict[str, Any]:
    """Metadata without a date, for reproducible bytes."""
    return (
        {}
        if path.suffix.lower() == ".png"
        else {"Date": None}
        if path.suffix.lower() == ".svg"
        else {"CreationDate": None}
    )
