"""`snnkd data` as users call it: stopped, wrong, and what it prints."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, finish, random_npz, start
from data.serving import serving

ARCHIVE = "cifar-100-python.tar.gz"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 75), (signal.SIGINT, -signal.SIGINT)],
)
@pytest.mark.nightly  # in this process: data/test_download
def test_stopped_in_a_download_it_keeps_what_came(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "store"))
    part = tmp_path / "store" / f"{ARCHIVE}.part"
    with serving() as server:
        server.files[f"/{ARCHIVE}"], server.moods = bytes(200_000), ["stall"]
        process = start("data", "cifar100", "--mirror", server.url)
        while not part.exists() or part.stat().st_size < 65_536:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        process.send_signal(number)
        ended = finish(process)
    assert ended.code == code, ended.err
    assert (
        f"while downloading {ARCHIVE}; received bytes are kept; the same command continues" in ended.complaint
    )
    assert 65_536 <= part.stat().st_size <= 100_000
    assert not (tmp_path / "store" / ARCHIVE).exists()


def test_data_that_are_not_downloaded_are_described(cli: Cli) -> None:
    made = cli(
        "data",
        "glyphs",
        "--set",
        "data.classes=4",
        "--set",
        "data.train_images=20",
        "--set",
        "data.test_images=8",
        "--json",
    )
    assert made.code == 0, made.err
    assert (made.json["schema"], made.json["classes"], made.json["images"]) == (
        1,
        4,
        {"train": 20, "test": 8},
    )
    (path,) = made.json["files"]
    assert made.json["bytes"] == Path(path).stat().st_size
    npz = cli("data", random_npz("mine.npz", 5), "--json").json
    assert (npz["name"], npz["classes"], npz["files"]) == (
        "npz:mine.npz",
        5,
        [str(Path("mine.npz").absolute())],
    )
    assert (npz["source"], npz["licence"], npz["rule"], npz["frames"]) == (None, None, None, None)
    Path("described_arrays.py").write_text(
        "import numpy\ndef load():\n    return dict(numpy.load('mine.npz'))\n"
    )
    own = cli("data", "described_arrays:load", "--json").json
    assert (own["sha256"], own["files"], own["bytes"]) == (npz["sha256"], [], 0)
    plain = cli("data", "npz:mine.npz")
    assert npz["sha256"] in plain.out
    assert f"200 train, {len(np.load('mine.npz')['test_labels'])} test" in plain.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cifar1000"], "did you mean 'cifar100'?"),
        (["npz"], "npz:PATH"),
        (["cifar100", "--mirror", "x"], "--mirror 'x' is not a URL"),
        (["cifar100", "--mirror", "http://x", "--from", "y"], "name one of them"),
        (["glyphs", "--mirror", "http://x"], "glyphs is never downloaded"),
        (["glyphs", "--set", "model.width=3"], "only data.KEY=VALUE applies here"),
        (["glyphs", "--set", "data.name=cifar10"], "only data.KEY=VALUE applies here"),
        (["glyphs", "--set", "data.augment=[flip]"], "only training augments images; remove the setting"),
    ],
)
def test_what_is_wrong_with_a_request(cli: Cli, words: list[str], said: str) -> None:
    refused = cli("data", *words)
    assert refused.code == 2
    assert said in refused.complaint
