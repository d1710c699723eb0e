"""Tables and sentences of speed, from what `snnkd bench` and speed/measure.py measured."""

from __future__ import annotations

import json
from typing import Any

from accuracy import LOSSES, RESULTS, load_results

SPEED = RESULTS / "speed"
PROGRAM = "python recipes/results/speed/measure.py"


def hta_kl_cost() -> str:
    """Say what HTA-KL costs against plain KL and in a training step."""
    cost = json.loads((LOSSES / "hta-kl-cost.json").read_text())
    ratios = []
    for shape in ("[128, 100]", "[1024, 1000]"):
        ratio = cost[shape]["hta-kl"]["ratio"]
        plain = cost[shape]["torch.nn.functional.kl_div"]["ratio"]
        ratios.append(
            f"at {shape} {_quartiles(ratio)} times that of `kl` (torch's own `kl_div` {plain['median']:.2f})"
        )
    share = cost["resnet20 T=4 batch 64"]["hta-kl alone"]["ratio"]["median"]
    hardware = cost["hardware"]
    return (
        f"Value and gradient of HTA-KL, sorting included, take {' and '.join(ratios)}, and "
        f"{100 * share:.2f} % of a training step of resnet20 at T = 4, batch 64 (medians and quartiles of "
        f"alternating runs; {hardware['cpu']}, threads: {hardware['threads']}, torch "
        f"{cost['versions']['torch']}; `{PROGRAM} hta-kl`)."
    )


def steps() -> str:
    """Render the step, its parts and the ablations of `snnkd bench`, and epochs of real runs, by machine."""
    benches = [_step(result) for result in load_results(SPEED, "bench-*.json")]
    return "\n\n".join(benches + [_epoch(result) for result in load_results(SPEED, "epoch-*.json")])


def _step(bench: dict[str, Any]) -> str:
    total = sum(part["median"] for part in bench["parts"].values())
    shares = ", ".join(
        f"{name} {100 * part['median'] / total:.1f} %" for name, part in bench["parts"].items()
    )
    precision = "bf16, the baseline loop float32" if bench["bf16"] else "float32"
    text = (
        f"{bench['model']['name']}, T = {bench['T']}, batch {bench['batch_size']}, 32x32, {bench['loss']} "
        f"with an ANN teacher of the same topology: {_quartiles(bench['baseline']['ratio'])} times the "
        f"images/s of the baseline loop (median and quartiles of {bench['rounds']} rounds in turn, in one "
        f"process). Of the step: {shares}. A spiking step takes {_quartiles(bench['spiking_overhead'])} "
        "times as long as the same topology as an ANN on T x B images (plain or compiled, whichever is "
        "faster: "
        f"{bench['spiking_overhead']['against']}). Compiled: {bench['compile']}; {precision}. On: "
        f"{_machine(bench)}."
    )
    rows = [
        f"| {row['change']} | {row['images_per_s']:.0f} | {_quartiles(row['speedup'])} |"
        for row in bench.get("ablations", [])
    ]
    if not rows:
        return text
    head = ["| one change more a row | images/s | times the baseline loop |", "|---|---|---|"]
    return f"{text}\n\n" + "\n".join(head + rows)


def _epoch(result: dict[str, Any]) -> str:
    epoch = result["epoch"]
    return (
        f"An epoch of {epoch['images']:,} images of {epoch['model']}, T = {epoch['T']}, batch "
        f"{epoch['batch_size']}, hta-kl, with all that a run does, takes {_quartiles(epoch['seconds'])} s "
        f"(median and quartiles of {epoch['epochs']} epochs; {epoch['precision']}). On: {_machine(result)}."
    )


def growth() -> str:
    """Render time and memory of a step as one thing grows; for other machines, where the loss took most."""
    result = json.loads((SPEED / "growth.json").read_text())
    rows = [
        "| T | batch | classes | ms a step | MiB | loss, share of the step |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["growth"]:
        time, memory = f"{row['ms']['median']:.0f}", f"{row['mib']['median']:.0f}"
        note = "" if row.get("keep", True) else " (`keep_memory=false`)"
        share = f"{100 * row['loss_share']['median']:.2f} %"
        rows.append(f"| {row['T']} | {row['batch']}{note} | {row['classes']} | {time} | {memory} | {share} |")
    end = f"Medians of {result['rounds']} runs in turn, each a process of its own. On: {_machine(result)}."
    others = [_largest_shares(other) for other in load_results(SPEED, "growth-*.json")]
    return "\n\n".join(["\n".join(rows), " ".join([end, *others])])


def _largest_shares(result: dict[str, Any]) -> str:
    """Say where the loss took 2 % of the step or more, and its largest share elsewhere."""
    rows = sorted(result["growth"], key=lambda row: -row["loss_share"]["median"])
    above = [row for row in rows if row["loss_share"]["median"] >= 0.02]
    shares = "; ".join(
        f"{100 * row['loss_share']['median']:.2f} % of {row['ms']['median']:.0f} ms at T = {row['T']}, batch "
        f"{row['batch']}, {row['classes']} classes"
        for row in above
    )
    rest = [f"at most {100 * row['loss_share']['median']:.2f} %" for row in rows[len(above) :][:1]]
    text = ", elsewhere ".join([*([shares] if shares else []), *rest])
    return f"On {_machine(result)}, the same table by {result['rounds']} runs: {text}."


def augment() -> str:
    """Render batched augmentation against torchvision's pipeline of PIL images."""
    result = json.loads((SPEED / "augment.json").read_text())
    rows = ["| `data.augment` | images/s on one core | times torchvision's PIL pipeline |", "|---|---|---|"]
    for names, row in result["augment"].items():
        images_per_s = row["images_per_s"]["snnkd"]["median"]
        rows.append(f"| {names} | {images_per_s:,.0f} | {_quartiles(row['speedup'])} |")
    return (
        "\n".join(rows)
        + f"\n\nMedians and quartiles of {result['rounds']} rounds in turn, in one process; both end in "
        f"normalised floats. On: {_machine(result)}."
    )


def curve() -> str:
    """Say what measuring the timestep curve costs over running the network."""
    result = json.loads((SPEED / "curve.json").read_text())
    curve = result["curve"]
    return (
        f"The curve of {curve['images']:,} images ({curve['model']}, T = {curve['T']}, 32x32), rates and "
        f"SynOps included, takes {_quartiles(curve['curve']['ratio'])} times as long as plain forward "
        f"passes over them (median and quartiles of {result['rounds']} rounds in turn; {_machine(result)}; "
        f"`{PROGRAM} curve --rounds 3`)."
    )


def _quartiles(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['q1']:.2f} to {value['q3']:.2f})"


def _machine(result: dict[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    vectors = f" ({hardware['vectors']})" if "vectors" in hardware else ""  # unknown in older results
    device = hardware.get("gpu", f"{hardware['cpu']}{vectors}, threads: {hardware['threads']}")
    return f"{device}, torch {versions['torch']}, spikingjelly {versions['spikingjelly']}; {result['date']}"
