"""Distances between features of student and teacher, as modules, since aligners are trained.

Features are `[T*B, C, H, W]` of the student, whose mean over timesteps is compared, and `[B, C, H, W]` of the
teacher (or `[.., C]` for `output`). If the channels differ, a 1x1 convolution (or linear layer) maps the
student's to the teacher's; if height and width differ, the larger map is average-pooled to the smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd.losses import batch
from snnkd.losses.divergences import at_least_float32, kl
from snnkd.losses.outputs import BatchOutputs

Head = Callable[[Tensor], Tensor]
"""The teacher's last layer: features `[B, C]` to logits `[B, classes]`."""


@dataclass(frozen=True)
class Pair:
    """A student feature and the teacher feature it is compared with: names, and shapes without the batch."""

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]


def make_aligner(pair: Pair) -> nn.Module:
    """Map from the student's channels to the teacher's; the identity for equal numbers."""
    inputs, outputs = pair.student_shape[0], pair.teacher_shape[0]
    if inputs == outputs:
        return nn.Identity()
    return nn.Conv2d(inputs, outputs, 1) if len(pair.student_shape) == 3 else nn.Linear(inputs, outputs)


def mean_over_time(feature: Tensor, T: int) -> Tensor:
    """The mean over timesteps, `[B, ...]` in at least float32."""
    return at_least_float32(feature).unflatten(0, (T, -1)).mean(0)


def match_sizes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps `[B, C, H, W]` at the smaller height and width."""
    if x.ndim < 4 or x.shape[-2:] == y.shape[-2:]:
        return x, y
    size = (min(x.shape[-2], y.shape[-2]), min(x.shape[-1], y.shape[-1]))
    return F.adaptive_avg_pool2d(x, size), F.adaptive_avg_pool2d(y, size)


class FeatureModule(nn.Module):
    """A distance over `pairs` of features; `forward(outputs)` is a scalar. `head`: teacher's last layer."""

    def __init__(self, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__()
        self.pairs = tuple(pairs)

    def _compared(
        self, outputs: BatchOutputs, pair: Pair, align: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """The student's feature (time mean, aligned) and the teacher's at the same size."""
        ours = mean_over_time(outputs.student_features[pair.student], len(outputs.student))
        theirs = at_least_float32(outputs.teacher_features[pair.teacher].detach()).to(ours.dtype)
        return match_sizes(ours if align is None else align(ours), theirs)


class Mse(FeatureModule):
    """Sum over stages of the mean squared difference (KDSNN, arXiv 2304.05627, form from memory)."""

    def __init__(self, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__(pairs, head)
        self.aligners = nn.ModuleList(map(make_aligner, pairs))

    def forward(self, outputs: BatchOutputs) -> Tensor:
        distances = [
            F.mse_loss(*self._compared(outputs, *both))
            for both in zip(self.pairs, self.aligners, strict=True)
        ]
        return torch.stack(distances).sum()


class Attention(FeatureModule):
    """Sum over stages of the squared distance of attention maps / B (LaSNN, arXiv 2304.09101).

    The map is Zagoruyko's (ICLR 2017): the mean over channels of the squared feature, normalized over
    positions. No aligner.
    """

    def forward(self, outputs: BatchOutputs) -> Tensor:
        distances = []
        for pair in self.pairs:
            ours, theirs = (attention_map(x) for x in self._compared(outputs, pair))
            distances.append((ours - theirs).square().sum() / len(ours))
        return torch.stack(distances).sum()


def attention_map(feature: Tensor) -> Tensor:
    """Map of norm 1 `[B, H*W]` from `[B, C, H, W]`; zeros stay zeros."""
    return F.normalize(feature.square().mean(1).flatten(1), dim=-1, eps=1e-8)


class Blurred(FeatureModule):
    """Squared distance / B of the teacher's feature and its reconstruction (BKDSNN, Xu et al. 2024, ECCV).

    Each channel of the student's feature is dropped with probability `drop` (the others are not scaled up);
    convolution, ReLU and convolution (3x3) reconstruct the teacher's from the rest. With `rescale` the
    teacher's is first scaled to the student's maximum: spikes are at most 1 and ReLUs unbounded, so that
    training would diverge at usual weights and learning rates. Draws from torch's global generator.
    """

    def __init__(
        self, pairs: Sequence[Pair], head: Head | None, *, drop: float = 0.15, rescale: bool = True
    ) -> None:
        super().__init__(pairs, head)
        self._drop, self._rescale = drop, rescale
        self.aligners = nn.ModuleList(map(make_aligner, pairs))
        self.rebuilders = nn.ModuleList(_reconstruction(pair.teacher_shape[0]) for pair in pairs)

    def forward(self, outputs: BatchOutputs) -> Tensor:
        distances = []
        for pair, align, reconstruct in zip(self.pairs, self.aligners, self.rebuilders, strict=True):
            ours, theirs = self._compared(outputs, pair, align)
            if self._rescale:
                theirs = theirs * _scale_to_maximum(ours, theirs)
            kept = (batch.rand(*ours.shape[:2], 1, 1, device=ours.device) >= self._drop).to(ours.dtype)
            distances.append((reconstruct(ours * kept) - theirs).square().sum() / len(ours))
        return torch.stack(distances).sum()


def _scale_to_maximum(ours: Tensor, theirs: Tensor) -> Tensor:
    """The ratio of the maxima of `ours` and `theirs`; 1 if that of `theirs` is not positive."""
    largest = batch.maximum(theirs)
    return torch.where(
        largest > 0, batch.maximum(ours).clamp_min(0) / largest.clamp_min(1e-12), torch.ones_like(largest)
    )


def _reconstruction(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )


class Saliency(FeatureModule):
    """KL of the teacher's class and the student's spike activation map (CKDSNN, arXiv 2511.06902).

    CAM: the teacher's map of its predicted class; SAM: the student's spikes summed over timesteps and
    channels. Each is scaled to 0..1 over the batch before softmax(map / temperature); x temperature^2.
    """

    def __init__(self, pairs: Sequence[Pair], head: Head | None, *, temperature: float = 2.0) -> None:
        super().__init__(pairs, head)
        self._temperature = temperature

    def forward(self, outputs: BatchOutputs) -> Tensor:
        assert outputs.teacher is not None
        distances = []
        for pair in self.pairs:
            maps = at_least_float32(outputs.teacher_features[pair.teacher].detach())
            predicted = outputs.teacher.argmax(-1)[:, None, None, None].expand(-1, 1, *maps.shape[-2:])
            cam = maps.gather(1, predicted)
            spikes = at_least_float32(outputs.student_features[pair.student]).unflatten(
                0, (len(outputs.student), -1)
            )
            sam = spikes.sum(0).sum(1, keepdim=True)
            sam, cam = (_zero_to_one(x).flatten(1) for x in match_sizes(sam, cam.to(sam.dtype)))
            distances.append(kl(sam, cam, temperature=self._temperature))
        return torch.stack(distances).sum()


def _zero_to_one(x: Tensor) -> Tensor:
    """Scale to 0..1 over the batch of all processes; a nearly constant map (without spikes) stays flat."""
    low, high = batch.minimum(x), batch.maximum(x)
    return (x - low) / (high - low).clamp_min(1e-3)


class Classifier(FeatureModule):
    """KL of the teacher's classifier on its own and the student's features (EnOF, Guo et al. 2024)."""

    def __init__(self, pairs: Sequence[Pair], head: Head | None, *, temperature: float = 1.0) -> None:
        super().__init__(pairs, head)
        assert head is not None, "a classifier term needs the teacher's head"
        self._temperature = temperature
        self._head = (head,)  # in a tuple, not to register the teacher's weights
        self.aligners = nn.ModuleList(map(make_aligner, pairs))

    def forward(self, outputs: BatchOutputs) -> Tensor:
        (head,) = self._head
        distances = []
        for pair, align in zip(self.pairs, self.aligners, strict=True):
            ours, theirs = self._compared(outputs, pair, align)
            weights = next(head.parameters()).dtype if isinstance(head, nn.Module) else ours.dtype
            distances.append(
                kl(head(ours.to(weights)), head(theirs.to(weights)), temperature=self._temperature)
            )
        return torch.stack(distances).sum()
