"""The finished students among runs and result files, and the runs left out, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from snnkd.catalog.models import MODELS
from snnkd.errors import FileError, UsageError
from snnkd.files import RUN, read_json
from snnkd.runs.find import run_folders
from snnkd.runs.folder import identity_values, is_finished, read_result, runs_folder
from snnkd.runs.metrics import read_metrics
from snnkd.schema import fields

Values = dict[str, Any]
Split = Literal["test", "val"]
NOT_FINISHED = "not finished"
HOW_TO_CONTINUE = "`snnkd status` shows what continues them"


@dataclass(frozen=True, kw_only=True)
class Student:
    """The result of one finished student at its trained timesteps."""

    path: Path
    """Run directory or result file."""
    seed: int
    recipe_hash: str
    T: int
    loss: Values
    model: Values
    """Without T."""
    neuron: str
    """Its name."""
    data: str
    part: object
    """Subset of the data set, as in result.json; None for the full data set."""
    data_sha256: str
    split: str
    images: int
    rule: str
    """Selection rule, last or best."""
    epoch: int
    teacher: Values | None
    weights_sha256: str
    top1: float
    """In percent, after T timesteps (as rate, synops and energy_mj)."""
    rate: float
    synops: float
    energy_mj: float
    device_seconds: float | None
    """GPU seconds of the training, without a GPU its CPU time; None if not recorded."""
    device: str
    """Device of the training."""
    versions: Values
    identity: Values | None
    """From run.json; None for a result file."""
    is_run: bool

    @property
    def teacher_key(self) -> Values | None:
        """Identity of the teacher: its weights, and its input settings where the recipe has them."""
        if not self.teacher:
            return None
        section = (self.identity or {}).get("teacher")
        return {**(section if isinstance(section, dict) else {}), "sha256": self.teacher["sha256"]}

    @property
    def val_fraction(self) -> float | None:
        """Fraction of the training images used for validation; None for a result file."""
        data = (self.identity or {}).get("data")
        fraction = data.get("val_fraction") if isinstance(data, dict) else None
        return float(fraction) if isinstance(fraction, (int, float)) else None

    def val_top1(self) -> float | None:
        """Validation accuracy of these weights, from RUN/eval/val-T<T>.json, else from metrics.jsonl."""
        if self.split == "val":
            return self.top1
        if not self.is_run:
            return None
        measured = self.path / "eval" / f"val-T{self.T}.json"
        if measured.is_file():
            result = read_json(measured)
            if result.get("weights_sha256") == self.weights_sha256:
                return _student(measured, result, result, None, False).top1
        logged = [row.get("val_top1") for row in read_metrics(self.path) if row["epoch"] == self.epoch]
        return float(logged[-1]) if logged and isinstance(logged[-1], (int, float)) else None


@dataclass(frozen=True)
class LeftOut:
    """A run or logits file that is in no table, with the reason."""

    place: str
    why: str


@dataclass
class Gathered:
    """Students and left-out runs, in the order of their names."""

    students: list[Student] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def gather(paths: Sequence[Path], split: Split) -> Gathered:
    """Read the students of `paths`: runs, folders of runs or result files, result files; default is runs/.

    Teachers are skipped. Raises FileError for a path without any runs, and without a finished student.
    """
    gathered = Gathered()
    for path in paths or [runs_folder()]:
        for each in _runs_of(path, bool(paths), gathered.left_out):
            try:
                _add(gathered, each, split)
            except FileError as error:
                gathered.left_out.append(LeftOut(str(each), _damage(error, each)))
    if not gathered.students:
        shown = "; ".join(f"{each.place}: {each.why}" for each in gathered.left_out[:3])
        where = ", ".join(map(str, paths[:3])) if paths else str(runs_folder())
        unfinished = any(each.why == NOT_FINISHED for each in gathered.left_out)
        remedy = HOW_TO_CONTINUE if unfinished else "run `snnkd distill` first"
        raise FileError(f"no finished student in {where}{f' ({shown})' if shown else ''}; {remedy}")
    return gathered


def _damage(error: FileError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")


def _runs_of(path: Path, named: bool, left_out: list[LeftOut]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        remedy = "give runs, or a folder of runs" if named else "run `snnkd distill` first, or name runs"
        raise FileError(f"{path}: no such run; {remedy}")
    runs = run_folders(path, lambda folder, why: left_out.append(LeftOut(str(folder), why)))
    runs = runs or sorted(file for file in path.iterdir() if _is_result(file))
    if not runs:
        raise FileError(f"{path}: contains no runs; give a folder of runs")
    return runs


def _is_result(path: Path) -> bool:
    """Whether a file is a result file; a folder may contain other JSON files."""
    if path.suffix != ".json" or path.name.startswith(".") or not path.is_file():
        return False
    try:
        return {"curve", "stage", "weights_sha256"} <= read_json(path).keys()
    except FileError:
        return False


def _add(gathered: Gathered, path: Path, split: Split) -> None:
    run = path.is_dir()
    if run and not is_finished(path):
        raise FileError(NOT_FINISHED)
    own = read_result(path) if run else read_json(path)
    if own.get("stage") == "teach":
        return
    result = _of_split(path, own, split) if run else own
    if result.get("split") != split:
        raise FileError(f"measured on {result.get('split')} images, not on {split}")
    if result.get("recalibrated_on"):
        raise FileError("measured with recalibrated batch norms, not the network as trained")
    if result.get("trained_T") != result.get("T"):
        raise FileError(f"measured at T = {result.get('T')}, trained at T = {result.get('trained_T')}")
    if any(result.get(key) is None for key in ("seed", "recipe_hash", "selection")):
        raise FileError("result.json lacks seed, recipe_hash or selection")
    gathered.students.append(_student(path, result, own, _identity(path) if run else None, run))


def _of_split(path: Path, own: Values, split: Split) -> Values:
    """Read the result of a run on a split. Raises FileError if there is none."""
    if split == "test":
        return own
    file = path / "eval" / f"{split}-T{own.get('trained_T')}.json"
    if not file.is_file():
        raise FileError(f"not measured on {split}; run `snnkd eval {path} --split {split}`")
    result = read_json(file)
    if result.get("weights_sha256") != own.get("weights_sha256"):
        raise FileError(f"eval/{file.name} was measured with other weights")
    return result


def _identity(path: Path) -> Values | None:
    identity = read_json(path / RUN).get("identity") if (path / RUN).is_file() else None
    return identity if isinstance(identity, dict) else None


def _student(path: Path, result: Values, own: Values, identity: Values | None, is_run: bool) -> Student:
    """Build a student from the `result` on the requested split and the run's `own` result on test images.

    Raises FileError if one is damaged.
    """
    try:
        end, hardware = result["curve"][-1], own["hardware"]  # `end` is at t = T: `_add` checked it
        seconds = own["seconds"].get("train_gpu" if "gpu" in hardware else "train_cpu")
        teacher = result["teacher"]
        if teacher is not None:
            float(teacher["top1"]), teacher["sha256"]
        return Student(
            path=path,
            seed=int(result["seed"]),
            recipe_hash=str(result["recipe_hash"]),
            T=int(result["trained_T"]),
            loss={
                **result["loss"],
                "name": str(result["loss"]["name"]),
                "terms": [dict(term) for term in result["loss"]["terms"]],
            },
            model={key: value for key, value in _model({**result["model"]}, identity).items() if key != "T"},
            neuron=str(result["neuron"]["name"]),
            data=str(result["data"]),
            part=result.get("part"),
            data_sha256=str(result["data_sha256"]),
            split=str(result["split"]),
            images=int(result["images"]),
            rule=str(result["selection"]["rule"]),
            epoch=int(result["selection"]["epoch"]),
            teacher=teacher,
            weights_sha256=str(result["weights_sha256"]),
            top1=float(end["top1"]),
            rate=float(result["rate"]),
            synops=float(end["synops"]),
            energy_mj=float(end["energy_mj"]),
            device_seconds=None if seconds is None else float(seconds),
            device=_device(hardware, own.get("precision")),
            versions={key: str(value) for key, value in own["versions"].items()},
            identity=identity,
            is_run=is_run,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: damaged result ({type(error).__name__}: {error})") from error


def _model(values: Values, identity: Values | None) -> Values:
    """The model section in the form of run.json, so that runs and result files are comparable."""
    section = (identity or {}).get("model")
    if isinstance(section, dict) and isinstance(section.get("name"), str):
        return section
    try:
        section = identity_values(fields.build(MODELS[str(values["name"])].options, values, "model"))
    except UsageError:  # a model outside the catalogue, or with other options
        return values
    return dict(section)


def _device(hardware: Values, precision: str | None) -> str:
    """Device of the training, and its precision unless float32 or not recorded."""
    device = (
        str(hardware["gpu"]) if "gpu" in hardware else f"{hardware['cpu']}, threads: {hardware['threads']}"
    )
    return device if precision in (None, "float32") else f"{device}, {precision}"
