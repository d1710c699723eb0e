"""Picture files to arrays of one size, a few at a time."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
from PIL import Image

from snnkd.errors import FileError

AHEAD = 64
"""Pictures that may be decoded ahead of the one that is wanted: this bounds the memory, whatever their number."""


def decoded(
    pictures: Iterable[tuple[str, Callable[[], bytes]]],
    prepare: Callable[[Image.Image], Image.Image],
    mode: str,
) -> Iterator[np.ndarray]:
    """uint8 `[H, W, C]` of each picture (its name, and what reads its bytes) in order, in `mode` RGB or L, after `prepare`.

    Pillow decodes outside Python's lock, so that threads share the work. Raises FileError that names a picture which
    cannot be read.
    """
    waiting: deque[Future[np.ndarray]] = deque()
    source = iter(pictures)
    with ThreadPoolExecutor(max(1, min(8, len(os.sched_getaffinity(0))))) as pool:
        try:
            for name, read in islice(source, AHEAD):
                waiting.append(pool.submit(_array, name, read, prepare, mode))
            while waiting:
                yield waiting.popleft().result()
                for name, read in islice(source, 1):
                    waiting.append(pool.submit(_array, name, read, prepare, mode))
        finally:
            for future in waiting:
                future.cancel()


def _array(
    name: str, read: Callable[[], bytes], prepare: Callable[[Image.Image], Image.Image], mode: str
) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(read())) as picture:
            made = np.asarray(prepare(picture.convert(mode)))
    except MemoryError:
        raise
    except Exception as error:  # what is no picture fails in many ways, some of them deep in a codec
        why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".partition(" <_io")[0]
        raise FileError(
            f"{name}: cannot be read as a picture ({why}); it is damaged or of another kind"
        ) from error
    return made[..., None] if made.ndim == 2 else made
