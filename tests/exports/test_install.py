"""An export takes its place whole, or what stood there stays."""

import errno
import os
from pathlib import Path

import pytest

from snnkd.errors import FileError, RunError, UsageError
from snnkd.exports.card import CARD, OPENING
from snnkd.exports.install import MARK, check_target, install
from snnkd.files import CONFIG, WEIGHTS
from snnkd.models.files import FORMAT


def made(folder: Path, weights: bytes = b"new", about: str = f'{{"format": "{FORMAT}"}}') -> None:
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CONFIG).write_text(about)


@pytest.fixture
def old() -> Path:
    made(Path("here"), b"old")
    return Path("here")


def weights() -> bytes:
    """Of the only thing here."""
    assert [path.name for path in Path().iterdir()] == ["here"]
    return Path("here", WEIGHTS).read_bytes()


def test_a_new_place_and_its_parents():
    install(Path("deep/er/here"), False, made)
    assert [path.name for path in Path("deep/er").iterdir()] == ["here"]
    assert Path("deep/er/here", WEIGHTS).read_bytes() == b"new"


def test_force_replaces_an_export(old):
    check_target(old, True)
    install(old, True, made)
    assert weights() == b"new"


def test_without_force_nothing_is_replaced(old):
    with pytest.raises(UsageError, match="exists; choose another path, or replace it with --force"):
        check_target(old, False)
    with pytest.raises(FileError, match="--out here"):
        install(old, False, made)
    assert weights() == b"old"


@pytest.mark.parametrize("about", ['{"model_type": "bert"}', "{", "[]", '{"format": "other"}'])
def test_force_replaces_only_what_snnkd_wrote(about):
    made(Path("here"), b"old", about)
    for act in (lambda: check_target(Path("here"), True), lambda: install(Path("here"), True, made)):
        with pytest.raises(UsageError, match="not an export of snnkd"):
            act()
    assert weights() == b"old"


def test_more_than_an_export_is_not_replaced(old):
    (old / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="not an export of snnkd"):
        check_target(old, True)


def test_work_that_fails_leaves_what_stood_there(old):
    def fail(draft: Path) -> None:
        made(draft)
        raise RunError("differs")

    with pytest.raises(RunError, match="differs"):
        install(old, True, fail)
    assert weights() == b"old"


def test_a_last_step_that_fails_leaves_what_stood_there(old, monkeypatch):
    honest = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError(errno.EIO, "Input/output error")
        honest(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(FileError, match="--out here: input/output error"):
        install(old, True, made)
    assert weights() == b"old"


def file_made(path: Path, content: bytes = b"\x00binary" + MARK + b"\x00") -> None:
    path.write_bytes(content)


def test_a_file_takes_its_place():
    install(Path("deep/model.onnx"), False, file_made)
    assert [path.name for path in Path("deep").iterdir()] == ["model.onnx"]
    assert Path("deep/model.onnx").read_bytes().startswith(b"\x00binary")


def test_force_replaces_a_file_of_ours():
    file_made(Path("here"), b"old\x00" + MARK)
    check_target(Path("here"), True)
    install(Path("here"), True, file_made)
    assert Path("here").read_bytes().startswith(b"\x00binary")


@pytest.mark.parametrize("content", [b"thesis", b"\x00other", b"a text on " + MARK])
def test_force_replaces_no_other_file(content):
    Path("here").write_bytes(content)
    for act in (lambda: check_target(Path("here"), True), lambda: install(Path("here"), True, file_made)):
        with pytest.raises(UsageError, match="not an export of snnkd"):
            act()
    assert Path("here").read_bytes() == content


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_meanwhile_is_kept(monkeypatch, links):
    """Also on file systems without hard links."""
    if not links:

        def refuse(source: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

    def slow(draft: Path) -> None:
        file_made(draft)
        Path("here").write_text("mine")

    with pytest.raises(FileError, match="--out here"):
        install(Path("here"), False, slow)
    assert Path("here").read_text() == "mine"
    install(Path("there"), False, file_made)
    assert sorted(path.name for path in Path().iterdir()) == ["here", "there"]


def test_a_card_of_ours_may_be_replaced_and_another_readme_not(old):
    Path("here", CARD).write_text(f"{OPENING}---\n# a card")
    check_target(old, True)
    Path("here", CARD).write_text("# my notes")
    with pytest.raises(UsageError, match="not an export of snnkd"):
        check_target(old, True)
