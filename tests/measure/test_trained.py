"""On a student that has learned something: its curve is what separate runs at T = 1, 2, 3 would give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import snnkd
from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.loader import to_float
from snnkd.files import read_json
from snnkd.measure.curve import running_means
from snnkd.schema.data import GlyphsConfig


@pytest.fixture(scope="module")
def images(data_folder: Path) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNNKD_DATA", str(data_folder))
        config = GlyphsConfig(classes=10, train_images=1000, test_images=300)
        return to_float(load_data(config, Console(quiet=True)).test.images)


def test_the_student_is_alive_and_knows_something(trained: dict[str, Path]) -> None:
    result = read_json(trained["distill"] / "result.json")
    assert all(0.02 <= rate <= 0.6 for rate in result["rate_per_layer"].values()), result["rate_per_layer"]
    assert result["curve"][-1]["top1"] > 35, "chance is 10"
    assert result["teacher"]["top1"] > 35


def test_one_forward_pass_gives_the_whole_curve(trained: dict[str, Path], images: torch.Tensor) -> None:
    network = snnkd.load(trained["distill"])
    with torch.inference_mode():
        together = running_means(network(images, 3))
        for t in (1, 2, 3):
            assert torch.equal(network(images, t).mean(0), network(images, 3)[:t].mean(0))
            torch.testing.assert_close(together[t - 1], network(images, t).mean(0), rtol=0, atol=1e-5)


def test_no_state_survives_a_batch(trained: dict[str, Path], images: torch.Tensor) -> None:
    network = snnkd.load(trained["distill"])
    with torch.inference_mode():
        first = network(images[:100])
        network(images[100:])
        assert torch.equal(network(images[:100]), first)
