"""Files of logits: what they must hold, what they must fit, and the interval over images that they give."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from compare.synthetic import change, make_logits, make_run

from snnkd.compare.report import make_report
from snnkd.compare.statistics import over_images
from snnkd.errors import FileError
from snnkd.schema.run import CompareConfig

RNG = np.random.default_rng(0)


def resampled(*files: Path):
    (table,) = make_report([Path("runs")], CompareConfig(), files).tables
    return {line.label: line.over_images for line in table.columns[0].rows}


def pairs(count: int = 2, images: int = 200):
    """Runs of kl and hta-kl with their logits in files/, and by seed which images they have right."""
    Path("files").mkdir()
    made = {}
    for seed in range(count):
        base, ours = RNG.random(images) < 0.7, RNG.random(images) < 0.9
        make_logits(make_run("kl", seed), Path(f"files/kl{seed}.npz"), base)
        make_logits(make_run("hta-kl", seed), Path(f"files/hta{seed}.npz"), ours)
        made[seed] = (ours, base)
    return made


def test_the_interval_is_that_of_the_answers_at_the_trained_t():
    made = pairs()
    assert resampled(Path("files")) == {"kl": None, "hta-kl": over_images(made)}
    assert resampled(*Path("files").glob("*.npz")) == resampled(Path("files"))


def test_logits_beside_a_run_are_found():
    made = pairs(1)
    assert resampled()["hta-kl"] is None
    for run in Path("runs").iterdir():
        (run / "eval").mkdir()
        shutil.copy(f"files/{'hta0' if 'hta' in run.name else 'kl0'}.npz", run / "eval" / "mine.npz")
    assert resampled() == {"kl": None, "hta-kl": over_images(made)}


def test_only_seeds_with_both_count():
    made = pairs(2)
    Path("files/kl1.npz").unlink()
    found = resampled(Path("files"))["hta-kl"]
    assert found == over_images({0: made[0]})
    assert found.seeds == (0,)


def test_logits_of_no_run_here_or_of_another_split_are_passed_over():
    pairs(1)
    make_logits(make_run("none"), Path("files/other.npz"), np.ones(200, bool), weights_sha256="unknown")
    make_logits(next(Path("runs").glob("*hta*")), Path("files/hta0.npz"), np.ones(200, bool), split="val")
    assert resampled(Path("files"))["hta-kl"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_sha256": "e" * 64}, "data sha256 e+... differs from that of"),
        ({"labels": np.zeros(200, np.int64)}, "labels differ from those of files/hta0.npz"),
        ({"labels": np.zeros(200, np.float32)}, "labels are float32"),
        ({"labels": np.zeros((2, 100), np.int64)}, "labels are int64"),
        ({"logits": np.zeros((2, 200, 2), np.float64)}, "logits are float64"),
        ({"logits": np.zeros((200, 2), np.float32)}, r"logits are float32 \(200, 2\)"),
        ({"logits": np.full((2, 200, 2), np.nan, np.float32)}, "logits are not finite"),
        ({"logits": np.zeros((1, 200, 2), np.float32)}, "1 timestep, but .* was trained with 2"),
        ({"logits": np.zeros((2, 200, 2), np.float32)}, r"accuracy 50\.00 %, but the result of .* has"),
        ({"split": 3}, "must be strings"),
        ({"split": np.array([None])}, "damaged, or not an npz file of plain arrays"),
        (
            {"logits": np.zeros((2, 100, 2), np.float32), "labels": np.zeros(100, np.int64)},
            "100 images, but .* was measured on 200",
        ),
    ],
)
def test_logits_that_do_not_fit_are_refused(changes, said):
    pairs(1)
    run = next(Path("runs").glob("*-kl-T2*-s0"))
    make_logits(run, Path("files/kl0.npz"), np.arange(200) < 140, **changes)
    with pytest.raises(FileError, match=f"files/kl0.npz: .*{said}"):
        resampled(Path("files"))
    (run / "eval").mkdir()
    shutil.move("files/kl0.npz", run / "eval" / "kl0.npz")
    found = make_report(
        [Path("runs")], CompareConfig(), [Path("files")]
    )  # beside a run it is left out, and named
    assert [each.place for each in found.left_out] == [str(run / "eval" / "kl0.npz")]


def test_files_that_are_no_logits_are_refused():
    pairs(1)
    Path("empty").mkdir()
    Path("text.npz").write_text("no zip file")
    np.savez("other.npz", images=np.zeros(3))
    np.savez_compressed("bomb.npz", logits=np.zeros(2**27, np.uint8))
    for path, said in (
        ("empty", "--logits empty: the folder has no .npz files"),
        ("text.npz", "text.npz: damaged"),
        ("other.npz", "other.npz: lacks logits, labels, weights_sha256, data_sha256, split"),
        (
            "bomb.npz",
            "bomb.npz: logits.npy has a compression ratio above 200:1, refused as a possible zip bomb",
        ),
        ("nowhere.npz", "nowhere.npz: no such file"),
    ):
        with pytest.raises(FileError, match=said):
            resampled(Path(path))


def test_a_few_images_decided_otherwise_are_no_reason_to_refuse():
    pairs(1)
    run = next(Path("runs").glob("*-kl-T2*-s0"))
    right = np.arange(200) < 140
    make_logits(run, Path("files/kl0.npz"), right)
    change(
        run,
        curve=[
            {"t": 1, "top1": 1, "synops": 1, "energy_mj": 1},
            {"t": 2, "top1": 70.4, "synops": 1, "energy_mj": 1},
        ],
    )
    assert resampled(Path("files"))["hta-kl"] is not None
