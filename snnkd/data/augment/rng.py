"""Random numbers for augmentation: drawn for a whole batch, of which each process keeps its slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class BatchRng:
    """Random numbers for `total` images, the same on every device and for any number of processes."""

    generator: Generator
    total: int
    part: slice | Tensor
    """The images of the batch that this process has: a slice, or indices `[images here]`."""
    device: torch.device
    images: Tensor | None = None
    """Indices in the training set of the images here, `[images here]`."""
    epoch: int = 0

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers 0..high-1 on the device, `[images here, *shape]`."""
        return to_device(self.choices(high, *shape), self.device)

    def choices(self, high: int, *shape: int) -> Tensor:
        """`integers` on the CPU, for decisions taken there."""
        return torch.randint(high, (self.total, *shape), generator=self.generator)[self.part]

    def fractions(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1) on the CPU, `[images here, *shape]`."""
        return torch.rand((self.total, *shape), generator=self.generator)[self.part]

    def beta(self, alpha: float) -> Tensor:
        """Samples of Beta(alpha, alpha) on the CPU, `[images here]`."""
        # torch draws from this distribution with its global generator only
        (seed,) = torch.randint(2**63 - 1, (1,), generator=self.generator).tolist()
        samples = np.random.Generator(np.random.PCG64(seed)).beta(alpha, alpha, self.total)
        return torch.from_numpy(samples).float()[self.part]


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`; to a GPU it is copied from pinned memory, without synchronising."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
