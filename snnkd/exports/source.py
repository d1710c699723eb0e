"""The source of an export: a network, its metadata, and the timesteps to unroll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snnkd.models.files import FORMAT, LoadedNetwork


@dataclass(frozen=True)
class Source:
    """A loaded network, the timesteps `T` to export, and its result if known."""

    loaded: LoadedNetwork
    T: int
    result: dict[str, Any] | None = None
    address: str = ""
    """`hf-hub:OWNER/NAME` that it will be loaded from; empty for a folder."""

    def logits(self, images: Tensor) -> Tensor:
        """The network's logits `[T, B, classes]` for images `[B, C, H, W]`."""
        logits: Tensor = self.loaded.network(images, self.T)
        return logits

    def metadata(self) -> dict[str, Any]:
        """Metadata stored in every exported file; independent of time, machine and path."""
        from snnkd import __version__

        specification = self.loaded.network.specification
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
            "data_sha256": self.loaded.config.get("data_sha256"),
            **({"class_names": names} if (names := self.loaded.config.get("class_names")) else {}),
        }
