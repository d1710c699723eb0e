"""The parts of README.md that are made, not written: the command reference and the tables of results.

    python .ci/readme.py            rewrite README.md
    python .ci/readme.py --check    exit 1 when it would change

A part stands between `<!-- NAME -->` and `<!-- end -->`. Numbers come from the result files in recipes/results/.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for tables.py, whoever imports this file
import tables

from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.references import REFERENCES, Reference
from snnkd.compare.statistics import Difference, paired
from snnkd.preflight import model_facts
from snnkd.recipe.describe import describe_loss
from snnkd.recipe.loss_section import loss_label

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "recipes" / "results" / "glyphs"
SPEED = ROOT / "recipes" / "results" / "speed"
COMPARED = ROOT / "recipes" / "results" / "glyphs-losses"
COMMANDS = (
    "teach",
    "distill",
    "eval",
    "export",
    "run",
    "compare",
    "status",
    "check",
    "data",
    "list",
    "bench",
    "guide",
)


def help_text(*words: str) -> str:
    """`snnkd WORDS --help` at 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "snnkd", *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def reference() -> str:
    """The command reference, with the version of Typer that formatted it."""
    parts = [f"Formatted by Typer {version('typer')}."]
    for words in ([], *([name] for name in COMMANDS)):
        parts.append(f"```console\n$ {' '.join(['snnkd', *words, '--help'])}\n{help_text(*words)}\n```")
    return "\n\n".join(parts)


def stored(pattern: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]


def groups() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Stored student results by (loss label, epochs)."""
    made: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in stored("distill-*.json"):
        made.setdefault((loss_label(result["loss"]), result["selection"]["epoch"]), []).append(result)
    return dict(sorted(made.items(), key=lambda item: (item[0][0] != "none", item[0][1], item[0][0])))


def spread(values: list[float], digits: int) -> str:
    """`mean ± sample standard deviation`, the mean alone for one value."""
    mean = statistics.fmean(values)
    return (
        f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"
        if len(values) > 1
        else f"{mean:.{digits}f}"
    )


def results_table() -> str:
    """Test accuracy of the default recipe's students."""
    rows = [
        "| loss | epochs | n | t = 1 | t = 2 | t = 4 | rate | µJ an image |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (loss, epochs), results in groups().items():
        at = {t: spread([r["curve"][t - 1]["top1"] for r in results], 1) for t in (1, 2, 4)}
        rate = spread([r["rate"] for r in results], 3)
        energy = spread([1000 * r["curve"][-1]["energy_mj"] for r in results], 2)
        rows.append(
            f"| {loss} | {epochs} | {len(results)} | {at[1]} | {at[2]} | {at[4]} | {rate} | {energy} |"
        )
    (teacher,) = stored("teach-*.json")
    top1, energy_t = teacher["curve"][0]["top1"], 1000 * teacher["curve"][0]["energy_mj"]
    rows.append(f"| (teacher) | {teacher['selection']['epoch']} | 1 | {top1:.1f} | | | | {energy_t:.2f} |")
    return "\n".join(rows)


def methods() -> str:
    """The losses, each with its source."""
    escaped = "\\|"  # in a table of Markdown
    rows = ["| `--loss` | | source | formula | teacher |", "|---|---|---|---|---|"]
    for entry in LOSSES:
        x = describe_loss(entry.name)
        links = ", ".join(_link(REFERENCES[key]) for key in x["bibtex"])
        rows.append(f"| `{x['name']}` | {x['help'].replace('|', escaped)} | {links} | {x['basis']} | "
                    f"{'yes' if x['needs_teacher'] else 'no'} |")  # fmt: skip
    return "\n".join(rows)


def models_table() -> str:
    """The networks as `snnkd list models --json` counts them, each with its source."""
    rows = ["| `--model` | | parameters | MACs | source |", "|---|---|---|---|---|"]
    for entry, x in zip(MODELS, model_facts(), strict=True):
        links = ", ".join(_link(REFERENCES[key]) for key in entry.detail("source", ()))
        rows.append(
            f"| `{x['name']}` | {x['help']} | {_millions(x['parameters'], 2)} | {_millions(x['macs'], 0)} | {links} |"
        )
    return "\n".join(rows)


def _millions(count: int | None, digits: int) -> str:
    return "" if count is None else f"{count / 1e6:,.{digits}f} M"


def _link(reference: Reference) -> str:
    name = f"{reference.cited} {reference.year}"
    return f"[{name}](https://arxiv.org/abs/{reference.arxiv})" if reference.arxiv else name


def compared() -> dict[str, dict[int, dict[str, Any]]]:
    """Stored students of the comparison by loss label and seed; one teacher and one number of epochs."""
    made: dict[str, dict[int, dict[str, Any]]] = {}
    for result in stored("distill-*.json", COMPARED):
        made.setdefault(loss_label(result["loss"]), {})[result["seed"]] = result
    (_,) = {r["teacher"]["sha256"] for runs in made.values() for r in runs.values() if r["teacher"]}
    (_,) = {(r["selection"]["epoch"], r["trained_T"]) for runs in made.values() for r in runs.values()}
    order = json.loads((COMPARED / "steps.json").read_text())["losses"]
    return {name: made[name] for name in order}


def difference(a: dict[int, dict[str, Any]], b: dict[int, dict[str, Any]]) -> Difference:
    """Of a - b in top-1 at the last timestep, paired by seed."""
    ours, theirs = ({seed: r["curve"][-1]["top1"] for seed, r in runs.items()} for runs in (a, b))
    found = paired(ours, theirs)
    assert found is not None
    return found


def comparison() -> str:
    """The losses at one T under one recipe."""
    runs, steps = compared(), json.loads((COMPARED / "steps.json").read_text())["losses"]
    rows = [
        "| loss | n | top-1 % at t = 2 | minus kl (95 %) | rate | time of a step | w_head | empty heads |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, seeds in runs.items():
        results = list(seeds.values())
        gap = difference(seeds, runs["kl"])
        against = (
            "" if gap.high is None else f"{gap.mean:+.1f} ± {gap.high - gap.mean:.1f}"
        )  # kl minus itself has no interval
        heads = [_mean_metrics(result["run"]) for result in results] if name.startswith("hta-kl") else []
        shown = [
            f"{statistics.fmean(h[key] for h in heads):.3f}" if heads else ""
            for key in ("w_head", "head_empty")
        ]
        top1, rate = (
            spread([r["curve"][-1]["top1"] for r in results], 1),
            spread([r["rate"] for r in results], 3),
        )
        ratio = steps[name]["ratio"]
        rows.append(
            f"| {name} | {len(results)} | {top1} | {against} | {rate} | {ratio['median']:.2f} | {shown[0]} | {shown[1]} |"
        )
    return "\n".join(rows)


def _mean_metrics(run: str) -> dict[str, float]:
    """Means over the epochs of what a run logged of its heads."""
    rows = [
        json.loads(line) for line in (COMPARED / f"{Path(run).name}.metrics.jsonl").read_text().splitlines()
    ]
    return {key: statistics.fmean(row[key] for row in rows) for key in ("w_head", "head_empty")}


def cost() -> str:
    """What HTA-KL costs, from the stored measurement."""
    found = json.loads((COMPARED / "hta-kl-cost.json").read_text())
    said = []
    for shape in ("[128, 100]", "[1024, 1000]"):
        ratio, plain = found[shape]["hta-kl"]["ratio"], found[shape]["torch.nn.functional.kl_div"]["ratio"]
        said.append(f"at {shape} {ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f}) times that of `kl`"
                    f" (torch's own `kl_div` {plain['median']:.2f})")  # fmt: skip
    share = found["resnet20 T=4 batch 64"]["hta-kl alone"]["ratio"]["median"]
    cpu = found["hardware"]
    return (
        f"Value and gradient of HTA-KL, sorting included, take {' and '.join(said)}, and {100 * share:.2f} % of a training step of "
        f"resnet20 at T = 4, batch 64 (medians and quartiles of alternating runs; {cpu['cpu']}, threads: {cpu['threads']}, torch "
        f"{found['versions']['torch']}; `python .ci/speed.py hta-kl`)."
    )


def conditions() -> str:
    """Hardware, versions and data of the stored results, which must be one set."""
    return _conditions(stored("*.json"))


def compared_conditions() -> str:
    return _conditions(stored("distill-*.json", COMPARED))


def _conditions(results: list[dict[str, Any]]) -> str:
    made = {
        f"{r['hardware']['cpu']}, threads: {r['hardware']['threads']}; torch {r['versions']['torch']}, spikingjelly "
        f"{r['versions']['spikingjelly']}, Pillow {r['versions']['pillow']}, matplotlib {r['versions']['matplotlib']}; "
        f"{r['images']} test images, data sha256 {r['data_sha256'][:12]}; last epoch, nothing selected on test images"
        for r in results
    }
    (only,) = made
    return only + "."


def gaps() -> str:
    """What distillation adds at equal epochs, seed by seed, and what the longest runs reach."""
    at_end = {key: {r["seed"]: r["curve"][-1]["top1"] for r in results} for key, results in groups().items()}
    ours, direct = at_end["hta-kl", 16], at_end["none", 16]
    longest = max(epochs for loss, epochs in at_end if loss == "none")
    late = at_end["none", longest]
    said = (
        f"At the same 16 epochs HTA-KL is {_signed(ours, direct)} points above direct training on seeds "
        f"{', '.join(map(str, sorted(ours)))}. Direct training is slow here, not stuck: with {longest} epochs it reaches "
        f"{spread(list(late.values()), 1)} %, {_signed(late, ours)} points against HTA-KL's 16 epochs on the same seeds"
    )
    if ("hta-kl", longest) in at_end:
        long = at_end["hta-kl", longest]
        said += f"; HTA-KL with {longest} epochs reaches {spread(list(long.values()), 1)} % (n = {len(long)})"
    return said + f". More than {longest} epochs were not run."


def _signed(a: dict[int, float], b: dict[int, float]) -> str:
    return ", ".join(f"{a[seed] - b[seed]:+.1f}" for seed in sorted(a.keys() & b.keys()))


def speed() -> str:
    """The step, its parts, and what each lever brings, as `snnkd bench` measured them, one machine after another; epochs of real runs."""
    return "\n\n".join(
        [_step(found) for found in stored("bench-*.json", SPEED)]
        + [_epoch(found) for found in stored("epoch-*.json", SPEED)]
    )


def _step(found: dict[str, Any]) -> str:
    base, tax, parts = found["baseline"], found["spiking_tax"], found["parts"]
    whole = sum(part["median"] for part in parts.values())
    shares = ", ".join(f"{name} {100 * part['median'] / whole:.1f} %" for name, part in parts.items())
    said = (
        f"{found['model']['name']}, T = {found['T']}, batch {found['batch_size']}, 32x32, {found['loss']} with an ANN teacher of the same "
        f"topology: {_quartiles(base['ratio'])} times the images/s of the published loop (median and quartiles of {found['rounds']} "
        f"rounds in turn, in one process). Of the step: {shares}. A spiking step takes {_quartiles(tax)} times as long as the same "
        f"topology as an ANN on T x B images (plain or compiled, whichever is faster: {tax['against']}). Compiled: {found['compile']}; "
        f"{_precision(found)}. On: {_machine(found)}."
    )
    rows = [
        f"| {row['lever']} | {row['images_per_s']:.0f} | {_quartiles(row['speedup'])} |"
        for row in found.get("levers", [])
    ]
    head = (
        ["| one change more a row | images/s | times the published loop |", "|---|---|---|"] if rows else []
    )
    return "\n\n".join([said, *(["\n".join(head + rows)] if rows else [])])


def _precision(found: dict[str, Any]) -> str:
    return "bf16, the published loop float32" if found["bf16"] else "float32"


def _epoch(found: dict[str, Any]) -> str:
    about = found["epoch"]
    return (
        f"An epoch of {about['images']:,} images of {about['model']}, T = {about['T']}, batch {about['batch_size']}, hta-kl, with all "
        f"that a run does, takes {_quartiles(about['seconds'])} s (median and quartiles of {about['epochs']} epochs; "
        f"{about['precision']}). On: {_machine(found)}."
    )


def growth() -> str:
    """Time and memory of a step as one thing grows; of other machines where the loss took most."""
    found = json.loads((SPEED / "growth.json").read_text())
    rows = [
        "| T | batch | classes | ms a step | MiB | loss, share of the step |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["growth"]:
        ms, mib, share = (row[key]["median"] for key in ("ms", "mib", "loss_share"))
        plain = "" if row.get("keep", True) else " (`keep_memory=false`)"
        rows.append(
            f"| {row['T']} | {row['batch']}{plain} | {row['classes']} | {ms:.0f} | {mib:.0f} | {100 * share:.2f} % |"
        )
    end = f"Medians of {found['rounds']} runs in turn, each a process of its own. On: {_machine(found)}."
    return "\n\n".join(["\n".join(rows), " ".join([end, *map(_most, stored("growth-*.json", SPEED))])])


def _most(found: dict[str, Any]) -> str:
    """Where the loss took the largest share, and what was next below 2 %."""
    shares = sorted(found["growth"], key=lambda row: -row["loss_share"]["median"])
    above = [row for row in shares if row["loss_share"]["median"] >= 0.02]
    told = "; ".join(f"{100 * r['loss_share']['median']:.2f} % of {r['ms']['median']:.0f} ms at T = {r['T']}, batch {r['batch']}, "
                     f"{r['classes']} classes" for r in above)  # fmt: skip
    rest = [f"at most {100 * row['loss_share']['median']:.2f} %" for row in shares[len(above) :][:1]]
    of_all = ", elsewhere ".join([*([told] if told else []), *rest])
    return f"On {_machine(found)}, the same table by {found['rounds']} runs: {of_all}."


def augment() -> str:
    """Batched augmentation beside torchvision's pictures."""
    found = json.loads((SPEED / "augment.json").read_text())
    rows = ["| `data.augment` | images/s on one core | times torchvision's PIL pipeline |", "|---|---|---|"]
    for names, row in found["augment"].items():
        rows.append(
            f"| {names} | {row['images_per_s']['snnkd']['median']:,.0f} | {_quartiles(row['speedup'])} |"
        )
    end = f"Medians and quartiles of {found['rounds']} rounds in turn, in one process; both end in normalised floats"
    return "\n".join(rows) + f"\n\n{end}. On: {_machine(found)}."


def curve() -> str:
    """What measuring costs over running the network."""
    found = json.loads((SPEED / "curve.json").read_text())
    ratio, about = found["curve"]["curve"]["ratio"], found["curve"]
    return (
        f"The curve of {about['images']:,} images ({about['model']}, T = {about['T']}, 32x32), rates and SynOps included, takes "
        f"{_quartiles(ratio)} times as long as plain forward passes over them (median and quartiles of {found['rounds']} rounds in turn; "
        f"{_machine(found)}; `python .ci/speed.py curve --rounds 3`)."
    )


def _quartiles(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['q1']:.2f} to {value['q3']:.2f})"


def _machine(found: dict[str, Any]) -> str:
    hardware, versions = found["hardware"], found["versions"]
    vectors = f" ({hardware['vectors']})" if "vectors" in hardware else ""  # older results do not say
    cpu = f"{hardware['cpu']}{vectors}, threads: {hardware['threads']}"
    return f"{hardware.get('gpu', cpu)}, torch {versions['torch']}, spikingjelly {versions['spikingjelly']}; {found['date']}"


PARTS: dict[str, Callable[[], str]] = {
    "reference": reference,
    "results": results_table,
    "conditions": conditions,
    "gaps": gaps,
    "tables": tables.results,
    "methods": methods,
    "models": models_table,
    "augment": augment,
    "curve": curve,
    "comparison": comparison,
    "cost": cost,
    "compared_conditions": compared_conditions,
    "speed": speed,
    "growth": growth,
}


def render(text: str, only: set[str] | None = None) -> str:
    """README text with every part (or those in `only`) made anew."""

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if only is not None and name not in only:
            return found[0]
        return f"<!-- {name} -->\n{PARTS[name]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    before = README.read_text(encoding="utf-8")
    after = render(before)
    if "--check" in sys.argv:
        sys.exit(0 if before == after else "README.md is not what .ci/readme.py makes; run it")
    README.write_text(after, encoding="utf-8")
