"""Classes of single pictures, by the network of a run or an export."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from snnkd.catalog.data import class_names_of
from snnkd.catalog.neurons import is_causal
from snnkd.context import RunContext
from snnkd.data.decode import decode_each
from snnkd.data.loader import to_batch
from snnkd.data.picture import fit
from snnkd.data.sets.imagefolder import picture_extensions, pictures_below
from snnkd.errors import FileError, RunError, UsageError
from snnkd.files import check_pictures, from_os_error
from snnkd.measure.curve import running_means
from snnkd.measure.dynamic import first_confident
from snnkd.models import Network
from snnkd.models.files import LoadedNetwork


def list_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths`, and the pictures in the folders among them and below, by name.

    Raises FileError for a path that does not exist, and for a folder without a picture.
    """
    check_pictures(paths)
    pictures: list[Path] = []
    for path in paths:
        try:
            pictures += _below(path) if path.is_dir() else [path]
        except OSError as error:
            raise from_os_error(error, error.filename or path) from error
    return pictures


def _below(folder: Path) -> list[Path]:
    extensions = picture_extensions()
    pictures = list(pictures_below(folder, extensions, Counter()))
    if not pictures:
        raise FileError(f"{folder}: contains no picture ({', '.join(extensions)})")
    return pictures


def predict_pictures(
    loaded: LoadedNetwork,
    pictures: Sequence[Path],
    confidence: float,
    batch_size: int,
    device: torch.device,
    context: RunContext,
) -> dict[str, Any]:
    """The predictions of `loaded` for `pictures`, and the pictures that cannot be read, each with its reason.

    Raises UsageError for a network of event frames, RunError for logits that are not finite, Preempted or
    Interrupted between batches.
    """
    network = loaded.network.to(device).eval()
    specification = network.specification
    if specification.frames is not None:
        raise UsageError(f"{loaded.folder}: takes event frames, not pictures; measure it with `snnkd eval`")
    names = class_names_of(loaded.config)
    predictions: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for block in _blocks(pictures, specification.shape, batch_size):
        context.stop.check("while predicting")
        readable = [(path, pixels) for path, pixels in block if isinstance(pixels, np.ndarray)]
        left_out += [
            {"picture": str(path), "reason": str(error).removeprefix(f"{path}: ")}
            for path, error in block
            if isinstance(error, FileError)
        ]
        if readable:
            images = torch.from_numpy(np.stack([pixels for _, pixels in readable])).permute(0, 3, 1, 2)
            entries = _predict(network, images.to(device), confidence, names)
            if not all(math.isfinite(entry["probability"]) for entry in entries):
                raise RunError(f"{loaded.folder}: the logits are not finite; train with a lower train.lr")
            predictions += [
                {"picture": str(path), **entry} for (path, _), entry in zip(readable, entries, strict=True)
            ]
    return {
        "schema": 1,
        "run": str(loaded.folder),
        "T": specification.T,
        "confidence": confidence,
        "predictions": predictions,
        "left_out": left_out,
    }


Decoded = tuple[Path, np.ndarray | FileError]
"""A picture with its pixels uint8 `[H, W, C]`, or with the reason why there are none."""


def _blocks(pictures: Sequence[Path], shape: tuple[int, int, int], size: int) -> Iterator[list[Decoded]]:
    def transform(picture: Image.Image) -> Image.Image:
        return fit(picture, shape)[0]

    readers: Iterator[tuple[str, Callable[[], bytes]]] = ((str(path), path.read_bytes) for path in pictures)
    block: list[Decoded] = []
    for path, pixels in zip(pictures, decode_each(readers, transform), strict=True):
        block.append((path, pixels))
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _predict(
    network: Network, images: torch.Tensor, confidence: float, names: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The predictions for uint8 `[B, C, H, W]`: after the last timestep, and at each."""
    with torch.inference_mode():
        probabilities = running_means(network(to_batch(images)).float().cpu()).softmax(-1)  # [T, B, classes]
    first = 1
    if not is_causal(network.specification.neuron):  # its earlier timesteps depend on later ones
        first, probabilities = len(probabilities), probabilities[-1:]
    highest, classes = probabilities.max(-1)
    of_last = probabilities.gather(-1, classes[-1].expand(len(probabilities), -1)[..., None])[..., 0]
    sure = first_confident(of_last, confidence)
    return [
        {
            **_entry(int(classes[-1, i]), float(highest[-1, i]), names),
            "sure_at": int(sure[i]) + first - 1 if sure[i] else None,
            "curve": [
                {"t": t, **_entry(int(classes[row, i]), float(highest[row, i]), names)}
                for row, t in enumerate(range(first, first + len(probabilities)))
            ],
        }
        for i in range(len(images))
    ]


def _entry(number: int, probability: float, names: Sequence[str] | None) -> dict[str, Any]:
    return {"class": number, "name": names[number] if names else None, "probability": probability}
