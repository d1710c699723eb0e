"""Mixup and CutMix: against torchvision's on the same share and box, their draws, and class shares as
labels."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from snnkd.data.augment.mixing import mix, mixing_draws, mixing_of, with_partner
from snnkd.data.augment.rng import BatchRng
from snnkd.data.loader import to_float
from snnkd.schema.augment import CutMixConfig, MixupConfig

CPU = torch.device("cpu")
BOTH = (MixupConfig(), CutMixConfig())


def rng(count, seed=0, part=None):
    part = with_partner(count, slice(None)) if part is None else part
    return BatchRng(torch.Generator().manual_seed(seed), count, part, CPU)


def batch(count, classes=7, channels=3):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, channels, 16, 12), dtype=torch.uint8, generator=generator)
    return to_float(pixels), torch.randint(0, classes, (count,), generator=generator)


def mixed(operations, count=40, classes=7, **options):
    images, labels = batch(count, classes)
    which = with_partner(count, slice(None))
    return mix(images[which], labels[which], operations, classes, rng(count, **options))


@pytest.mark.parametrize(
    "operations",
    [(MixupConfig(),), (CutMixConfig(),), BOTH, (MixupConfig(alpha=0.2, p=0.5), CutMixConfig(p=0.7))],
)
def test_mixing_is_torchvisions_on_the_same_share_and_box(operations):
    images, labels = batch(40)
    kept, boxes = mixing_draws(operations, rng(40), 16, 12)
    made, shares = mixed(operations)
    theirs = {
        name: getattr(v2, name)(num_classes=7, labels_getter=lambda inputs: inputs[1])
        for name in ("MixUp", "CutMix")
    }
    seen = set()
    for i in range(40):
        lam, (top, left, bottom, right) = float(kept[i + 1]), boxes[i + 1].tolist()
        cut = bottom > top and right > left
        assert lam == 1 or not cut  # one of the two
        area = (bottom - top) * (right - left) / (16 * 12)
        params = {
            "labels": labels,
            "batch_size": 40,
            "num_classes": 7,
            "lam": lam,
            "box": (left, top, right, bottom),
            "lam_adjusted": 1 - area,
        }
        other = theirs["CutMix" if cut else "MixUp"]
        torch.testing.assert_close(made[i], other.transform(images, params)[i], rtol=0, atol=1e-6)
        torch.testing.assert_close(shares[i], other.transform(labels, params)[i].float(), rtol=0, atol=1e-6)
        seen.add("cut" if cut else "mixed" if lam < 1 else "left")
    assert seen >= {"cut" if isinstance(operation, CutMixConfig) else "mixed" for operation in operations}


def test_shares_are_between_the_two_labels_and_add_up_to_1():
    _, labels = batch(40)
    _, shares = mixed(BOTH)
    assert shares.shape == (40, 7)
    torch.testing.assert_close(shares.sum(1), torch.ones(40))
    pairs = F.one_hot(labels, 7) + F.one_hot(labels.roll(1), 7)
    assert not shares[pairs == 0].any()


def test_cross_entropy_with_shares_is_the_sum_over_both_labels_also_when_smoothed():
    _, labels = batch(40)
    kept = mixing_draws((MixupConfig(),), rng(40), 16, 12)[0][1:]
    _, shares = mixed((MixupConfig(),))
    logits = torch.randn(40, 7, generator=torch.Generator().manual_seed(3))
    for smoothing in (0.0, 0.1):
        each = [
            F.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none")
            for y in (labels, labels.roll(1))
        ]
        wanted = (kept * each[0] + (1 - kept) * each[1]).mean()
        torch.testing.assert_close(F.cross_entropy(logits, shares, label_smoothing=smoothing), wanted)


def test_each_image_has_its_own_share_of_the_right_distribution():
    for alpha in (0.2, 1.0, 8.0):
        kept = mixing_draws((MixupConfig(alpha=alpha),), rng(20_000), 8, 8)[0]
        assert kept.unique().numel() > 10_000
        assert float(kept.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(kept.double().var()) == pytest.approx(0.25 / (2 * alpha + 1), rel=0.05)
    boxes = mixing_draws((CutMixConfig(),), rng(20_000), 64, 64)[1]
    assert boxes.unique(dim=0).shape[0] > 10_000


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_p_is_the_share_of_images_that_are_mixed_and_both_come_as_often(p):
    kept, boxes = mixing_draws((MixupConfig(p=p), CutMixConfig(p=p)), rng(10_000), 64, 64)
    blended, cut = float((kept < 1).float().mean()), float((boxes.sum(1) > 0).float().mean())
    assert blended == pytest.approx(p / 2, abs=0.03)
    assert cut == pytest.approx(p / 2, abs=0.03)
    if p == 0:
        images, labels = batch(40)
        made, shares = mixed((MixupConfig(p=0), CutMixConfig(p=0)))
        assert made.equal(images)
        assert shares.equal(F.one_hot(labels, 7).float())


def test_parts_joined_are_the_whole_batch():
    images, labels = batch(40)
    whole = mixed(BOTH)
    for parts in ([slice(0, 20), slice(20, 40)], [slice(0, 1), slice(1, 39), slice(39, 40)]):
        found = []
        for part in parts:
            which = with_partner(40, part)
            assert len(which) == part.stop - part.start + 1
            found.append(mix(images[which], labels[which], BOTH, 7, rng(40, part=which)))
        assert torch.cat([made for made, _ in found]).equal(whole[0])
        assert torch.cat([shares for _, shares in found]).equal(whole[1])


def test_event_frames_are_mixed_frame_by_frame_alike():
    frames = torch.rand(11, 4, 2, 16, 12, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(11) % 7
    which = with_partner(11, slice(None))
    made, shares = mix(frames[which], labels[which], BOTH, 7, rng(11))
    flat, same = mix(frames.flatten(1, 2)[which], labels[which], BOTH, 7, rng(11))
    assert made.shape == frames.shape
    assert made.flatten(1, 2).equal(flat)
    assert shares.equal(same)


def test_what_mixes_is_told_from_what_does_not():
    assert mixing_of(["crop", "mixup", CutMixConfig(alpha=2)]) == (MixupConfig(), CutMixConfig(alpha=2))
    assert mixing_of(["crop", "cutout"]) == ()
