"""Picture files decoded to arrays, a few at a time."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice

import numpy as np
from PIL import Image

from snnkd.data.picture import PictureError
from snnkd.errors import FileError
from snnkd.openmp import available_cpus

PREFETCH = 64
"""Pictures decoded ahead of the next one needed, which bounds the memory whatever their number."""


def decode_blocks(
    pictures: Iterable[tuple[str, Callable[[], bytes]]],
    transform: Callable[[Image.Image], Image.Image],
    size: int = 256,
) -> Iterator[np.ndarray]:
    """Decode pictures in order to blocks uint8 `[up to size, H, W, C]`.

    A picture is its name and a function that reads its bytes; `transform` brings each to RGB or grey of one
    size. Raises FileError that names a picture which cannot be read.
    """
    images = (future.result() for future in _decode(pictures, transform))
    while block := list(islice(images, size)):
        yield np.stack(block)


def decode_each(
    pictures: Iterable[tuple[str, Callable[[], bytes]]],
    transform: Callable[[Image.Image], Image.Image],
) -> Iterator[np.ndarray | FileError]:
    """Each picture in order as uint8 `[H, W, C]`; for one that cannot be read, the error that names it."""
    for future in _decode(pictures, transform):
        error = future.exception()
        if error is not None and not isinstance(error, FileError):
            raise error
        yield error or future.result()


def _decode(
    pictures: Iterable[tuple[str, Callable[[], bytes]]],
    transform: Callable[[Image.Image], Image.Image],
) -> Iterator[Future[np.ndarray]]:
    """uint8 `[H, W, C]` of each picture in order, decoded in threads: Pillow releases the GIL."""
    futures: deque[Future[np.ndarray]] = deque()
    source = iter(pictures)
    with ThreadPoolExecutor(max(1, min(8, available_cpus()))) as pool:
        try:
            for name, read in islice(source, PREFETCH):
                futures.append(pool.submit(_decode_one, name, read, transform))
            while futures:
                future = futures.popleft()
                wait([future])
                yield future
                for name, read in islice(source, 1):
                    futures.append(pool.submit(_decode_one, name, read, transform))
        finally:
            for future in futures:
                future.cancel()


def _decode_one(
    name: str, read: Callable[[], bytes], transform: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(read())) as picture:
            pixels = np.asarray(transform(picture))
    except MemoryError:
        raise
    except PictureError as error:
        raise FileError(f"{name}: {error}") from error
    except Exception as error:  # damaged pictures fail in many ways, some of them deep in a codec
        cause = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".partition(" <_io")[0]
        raise FileError(f"{name}: not a readable picture ({cause})") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels
