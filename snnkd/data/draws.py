"""The random numbers of augmentation: those of a whole batch, of which each process takes its part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Draws:
    """Draws for `total` images on the CPU, so that a batch is the same on every device and split over any processes."""

    generator: Generator
    total: int
    part: slice
    device: torch.device

    def integers(self, high: int, *shape: int) -> Tensor:
        """Whole numbers 0..high-1, `[images of the part, *shape]`."""
        drawn = torch.randint(high, (self.total, *shape), generator=self.generator)[self.part]
        # from pinned memory a copy to a GPU waits for nothing
        return drawn.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else drawn
