"""Imports run downward only, and the public surface is what it is said to be."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import snnkd
import snnkd.losses
import snnkd.models

PACKAGE = Path(snnkd.__file__).parent
LAYERS = """
    cli  api  torchrun                                     what people call
    pipeline                                               one function for each command
    stage  evaluation  prediction  compare  bench  preflight  task_checks  batch   a run; its measures; many; speed; checks
    training  teachers  info                               the loop; the network that it learns from; bug reports
    measure  exports                                       accuracy, rates, energy; files for other programs
    losses  models  runs                                   tensors in, tensors out; the run directory
    recipe  data                                           a file becomes checked objects; images
    catalog  context                                       which names exist; what a command runs with
    environment  usercode  stopping  locks  slurm
    schema  distributed                                    which keys exist
    console
    files
    openmp  streams  seeds
    limits                                                 what the system lets a process have
    errors
"""
"""A room imports only from rooms on lower lines; two spaces part the rooms from each other and from the remark."""
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
ROOMS -= {"__init__", "__main__"}
LINE = {
    room: number
    for number, line in enumerate(LAYERS.strip().splitlines())
    for room in line.split("  ")
    if room.strip() in ROOMS
    for room in [room.strip()]
}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def _imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, also inside functions and under TYPE_CHECKING."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "snnkd":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name.split(".")[0] == "snnkd"}
    return imported - {"snnkd"}  # __version__


def _room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_a_line() -> None:
    assert set(LINE) == ROOMS


def test_imports_run_downward() -> None:
    for module, path in MODULES.items():
        if module in ("snnkd", "snnkd.__main__"):
            continue
        for other in _imports(path):
            if _room(other) != _room(module):
                assert LINE[_room(other)] > LINE[_room(module)], f"{module} imports {other}"


def test_no_cycle_of_modules() -> None:
    graph = {module: _imports(path) for module, path in MODULES.items() if module != "snnkd"}
    for node in graph.values():
        assert node <= set(MODULES), node
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' -> '.join(error.args[1])}")


def test_a_loss_never_imports_a_model_nor_a_model_a_loss() -> None:
    for room, other in (("losses", "models"), ("models", "losses")):
        assert not any(
            _room(module) == other for path in (PACKAGE / room).rglob("*.py") for module in _imports(path)
        )


def test_public_surface() -> None:
    assert snnkd.__all__ == [
        "Exported",
        "Guess",
        "Point",
        "Prediction",
        "Result",
        "Run",
        "__version__",
        "distill",
        "evaluate",
        "export",
        "load",
        "predict",
        "teach",
    ]
    assert all(hasattr(snnkd, name) for name in snnkd.__all__)
    published = "abkd akl ce dist dkd hta_kl jeffreys js kl mix mse rkl todi wsld"
    assert set(published.split()) <= set(snnkd.losses.__all__), "the catalogue may add to it"
    assert snnkd.models.__all__ == ["Network", "Specification", "build_network", "encode_images"]
