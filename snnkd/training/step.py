"""One look at a batch: student, teacher and objective, on one process or as one of several."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from snnkd import distributed
from snnkd.losses.objective import Objective
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.models import Network
from snnkd.models.features import Features
from snnkd.training.compiling import compile_network, compile_neurons
from snnkd.training.environment import autocast
from snnkd.training.malloc import keep_freed_memory

if TYPE_CHECKING:
    from snnkd.training.loop import Job


class TrainStep(nn.Module):
    """Student and objective as one module: all that has parameters, so that gradients are averaged over processes once."""

    def __init__(self, network: Network, objective: Objective, compile: str) -> None:
        super().__init__()
        self.network, self.objective = network, objective
        compile_neurons(network, compile == "neurons")
        # in a tuple, since it holds the same parameters again
        self._forward = (compile_network(network) if compile == "on" else network,)

    def forward(
        self, images: Tensor, given: dict[str, Any], context: AbstractContextManager[Any], plain: bool
    ) -> tuple[BatchOutputs, Loss]:
        """`given` is what of BatchOutputs does not come from the student; `plain` runs the network uncompiled, so that hooks see it."""
        names = self.objective.student_features
        ours = Features(names) if names else None
        run = self.network if plain else self._forward[0]
        with context:
            student = run(images) if ours is None else run(images, None, ours)
        seen = BatchOutputs(student=student, student_features=ours.kept if ours else {}, **given)
        return seen, self.objective(seen)


def make_learner(job: Job) -> nn.Module:
    """The job's learner; of several processes, one that averages gradients and starts from the first one's weights."""
    if job.device.type == "cpu" and job.execution.keep_memory:
        keep_freed_memory()
    learner = TrainStep(job.network, job.objective, job.execution.compile)
    if distributed.world_size() == 1:
        return learner
    if job.execution.sync_norm:
        learner.network = nn.SyncBatchNorm.convert_sync_batchnorm(learner.network)
    return DistributedDataParallel(learner, device_ids=[job.device] if job.device.type == "cuda" else None)


def look(
    job: Job, learner: nn.Module, images: Tensor, labels: Tensor, epoch: int, plain: bool = False
) -> tuple[BatchOutputs, Loss]:
    """Teacher and student on one batch, or this process's part of it, and the loss."""
    names = job.objective.teacher_features
    theirs = Features(names) if names else None
    with autocast(job.execution, job.device):
        teacher = None if job.teacher is None else job.teacher(images, theirs)
    given = {"labels": labels, "teacher": teacher, "teacher_features": theirs.kept if theirs else {}}
    found: tuple[BatchOutputs, Loss] = learner(
        images,
        {**given, "epoch": epoch, "epochs": job.train.epochs},
        autocast(job.execution, job.device),
        plain,
    )
    return found


def backward(
    job: Job, learner: nn.Module, images: Tensor, labels: Tensor, epoch: int, plain: bool = False
) -> list[Loss]:
    """Add up the gradients of one step, and give its losses: one for each of `execution.accumulate` micro-batches."""
    parts, losses = job.execution.accumulate, []
    # event frames are [T, B, C, H, W]: the images lie along the fourth dimension from the end
    for i, (some, their_labels) in enumerate(zip(images.chunk(parts, -4), labels.chunk(parts), strict=True)):
        # only the last one exchanges gradients
        last = i == parts - 1 or not isinstance(learner, DistributedDataParallel)
        with nullcontext() if last else learner.no_sync():  # type: ignore[operator]
            _, loss = look(job, learner, some, their_labels, epoch, plain)
            (loss.total / parts if parts > 1 else loss.total).backward()
        losses.append(loss)
    return losses
