"""The picture of timestep curves: what shares a line, what is written."""

import copy
import json

import pytest

from snnkd.errors import FileError, UsageError
from snnkd.files import sha256
from snnkd.measure.plot import check_plot_path, group_by_seed, plot_curves, wrap_label

KL = {
    "name": "kl",
    "hard": {"target": "mean", "weight": 1.0},
    "terms": [{"divergence": "kl", "temperature": 3.0}],
}
NONE = {"name": "none", "hard": {"target": "mean", "weight": 1.0}, "terms": []}


def result(loss=KL, seed=0, T=4, base=40.0, **changes):
    made = {
        "stage": "distill",
        "seed": seed,
        "data": "glyphs",
        "split": "test",
        "data_sha256": "d1",
        "selection": {"rule": "last", "epoch": 16},
        "trained_T": T,
        "model": {"name": "resnet8", "T": T, "width": 16},
        "loss": loss,
        "teacher": {"sha256": "t1", "top1": 81.3} if loss["terms"] else None,
        "curve": [
            {"t": t, "top1": base + 6 * t - 0.5 * t**2 + seed * (1 + 0.2 * t)} for t in range(1, T + 1)
        ],
    }
    made = copy.deepcopy(made | changes)
    rule, epoch = made["selection"].values()
    fixed = [
        made["loss"],
        made["model"],
        made["data_sha256"],
        made["teacher"],
        rule,
        epoch if rule == "last" else None,
        T,
    ]
    about = {"recipe_hash": sha256(json.dumps(fixed).encode())[:6], "weights_sha256": f"{fixed} {seed}"}
    return made | {key: value for key, value in about.items() if key not in changes}


def teacher():
    changes = {"stage": "teach", "trained_T": None, "loss": None, "model": {"name": "resnet8", "width": 32}}
    return result(NONE) | changes | {"curve": [{"t": 1, "top1": 81.3}]}


def seeds(loss, count=3, **changes):
    return [result(loss, seed, **changes) for seed in range(count)]


def test_runs_that_differ_in_seed_share_a_line():
    groups = group_by_seed(seeds(KL))
    assert list(groups) == ["kl, T = 4, 16 epochs"]
    assert [r["seed"] for r in groups["kl, T = 4, 16 epochs"]] == [0, 1, 2]


def test_other_losses_are_other_lines():
    groups = group_by_seed([*seeds(KL), *seeds(NONE)])
    assert {label: len(members) for label, members in groups.items()} == {
        "kl, T = 4, 16 epochs": 3,
        "none, T = 4, 16 epochs": 3,
    }


@pytest.mark.parametrize(
    "other",
    [
        {"loss": KL | {"terms": [{"divergence": "kl", "temperature": 1.0}]}},
        {"data_sha256": "d2"},
        {"split": "val"},
        {"teacher": {"sha256": "t2", "top1": 80.0}},
        {"model": {"name": "resnet8", "T": 4, "width": 8}},
        {"selection": {"rule": "last", "epoch": 60}},
        {"selection": {"rule": "best", "epoch": 16}},
        {"T": 2},
    ],
    ids=str,
)
def test_whatever_else_differs_is_another_line(other):
    groups = group_by_seed([result(), result(**other)])
    assert [len(members) for members in groups.values()] == [1, 1]


def test_the_same_run_twice_counts_once():
    assert [len(members) for members in group_by_seed([result(), result()]).values()] == [1]


def test_other_settings_are_told_apart_by_their_hash():
    """Such as another learning rate, which the label does not say."""
    runs = [result(recipe_hash="aaaaaa"), result(recipe_hash="bbbbbb")]
    assert list(group_by_seed(runs)) == ["kl, T = 4, 16 epochs (aaaaaa)", "kl, T = 4, 16 epochs (bbbbbb)"]


def test_an_option_of_the_loss_is_named():
    strict = {
        "name": "hta-kl",
        "hard": {},
        "terms": [{"divergence": "hta-kl", "temperature": 3.0, "delta": 0.5, "head": "strict"}],
    }
    assert list(group_by_seed([result(strict)])) == ["hta-kl head=strict, T = 4, 16 epochs"]


def test_models_are_named_where_they_differ():
    groups = group_by_seed([result(), result(model={"name": "resnet20", "T": 4})])
    assert list(groups) == ["resnet8 kl, T = 4, 16 epochs", "resnet20 kl, T = 4, 16 epochs"]


def test_each_seed_has_its_own_best_epoch():
    runs = [result(seed=seed, selection={"rule": "best", "epoch": 9 + seed}) for seed in range(3)]
    assert list(group_by_seed(runs)) == ["kl, T = 4, best epoch"]


def test_a_teacher_is_a_line_of_its_own():
    assert set(group_by_seed([result(), teacher()])) == {"kl, T = 4, 16 epochs", "teacher"}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_results_give_the_same_bytes(tmp_path, suffix):
    groups = group_by_seed([*seeds(KL), *seeds(NONE, 1), teacher()])
    written = []
    for name in ("a", "b"):
        plot_curves(groups, tmp_path / f"{name}{suffix}")
        written.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


def drawn(groups, tmp_path, monkeypatch):
    """The axes of the picture of `groups`."""
    from matplotlib import pyplot as plt

    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    plot_curves(groups, tmp_path / "p.png")
    monkeypatch.undo()
    plt.close(kept[0])
    return kept[0].axes[0]


def test_what_is_drawn(tmp_path, monkeypatch):
    """Mean over seeds with a band of one sample deviation, the teacher as a level, labels that say what and
    how many."""
    axes = drawn(group_by_seed(seeds(KL)), tmp_path, monkeypatch)
    line, level = axes.lines
    assert line.get_label() == "kl, T = 4, 16 epochs (n = 3)"
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == pytest.approx([entry["top1"] for entry in result(seed=1)["curve"]])
    assert level.get_label() == "teacher 81.3 %"
    assert level.get_ydata()[0] == 81.3
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices
    first = heights[heights[:, 0] == 1][:, 1]
    assert first.max() - first.min() == pytest.approx(2 * 1.2)
    assert axes.figure.legends[0].get_title().get_text() == "band: ± 1 s.d. over n seeds"
    assert axes.get_xlabel() == "timesteps t"
    assert axes.get_ylabel() == "top-1 accuracy (%), glyphs test"


def test_a_single_run_has_no_band(tmp_path, monkeypatch):
    axes = drawn(group_by_seed([result(NONE)]), tmp_path, monkeypatch)
    assert not axes.collections
    assert not axes.figure.legends[0].get_title().get_text()
    assert [line.get_label() for line in axes.lines] == ["none, T = 4, 16 epochs"]


@pytest.mark.parametrize("name", ["curve.txt", "curve", "curve.png.bak"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        check_plot_path(tmp_path / name)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileError, match="none does not exist"):
        check_plot_path(tmp_path / "none" / "curve.png")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "curve.png").mkdir()
    with pytest.raises(FileError, match=r"curve\.png: is a directory"):
        plot_curves(group_by_seed([result()]), tmp_path / "curve.png")


@pytest.mark.parametrize("name", ["curve.png", "curve.SVG", "curve.pdf"])
def test_known_suffixes_pass(tmp_path, name):
    check_plot_path(tmp_path / name)


@pytest.mark.parametrize("text", ["kl", f"custom(kl+attention) {'0.weight=0.5 1.temperature=2 ' * 5}"])
def test_the_legend_fits_the_picture_whatever_its_labels(tmp_path, monkeypatch, text):
    axes = drawn({f"{text} {i}, T = 4": [result(KL, i)] for i in range(6)}, tmp_path, monkeypatch)
    axes.figure.canvas.draw()
    legend, page = axes.figure.legends[0].get_window_extent(), axes.figure.bbox
    assert page.x0 <= legend.x0 < legend.x1 <= page.x1
    assert legend.height < axes.get_window_extent().height


def test_a_label_breaks_between_its_parts():
    assert (
        wrap_label("kl head=strict, T = 4, 16 epochs (n = 3)", 20)
        == "kl head=strict,\nT = 4, 16 epochs\n(n = 3)"
    )


def test_a_label_breaks_within_a_word_only_where_its_parts_end():
    label = "kl augment=auto-augment(policy=cifar10)+flip+crop (n = 3)"
    lines = wrap_label(label, 28).splitlines()
    assert lines == ["kl", "augment=auto-augment(policy=", "cifar10)+flip+crop (n = 3)"]
    assert wrap_label("augment=flip+crop", 28) == "augment=flip+crop"
