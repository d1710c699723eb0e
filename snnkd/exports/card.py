"""The README of an exported folder: a model card as the Hugging Face hub shows it, from config.json and result.json alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from snnkd.exports.source import Source
from snnkd.recipe.data_section import data_label
from snnkd.recipe.loss_section import loss_label
from snnkd.schema.fields import to_plain

CARD = "README.md"
OPENING = "---\nlibrary_name: snnkd\n"
"""How every card begins; what does not is somebody else's file."""


def card(source: Source) -> str:
    """The card as Markdown. Says what is not known instead of leaving it out."""
    network, about = source.loaded.network, source.loaded.config
    specification = network.specification
    spiking = specification.kind == "snn"
    parts = [
        _front_matter(source),
        f"# {specification.model.name}, {'spiking, T = ' + str(specification.T) if spiking else 'an ANN teacher'}",
        _what(source),
        *(
            ["## Result", *_result(source.result, spiking)]
            if source.result
            else ["## Result", "No result is recorded for these weights."]
        ),
        "## Use",
        _use(source, spiking),
        "## Origin",
        _origin(about, source),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(source: Source) -> str:
    about, specification = source.loaded.config, source.loaded.network.specification
    tags = ["image-classification"]
    if specification.kind == "snn":
        tags += ["spiking-neural-network", "snn"]
        tags += ["knowledge-distillation"] if about.get("teacher") else []
    data = (about.get("data") or {}).get("name")
    facts: dict[str, Any] = {"tags": tags, "pipeline_tag": "image-classification"}
    if data in ("cifar10", "cifar100") and not about.get(
        "part"
    ):  # names that the hub knows; a part is not what they name
        facts["datasets"] = [data]
    return f"{OPENING}{yaml.safe_dump(facts, sort_keys=False)}---"


def _what(source: Source) -> str:
    specification, about = source.loaded.network.specification, source.loaded.config
    data = str((about.get("data") or {}).get("name", "unknown"))
    parameters = sum(p.numel() for p in source.loaded.network.parameters())
    size = " x ".join(map(str, specification.shape))
    takes = (
        "images float 0..1"
        if specification.frames is None
        else f"{specification.frames} event frames, counts / 255, each"
    )
    rows = [
        ("data", data_label(data, about.get("part"))),
        ("input", f"{takes} {size}; normalised inside"),
        (
            "output",
            f"logits [T, B, {specification.classes}], one row a timestep; the prediction is the class of the largest mean over T",
        ),
        ("parameters", f"{parameters:,}"),
    ]
    if specification.neuron is not None:
        rows.append(
            ("neuron", ", ".join(f"{key}: {value}" for key, value in to_plain(specification.neuron).items()))
        )
        rows.append(("loss", str(loss_label(about.get("loss")) or "unknown")))
        rows.append(("teacher", _teacher(about.get("teacher"))))
    return _table(["", ""], rows)


def _teacher(teacher: dict[str, Any] | None) -> str:
    if not teacher:
        return "none"
    accuracy = f", {teacher['top1']:.2f} %" if teacher.get("top1") is not None else ""
    return f"{teacher.get('model', 'ANN')}{accuracy}, sha256 {str(teacher['sha256'])[:12]}..."


def _result(result: dict[str, Any], spiking: bool) -> list[str]:
    """What was measured, on which images, and how the weights were chosen."""
    chosen = result.get("selection")
    how = f"{chosen['rule']} epoch ({chosen['epoch']})" if chosen else "unknown"
    said = f"{data_label(result['data'], result.get('part'))}, {result['split']} split, {result['images']:,} images; weights of the {how}."
    if chosen and chosen["rule"] == "best":
        said += " The epoch was chosen on validation images, never on the test split."
    rows = []
    for entry in result["curve"]:
        synops = "-" if entry["synops"] is None else f"{entry['synops']:,.0f}"
        top5 = "-" if entry["top5"] is None else f"{entry['top5']:.2f}"
        rows.append(
            (str(entry["t"]), f"{entry['top1']:.2f}", top5, synops, f"{1000 * entry['energy_mj']:.3f}")
        )
    made = [said, _table(["t", "top-1 %", "top-5 %", "SynOps an image", "energy µJ an image"], rows)]
    if spiking:
        made.append(
            "A network stopped at t < T is not one trained at t: rows before the last say what this one answers early."
        )
    convention = result.get("energy_convention") or {}
    energy = (
        f"Energy by convention, not measured: {convention['pj_per_mac']} pJ a MAC, {convention['pj_per_synop']} pJ a SynOp "
        f"({convention['process']}); not counted: {convention['not_counted']}."
        if convention
        else ""
    )
    rate = (
        f"Rate: {result['rate']:.4f} spikes per neuron and timestep. "
        if result.get("rate") is not None
        else ""
    )
    return [*made, (rate + energy).strip()]


def _use(source: Source, spiking: bool) -> str:
    shape = ", ".join(map(str, source.loaded.network.specification.batch_shape(1)))
    return (
        "```python\nimport snnkd, torch\n\n"
        'network = snnkd.load("PATH/TO/THIS/FOLDER")\n'
        f"logits = network(torch.rand({shape}))  # [{'T' if spiking else '1'}, B, classes]\n```"
    )


def _origin(about: dict[str, Any], source: Source) -> str:
    result = source.result or {}
    rows = [
        ("weights sha256", f"`{source.loaded.sha256}`"),
        ("data sha256", f"`{about.get('data_sha256', 'unknown')}`"),
    ]
    if about.get("seed") is not None:
        rows.append(("seed", str(about["seed"])))
    if result.get("command"):
        rows.append(("command", f"`{result['command']}`"))
    versions = result.get("versions") or {}
    if versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return _table(["", ""], rows)


def _table(head: list[str], rows: Sequence[tuple[str, ...]]) -> str:
    # a cell with a bar or a line break would end it
    lines = [
        head,
        ["---"] * len(head),
        *([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
