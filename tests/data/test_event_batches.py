"""Event frames in batches: time first, moved together, scaled without losing their zeros."""

from __future__ import annotations

import pytest
import torch

from snnkd.data.imageset import ImageSet
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.data.split import Split

CPU = torch.device("cpu")


def counted(*, alike: bool = False) -> Split:
    """22 samples of 4 frames, most pixels without an event; `alike`: all frames of a sample the same."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.poisson(torch.full((22, 4, 2, 16, 16), 0.1), generator=generator).to(torch.uint8)
    return Split(frames[:, :1].repeat(1, 4, 1, 1, 1) if alike else frames, torch.arange(22) % 11)


@pytest.mark.parametrize("operations", [("crop",), ("flip",), ("cutout",), ("erase", "crop", "flip")])
def test_the_frames_of_a_sample_move_together(operations: tuple[str, ...]) -> None:
    split = counted(alike=True)
    images, _ = TrainBatches(split, 11, operations, 0, CPU).batch(0, 0)
    assert images.shape == (4, 11, 2, 16, 16)
    assert all(torch.equal(images[0], frame) for frame in images)
    plain, _ = TrainBatches(split, 11, (), 0, CPU).batch(0, 0)
    assert not torch.equal(images, plain)
    assert images.double().sum() <= plain.double().sum() + 1e-6  # what comes in from outside is empty
    assert (images == 0).any()


def test_batches_have_time_first() -> None:
    split = counted()
    (images, labels), *_ = measure_batches(split, 10, CPU)
    assert torch.equal(images, split.images[:10].movedim(1, 0).float() / 255)
    assert torch.equal(labels, split.labels[:10])


def test_the_scale_of_events_leaves_zeros_zero() -> None:
    split = counted()
    mean, std = ImageSet("x", 11, split, split, None, "").channel_statistics()
    counts = split.images.double() / 255
    assert mean == [0.0, 0.0]
    assert std == pytest.approx([float(counts[:, :, p].std(correction=0)) for p in (0, 1)], rel=1e-9)
    part = Split(split.images, split.labels[:5], torch.tensor([3, 4, 9, 20, 1]))
    assert ImageSet("x", 11, part, part, None, "", mapped=True).channel_statistics()[1] == pytest.approx(
        [float(counts[part.rows][:, :, p].std(correction=0)) for p in (0, 1)], rel=1e-9
    )
    silent = Split(torch.zeros(3, 4, 2, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.long))
    assert ImageSet("x", 2, silent, silent, None, "").channel_statistics() == ([0.0, 0.0], [1 / 255, 1 / 255])
