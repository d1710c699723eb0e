"""Data that changed under a run."""

from __future__ import annotations

from pathlib import Path

from conftest import SMALL, TRAIN, Cli, random_npz


def test_a_run_begun_on_other_images_is_named(cli: Cli) -> None:
    """A new file under the old name must not start a second run silently."""
    words = ["teach", "--data", random_npz("mine.npz", 10), *TRAIN]
    ended = cli(*words, "--max-time", "0s")
    assert ended.code == 75
    (folder,) = Path("runs").iterdir()
    assert cli(*words, "--max-time", "0s", "--out", "own").code == 75
    random_npz("mine.npz", 9)
    other = cli(*words)
    assert other.code == 2, other.err
    assert str(folder) in other.complaint
    own = cli(*words, "--out", "own")
    assert own.code == 2
    assert "own: its run has data.sha256" in own.complaint
    assert [path.name for path in Path("runs").iterdir()] == [folder.name]
    random_npz("mine.npz", 10)
    assert cli(*words).code == 0
    random_npz("mine.npz", 9)
    after = cli(*words)
    assert after.code == 0, "a finished run is not in the way"
    assert after.folder != folder


def test_a_run_begun_on_another_data_section_is_not_in_the_way(cli: Cli) -> None:
    assert cli("teach", *SMALL, "--max-time", "0s").code == 75
    assert cli("teach", *SMALL, "--set", "data.noise=0.2").code == 0
    assert cli("teach", *SMALL, "--set", "data.noise=1e-2").code == 0
    assert cli("teach", *SMALL).code == 0
