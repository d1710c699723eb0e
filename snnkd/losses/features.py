"""Terms between features of student and teacher. Each is a module, since it may hold an aligner that is trained.

Features come as `[T*B, C, H, W]` of the student, whose mean over the timesteps is compared, and `[B, C, H, W]` of the
teacher (or `[.., C]` for `output`). Where the channels differ a 1x1 convolution (or linear layer) maps the student's to
the teacher's; where height and width differ the larger is averaged to the smaller.
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
from snnkd.schema.loss import BlurredTerm, ClassifierTerm, FeatureTerm, SaliencyTerm

Head = Callable[[Tensor], Tensor]
"""The teacher's last layer: features `[B, C]` to logits `[B, classes]`."""


@dataclass(frozen=True)
class Pair:
    """A student feature and the teacher feature it is compared with: names, and shapes without the batch."""

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]


def aligner(pair: Pair) -> nn.Module:
    """From the student's channels to the teacher's; nothing where they are as many."""
    inputs, outputs = pair.student_shape[0], pair.teacher_shape[0]
    if inputs == outputs:
        return nn.Identity()
    return nn.Conv2d(inputs, outputs, 1) if len(pair.student_shape) == 3 else nn.Linear(inputs, outputs)


def over_time(feature: Tensor, T: int) -> Tensor:
    """The mean over timesteps, `[B, ...]` in at least float32."""
    return at_least_float32(feature).unflatten(0, (T, -1)).mean(0)


def same_size(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps `[B, C, H, W]` at the smaller height and width."""
    if x.ndim < 4 or x.shape[-2:] == y.shape[-2:]:
        return x, y
    size = (min(x.shape[-2], y.shape[-2]), min(x.shape[-1], y.shape[-1]))
    return F.adaptive_avg_pool2d(x, size), F.adaptive_avg_pool2d(y, size)


class Term(nn.Module):
    """A feature term over `pairs`; `forward(seen)` gives its scalar."""

    def __init__(self, term: FeatureTerm, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__()
        self.pairs = tuple(pairs)

    def _compared(
        self, seen: BatchOutputs, pair: Pair, align: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """Student's (time mean, aligned) and teacher's feature at one size."""
        ours = over_time(seen.student_features[pair.student], len(seen.student))
        theirs = at_least_float32(seen.teacher_features[pair.teacher].detach()).to(ours.dtype)
        return same_size(ours if align is None else align(ours), theirs)


class Mse(Term):
    """sum over stages of the mean squared difference (KDSNN, Xu et al. 2023, arXiv 2304.05627, form from memory)."""

    def __init__(self, term: FeatureTerm, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__(term, pairs, head)
        self.aligners = nn.ModuleList(map(aligner, pairs))

    def forward(self, seen: BatchOutputs) -> Tensor:
        found = [
            F.mse_loss(*self._compared(seen, *both)) for both in zip(self.pairs, self.aligners, strict=True)
        ]
        return torch.stack(found).sum()


class Attention(Term):
    """sum over stages of the squared distance of attention maps / B (LaSNN, Hong et al. 2023, arXiv 2304.09101).

    The map is Zagoruyko's (ICLR 2017): the mean over channels of the squared feature, as a unit vector over positions.
    Needs no aligner.
    """

    def forward(self, seen: BatchOutputs) -> Tensor:
        found = []
        for pair in self.pairs:
            ours, theirs = (attention_map(x) for x in self._compared(seen, pair))
            found.append((ours - theirs).square().sum() / len(ours))
        return torch.stack(found).sum()


def attention_map(feature: Tensor) -> Tensor:
    """`[B, H*W]` of length 1 from `[B, C, H, W]`; zeros stay zeros."""
    return F.normalize(feature.square().mean(1).flatten(1), dim=-1, eps=1e-8)


class Blurred(Term):
    """sum of squared differences / B of the teacher's feature and one made from the student's (BKDSNN, Xu et al. 2024, ECCV).

    The student's feature loses each channel with probability `drop` (what is left is not scaled up); convolution, ReLU
    and convolution (3x3) rebuild the teacher's from what is left. With `rescale` the teacher's is first scaled to the
    student's maximum: spikes reach 1 at most, ReLUs any height, and at the usual weights and learning rate training
    diverges without. BatchRng from torch's global generator.
    """

    def __init__(self, term: BlurredTerm, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__(term, pairs, head)
        self._drop, self._rescale = term.drop, term.rescale
        self.aligners = nn.ModuleList(map(aligner, pairs))
        self.rebuilders = nn.ModuleList(_rebuilder(pair.teacher_shape[0]) for pair in pairs)

    def forward(self, seen: BatchOutputs) -> Tensor:
        found = []
        for pair, align, rebuild in zip(self.pairs, self.aligners, self.rebuilders, strict=True):
            ours, theirs = self._compared(seen, pair, align)
            if self._rescale:
                theirs = theirs * _to_the_maximum_of(ours, theirs)
            kept = (batch.rand(*ours.shape[:2], 1, 1, device=ours.device) >= self._drop).to(ours.dtype)
            found.append((rebuild(ours * kept) - theirs).square().sum() / len(ours))
        return torch.stack(found).sum()


def _to_the_maximum_of(ours: Tensor, theirs: Tensor) -> Tensor:
    """The factor that takes the largest value of `theirs` to that of `ours`; 1 where there is nothing positive to take it from."""
    largest = batch.largest(theirs)
    return torch.where(
        largest > 0, batch.largest(ours).clamp_min(0) / largest.clamp_min(1e-12), torch.ones_like(largest)
    )


def _rebuilder(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )


class Saliency(Term):
    """KL over positions of the teacher's class activation map and the student's spike activation map (CKDSNN, arXiv 2511.06902).

    CAM: the teacher's map of the class that it answers; SAM: the student's spikes summed over timesteps and channels.
    Each is scaled to 0..1 over the batch before softmax(map / temperature); x temperature^2.
    """

    def __init__(self, term: SaliencyTerm, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__(term, pairs, head)
        self._temperature = term.temperature

    def forward(self, seen: BatchOutputs) -> Tensor:
        assert seen.teacher is not None
        found = []
        for pair in self.pairs:
            maps = at_least_float32(seen.teacher_features[pair.teacher].detach())
            answer = seen.teacher.argmax(-1)[:, None, None, None].expand(-1, 1, *maps.shape[-2:])
            cam = maps.gather(1, answer)
            spikes = at_least_float32(seen.student_features[pair.student]).unflatten(
                0, (len(seen.student), -1)
            )
            sam = spikes.sum(0).sum(1, keepdim=True)
            sam, cam = (_zero_to_one(x).flatten(1) for x in same_size(sam, cam.to(sam.dtype)))
            found.append(kl(sam, cam, temperature=self._temperature))
        return torch.stack(found).sum()


def _zero_to_one(x: Tensor) -> Tensor:
    """Scaled over the whole batch; what hardly varies, such as the map of a student without spikes, stays nearly flat."""
    low, high = batch.smallest(x), batch.largest(x)
    return (x - low) / (high - low).clamp_min(1e-3)


class Classifier(Term):
    """KL(classifier_T(F_T) || classifier_T(F_S)) of the features before the classifier (EnOF, Guo et al. 2024, NeurIPS)."""

    def __init__(self, term: ClassifierTerm, pairs: Sequence[Pair], head: Head | None) -> None:
        super().__init__(term, pairs, head)
        assert head is not None, "a classifier term is only made with a teacher's head"
        self._temperature = term.temperature
        self._head = (head,)  # a tuple, so that the teacher's weights are not this module's
        self.aligners = nn.ModuleList(map(aligner, pairs))

    def forward(self, seen: BatchOutputs) -> Tensor:
        (head,) = self._head
        found = []
        for pair, align in zip(self.pairs, self.aligners, strict=True):
            ours, theirs = self._compared(seen, pair, align)
            weights = next(head.parameters()).dtype if isinstance(head, nn.Module) else ours.dtype
            found.append(kl(head(ours.to(weights)), head(theirs.to(weights)), temperature=self._temperature))
        return torch.stack(found).sum()
