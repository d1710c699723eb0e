"""Imports run downward only, and the public surface is what it is said to be."""

from __future__ import annotations

import ast
from pathlib import Path

import snnkd
import snnkd.losses
import snnkd.models

PACKAGE = Path(snnkd.__file__).parent
LAYERS = [
    {"cli", "api"},
    {"pipeline"},
    {"bench", "compare", "preflight"},
    {"evaluation"},
    {"stage"},
    {"teachers"},
    {"training", "measure", "exports", "runs"},
    {"losses", "models", "data"},
    {"recipe"},
    {"catalog"},
    {"schema"},
    {"usercode", "context", "locks"},
    {"stopping"},
    {"console", "files", "seeds", "distributed"},
    {"errors"},
]
ROOM = {room: i for i, layer in enumerate(LAYERS) for room in layer}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("snnkd"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__version__"}


def test_every_room_has_a_layer() -> None:
    rooms = {
        p.stem if p.suffix else p.name
        for p in PACKAGE.iterdir()
        if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").exists())
    }
    assert rooms - {"__init__", "__main__"} == set(ROOM)


def test_imports_run_downward() -> None:
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        for other in _imports(path) - {room}:
            assert ROOM[other] > ROOM[room], f"{path} imports {other}"


def test_a_loss_never_imports_a_model_nor_a_model_a_loss() -> None:
    for room, other in (("losses", "models"), ("models", "losses")):
        assert not any(other in _imports(path) for path in (PACKAGE / room).rglob("*.py"))


def test_public_surface() -> None:
    assert snnkd.__all__ == [
        "Exported",
        "Point",
        "Result",
        "Run",
        "__version__",
        "distill",
        "evaluate",
        "export",
        "load",
        "teach",
    ]
    assert all(hasattr(snnkd, name) for name in snnkd.__all__)
    assert snnkd.losses.__all__ == [
        "abkd", "akl", "ce", "dist", "dkd", "hta_kl", "jeffreys", "js", "kl", "mix", "mse", "rkl", "todi", "wsld",
    ]  # fmt: skip
    assert snnkd.models.__all__ == ["Network", "Specification", "build_network", "encode_images"]
