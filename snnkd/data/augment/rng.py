"""The random numbers of augmentation: those of a whole batch, of which each process takes its part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class BatchRng:
    """BatchRng for `total` images on the CPU, so that a batch is the same on every device and split over any processes."""

    generator: Generator
    total: int
    part: slice | Tensor
    """Which images of the batch are here: a slice, or their numbers `[images of the part]`."""
    device: torch.device

    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers 0..high-1 on the device, `[images of the part, *shape]`."""
        return to_device(self.choices(high, *shape), self.device)

    def choices(self, high: int, *shape: int) -> Tensor:
        """`integers` left on the CPU, for what is decided there."""
        return torch.randint(high, (self.total, *shape), generator=self.generator)[self.part]

    def fractions(self, *shape: int) -> Tensor:
        """Uniform numbers, at least 0 and below 1, on the CPU, `[images of the part, *shape]`."""
        return torch.rand((self.total, *shape), generator=self.generator)[self.part]

    def beta(self, alpha: float) -> Tensor:
        """Numbers of Beta(alpha, alpha) on the CPU, `[images of the part]`."""
        # torch draws them from its global generator alone
        (seed,) = torch.randint(2**63 - 1, (1,), generator=self.generator).tolist()
        drawn = np.random.Generator(np.random.PCG64(seed)).beta(alpha, alpha, self.total)
        return torch.from_numpy(drawn).float()[self.part]


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; from pinned memory a copy to a GPU waits for nothing."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
