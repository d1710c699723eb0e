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

from snnkd.recipe.loss_section import loss_label

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "recipes" / "results" / "glyphs"
COMMANDS = ("teach", "distill", "eval", "export", "run", "status", "check", "list")


def help_text(*words: str) -> str:
    """`snnkd WORDS --help` at 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "snnkd", *words, "--help"], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def reference() -> str:
    """The command reference, with the version of Typer that formatted it."""
    parts = [f"Formatted by Typer {version('typer')}."]
    for words in ([], *([name] for name in COMMANDS)):
        parts.append(f"```console\n$ {' '.join(['snnkd', *words, '--help'])}\n{help_text(*words)}\n```")
    return "\n\n".join(parts)


def stored(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def groups() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Stored student results by (loss label, epochs)."""
    made: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in stored("distill-*.json"):
        made.setdefault((loss_label(result["loss"]), result["selection"]["epoch"]), []).append(result)
    return dict(sorted(made.items(), key=lambda item: (item[0][0] != "none", item[0][1], item[0][0])))


def spread(values: list[float], digits: int) -> str:
    """`mean ± sample standard deviation`, the mean alone for one value."""
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def results_table() -> str:
    """Test accuracy of the default recipe's students."""
    rows = ["| loss | epochs | n | t = 1 | t = 2 | t = 4 | rate | µJ an image |", "|---|---|---|---|---|---|---|---|"]
    for (loss, epochs), results in groups().items():
        at = {t: spread([r["curve"][t - 1]["top1"] for r in results], 1) for t in (1, 2, 4)}
        rate = spread([r["rate"] for r in results], 3)
        energy = spread([1000 * r["curve"][-1]["energy_mj"] for r in results], 2)
        rows.append(f"| {loss} | {epochs} | {len(results)} | {at[1]} | {at[2]} | {at[4]} | {rate} | {energy} |")
    (teacher,) = stored("teach-*.json")
    top1, energy_t = teacher["curve"][0]["top1"], 1000 * teacher["curve"][0]["energy_mj"]
    rows.append(f"| (teacher) | {teacher['selection']['epoch']} | 1 | {top1:.1f} | | | | {energy_t:.2f} |")
    return "\n".join(rows)


def conditions() -> str:
    """Hardware, versions and data of the stored results, which must be one set."""
    results = stored("*.json")
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


PARTS: dict[str, Callable[[], str]] = {
    "reference": reference,
    "results": results_table,
    "conditions": conditions,
    "gaps": gaps,
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
