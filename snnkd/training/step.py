"""The forward passes of a training step (teacher, student, objective), on one rank or several."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from snnkd import distributed
from snnkd.environment import autocast
from snnkd.losses.objective import Objective
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.models import Network
from snnkd.models.features import Features
from snnkd.models.resize import resize_images
from snnkd.schema.run import ExecutionConfig, StageRecipe


class TeacherOutputs(NamedTuple):
    """Logits `[B, C]`, None without a teacher, and features by name, `[B, ...]`."""

    logits: Tensor | None
    features: dict[str, Tensor]


class Teacher:
    """The frozen teacher: from images to its logits and the features in `names`, without gradient.

    Those of a spiking teacher are means over its timesteps. Without a `network`, the outputs are empty.
    """

    def __init__(
        self, network: Network | None, names: Collection[str] = (), execution: ExecutionConfig | None = None
    ) -> None:
        self.network = None if network is None else network.eval().requires_grad_(False)
        self._names, self._execution = names, execution or ExecutionConfig()

    def __call__(self, images: Tensor) -> TeacherOutputs:
        if self.network is None:
            return TeacherOutputs(None, {})
        features, T = Features(self._names) if self._names else None, self.network.specification.T
        with torch.no_grad(), autocast(self._execution, images.device):
            logits = self.network(images, T, features)
            logits = logits[0] if T == 1 else logits.mean(0)
            kept = features.kept if features else {}
            if T > 1:
                kept = {name: value.unflatten(0, (T, -1)).mean(0) for name, value in kept.items()}
        return TeacherOutputs(logits, kept)


class TrainStep(nn.Module):
    """Student and objective as one module with all parameters, so that DDP averages gradients once."""

    def __init__(
        self, network: Network, objective: Objective, recipe: StageRecipe, compiled: nn.Module | None = None
    ) -> None:
        """`compiled` is the network as torch.compile returns it, with the same parameters."""
        super().__init__()
        self.network, self.objective = network, objective
        self._compiled = (
            network if compiled is None else compiled,
        )  # in a tuple, not to register its parameters again
        self._execution, self._train = recipe.execution, recipe.train

    @property
    def compiled(self) -> nn.Module:
        return self._compiled[0]

    def forward(
        self, images: Tensor, labels: Tensor, teacher: TeacherOutputs, epoch: int, hooked: bool = False
    ) -> Loss:
        """The loss of one batch; `hooked` runs the network uncompiled, so that forward hooks are called."""
        names = self.objective.student_features
        features = Features(names) if names else None
        network = self.network if hooked else self.compiled
        with autocast(self._execution, images.device):
            images = shrink(images, of_epoch(self._train.first_sizes, epoch))
            logits = network(images, of_epoch(self._train.first_T, epoch), features)
        loss: Loss = self.objective(
            BatchOutputs(
                student=logits,
                labels=labels,
                teacher=teacher.logits,
                student_features=features.kept if features else {},
                teacher_features=teacher.features,
                epoch=epoch,
                epochs=self._train.epochs,
            )
        )
        return loss


def of_epoch(first: Sequence[int], epoch: int) -> int | None:
    """The value that a key of the first epochs gives for `epoch`; None after them."""
    return first[epoch] if epoch < len(first) else None


def shrink(images: Tensor, size: int | None) -> Tensor:
    """Images `[B, C, H, W]` at height and width `size`; unchanged if it is None."""
    return images if size is None else resize_images(images, (images.shape[1], size, size))


def data_parallel(step: TrainStep, device: torch.device, sync_norm: bool) -> nn.Module:
    """`step` itself in one process; on several ranks, in DDP, which starts from rank 0's weights."""
    if distributed.world_size() == 1:
        return step
    if sync_norm:
        step.network = nn.SyncBatchNorm.convert_sync_batchnorm(step.network)
    return DistributedDataParallel(step, device_ids=[device] if device.type == "cuda" else None)


def micro_batches(images: Tensor, labels: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """`count` equal parts of a batch, `[B, C, H, W]` or `[T, B, C, H, W]`, each with whether it is last."""
    parts = zip(images.chunk(count, -4), labels.chunk(count), strict=True)
    for i, (micro_images, micro_labels) in enumerate(parts):
        yield micro_images, micro_labels, i == count - 1


def gradient_sync(step: nn.Module, on: bool) -> AbstractContextManager[object]:
    """Average gradients over ranks in backward passes only if `on`: for the last micro-batch of a step."""
    return nullcontext() if on or not isinstance(step, DistributedDataParallel) else step.no_sync()
