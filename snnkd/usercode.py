"""User code, `module:function`: permission to run, import, and source hash.

Code runs only if the command line names it. A function named by a recipe, a run or a checkpoint is refused
unless the same command line names it too: opening a file must not run its author's code.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from snnkd.errors import UsageError, did_you_mean
from snnkd.files import sha256

_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_permitted: set[str] = set()
_folders: list[str] = []
"""From which functions may be imported after the current folder."""


def is_user_code(name: str) -> bool:
    """Whether `name` has the form `package.module:function`."""
    return _PATTERN.fullmatch(name) is not None


def permit(names: Iterable[str]) -> None:
    """Permit exactly these functions to run from now on, as if the command line named them."""
    _permitted.clear()
    _folders.clear()
    source_sha256.cache_clear()
    _permitted.update(name for name in names if is_user_code(name))


def import_also_from(folder: Path) -> None:
    """Look for the functions permitted now in `folder`, too, after the current one."""
    _folders.append(str(folder))


def check_permitted(name: str, kind: str) -> None:
    """Raise UsageError for a function that the command line does not name."""
    if name not in _permitted:
        raise UsageError(
            f"{kind} {name!r} is code; it runs only when the command line names it: add --code {name}"
        )


def load_function(name: str) -> Callable[..., Any]:
    """Import the function from the current folder, a run's origin or the environment. Raises UsageError."""
    module_name, _, function_name = name.partition(":")
    module = _import(module_name, name)
    function = getattr(module, function_name, None)
    if function is None:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(
            f"{name}: {getattr(module, '__file__', None) or module_name} has no {function_name!r}"
            f"{did_you_mean(function_name, known)}"
        )
    if not callable(function):
        raise UsageError(f"{name}: is {type(function).__name__}, not a function")
    return function


def _import(module: str, name: str) -> Any:
    folders = list(dict.fromkeys([os.getcwd(), *_folders]))
    # last: a file there must not shadow a library
    sys.path.extend(folder for folder in folders if folder not in sys.path)
    importlib.invalidate_caches()  # the file may be newer than the cached listing of its folder
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            raise UsageError(
                f"{name}: no module {error.name!r} in {', '.join(folders)} or the environment"
            ) from error
        raise UsageError(f"{name}: import failed: {error}") from error
    except Exception as error:
        raise UsageError(f"{name}: import failed: {type(error).__name__}: {error}") from error


@cache  # modules imported later, during training, must not change the run's identity
def source_sha256(name: str) -> str:
    """Hash of a function's source, part of a run's identity.

    Covers the files of its module and of the function, and the imported modules of the same package, or of
    the same folder for a module without a package.
    """
    module = _import(name.partition(":")[0], name)
    root = module.__name__.partition(".")[0]
    files = {_file(module), _file(inspect.unwrap(load_function(name)))}
    alone = getattr(module, "__path__", None) is None and root == module.__name__
    for other_name, other in list(sys.modules.items()):
        path = _file(other) if inspect.ismodule(other) else None
        if other_name.partition(".")[0] == root or (
            alone and path is not None and path.parent in {p.parent for p in files if p}
        ):
            files.add(path)
    return sha256(*(path.read_bytes() for path in sorted(path for path in files if path is not None)))


def _file(source: object) -> Path | None:
    try:
        path = inspect.getsourcefile(source)  # type: ignore[arg-type]
    except TypeError:  # built in, or not a function
        return None
    return Path(path).resolve() if path and Path(path).is_file() else None


def error_location(trace: TracebackType | None) -> str | None:
    """`file:line` of the innermost frame in a permitted module; None for an error from elsewhere."""
    modules = {name.partition(":")[0] for name in _permitted}
    location = None
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") in modules:
            location = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return location
