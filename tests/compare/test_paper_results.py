"""The papers' numbers: which there are, and which row of `snnkd compare` they stand beside."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from compare.synthetic import change, make_run, make_seeds
from conftest import Cli

import snnkd
from snnkd.catalog.data import DATA
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.catalog.paper_results import NOT_HERE, PAPER_RESULTS, PaperResult, find_paper_results
from snnkd.catalog.references import REFERENCES

NOTES = Path(snnkd.__file__).resolve().parents[2] / "shared" / "METHODS.md"
STAR = (
    "* As reported by the papers, with their own recipes and teachers, mostly at the best test epoch; "
    "snnkd never selects on the test split."
)
HTA = {
    "method": "hta-kl", "T": 2, "top1": 80.51, "rate": None, "neuron": "lif", "source": "arXiv 2504.20445", "bibtex": "zhang2025headtail",
}  # fmt: skip


def cifar(loss: Any, T: int = 2, **options: Any) -> list[Path]:
    values = [80.0, 80.4, 80.8] if loss == "kl" else [80.2, 80.3, 81.0]
    return make_seeds(
        loss, values, **({"T": T, "name": "cifar100", "model": "resnet19", "width": None} | options)
    )


@pytest.fixture
def runs() -> None:
    """Losses with and without a number of their own, at two T."""
    for T in (2, 4):
        for loss in ("none", "kl", "hta-kl", {"name": "hta-kl", "head": "strict"}, "akl"):
            cifar(loss, T)
    cifar("enof", 4)


def words(text: str) -> str:
    return " ".join(text.split())


def rows(cli: Cli, *options: str) -> dict[tuple[int, str], Any]:
    """What stands beside a row, by T and label."""
    said = cli("compare", "--json", *options)
    assert said.code == 0, said.err
    return {
        (column["T"], row["label"]): row["published"]
        for table in said.json["tables"]
        for column in table["columns"]
        for row in column["rows"]
    }


# the numbers


@pytest.mark.parametrize(
    "each", PAPER_RESULTS, ids=lambda each: f"{each.method}-{each.data}-{each.model}-T{each.T}"
)
def test_every_entry_is_of_things_that_exist(each: PaperResult) -> None:
    assert each.data in DATA
    assert each.model in MODELS
    assert each.neuron in NEURONS
    assert (each.method in LOSSES) != (each.method in NOT_HERE)
    assert each.source in REFERENCES
    assert each.T is None or each.T >= 1
    assert (each.top1 is None) != (each.rate is None)
    assert each.top1 is None or 50 < each.top1 < 100
    assert each.rate is None or 0 < each.rate < 1


def test_each_method_has_its_own_source() -> None:
    for each in PAPER_RESULTS:
        if each.method in LOSSES and each.method != "none" and each.top1 is not None:
            assert each.source == LOSSES[each.method].source[0]
    assert {each.source for each in PAPER_RESULTS if each.method == "MEOM"} == {"sun2026meom"}
    assert REFERENCES["sun2026meom"].title.startswith("Many Eyes, One Mind")
    assert {each.method for each in PAPER_RESULTS} >= set(NOT_HERE)


def test_no_number_is_there_twice() -> None:
    assert len(
        {
            (each.method, each.data, each.model, each.T, each.neuron, each.top1 is None)
            for each in PAPER_RESULTS
        }
    ) == len(PAPER_RESULTS)


def test_what_is_found_for_a_data_set_a_network_and_t() -> None:
    found = find_paper_results("cifar100", "resnet19", 6)
    assert [(each.method, each.top1) for each in found if each.top1] == [("twsnn", 82.56), ("MEOM", 83.22)]
    assert [(each.method, each.T, each.rate) for each in found if each.rate] == [
        ("hta-kl", None, 0.2744),
        ("lasnn", None, 0.3649),
    ]
    assert [each.T for each in find_paper_results("cifar100", "resnet18", 4)] == [4, None]
    assert (
        find_paper_results("cifar10", "resnet19", 3)
        == find_paper_results("glyphs", "resnet19", 4)
        == find_paper_results("cifar10", "vgg13", 4)
        == ()
    )


def noted() -> set[tuple[Any, ...]]:
    """The notes' table and the two sentences below it, as method, data, model, T, top-1, rate and neuron."""
    section = NOTES.read_text(encoding="utf-8").split("## Published accuracies")[1].split("\n## ")[0]
    models = {"ResNet-18": "resnet18", "ResNet-19": "resnet19", "ResNet-20": "resnet20w"}
    made: set[tuple[Any, ...]] = set()
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    for method, *cells, network in table[2:]:
        for data, cell in zip(("cifar10", "cifar100"), cells, strict=True):
            for T, top1 in re.findall(r"(?:T(\d) )?(\d\d\.\d\d)", cell):
                made.add(
                    (method.lower(), data, models[network], int(T) if T else None, float(top1), None, "lif")
                )
    (rates,) = re.findall(r"Firing rate, ResNet-19 on CIFAR-100: (.*?) %\.", section)
    for method, percent in re.findall(r"([\w-]+) (\d\d\.\d\d)", rates):
        made.add((method.lower(), "cifar100", "resnet19", None, None, round(float(percent) / 100, 4), "lif"))
    ((T, top1),) = re.findall(
        r"Tiny ImageNet without distillation: VGG-13, T(\d) (\d\d\.\d\d) \(CLIF neuron\)", section
    )
    return {*made, ("none", "tiny-imagenet", "vgg13", int(T), float(top1), None, "clif")}


@pytest.mark.skipif(
    not NOTES.is_file(), reason="the notes that the numbers were taken from are not beside this checkout"
)
def test_the_numbers_are_those_of_the_notes() -> None:
    found = {
        (each.method.lower(), each.data, each.model, each.T, each.top1, each.rate, each.neuron)
        for each in PAPER_RESULTS
    }
    assert found == noted()
    assert len(found) == len(PAPER_RESULTS) > 30


# which row has one


@pytest.mark.usefixtures("runs")
def test_a_row_has_the_number_of_its_loss_and_t_whatever_the_loss_s_options(cli: Cli) -> None:
    found = rows(cli)
    assert found[2, "hta-kl"] == found[2, "hta-kl head=strict"] == HTA
    assert {key: row["top1"] for key, row in found.items() if row} == {
        (2, "hta-kl"): 80.51, (2, "hta-kl head=strict"): 80.51, (4, "hta-kl"): 81.03, (4, "hta-kl head=strict"): 81.03, (4, "enof"): 82.43,
    }  # fmt: skip


@pytest.mark.usefixtures("runs")
def test_result_files_have_it_as_runs_do(cli: Cli) -> None:
    Path("files").mkdir()
    for run in Path("runs").iterdir():
        shutil.copy(run / "result.json", f"files/{run.name}.json")
    assert rows(cli, "files") == rows(cli)


@pytest.mark.parametrize(
    "other",
    [
        {"T": 3},
        {"width": 64},
        {"model": "resnet18"},
        {"name": "cifar10-dvs"},
        {"name": "npz:cifar100.npz"},
        {"name": "glyphs"},
    ],
    ids=lambda other: next(iter(other.values())),
)
def test_other_things_have_none(cli: Cli, other: dict[str, Any]) -> None:
    cifar("hta-kl", **other)
    assert list(rows(cli).values()) == [None]
    assert "paper*" not in cli("compare").out


@pytest.mark.parametrize(("part", "there"), [(None, True), ({"classes": 10}, False)], ids=["whole", "part"])
def test_a_part_of_a_data_set_has_none(cli: Cli, part: Any, there: bool) -> None:
    for run in cifar("hta-kl"):
        change(run, part=part)
    assert list(rows(cli).values()) == [HTA if there else None]
    for format in ("table", "md", "latex", "csv"):
        assert ("2504.20445" in cli("compare", "--format", format).out) is there
    assert bool(cli("compare", "--json").json["tables"][0]["columns"][0]["published"]) is there


def test_validation_images_have_none(cli: Cli) -> None:
    for run in cifar("hta-kl", val_fraction=0.1):
        (run / "eval").mkdir()
        (run / "eval" / "val-T2.json").write_text(
            json.dumps(json.loads((run / "result.json").read_text()) | {"split": "val"})
        )
    assert list(rows(cli, "--split", "val").values()) == [None]
    assert "ublished" not in cli("compare", "--split", "val").out
    assert list(rows(cli).values()) == [HTA]


def test_a_number_of_another_neuron_stands_beside_that_neuron_alone(cli: Cli) -> None:
    common = {"name": "tiny-imagenet", "model": "vgg13", "T": 4}
    cifar("none", **common)
    assert list(rows(cli).values()) == [None]
    beside = "Published* for tiny-imagenet and vgg13, of methods without a row: none (clif) 63.16 (T = 4)."
    assert beside in words(cli("compare").out)
    for run in cifar("none", neuron="clif", **common):
        shutil.copy(run / "result.json", f"runs/{run.name}.json")
        shutil.move(run, Path("clif") / run.name)
    for place in ("clif", next(Path("runs").glob("*.json"))):
        (found,) = rows(cli, str(place)).values()
        assert (found["top1"], found["neuron"]) == (63.16, "clif")
        said = words(cli("compare", place).out)
        assert beside not in said
        assert "Papers: none (clif) arXiv 2402.04663." in said


def test_any_neuron_has_a_number_that_names_none(cli: Cli) -> None:
    cifar("hta-kl", neuron="plif")
    assert list(rows(cli).values()) == [HTA]


def test_other_settings_than_the_paper_s_do_not_matter(cli: Cli) -> None:
    cifar("hta-kl")
    cifar("hta-kl", epochs=3, lr=0.5)
    assert [row["top1"] for row in rows(cli).values()] == [80.51, 80.51]
    assert STAR in words(cli("compare").out)


def test_a_rate_is_no_accuracy(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a rate's T is reported."""
    rate = PaperResult(
        method="hta-kl",
        data="cifar100",
        model="resnet19",
        neuron="lif",
        T=2,
        top1=None,
        rate=0.25,
        source="zhang2025headtail",
    )
    monkeypatch.setattr("snnkd.catalog.paper_results.PAPER_RESULTS", (rate, *PAPER_RESULTS))
    cifar("hta-kl")
    assert list(rows(cli).values()) == [HTA]
    assert "resnet19: hta-kl 0.2500 (T = 2); hta-kl 0.2744, lasnn 0.3649 (T not reported)." in words(
        cli("compare").out
    )


def test_an_unreported_t_is_shown_without_a_row(cli: Cli) -> None:
    cifar("tser", T=4, model="resnet18")
    assert list(rows(cli).values()) == [None]
    said = words(cli("compare").out)
    assert (
        "Published* for cifar100 and resnet18, of methods without a row: sakd 80.48 (T = 4); tser 78.30 (T not "
        "reported)." in said
    )
    assert "Papers: sakd Neural Networks 2024, tser arXiv 2503.03144." in said


# how it is said


@pytest.mark.usefixtures("runs")
def test_the_table_at_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = cli("compare").out
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(r"^loss +T = 2  paper\* +T = 4  paper\*$", said, re.MULTILINE)
    assert re.search(
        r"^hta-kl +80\.5 ± 0\.4 \(3\)   80\.51  80\.5 ± 0\.4 \(3\)   81\.03$", said, re.MULTILINE
    )
    assert re.search(r"^kl +80\.4 ± 0\.4 \(3\) {10}80\.4 ± 0\.4 \(3\)$", said, re.MULTILINE)
    assert (
        len(
            re.findall(r"^loss +n +top-1 %  paper\* +minus kl \[95 %\]  p Holm  verdict$", said, re.MULTILINE)
        )
        == 2
    )
    assert re.search(
        r"^hta-kl +3  80\.5 ± 0\.4   80\.51  \+0\.1 \[-0\.3, \+0\.5\] +1\.000  not\n", said, re.MULTILINE
    )
    assert said.count("distinguishable\n") == 9
    assert "head=strict " in said


@pytest.mark.usefixtures("runs")
def test_the_closing_lines(cli: Cli) -> None:
    lines = cli("compare").out.splitlines()
    text = words(" ".join(lines))
    assert STAR in text
    assert (
        "Published* for cifar100 and resnet19, of methods without a row: twsnn 81.47, MEOM 81.82 (T = 2); "
        "twsnn 82.47, MEOM 82.85, ckdsnn 83.88, w2s 82.02, tks 79.89 (T = 4)."
    ) in text
    assert (
        "Published* firing rates for cifar100 and resnet19: hta-kl 0.2744, lasnn 0.3649 (T not reported)."
        in text
    )
    assert (
        "Papers: hta-kl arXiv 2504.20445, twsnn arXiv 2501.15925, MEOM ICLR 2026, lasnn arXiv 2504.20445, "
        "ckdsnn" in text
    )
    assert "enof NeurIPS 2024." in text


def test_without_a_number_of_its_own_a_table_has_no_column_but_the_lines(cli: Cli) -> None:
    cifar("kl")
    said = cli("compare").out
    assert "paper*" not in said
    assert "of methods without a row: hta-kl 80.51, twsnn 81.47, MEOM 81.82 (T = 2)." in words(said)
    assert STAR in words(said)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100])
def test_what_has_no_room_stands_below(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """No column is cut off; a paper's number stays beside ours."""
    monkeypatch.setenv("COLUMNS", str(width))
    for T in (1, 2, 4, 6):
        cifar("kl", T)
        cifar("ckdsnn", T)
        cifar("twsnn", T)
    said = cli("compare").out
    assert max(map(len, said.splitlines())) <= width
    if width < 40:
        return
    grid = said.split("top-1 % (n)")[1].split("\n\nT = 1\n")[0]
    assert [int(T) for T in re.findall(r"T = (\d)", grid)] == [1, 2, 4, 6]
    assert len(re.findall(r"T = \d  paper\*", grid)) == 4
    assert sorted(re.findall(r" (\d\d\.\d\d)\b", grid)) == ["79.11", "81.47", "82.47", "82.56", "83.88"]
    assert said.count("distinguishable") == 8


@pytest.mark.usefixtures("runs")
def test_markdown_and_latex(cli: Cli) -> None:
    markdown = cli("compare", "--format", "md").out
    assert "| loss | T = 2 | paper\\* | T = 4 | paper\\* |" in markdown
    assert (
        "| hta-kl head=strict | 3 | 80.5 ± 0.4 | 80.51 | +0.1 [-0.3, +0.5] | 1.000 | not distinguishable |"
        in markdown
    )
    assert "\n\\* As reported by the papers" in markdown
    latex = cli("compare", "--format", "latex").out
    assert "\\begin{tabular}{lrrrrrl}\n\\toprule\nloss & n & top-1 \\% & paper* & minus kl" in latex
    assert "\nhta-kl & 3 & 80.5 $\\pm$ 0.4 & 80.51 & " in latex
    assert STAR in latex


@pytest.mark.usefixtures("runs")
def test_csv(cli: Cli) -> None:
    found = list(csv.DictReader(io.StringIO(cli("compare", "--format", "csv").out)))
    beside = {(row["T"], row["label"]): (row["published_top1"], row["published_source"]) for row in found}
    assert beside["4", "hta-kl"] == ("81.03", "arXiv 2504.20445")
    assert beside["4", "enof"] == ("82.43", "NeurIPS 2024")
    assert beside["2", "kl"] == beside["4", "akl"] == ("", "")


@pytest.mark.usefixtures("runs")
def test_json_lists_all_that_is_published(cli: Cli) -> None:
    first, second = cli("compare", "--json").json["tables"][0]["columns"]
    assert [each["method"] for each in first["published"]] == ["hta-kl", "twsnn", "MEOM", "hta-kl", "lasnn"]
    assert first["published"][0] == HTA
    assert first["published"][-1] == {
        "method": "lasnn", "T": None, "top1": None, "rate": 0.3649, "neuron": "lif", "source": "arXiv 2504.20445",
        "bibtex": "zhang2025headtail",
    }  # fmt: skip
    assert len(second["published"]) == 9


@pytest.mark.usefixtures("runs")
def test_the_picture_is_drawn_as_ever(cli: Cli) -> None:
    said = cli("compare", "--plot", "a.png", "--format", "csv")
    assert (said.code, said.err) == (0, "plot written to a.png\n")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_said_where_nothing_is_published(cli: Cli) -> None:
    make_run("hta-kl")
    for format in ("table", "md", "latex"):
        said = cli("compare", "--format", format).out
        assert not any(word in said for word in ("paper", "Paper", "ublished"))
    (table,) = cli("compare", "--json").json["tables"]
    assert table["columns"][0]["published"] == []
