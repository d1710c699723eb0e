"""What may share a table, a column and a row; how rows are named; which settings are counted and chosen."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from compare.synthetic import DATA, TEACHER, change, make_run, make_seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.compare.report import Report, make_report
from snnkd.compare.sections import make_sections
from snnkd.errors import FileError, UsageError
from snnkd.recipe.loss_section import build_loss
from snnkd.schema.run import CompareConfig


def report(*runs: Path, **options: Any) -> Report:
    return make_report(runs or [Path("runs")], CompareConfig(**options))


def shape(found: Report) -> list[dict[int, dict[str, tuple[int, ...]]]]:
    """Tables, columns, rows and their seeds."""
    return [
        {column.T: {line.label: line.seeds for line in column.rows} for column in table.columns}
        for table in found.tables
    ]


# tables


def test_seeds_share_a_row_losses_a_column() -> None:
    make_seeds("kl", [80, 81, 82])
    make_seeds("hta-kl", [83, 84, 85])
    make_seeds("none", [70, 71])
    assert shape(report()) == [{2: {"none": (0, 1), "kl": (0, 1, 2), "hta-kl": (0, 1, 2)}}]


@pytest.mark.parametrize(
    "other",
    [
        {"data": "e" * 64},
        {"teacher": "b" * 64},
        {"rule": "best"},
        {"val_fraction": 0.1},
        {"width": 32},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_never_shares_a_table(other: dict[str, Any]) -> None:
    make_seeds("kl", [80, 81])
    make_seeds("hta-kl", [83, 84], **other)
    found = report()
    assert sorted(map(str, shape(found))) == sorted(map(str, [{2: {"kl": (0, 1)}}, {2: {"hta-kl": (0, 1)}}]))
    assert not any(
        line.difference for table in found.tables for column in table.columns for line in column.rows
    )


def test_another_trained_t_is_another_column() -> None:
    for T in (4, 2):
        make_seeds("kl", [80, 81], T=T)
        make_seeds("hta-kl", [83, 84], T=T)
    assert shape(report()) == [{2: {"kl": (0, 1), "hta-kl": (0, 1)}, 4: {"kl": (0, 1), "hta-kl": (0, 1)}}]


def test_the_accuracy_is_that_of_the_trained_t() -> None:
    make_run("kl", top1=80.0, T=3)
    assert report().tables[0].columns[0].rows[0].values == (80.0,)


def test_runs_without_a_teacher_stand_in_every_table_of_their_data() -> None:
    make_seeds("none", [70, 71])
    make_seeds("kl", [80, 81])
    make_seeds("kl", [82, 83], teacher="b" * 64)
    make_seeds("none", [60, 61], data="e" * 64)
    found = report()
    assert shape(found)[:2] == [{2: {"none": (0, 1), "kl": (0, 1)}}] * 2
    assert [table.teacher["sha256"][0] if table.teacher else "" for table in found.tables] == ["a", "b", ""]
    assert found.tables[2].data_sha256 == "e" * 64


CHOICES = st.fixed_dictionaries({
    "loss": st.sampled_from(["none", "kl", {"name": "hta-kl", "head": "strict"}]), "seed": st.integers(0, 2),
    "T": st.sampled_from([2, 4]), "data": st.sampled_from([DATA, "e" * 64]), "teacher": st.sampled_from([TEACHER, "b" * 64]),
    "rule": st.sampled_from(["last", "best"]), "width": st.sampled_from([8, 16]), "lr": st.sampled_from([0.1, 0.2]),
})  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(CHOICES, min_size=1, max_size=12, unique_by=str))
def test_nothing_is_mixed_and_nothing_lost(chosen: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        made = {}
        for one in chosen:
            try:
                made[str(make_run(**one, root=Path(root)))] = one
            except FileExistsError:  # none with another teacher is the same run
                continue
        found = make_report([Path(root)], CompareConfig())
    seen: dict[str, list[str | None]] = {}
    for table in found.tables:
        for column in table.columns:
            assert len({line.label for line in column.rows}) == len(column.rows)
            for line in column.rows:
                runs = [made[run] for run in line.runs]
                assert tuple(run["seed"] for run in runs) == line.seeds
                assert len({str(sorted({**run, "seed": 0, "teacher": ""}.items())) for run in runs}) == 1
                for name, run in zip(line.runs, runs, strict=True):
                    assert (run["T"], run["data"], run["rule"]) == (
                        column.T,
                        table.data_sha256,
                        table.selection,
                    )
                    assert run["width"] == table.model["width"]
                    taught = build_loss(run["loss"]).needs_teacher
                    assert not taught or (table.teacher and table.teacher["sha256"] == run["teacher"])
                    seen.setdefault(name, []).append(table.teacher["sha256"] if table.teacher else None)
    assert seen.keys() == made.keys()
    assert all(
        len(tables) == 1 or not build_loss(made[run]["loss"]).needs_teacher for run, tables in seen.items()
    )


# rows


def test_a_copy_counts_once() -> None:
    make_seeds("kl", [80, 81])
    shutil.copytree("runs", "more")
    assert shape(report(Path("runs"), Path("more"))) == [{2: {"kl": (0, 1)}}]
    assert shape(report(Path("runs"), Path("runs"))) == [{2: {"kl": (0, 1)}}]


def test_two_results_of_one_recipe_and_seed_are_refused() -> None:
    make_run("kl", 0, 80)
    make_run("kl", 0, 81.5, root=Path("more"), weights="w" * 64)
    with pytest.raises(
        UsageError,
        match=r"runs/.* and more/.* have the same recipe and seed but different results \(80\.00 and 81\.50 %\)",
    ):
        report(Path("runs"), Path("more"))


def test_rows_say_in_what_they_are_unlike() -> None:
    make_run("kl")
    make_run("hta-kl")
    make_run("hta-kl", epochs=64)
    make_run({"name": "hta-kl", "delta": 0.7}, lr=0.05)
    found = report()
    assert list(shape(found)[0][2]) == ["kl", "hta-kl", "hta-kl delta=0.7 lr=0.05", "hta-kl epochs=64"]
    assert found.tables[0].usual == {"epochs": "16", "lr": "0.1"}


def test_without_a_usual_value_every_row_says_its_own() -> None:
    make_run("kl", epochs=16)
    make_run("hta-kl", epochs=64)
    found = report()
    assert list(shape(found)[0][2]) == ["kl epochs=16", "hta-kl epochs=64"]
    assert found.tables[0].usual == {}


def with_identity(folder: Path, **sections: Any) -> Path:
    """The run with other sections in its identity."""
    recorded = json.loads((folder / "run.json").read_text())
    recorded["identity"] |= sections
    (folder / "run.json").write_text(json.dumps(recorded))
    return folder


def test_another_neuron_is_named_by_its_section() -> None:
    """Keys of one neuron are no defaults of another: no `decay_input=default`."""
    lif = {"name": "lif", "tau": 2.0, "decay_input": True}
    for loss in ("kl", "hta-kl"):
        with_identity(make_run(loss), neuron=lif)
    with_identity(make_run("kl", neuron="plif", lr=0.05), neuron={"name": "plif", "tau": 3.0})
    found = report()
    assert list(shape(found)[0][2]) == ["kl", "kl neuron=plif tau=3 lr=0.05", "hta-kl"]
    assert found.tables[0].usual == {"neuron": "lif", "tau": "2", "lr": "0.1"}


def test_the_users_loss_is_its_name_until_two_versions_meet() -> None:
    loss = "mine:my_loss"

    def own_loss(source: str, *run: Any, **train: Any) -> None:
        folder = with_identity(make_run("mse", *run, **train), code={loss: source + "0" * 58})
        for path in (folder / "run.json", folder / "result.json"):
            path.write_text(path.read_text().replace('"mse"', f'"{loss}"'))

    own_loss("1a2b3c")
    make_run("kl")
    make_run("none")
    assert list(shape(report())[0][2]) == ["none", "kl", loss]
    own_loss("4d5e6f", 1, epochs=64)
    found = report()
    assert list(shape(found)[0][2]) == ["none", "kl", f"{loss} (1a2b3c)", f"{loss} (4d5e6f) epochs=64"]
    assert not re.search("[0-9a-f]{64}", str(found.tables[0].usual))


def test_initial_weights_are_six_digits_of_their_hash() -> None:
    make_run("kl")
    make_run("hta-kl")
    make_run("kl", init="9f8e7d" + "0" * 58)
    assert list(shape(report())[0][2]) == ["kl", "kl init=9f8e7d", "hta-kl"]


def test_what_belongs_to_a_method_is_not_said() -> None:
    folders = [make_run("kl"), make_run("enof")]
    about = json.loads((folders[1] / "run.json").read_text())
    about["identity"]["neuron"]["last"] = "relu"
    (folders[1] / "run.json").write_text(json.dumps(about))
    assert list(shape(report())[0][2]) == ["kl", "enof"]


def test_a_key_of_a_later_version_is_the_same_row_at_its_default() -> None:
    """An old result lacks keys that came later; its recipe's hash says that it is the same."""
    make_run("hta-kl", 0)
    folder = make_run("hta-kl", 1)
    result = json.loads((folder / "result.json").read_text())
    for key in ("noise", "warmup", "against", "standardize"):
        del result["loss"]["terms"][0][key]
    change(folder, loss=result["loss"])
    assert shape(report()) == [{2: {"hta-kl": (0, 1)}}]


def test_result_files_are_compared_like_runs() -> None:
    folders = [*make_seeds("kl", [80, 81]), *make_seeds("kl", [85, 86], epochs=64)]
    Path("files").mkdir()
    for folder in folders:
        shutil.copy(folder / "result.json", f"files/{folder.name}.json")
    Path("files/steps.json").write_text('{"losses": {}}')
    wanted = [{2: {"kl epochs=16": (0, 1), "kl epochs=64": (0, 1)}}]
    assert shape(report(Path("files"))) == wanted
    assert shape(report(*sorted(Path("files").glob("distill*")))) == wanted


def test_rows_that_differ_in_nothing_known_get_their_hash() -> None:
    make_run("kl", lr=0.1)
    make_run("kl", lr=0.2, top1=70.0)
    for path in Path("runs").glob("*/run.json"):
        path.unlink()
    labels = list(shape(report())[0][2])
    assert len(set(labels)) == 2
    assert all(label.startswith("kl (") for label in labels)


# differences


def test_differences_to_the_baseline() -> None:
    make_seeds("kl", [80.0, 81.0, 82.0])
    make_seeds("hta-kl", [82.0, 83.1, 83.9])
    make_seeds("none", [60.0, 75.0, 80.0])
    lines = {line.label: line for line in report(baseline="kl").tables[0].columns[0].rows}
    assert lines["kl"].difference is None
    ours, direct = lines["hta-kl"].difference, lines["none"].difference
    assert ours
    assert direct
    assert ours.mean == pytest.approx(2.0)
    assert ours.low == pytest.approx(2 - 4.302653 * 0.1 / 3**0.5)  # s.d. of 2, 2.1 and 1.9 is 0.1
    assert ours.p_holm == pytest.approx(2 * ours.p)
    assert (ours.verdict, direct.verdict) == ("above", "not distinguishable")


def test_the_baseline_is_kl_else_none_unless_named() -> None:
    make_seeds("none", [70, 71])
    assert report().tables[0].columns[0].baseline == "none"
    make_seeds("kl", [80, 81])
    make_seeds("hta-kl", [80, 82])
    assert report().tables[0].columns[0].baseline == "kl"
    assert report(baseline="hta-kl").tables[0].columns[0].baseline == "hta-kl"


def test_a_usual_baseline_of_several_rows_is_not_guessed() -> None:
    for lr in (0.1, 0.2):
        make_run("kl", lr=lr, val=50 + lr)
    column = report().tables[0].columns[0]
    assert column.baseline is None
    assert "No differences: select a baseline with --baseline ROW." in column.notes
    make_run("none", lr=0.3)
    assert report().tables[0].columns[0].baseline == "none lr=0.3"
    assert report(rank_on="val").tables[0].columns[0].baseline == "kl lr=0.2"


def test_a_name_is_enough_where_one_row_has_it() -> None:
    make_run("kl", epochs=16)
    make_run("hta-kl", epochs=64)
    assert report(baseline="kl").tables[0].columns[0].baseline == "kl epochs=16"
    make_run("kl", epochs=32)
    with pytest.raises(
        UsageError, match=r"--baseline 'kl' has 2 rows: 'kl epochs=16', 'kl epochs=32'; give one label"
    ):
        report(baseline="kl")
    assert report(baseline="kl epochs=32").tables[0].columns[0].baseline == "kl epochs=32"


def test_an_unknown_baseline_is_refused() -> None:
    make_run("kl")
    make_run("hta-kl")
    with pytest.raises(UsageError, match="--baseline 'hta_kl' is not a row; did you mean 'hta-kl'"):
        report(baseline="hta_kl")


def test_missing_seeds_are_said() -> None:
    make_seeds("kl", [80, 81, 82])
    make_seeds("hta-kl", [82, 83])
    make_run("none", 7)
    column = report().tables[0].columns[0]
    lines = {line.label: line for line in column.rows}
    assert lines["hta-kl"].difference
    assert lines["hta-kl"].difference.seeds == (0, 1)
    assert lines["none"].difference is None
    assert "hta-kl: 2 pairs; unpaired seeds: 2." in column.notes
    assert "none: 0 pairs; unpaired seeds: 0, 1, 2, 7." in column.notes


def test_a_column_without_the_baseline_says_so() -> None:
    make_seeds("kl", [80, 81])
    make_seeds("hta-kl", [82, 83], T=4)
    make_seeds("rkl", [82, 83], T=4)
    columns = report().tables[0].columns
    assert [(column.T, column.baseline) for column in columns] == [(2, "kl"), (4, None)]
    assert columns[1].notes == ("No differences: no row 'kl' at T = 4.",)


# settings tried, and the choice among them


def test_settings_are_counted_by_loss() -> None:
    make_seeds("kl", [80, 81])
    for delta in (0.3, 0.5, 0.7):
        make_seeds({"name": "hta-kl", "delta": delta}, [80, 81])
    make_run("hta-kl", lr=0.05)
    make_run("hta-kl", T=4)
    make_run("hta-kl", data="e" * 64)
    make_run("hta-kl", val_fraction=0.1, rule="best", teacher="b" * 64)  # as another, on fewer images
    tables = report().tables
    main = next(table for table in tables if len(table.columns) == 2)
    assert {line.label: line.settings for line in main.columns[0].rows} == {
        "kl": 1, "hta-kl": 4, "hta-kl delta=0.3": 4, "hta-kl delta=0.7": 4, "hta-kl lr=0.05": 4,
    }  # fmt: skip
    assert {line.settings_split for line in main.columns[0].rows if line.loss == "hta-kl"} == {"test"}
    assert [(line.settings, line.settings_split) for line in main.columns[1].rows] == [(1, None)]
    assert any("would select on the test split" in note for note in main.columns[0].notes)


def test_the_best_by_validation_is_shown_whatever_the_test_says() -> None:
    make_seeds("kl", [80, 81])
    for delta, val, test in ((0.3, 70.0, 99.0), (0.5, 90.0, 85.0), (0.7, 80.0, 95.0)):
        make_seeds({"name": "hta-kl", "delta": delta}, [test, test + 1], val=val, val_fraction=0.1)
    make_seeds("kl", [80, 81], val_fraction=0.1)
    table = next(table for table in report(rank_on="val").tables if table.val_fraction)
    lines = {line.label: line for line in table.columns[0].rows}
    assert list(lines) == ["kl", "hta-kl"]
    assert lines["hta-kl"].values == (85.0, 86.0)
    assert lines["hta-kl"].settings == 3
    assert lines["hta-kl"].val_top1
    assert lines["hta-kl"].val_top1.mean == 90.0
    assert "hta-kl is the best of 3 settings by validation accuracy" in table.columns[0].notes[0]
    assert "hta-kl delta=0.3 70.00 (n = 2)" in table.columns[0].notes[0]


def test_the_winner_of_a_search_keeps_its_budget_and_the_images_that_chose_it() -> None:
    for delta, val in ((0.3, 70.0), (0.5, 90.0)):
        make_run({"name": "hta-kl", "delta": delta}, val=val, val_fraction=0.1)
    make_seeds({"name": "hta-kl", "delta": 0.5}, [84, 85])
    final = next(table for table in report().tables if not table.val_fraction)
    assert [(line.settings, line.settings_split) for line in final.columns[0].rows] == [(2, "val")]
    assert make_sections(report())[0].tables[-1].rows[0][-1] == "2 (val)"


def test_validation_measured_later_counts() -> None:
    """RUN/eval/val-T2.json, but only of these weights."""
    low, high = make_run("kl", lr=0.1, top1=80), make_run("kl", lr=0.2, top1=70)
    for folder, val in ((low, 60.0), (high, 65.0)):
        result = json.loads((folder / "result.json").read_text())
        result |= {"split": "val", "curve": [{**end, "top1": val} for end in result["curve"]]}
        (folder / "eval").mkdir()
        (folder / "eval" / "val-T2.json").write_text(json.dumps(result))
    (line,) = report(rank_on="val").tables[0].columns[0].rows
    assert line.values == (70.0,)
    found = report(split="val")
    assert [line.values for line in found.tables[0].columns[0].rows] == [(60.0,), (65.0,)]
    path = high / "eval" / "val-T2.json"
    path.write_text(path.read_text().replace(result["weights_sha256"], "f" * 64))
    assert report(split="val").left_out[0].why == "eval/val-T2.json was measured with other weights"
    with pytest.raises(FileError, match="no validation accuracy for --rank-on val"):
        report(rank_on="val")


def test_without_validation_nothing_is_chosen() -> None:
    make_run("kl", lr=0.1, val=50.0)
    folder = make_run("kl", lr=0.2)
    with pytest.raises(FileError, match=f"{folder}: no validation accuracy"):
        report(rank_on="val")


# what is left out


def test_what_is_left_out_is_named() -> None:
    make_run("kl")
    reasons = {
        make_run("hta-kl", 1): ({"T": 9}, "measured at T = 9, trained at T = 2"),
        make_run("hta-kl", 2): (
            {"seed": None},
            "result.json lacks seed, recipe_hash or selection",
        ),
        make_run("hta-kl", 3): ({"curve": []}, "damaged result (IndexError: list index out of range)"),
        make_run("hta-kl", 4): ({"loss": "kl"}, "damaged result"),
        make_run("hta-kl", 5): ({"hardware": None}, "damaged result"),
        make_run("hta-kl", 6): ({"teacher": {"sha256": "x"}}, "damaged result (KeyError: 'top1')"),
    }
    for folder, (changes, _) in reasons.items():
        change(folder, **changes)
    unfinished, torn = make_run("hta-kl", 7), make_run("hta-kl", 8)
    (unfinished / "result.json").unlink()
    (torn / "result.json").write_text("{")
    found = report()
    assert shape(found) == [{2: {"kl": (0,)}}]
    said = {each.place: each.why for each in found.left_out}
    assert said.keys() == {str(folder) for folder in (*reasons, unfinished, torn)}
    assert all(said[str(folder)].startswith(why) for folder, (_, why) in reasons.items())
    assert said[str(unfinished)] == "not finished"
    assert said[str(torn)].startswith("result.json: not a JSON file")


def test_a_teacher_is_no_row() -> None:
    change(make_run("none", 1), stage="teach")
    make_run("kl")
    found = report()
    assert shape(found) == [{2: {"kl": (0,)}}]
    assert not found.left_out


def test_without_a_student_there_is_nothing_to_compare() -> None:
    with pytest.raises(FileError, match="runs: no such run; run `snnkd distill` first, or name runs"):
        make_report([], CompareConfig())
    with pytest.raises(FileError, match="nowhere: no such run; give runs, or a folder of runs"):
        report(Path("nowhere"))
    Path("runs").mkdir()
    with pytest.raises(FileError, match="runs: contains no runs"):
        report()
    (make_run("kl") / "result.json").unlink()
    with pytest.raises(FileError, match=r"no finished student in runs \(.*: not finished\)"):
        report()


def test_devices_and_versions_that_are_mixed_are_said() -> None:
    make_run("kl", 0)
    make_run("kl", 1, gpu="H100")
    change(make_run("kl", 2), versions={"torch": "2.14.0", "spikingjelly": "2.0.0"}, precision="float32")
    change(make_run("kl", 3, gpu="H100"), precision="bf16")
    found = report().tables[0]
    devices = ("H100", "H100, bf16", "x, threads: 1")
    assert found.notes == (
        f"Runs used different devices: {'; '.join(devices)}.",
        "Runs used different versions of torch: 2.14.0, 2.15.0.",
    )
    assert found.columns[0].rows[0].devices == devices


def test_a_neuron_that_is_not_causal_has_one_entry_and_is_compared_all_the_same() -> None:
    for run in make_seeds("kl", [50.0, 51.0, 52.0]):
        last = json.loads((run / "result.json").read_text())["curve"][-1:]
        change(run, curve=last)
    found = report()
    assert not found.left_out
    assert found.tables


def test_recalibrated_networks_are_left_out() -> None:
    runs = make_seeds("kl", [50.0, 51.0])
    change(runs[1], recalibrated_on=300)
    (left,) = report().left_out
    assert "recalibrated" in left.why
