"""HTA-KL of a batch on a CPU: the formula of `snnkd.losses.hta_kl` in numpy, a block of samples at a time.

A batch of logits is small and comes once in a step that has emptied the caches, so that each kind of operation costs ten
times its work the first time. Hence few kinds, numpy's (torch's take more code each), in place where it saves one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snnkd.losses.divergences import log_pair
from snnkd.losses.head import TINY, Head, in_head

Array = NDArray[Any]
BLOCK = 2**16
"""Probabilities handled at a time: they stay in the cache, which with 1000 classes halves the time."""


def evaluate(student: Tensor, teacher: Tensor, temperature: float, delta: float, head: Head) -> tuple[Tensor, ...]:
    """As `snnkd.losses.hta_kl.evaluate`."""
    samples, classes = student.shape
    most = max(1, BLOCK // classes)
    parts = zip(student.split(most), teacher.split(most), strict=True) if samples > most else [(student, teacher)]
    made = [_rows(*log_pair(ours, theirs, temperature), delta, head) for ours, theirs in parts]
    loss, weight, inside, gradient = made[0] if len(made) == 1 else map(np.concatenate, zip(*made, strict=True))
    gradient *= temperature / samples
    not_empty = np.count_nonzero(inside[:, 0])
    means = (
        np.add.reduce(loss) * temperature**2 / samples,
        np.add.reduce(weight) / samples,
        np.float32(1 - not_empty / samples),
        np.float32((not_empty - np.count_nonzero(inside[:, 1])) / samples),
    )
    return *(torch.from_numpy(np.asarray(mean)) for mean in means), torch.from_numpy(gradient)


def _rows(student: Tensor, teacher: Tensor, delta: float, head: Head) -> tuple[Array, Array, Array, Array]:
    """Of each sample: loss / temperature^2, head weight, the head among its sorted classes, and the gradient / temperature `[B, C]`.

    Uses up both.
    """
    log_q, log_p = student.numpy(), teacher.numpy()
    ratio = log_q - log_p
    q, p = np.exp(log_q, out=log_q), np.exp(log_p, out=log_p)
    spare = p * ratio
    forward = -np.add.reduce(spare, -1)
    tail, inside = _tail(p, spare, delta, head)
    gap = np.subtract(q, p, out=p)
    weight = _head_weight(np.absolute(gap, out=spare), tail)
    # those of rkl: gradient and loss
    ratio *= q
    reverse = np.add.reduce(ratio, -1)
    q *= reverse[:, None]
    ratio -= q
    # as far from them to those of kl as the weight says
    ratio -= np.multiply(np.subtract(ratio, gap, out=gap), weight[:, None], out=gap)
    return reverse - weight * (reverse - forward), weight, inside, ratio


def _head_weight(distance: Array, tail: Array) -> Array:
    """The head's part of the distance; uses it up."""
    whole = np.add.reduce(distance, -1)
    distance *= tail
    weight: Array = whole - np.add.reduce(distance, -1)
    weight /= np.maximum(whole, TINY, out=whole)
    return weight


def _tail(p: Array, spare: Array, delta: float, head: Head) -> tuple[Array, Array]:
    """Whether each class is in the tail, and whether the likeliest, the second, ... of each sample is in the head.

    From sorted values alone, whose sort is vectorised: a sort with indices takes 30 times as long.
    """
    np.negative(p, out=spare).sort(-1)
    total = torch.from_numpy(spare).cumsum(-1).numpy()
    inside = in_head(np.negative(total, out=total), delta, head)
    least = -np.maximum.reduce(spare, -1, keepdims=True, where=inside, initial=-np.inf)  # of the head
    tail = p < least
    if np.count_nonzero(tail) + np.count_nonzero(inside) != tail.size:
        _part_ties(p, tail, inside)
    return tail, inside


def _part_ties(p: Array, tail: Array, inside: Array) -> None:
    """Where the least of the head is as likely as a class of the tail, only the order of classes tells them apart."""
    tied = np.add.reduce(tail, -1) + np.add.reduce(inside, -1) != tail.shape[-1]
    parted = tail[tied]
    np.put_along_axis(parted, (-p[tied]).argsort(-1, kind="stable"), ~inside[tied], -1)
    tail[tied] = parted
