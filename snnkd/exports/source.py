"""What is exported: a network with what is known of it, and how many timesteps the file is to hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snnkd.models.files import FORMAT, LoadedNetwork


@dataclass(frozen=True)
class Source:
    """A loaded network, the timesteps `T` to export, and its result object where one is known."""

    loaded: LoadedNetwork
    T: int
    result: dict[str, Any] | None = None

    def logits(self, images: Tensor) -> Tensor:
        """The network's own answer to images `[B, C, H, W]`: `[T, B, classes]`."""
        made: Tensor = self.loaded.network(images, self.T)
        return made

    def facts(self) -> dict[str, Any]:
        """What each file says of itself; nothing in it depends on time, place or path."""
        from snnkd import __version__

        specification, about = self.loaded.network.specification, self.loaded.config
        return {
            "format": FORMAT,
            "schema": 1,
            "snnkd": __version__,
            "model": specification.model.name,
            "kind": specification.kind,
            "T": self.T,
            "trained_T": specification.T,
            "classes": specification.classes,
            "input": list(specification.shape),
            "frames": specification.frames,
            "weights_sha256": self.loaded.sha256,
            "data_sha256": about.get("data_sha256"),
        }
