"""`extends:`: chains of files, names and paths, and what of them is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from recipe.children import PIPELINE, student, written

from snnkd.errors import FileError, SnnkdError, UsageError
from snnkd.recipe import read_recipe, resolve_tasks, shipped
from snnkd.recipe.loader import MAX_BASES


def test_names_and_paths_are_looked_up_from_the_file_that_says_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    (shelf / "deep").mkdir(parents=True)
    (shelf / "top.yaml").write_text("extends: deep/mid.yml\nseed: 3\n")
    (shelf / "deep" / "mid.yml").write_text("extends: ../root.yaml\ntrain: {momentum: 0.5}\n")
    (shelf / "root.yaml").write_text("extends: glyphs\ndata: {noise: 0.25}\n")
    for name in ("shelf/top.yaml", f"{shelf}/top.yaml"):
        found = resolve_tasks(name).all[0].pipeline
        assert (
            found.distill.seed,
            found.teach.train.momentum,
            found.distill.data.noise,
            found.distill.train.epochs,
        ) == (3, 0.5, 0.25, 16)


def test_shipped_recipes_extend_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "full.yaml").write_text(PIPELINE)
    (folder / "short.yaml").write_text("extends: full\ntrain: {lr: 0.5}\n")
    (folder / "shorter.yaml").write_text("extends: ./short.yaml\nseed: 7\n")
    monkeypatch.setattr(shipped, "recipes_folder", lambda: folder)
    found = resolve_tasks("shorter").all[0].pipeline
    assert (found.distill.seed, found.distill.train.lr) == (7, 0.5)
    Path("child.yaml").write_text("extends: shortr")
    with pytest.raises(
        UsageError, match=r"^child.yaml: extends: unknown recipe 'shortr'; did you mean 'shorter'\?$"
    ):
        read_recipe("child.yaml")


def chain(count: int) -> str:
    """A recipe with so many bases: each changes the seed, every second one the learning rate."""
    Path("0.yaml").write_text(PIPELINE)
    for i in range(1, count + 1):
        Path(f"{i}.yaml").write_text(
            f"extends: {i - 1}.yaml\nseed: {i}\n" + (f"train: {{lr: {i}}}\n" if i % 2 else "")
        )
    return f"{count}.yaml"


def test_a_chain_is_merged_from_its_base() -> None:
    found = resolve_tasks(chain(MAX_BASES)).all[0].pipeline.distill
    assert (found.seed, found.train.lr) == (10, 9.0)
    with pytest.raises(
        UsageError,
        match=r"^1.yaml: extends: 0.yaml is base 11 of 11.yaml; at most 10 are allowed$",
    ):
        read_recipe(chain(MAX_BASES + 1))


def test_cycles_are_refused() -> None:
    Path("a.yaml").write_text("extends: b.yaml")
    Path("b.yaml").write_text("extends: ./sub/../a.yaml")
    Path("sub").mkdir()
    with pytest.raises(
        UsageError,
        match=r"^b.yaml: extends: a.yaml -> b.yaml -> sub/../a.yaml is a cycle; remove one `extends`$",
    ):
        read_recipe("a.yaml")
    Path("own.yaml").write_text("extends: own.yaml")
    with pytest.raises(UsageError, match=r"own\.yaml -> own\.yaml is a cycle"):
        read_recipe("./own.yaml")


@pytest.mark.parametrize("value", ["3", "null", "[a.yaml]", "{a: 1}", "true", '"a\\0.yaml"', '"a\\nb.yaml"'])
def test_extends_that_is_no_name(value: str) -> None:
    Path("child.yaml").write_text(f"extends: {value}\n{PIPELINE}")
    with pytest.raises(
        UsageError, match=r"^child.yaml: extends: .* is neither the name of a recipe nor a path$"
    ):
        read_recipe("child.yaml")


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        ("glyhps", UsageError, "child.yaml: extends: unknown recipe 'glyhps'; did you mean 'glyphs'?"),
        ("base", UsageError, "child.yaml: extends: unknown recipe 'base'; for the file write ./base"),
        ("zzzzzzzz", UsageError, "child.yaml: extends: unknown recipe 'zzzzzzzz'; "),
        ("''", UsageError, "child.yaml: extends: unknown recipe ''; "),
        ("gone.yaml", FileError, "child.yaml extends gone.yaml: gone.yaml: no such file or directory"),
        ("sub/gone", FileError, "child.yaml extends sub/gone: sub/gone: no such file or directory"),
        ("./", FileError, "child.yaml extends ./: .: is a directory"),
        (f"./{'x' * 300}", FileError, "file name too long"),
        (
            "tagged.yaml",
            FileError,
            "child.yaml extends tagged.yaml: tagged.yaml: line 1: the tag '!!python/none' is not allowed".replace(
                "!!", "tag:yaml.org,2002:"
            ),
        ),
        (
            "list.yaml",
            FileError,
            "child.yaml extends list.yaml: list.yaml: a recipe is a mapping of keys to values, not list",
        ),
        ("onward.yaml", FileError, "onward.yaml extends gone.yaml: gone.yaml: no such file or directory"),
    ],
)
def test_bases_that_cannot_be_read(value: str, error: type[SnnkdError], said: str) -> None:
    for name, content in {
        "base": PIPELINE,
        "tagged.yaml": "a: !!python/none x",
        "list.yaml": "[1]",
        "onward.yaml": "extends: gone.yaml",
    }.items():
        Path(name).write_text(content)
    Path("child.yaml").write_text(f"extends: {value}\n")
    with pytest.raises(SnnkdError) as caught:
        read_recipe("child.yaml")
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_base_may_be_a_part() -> None:
    part = "data: {classes: 10}\nsweep: {seed: [1, 2]}\n"
    found = resolve_tasks(written("teach: {}\ndistill: {loss: kl}", part))
    assert ([task.pipeline.distill.seed for task in found.all], found.all[0].pipeline.teach.data.classes) == (
        [1, 2],
        10,
    )
    assert resolve_tasks(written("stage: teach", part)).all[1].pipeline.teach.seed == 2


def test_code_in_a_base_is_refused_as_in_any_recipe() -> None:
    for base in (
        "distill: {loss: 'mine:f'}",
        "data: 'mine:f'\ndistill: {}",
        "distill: {}\nsweep: {distill.loss: ['mine:f']}",
    ):
        Path("child.yaml").write_text("extends: mid.yaml")
        Path("mid.yaml").write_text("extends: base.yaml")
        Path("base.yaml").write_text(base)
        with pytest.raises(
            UsageError,
            match="'mine:f' is code; it runs only when the command line names it: add --code mine:f",
        ):
            resolve_tasks("child.yaml")
    assert student("distill: {loss: kl}", "distill: {loss: 'mine:f'}").loss.name == "kl", (
        "what is replaced runs nowhere"
    )


def test_reading_does_not_import_torch() -> None:
    code = (
        f"import sys; from snnkd.recipe import resolve_tasks; "
        f"resolve_tasks({written('distill: {loss: kl}')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
