"""Comparing an export with its source: which images, and that a difference is found."""

import math

import pytest
import torch

from snnkd.data.split import Split
from snnkd.exports.agreement import Agreement, compare, is_faithful, sample_images


def split_of(labels):
    """Images whose first pixel is their index."""
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    images[:, 0, 0, 1] = torch.arange(len(labels)) // 256
    return Split(images, torch.tensor(labels))


def chosen(split, count):
    pixels = (255 * sample_images(split, count)).round().long()
    return (pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 0, 1]).tolist()


def test_classes_are_taken_in_turn():
    labels = [0] * 50 + [1] * 3 + [2] * 20
    assert chosen(split_of(labels), 3) == [0, 50, 53]
    assert chosen(split_of(labels), 6) == [0, 1, 50, 51, 53, 54]
    assert chosen(split_of(labels), 12) == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54, 55, 56]  # class 1 has run out


def test_every_class_is_covered():
    labels = torch.randint(100, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    found = chosen(split_of(labels), 256)
    assert {labels[i] for i in found} == set(labels)
    assert len(set(found)) == 256


@pytest.mark.parametrize(("available", "taken"), [(10, 10), (256, 256), (700, 256)])
def test_at_most_256_images(available, taken):
    found = sample_images(split_of([i % 7 for i in range(available)]))
    assert len(found) == taken
    assert found.dtype == torch.float32
    assert 0 <= found.min() <= found.max() <= 1


IMAGES = torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0))
LOGITS = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(1))


def test_the_same_function_agrees():
    found = compare(lambda images: LOGITS, lambda images: LOGITS.clone(), IMAGES)
    assert (found.images, found.agreement, found.max_difference) == (8, 1.0, 0.0)


def test_a_small_difference_is_found():
    """Of one logit at one timestep; the predictions are still the same."""
    other = LOGITS.clone()
    other[1, 3, 2] += 1e-4
    found = compare(lambda images: LOGITS, lambda images: other, IMAGES)
    assert found.agreement == 1
    assert found.max_difference == pytest.approx(1e-4, rel=1e-2)


def test_agreement_is_the_share_of_equal_predictions():
    other = LOGITS.clone()
    for i in (2, 5):
        other[:, i, (LOGITS.mean(0)[i].argmax() + 1) % 5] += 100
    found = compare(lambda images: LOGITS, lambda images: other, IMAGES)
    assert found.agreement == 0.75
    assert found.max_difference == pytest.approx(100)


def test_nan_is_a_difference():
    other = LOGITS.clone()
    other[0, 0, 0] = math.nan
    assert compare(lambda images: LOGITS, lambda images: other, IMAGES).max_difference == math.inf


def test_the_median_image_and_the_largest_logit():
    other = LOGITS.clone()
    other[0, :3] += 1.0
    found = compare(lambda images: LOGITS, lambda images: other, IMAGES)
    assert (found.median_difference, found.max_difference) == (0.0, pytest.approx(1.0))
    assert found.largest_logit == pytest.approx(LOGITS.abs().max().item())


def test_event_frames_are_split_over_samples():
    """[frames, B, C, H, W]: B is the second."""
    events = torch.rand(3, 70, 2, 4, 4)
    found = compare(lambda part: part.flatten(2)[..., :5], lambda part: part.flatten(2)[..., :5], events)
    assert (found.images, found.agreement, found.max_difference) == (70, 1.0, 0.0)


class Counter(torch.nn.Module):
    """One linear layer and a threshold: images whose sum comes near it answer otherwise when that rounds
    otherwise.
    """

    def __init__(self, threshold):
        super().__init__()
        self.linear, self.threshold = torch.nn.Linear(3, 2), threshold
        torch.nn.init.ones_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)

    def forward(self, images):
        total = self.linear(images.flatten(1))
        return torch.stack([total + 3 * (total >= self.threshold), total * torch.tensor([1.0, 2.0])])


def judged(network, changed, tolerance=1e-4):
    found = compare(network, changed, IMAGES)
    return is_faithful(found, tolerance, network, network, IMAGES)


def moved(network, images, by):
    """The network, the logits of one image moved."""

    def answer(part):
        logits = network(part).clone()
        logits[0, images] += by
        return logits

    return answer


def test_a_small_difference_is_accepted_and_a_large_one_is_not():
    network = Counter(100.0)
    assert judged(network, moved(network, [2], 5e-5))
    assert not judged(network, moved(network, [2], 1e-2)), "nothing hangs on rounding here"
    assert not judged(network, moved(network, [2], 5e-5), tolerance=0)


def test_the_tolerance_grows_with_the_logits():
    network = Counter(100.0)
    with torch.no_grad():
        network.linear.weight.mul_(1000)
    assert judged(network, moved(network, [2], 1e-2))


def test_a_flipped_spike_is_accepted_where_rounding_flips_it_here_too():
    exactly = Counter(IMAGES[2].sum().item())
    assert judged(exactly, moved(exactly, [2], -3.0))
    assert not judged(exactly, moved(exactly, [2], -30.0)), "no spike is that much"
    assert not judged(exactly, moved(exactly, [0, 1, 2, 3, 4], -3.0)), "most images"
    assert not judged(exactly, moved(exactly, [2], torch.tensor([9.0, -9.0]))), (
        "one of eight predictions is more than one in a hundred"
    )


def test_what_is_not_finite_never_agrees():
    assert not is_faithful(Agreement(8, 1.0, math.inf, 0.0), 1e-4, Counter(1.0), Counter(1.0), IMAGES)
