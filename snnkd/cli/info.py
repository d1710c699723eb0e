"""`snnkd info`."""

from __future__ import annotations

from typing import Any

from snnkd.cli import options as o
from snnkd.cli.text import columns
from snnkd.info import collect

EXAMPLES = (
    "snnkd info",
    "snnkd info --json",
)


def info(as_json: o.Json = False) -> None:
    """Print versions, device, threads and folders, for a bug report."""
    facts = collect()
    if as_json:
        o.echo_json(facts)
    else:
        o.echo(columns(_rows(facts), left=2))


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    torch = facts["torch"]
    rows = [
        ("snnkd", f"{facts['snnkd']} in {facts['folder']}"),
        ("python", facts["python"]),
        ("system", f"{facts['system']}, {facts['cpus']} CPUs"),
    ]
    if "error" in torch:
        rows.append(("device", f"unknown: torch cannot be imported ({torch['error']})"))
    else:
        gpus = ", ".join(torch["gpus"]) or "no GPU"
        built = f"built for CUDA {torch['cuda']}" if torch["cuda"] else "built for CPUs"
        rows.append(("device", f"{gpus}; torch {built}, {torch['threads']} CPU threads, {torch['vectors']}"))
    rows += [(name, _place(facts[name])) for name in ("runs", "data")]
    rows += [(name, value or "not installed") for name, value in facts["packages"].items()]
    return rows + list(facts["environment"].items())


def _place(folder: dict[str, Any]) -> str:
    if "error" in folder:
        return str(folder["error"])
    return f"{folder['path']} ({folder['state']}, {folder['free_bytes'] / 2**30:,.1f} GiB free)"
