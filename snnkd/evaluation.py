"""Evaluation of a run's network or an export, on other data or timesteps if requested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from snnkd import distributed
from snnkd.catalog.data import DATA
from snnkd.catalog.neurons import check_timesteps
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.data import DEFAULT_FETCH, FetchOptions, ImageSet, load_data
from snnkd.data.classes import match_classes
from snnkd.errors import FileError, UsageError
from snnkd.files import RUN, check_guard, from_os_error, origin_of, read_json, write_json
from snnkd.measure.logits import check_logits_path
from snnkd.measure.network import measure_network
from snnkd.measure.recalibrate import recalibrate_norms
from snnkd.measure.result import ResultDict
from snnkd.models.files import LoadedNetwork, load_network
from snnkd.models.network import Specification
from snnkd.recipe.origin import anchor
from snnkd.recipe.overrides import apply_setting
from snnkd.runs.find import finished_runs
from snnkd.runs.folder import RESULT, is_finished, runs_folder
from snnkd.schema import fields
from snnkd.schema.data import DataConfig, GlyphsConfig
from snnkd.schema.fields import to_plain
from snnkd.schema.run import EvalConfig, ExecutionConfig
from snnkd.usercode import check_permitted


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What to measure: `data` replaces the run's data set, `data_settings` are `data.KEY=VALUE` settings."""

    settings: EvalConfig = field(default_factory=EvalConfig)
    data: str | None = None
    data_settings: Sequence[str] = ()
    save_logits: Path | None = None

    def check(self) -> None:
        """Raise UsageError or FileError for an invalid request, before anything is loaded."""
        for setting in self.data_settings:
            if not setting.startswith("data."):
                raise UsageError(
                    f"--set {setting!r}: only data.KEY=VALUE applies to eval; the network is fixed"
                )
            if setting.startswith("data.augment"):
                raise UsageError(f"--set {setting}: only training augments images; remove the setting")
            if self.data is None and setting.startswith("data.val_fraction"):
                raise UsageError(
                    f"--set {setting}: the validation split is fixed by training; remove the setting"
                )
        if self.data is not None and not DATA.is_user_defined(self.data):
            _section({"name": self.data}, self.data_settings)
        if self.save_logits:
            folder = self.save_logits.parent
            if folder.name == "eval" and (folder.parent / RUN).exists():  # `compare` looks here
                _make_folder(folder)
            check_logits_path(self.save_logits)


def measure_run(
    folder: Path, request: EvalRequest, context: RunContext, execution: ExecutionConfig, device: torch.device
) -> ResultDict:
    """Measure a network and return its result; non-default settings also write RUN/eval/<settings>.json."""
    loaded = distributed.on_every_rank(load_network)(folder)
    check_eval_timesteps(loaded.network.specification, request.settings, folder)
    data = _matched_data(loaded, context.console, request, FetchOptions(stop=context.stop.check))
    name = eval_file(request, loaded, data) if (folder / RUN).exists() else None
    if name:  # fail for a read-only folder before measuring
        _make_folder(folder / "eval")
    images = 0
    if request.settings.recalibrate_bn:
        images = _recalibrate(loaded, request, data, execution, device, context)
    result = measure_network(loaded, data, request.settings, execution, device, context, request.save_logits)
    if images:
        result["recalibrated_on"] = images
    if name:
        _write(folder / "eval" / name, result)
    return result


@distributed.on_rank0
def _make_folder(folder: Path) -> None:
    check_guard(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error


@distributed.on_rank0
def _write(path: Path, result: ResultDict) -> None:
    try:
        write_json(path, result)
    except OSError as error:
        raise from_os_error(error, path.parent) from error


def check_eval_timesteps(specification: Specification, settings: EvalConfig, folder: Path) -> None:
    """Raise UsageError for timesteps that the network cannot be measured at."""
    if settings.T is not None and specification.kind == "ann" and settings.T != 1:
        raise UsageError(f"--T {settings.T}: {folder} is a teacher, which has no timesteps; remove --T")
    check_timesteps(specification.neuron, specification.T, settings.T or specification.T, f"--T {settings.T}")


def _recalibrate(
    loaded: LoadedNetwork,
    request: EvalRequest,
    data: ImageSet,
    execution: ExecutionConfig,
    device: torch.device,
    context: RunContext,
) -> int:
    fetch = FetchOptions(stop=context.stop.check)
    own = (
        data
        if request.data is None and not request.data_settings
        else data_of(loaded, context.console, fetch=fetch)
    )
    T = request.settings.T or loaded.network.specification.T
    return recalibrate_norms(
        loaded.network.to(device), own.train, T, execution.eval_batch_size, context.stop.check
    )


def eval_file(request: EvalRequest, loaded: LoadedNetwork, data: ImageSet) -> str | None:
    """The file name under RUN/eval for settings other than the run's own; None for the run's own."""
    other = data.sha256 != loaded.config.get("data_sha256") and (
        request.data is not None or request.data_settings
    )
    data_part = f"-{data.name.partition(':')[0]}-{data.sha256[:8]}" if other else ""
    return own_eval_file(request.settings, loaded.network.specification.T, data_part)


def own_eval_file(settings: EvalConfig, trained_T: int, data_part: str = "") -> str | None:
    """`eval_file` on the run's own data; `data_part` of the name identifies other data."""
    T = settings.T or trained_T
    if (settings.split, T, settings.recalibrate_bn, data_part) == ("test", trained_T, False, ""):
        return None
    return f"{settings.split}-T{T}{data_part}{'-recalibrated' if settings.recalibrate_bn else ''}.json"


def data_of(
    loaded: LoadedNetwork,
    console: Console,
    request: EvalRequest | None = None,
    fetch: FetchOptions = DEFAULT_FETCH,
) -> ImageSet:
    """Load the data that `request` selects; by default those of the network's config.json."""
    request = request or EvalRequest()
    if request.data is None:
        own = _own_section(loaded)
        name = str(own.get("name")) if isinstance(own, dict) else ""
        if DATA.is_user_defined(name):
            check_permitted(name, f"{loaded.folder}: its data set")
        try:
            config = _section(own, ())
        except (TypeError, KeyError, UsageError) as error:
            raise FileError(f"{loaded.folder}/config.json: damaged data section: {error}") from error
        config = _section(to_plain(config), request.data_settings)
    else:
        config = _section({"name": request.data}, request.data_settings)
    if isinstance(config, GlyphsConfig):  # before they are drawn
        _check_fits(loaded, config.name, config.classes, (config.channels, config.size, config.size))
    data = load_data(config, console, fetch=fetch)
    if request.data is None and not request.data_settings and data.sha256 != loaded.config.get("data_sha256"):
        console.log(
            f"warning: {data.name} differs from the data {loaded.folder} was trained on "
            f"(sha256 {data.sha256[:12]}...)"
        )
    _check_fits(loaded, data.name, data.classes, data.shape)
    if request.data is None and own != loaded.config["data"]:  # the results of a run name its data alike
        data = replace(data, name=str(loaded.config["data"]["name"]))
    return data


def _own_section(loaded: LoadedNetwork) -> Any:
    """The data section of a network's config; a relative path is here or where its run was started."""
    own, origin = loaded.config.get("data"), origin_of(loaded.folder)
    section = anchor({"data": own}, origin)["data"]
    if section != own and not Path(section["name"].partition(":")[2]).exists():
        raise FileError(
            f"{loaded.folder}: its data, {loaded.config['data']['name']}, are neither in {Path.cwd()} "
            f"nor in {origin}, where it was started; give --data"
        )
    return section


def _matched_data(
    loaded: LoadedNetwork, console: Console, request: EvalRequest, fetch: FetchOptions = DEFAULT_FETCH
) -> ImageSet:
    """`data_of`, with its classes numbered as the network's outputs."""
    data = data_of(loaded, console, request, fetch)
    return match_classes(data, loaded.config, str(loaded.folder), console)


def _section(values: Any, settings: Sequence[str]) -> DataConfig:
    document = {"data": dict(values)}
    for setting in settings:
        apply_setting(document, setting)
    config: DataConfig = fields.build(DATA[str(document["data"]["name"])].options, document["data"], "data")
    return config


def _check_fits(loaded: LoadedNetwork, name: str, classes: int, shape: tuple[int, int, int]) -> None:
    network = loaded.network.specification
    if classes != network.classes:
        raise FileError(f"{name} has {classes} classes, {loaded.folder} has {network.classes} output classes")
    if shape != network.shape:
        raise FileError(f"{name} has images {list(shape)}, {loaded.folder} takes {list(network.shape)}")


@dataclass(frozen=True)
class Pending:
    """The finished runs of some folders, as `eval --all` takes them."""

    unmeasured: list[Path]
    stored: list[dict[str, Any]]
    """Results of those that were measured so before."""
    damaged: list[Path]


@distributed.on_rank0
def find_pending(folders: Sequence[Path], request: EvalRequest, console: Console) -> Pending:
    """Sort the finished runs in `folders` (default: the runs folder); each damaged one is logged.

    Raises FileError for a folder without a finished run.
    """
    runs = [run for folder in folders or [runs_folder()] for run in _finished_in(folder, request, console)]
    pending = Pending([], [], [])
    for run in runs:
        try:
            loaded = load_network(run)
            name = eval_file(request, loaded, _matched_data(loaded, Console(quiet=True), request))
            path = run / "eval" / name if name else run / RESULT
            stored = read_json(path) if path.exists() else None
        except FileError as error:
            console.log(f"skipped: {error}")
            pending.damaged.append(run)
            continue
        if stored:
            console.log(f"{run}: already measured ({f'eval/{name}' if name else RESULT})")
            pending.stored.append(stored)
        else:
            pending.unmeasured.append(run)
    return pending


def _finished_in(folder: Path, request: EvalRequest, console: Console) -> list[Path]:
    # teachers have no timesteps
    stages = ("distill",) if request.settings.T not in (None, 1) else ("teach", "distill")
    runs = [run.folder for stage in stages for run in finished_runs(stage, folder, console)] or (
        [folder] if is_finished(folder) else []
    )
    if not runs:
        raise FileError(f"no finished run under {folder}; run `snnkd distill` first")
    return runs
