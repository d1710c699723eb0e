"""The finished students among runs and result files, and what is left out of them, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from snnkd.catalog.models import MODELS
from snnkd.errors import FileError, UsageError
from snnkd.files import read_json
from snnkd.runs.find import run_folders
from snnkd.runs.folder import RUN, identity_values, is_finished, read_result, runs_folder
from snnkd.runs.metrics import read_metrics
from snnkd.schema import fields

Values = dict[str, Any]
Split = Literal["test", "val"]


@dataclass(frozen=True, kw_only=True)
class Student:
    """One finished student as its result says, measured at the timesteps it was trained with."""

    place: Path
    """The run, or the result file."""
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
    """Which part of the data set it is, as the result says; None for the whole."""
    data_sha256: str
    split: str
    images: int
    rule: str
    """last or best."""
    epoch: int
    teacher: Values | None
    weights_sha256: str
    top1: float
    """In percent, after T timesteps; so are rate, synops and energy_mj."""
    rate: float
    synops: float
    energy_mj: float
    seconds: float | None
    """Of training, times the processes."""
    device: str
    """What it was trained on."""
    versions: Values
    identity: Values | None
    """As run.json holds it; None for a result file."""
    is_run: bool

    @property
    def teacher_key(self) -> Values | None:
        """What makes the teacher this one: its weights, and how it sees an image where the recipe says
        that."""
        told = (self.identity or {}).get("teacher")
        return (
            {**(told if isinstance(told, dict) else {}), "sha256": self.teacher["sha256"]}
            if self.teacher
            else None
        )

    @property
    def val_fraction(self) -> float | None:
        """Share of the training images held out; None where only the result is known."""
        data = (self.identity or {}).get("data")
        share = data.get("val_fraction") if isinstance(data, dict) else None
        return float(share) if isinstance(share, (int, float)) else None

    def val_top1(self) -> float | None:
        """Validation accuracy of these weights: RUN/eval/val-T<T>.json, else what was logged at their
        epoch."""
        if self.split == "val":
            return self.top1
        if not self.is_run:
            return None
        measured = self.place / "eval" / f"val-T{self.T}.json"
        if measured.is_file():
            found = read_json(measured)
            if found.get("weights_sha256") == self.weights_sha256:
                return _student(measured, found, found, None, False).top1
        logged = [row.get("val_top1") for row in read_metrics(self.place) if row["epoch"] == self.epoch]
        return float(logged[-1]) if logged and isinstance(logged[-1], (int, float)) else None


@dataclass(frozen=True)
class LeftOut:
    """A run, or a file of logits, that has no place in a table, and why."""

    place: str
    why: str


@dataclass
class Gathered:
    """What was found, in the order of the names."""

    students: list[Student] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def gather(places: Sequence[Path], split: Split) -> Gathered:
    """The students of `places`: runs, folders of runs (or of result files), result files; without any, the
    runs folder.

    Teachers are passed over. Raises FileError for a place that holds nothing of the kind, and when there is
    no student.
    """
    found = Gathered()
    for place in places or [runs_folder()]:
        for each in _runs_of(place, named=bool(places)):
            try:
                _add(found, each, split)
            except FileError as error:
                found.left_out.append(LeftOut(str(each), _damage(error, each)))
    if not found.students:
        shown = "; ".join(f"{each.place}: {each.why}" for each in found.left_out[:3])
        where = ", ".join(map(str, places[:3])) if places else str(runs_folder())
        raise FileError(
            f"no finished student in {where}{f' ({shown})' if shown else ''}; run `snnkd distill` first"
        )
    return found


def _damage(error: FileError, place: Path) -> str:
    return str(error).removeprefix(f"{place}: ").removeprefix(f"{place}/")


def _runs_of(place: Path, named: bool) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        remedy = "give runs, or a folder of runs" if named else "run `snnkd distill` first, or name runs"
        raise FileError(f"{place}: no such run; {remedy}")
    runs = run_folders(place) or sorted(path for path in place.iterdir() if _is_result(path))
    if not runs:
        raise FileError(f"{place}: has no runs")
    return runs


def _is_result(path: Path) -> bool:
    """Whether a file holds a result object; a folder may hold other JSON, too."""
    if path.suffix != ".json" or path.name.startswith(".") or not path.is_file():
        return False
    try:
        return {"curve", "stage", "weights_sha256"} <= read_json(path).keys()
    except FileError:
        return False


def _add(found: Gathered, place: Path, split: Split) -> None:
    run = place.is_dir()
    if run and not is_finished(place):
        raise FileError("not finished")
    own = read_result(place) if run else read_json(place)
    if own.get("stage") == "teach":
        return
    result = _of_split(place, own, split) if run else own
    if result.get("split") != split:
        raise FileError(f"measured on {result.get('split')}, not on {split}")
    if result.get("recalibrated_on"):
        raise FileError("measured with batch norms recalibrated, which is another network than was trained")
    if result.get("trained_T") != result.get("T"):
        raise FileError(f"measured at T = {result.get('T')}, trained at T = {result.get('trained_T')}")
    if any(result.get(key) is None for key in ("seed", "recipe_hash", "selection")):
        raise FileError("its result tells no seed, recipe or selection; it was put together elsewhere")
    found.students.append(_student(place, result, own, _identity(place) if run else None, run))


def _of_split(place: Path, own: Values, split: Split) -> Values:
    """The result of a run on a split; raises FileError where there is none."""
    if split == "test":
        return own
    path = place / "eval" / f"{split}-T{own.get('trained_T')}.json"
    if not path.is_file():
        raise FileError(f"not measured on {split}; `snnkd eval {place} --split {split}` does")
    result = read_json(path)
    if result.get("weights_sha256") != own.get("weights_sha256"):
        raise FileError(f"eval/{path.name} is of other weights")
    return result


def _identity(place: Path) -> Values | None:
    found = read_json(place / RUN).get("identity") if (place / RUN).is_file() else None
    return found if isinstance(found, dict) else None


def _student(place: Path, result: Values, own: Values, identity: Values | None, is_run: bool) -> Student:
    """From result objects: `result` of the split asked for, `own` that of the run. Raises FileError where one
    is damaged."""
    try:
        end, hardware = (
            result["curve"][-1],
            own["hardware"],
        )  # at t = T, as was checked; a neuron that is not causal has no other
        seconds = own["seconds"]["train"]
        teacher = result["teacher"]
        if teacher is not None:
            float(teacher["top1"]), teacher["sha256"]
        return Student(
            place=place,
            seed=int(result["seed"]),
            recipe_hash=str(result["recipe_hash"]),
            T=int(result["trained_T"]),
            loss={
                **result["loss"],
                "name": str(result["loss"]["name"]),
                "terms": [dict(term) for term in result["loss"]["terms"]],
            },
            model={key: value for key, value in _model({**result["model"]}, identity).items() if key != "T"},
            neuron=_neuron(result, identity),
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
            seconds=None if seconds is None else float(seconds) * int(hardware.get("processes", 1)),
            device=_device(hardware, own.get("precision")),
            versions={key: str(value) for key, value in own["versions"].items()},
            identity=identity,
            is_run=is_run,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{place}: its result is damaged ({type(error).__name__}: {error})") from error


def _model(told: Values, identity: Values | None) -> Values:
    """The section without keys that came later and hold their defaults, so that a result of an earlier
    version has the same."""
    held = (identity or {}).get("model")
    if isinstance(held, dict) and isinstance(held.get("name"), str):
        return held
    try:
        made: Values = identity_values(fields.build(MODELS[str(told["name"])].options, told, "model"))
    except UsageError:  # the user's own, or of a later version
        return told
    return made


def _neuron(result: Values, identity: Values | None) -> str:
    """The name; results of the first versions, which had lif alone, do not tell it."""
    told = (identity or {}).get("neuron") or result.get("neuron") or {}
    return str(told.get("name", "lif"))


def _device(hardware: Values, precision: str | None) -> str:
    """What it was trained on, and how where that is not in float32; results of the first versions do not
    tell."""
    made = str(hardware["gpu"]) if "gpu" in hardware else f"{hardware['cpu']}, threads: {hardware['threads']}"
    return made if precision in (None, "float32") else f"{made}, {precision}"
