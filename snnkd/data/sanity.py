"""Sanity checks on samples of each split, which find mistakes in preparing the data."""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd.data.imageset import ImageSet
from snnkd.data.split import Split

SAMPLES, SAMPLE_BYTES = 256, 2**25
"""Maximum number of images checked, spread evenly over the split, and maximum of their bytes."""
CLIPPED = 0.99
"""Fraction of pixels at 0 or 255 above which values were probably clipped; MNIST has 0.82."""
DARK = 16
"""Brightest pixel of 12-bit images read as 16-bit ones; images in 0 to 1 stored as bytes have 1."""


def doubts(data: ImageSet) -> list[str]:
    """One sentence for each split of `data` whose images or labels look wrong."""
    splits = {"training": data.train, "test": data.test, "validation": data.val}
    return [
        f"{data.name}: {doubt}"
        for name, split in splits.items()
        if split is not None
        for doubt in (_labels_doubt(name, split), _images_doubt(name, split))
        if doubt
    ]


def _labels_doubt(name: str, split: Split) -> str | None:
    if int(split.labels.min()) < int(split.labels.max()):
        return None
    return f"all {len(split):,} {name} images are of class {int(split.labels[0])}"


def _images_doubt(name: str, split: Split) -> str | None:
    """The first doubt that applies: the later ones often follow from it."""
    images = _sample(split)
    sample, pixels = f"of {len(images)} sampled {name} images", images.flatten(-2)
    constant = int((pixels.amin(-1) == pixels.amax(-1)).flatten(1).all(1).sum())
    if constant:
        return f"{constant} {sample} are constant; view the files"
    different = len({image.numpy().tobytes() for image in images})
    if different * 2 <= len(images) > 1:
        return f"only {different} {sample} differ; view the files"
    if images.ndim == 5:  # event frames are counts, most of them 0
        return None
    clipped = float(((images == 0) | (images == 255)).double().mean())
    if clipped >= CLIPPED:
        return f"{100 * clipped:.1f} % of the pixels {sample} are exactly 0 or 255; were they clipped?"
    if int(images.max()) <= DARK:
        return f"no pixel {sample} is above {int(images.max())} of 255; scale the images"
    return None


def _sample(split: Split) -> Tensor:
    size = split.take(slice(0, 1)).numel()
    count = max(2, min(SAMPLES, SAMPLE_BYTES // size))
    return split.take(torch.linspace(0, len(split) - 1, min(count, len(split))).long())
