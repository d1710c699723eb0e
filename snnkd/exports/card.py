"""Model card of an exported folder, as the Hugging Face hub displays it, from config.json and result.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from snnkd.catalog.data import DATA, class_names_of
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.references import REFERENCES
from snnkd.exports.source import Source
from snnkd.models import Specification
from snnkd.recipe.data_section import data_label
from snnkd.recipe.loss_section import loss_label
from snnkd.schema.fields import to_plain

CARD = "README.md"
TASK = "image-classification"
OPENING = "---\nlibrary_name: snnkd\n"
"""Start of every card; a README that starts otherwise is never replaced."""


def card(source: Source) -> str:
    """The card as Markdown. Unknown facts are listed as unknown."""
    config, specification = source.loaded.config, source.loaded.network.specification
    spiking = specification.kind == "snn"
    kind = f"spiking, T = {specification.T}" if spiking else "an ANN teacher"
    parts = [
        _front_matter(source),
        f"# {specification.model.name}, {kind}",
        _overview(source),
        *(
            ["## Result", *_result(source.result, spiking)]
            if source.result
            else ["## Result", "No result is recorded for these weights."]
        ),
        "## Use",
        _usage(source, spiking),
        "## Origin",
        _origin(config, source),
        "## Citing",
        _citation(config, specification),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(source: Source) -> str:
    config, specification = source.loaded.config, source.loaded.network.specification
    tags = [TASK]
    if specification.kind == "snn":
        tags += ["spiking-neural-network", "snn"]
        tags += ["knowledge-distillation"] if config.get("teacher") else []
    data = (config.get("data") or {}).get("name")
    header: dict[str, Any] = {"tags": tags, "pipeline_tag": TASK}
    # data set names of the hub, which do not describe a subset
    if data in ("cifar10", "cifar100") and not config.get("part"):
        header["datasets"] = [data]
    if source.result:
        header |= {"metrics": ["accuracy"], "model-index": [_index(source, source.result)]}
    return f"{OPENING}{yaml.safe_dump(header, sort_keys=False)}---"


def _index(source: Source, result: dict[str, Any]) -> dict[str, Any]:
    """The model's entry in the index of the hub: its accuracy after the last timestep."""
    end = result["curve"][-1]
    kind, _, path = str(result["data"]).partition(":")
    label = data_label(Path(path).name or kind, result.get("part"))
    at = f" at t = {end['t']}" if source.loaded.network.specification.kind == "snn" else ""
    accuracy = {
        "type": "accuracy",
        "value": round(end["top1"] / 100, 6),
        "name": f"top-1 accuracy{at}",
    }
    return {
        "name": source.address.rpartition("/")[2] or source.loaded.folder.name,
        "results": [
            {
                "task": {"type": TASK, "name": "image classification"},
                "dataset": {"type": kind, "name": label, "split": result["split"]},
                "metrics": [accuracy],
            }
        ],
    }


def _overview(source: Source) -> str:
    specification, config = source.loaded.network.specification, source.loaded.config
    data = str((config.get("data") or {}).get("name", "unknown"))
    parameters = sum(p.numel() for p in source.loaded.network.parameters())
    size = " x ".join(map(str, specification.shape))
    images = (
        "images, floats in 0..1,"
        if specification.frames is None
        else f"{specification.frames} event frames, counts / 255, each"
    )
    rows = [
        ("data", data_label(data, config.get("part"))),
        ("licence of the data", _licence(data)),
        ("input", f"{images} {size}; normalised inside"),
        (
            "output",
            f"logits [T, B, {specification.classes}], one row per timestep; predict by the mean over T"
            if specification.kind == "snn"
            else f"logits [1, B, {specification.classes}]",
        ),
        ("parameters", f"{parameters:,}"),
    ]
    if names := class_names_of(config):
        rows.insert(3, ("classes", ", ".join(names)))
    if specification.neuron is not None:
        rows.append(
            ("neuron", ", ".join(f"{key}: {value}" for key, value in to_plain(specification.neuron).items()))
        )
        rows.append(("loss", str(loss_label(config.get("loss")) or "unknown")))
        rows.append(("teacher", _teacher(config.get("teacher"))))
    return _table(["", ""], rows)


def _licence(data: str) -> str:
    """The licence as far as the makers of the data state one."""
    entry = next((entry for entry in DATA if entry.name == data), None)
    if entry is None:
        return "unknown"
    if not entry.source:
        return "generated by snnkd"
    return f"{entry.licence or 'none stated'}; {entry.source}"


def _teacher(teacher: dict[str, Any] | None) -> str:
    if not teacher:
        return "none"
    accuracy = f", {teacher['top1']:.2f} %" if teacher.get("top1") is not None else ""
    return f"{teacher.get('model', 'ANN')}{accuracy}, sha256 {str(teacher['sha256'])[:12]}..."


def _result(result: dict[str, Any], spiking: bool) -> list[str]:
    """The timestep curve, the images it was measured on, and how the weights were selected."""
    selection = result.get("selection")
    epoch = f"{selection['rule']} epoch ({selection['epoch']})" if selection else "unknown epoch"
    data = data_label(result["data"], result.get("part"))
    summary = f"{data}, {result['split']} split, {result['images']:,} images; weights of the {epoch}."
    if selection and selection["rule"] == "best":
        summary += " The epoch was selected on validation images, never on the test split."
    rows = []
    for entry in result["curve"]:
        synops = "-" if entry["synops"] is None else f"{entry['synops']:,.0f}"
        top5 = "-" if entry["top5"] is None else f"{entry['top5']:.2f}"
        rows.append(
            (str(entry["t"]), f"{entry['top1']:.2f}", top5, synops, f"{1000 * entry['energy_mj']:.3f}")
        )
    head = ["t", "top-1 %", "top-5 %", "SynOps per image", "energy µJ per image"]
    first = 0 if spiking else 1  # an ANN has no timesteps
    parts = [summary, _table(head[first:], [row[first:] for row in rows])]
    if spiking:
        parts.append("Rows with t < T are this network stopped early, not networks trained at t.")
    convention = result.get("energy_convention") or {}
    energy = (
        f"Energy is estimated, not measured: {convention['pj_per_mac']} pJ per MAC, "
        f"{convention['pj_per_synop']} pJ per SynOp ({convention['process']}); "
        f"not counted: {convention['not_counted']}."
        if convention
        else ""
    )
    rate = (
        f"Rate: {result['rate']:.4f} spikes per neuron and timestep. "
        if result.get("rate") is not None
        else ""
    )
    return [*parts, (rate + energy).strip()]


def _usage(source: Source, spiking: bool) -> str:
    shape = ", ".join(map(str, source.loaded.network.specification.batch_shape(1)))
    address = source.address or "PATH/TO/THIS/FOLDER"
    return (
        "```python\nimport snnkd, torch\n\n"
        f'network = snnkd.load("{address}")\n'
        f"logits = network(torch.rand({shape}))  # [{'T' if spiking else '1'}, B, classes]\n```\n\n"
        f"On the command line: `snnkd eval {address}`, `snnkd distill --teacher {address}`."
    )


def _citation(config: dict[str, Any], specification: Specification) -> str:
    """What to cite: snnkd, and the papers of loss and network."""
    loss, model = str((config.get("loss") or {}).get("name", "")), specification.model.name
    keys = [*(LOSSES.find(loss).source if loss in LOSSES else ())]
    keys += MODELS.find(model).source if model in MODELS else ()
    lines = ["Trained with snnkd, a command-line distillation toolkit for spiking neural networks."]
    if keys:
        entries = "\n\n".join(REFERENCES[key].bibtex for key in dict.fromkeys(keys))
        lines += ["Its loss and network:", f"```bibtex\n{entries}\n```"]
    return "\n\n".join(lines)


def _origin(config: dict[str, Any], source: Source) -> str:
    result = source.result or {}
    rows = [
        ("weights sha256", f"`{source.loaded.sha256}`"),
        ("data sha256", f"`{config.get('data_sha256', 'unknown')}`"),
    ]
    if config.get("seed") is not None:
        rows.append(("seed", str(config["seed"])))
    if result.get("command"):
        rows.append(("command", f"`{result['command']}`"))
    versions = result.get("versions") or {}
    if versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return _table(["", ""], rows)


def _table(head: list[str], rows: Sequence[tuple[str, ...]]) -> str:
    # vertical bars and line breaks would end the cell
    lines = [
        head,
        ["---"] * len(head),
        *([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
