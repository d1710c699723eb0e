"""The training loop of published code, in plain PyTorch: the baseline of `snnkd bench --baseline`.

Each feature occurs in public repositories (read in November 2026); the first one has nearly all of them:
Intelli-Chip-Lab/snn_temporal_decoupling_distillation (TDD), experiment/cifar/main.py, model/, util/data.py.

- workers: a DataLoader whose worker processes transform PIL images one by one. TDD `load_dataset`; SEENN
  data_loaders.py; CKDSNN utils/pl_data_cifar_loader.py.
- copies: T copies of each image before the first layer. TDD model/resnet.py `forward`; TET models/layers.py
  `add_dimention`; TEBN models.py; SAKD cifar/models/ResNet_snn.py. (SEENN and CKDSNN repeat after that
  layer.)
- loop: a Python loop over timesteps in every neuron layer, and a stack. TDD model/layer.py `LIFLayer`; TET
  and SNN-RAT models/layers.py `LIFSpike`; Re-Loss models/spike_layer.py. (SAKD and BKDSNN use fused CUDA
  neurons.)
- rows: images and features as NCHW, nothing compiled, float32. TDD, TET, SNN-RAT, TEBN, whole files. (SEENN
  and SAKD have autocast.)
- items: loss, correct predictions and counts fetched from the device in every step. TDD `train`; BKDSNN
  Spike-Element-Wise-ResNet/imagenet/train_distillation.py `train_one_epoch`; TET main_training_parallel.py
  `train`.

TET is brain-intelligence-lab/temporal_efficient_training, SEENN Intelligent-Computing-Lab-Yale/SEENN, CKDSNN
SinoLeu/CKDSNN, TEBN ChaotengDuan/TEBN, SAKD Maybe2022/SAKD, SNN-RAT putshua/SNN-RAT, Re-Loss yfguo91/Re-Loss,
BKDSNN Intelligent-Computing-Research-Group/BKDSNN.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from snnkd.bench.subject import Subject, make_subject
from snnkd.data.split import Split
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import LIF
from snnkd.openmp import available_cpus
from snnkd.schema.neuron import AnyNeuron, NeuronConfig
from snnkd.training.compiling import Mode
from snnkd.training.setup import Stage

FEATURES = {
    "workers": "DataLoader workers with PIL",
    "copies": "T copies before the first layer",
    "loop": "a Python loop over timesteps in each neuron",
    "rows": "NCHW instead of channels_last",
    "items": "loss and hits fetched every step",
}
WORKERS = 4
"""Upper limit of data workers; published configurations use 4 to 16."""


class BaselineLoop:
    """The baseline loop on the images, weights and objective of `stage`, with the given features."""

    def __init__(
        self, stage: Stage, features: Collection[str] = tuple(FEATURES), compile: Mode = "off"
    ) -> None:
        self.features = frozenset(features)
        self.subject = make_subject(stage, compile)
        self._running, self._correct, self._total = 0.0, 0, 0
        subject = self.subject
        teacher = subject.teacher.network
        assert teacher is not None
        for network in (subject.network, teacher):
            _apply_features(network, self.features)
        self._batches: Iterator[Any] | None = None
        if "workers" in self.features:
            self._batches = iter(_loader(subject, subject.network))
            for network in (subject.network, teacher):  # the transforms normalise
                network.mean.zero_()
                network.std.fill_(1.0)

    def step(self) -> float:
        """One step; returns its loss, or NaN without the feature `items`."""
        subject = self.subject
        if self._batches is None:
            images, labels = subject.batch()
        else:
            images, labels = next(self._batches)
            images, labels = images.to(subject.stage.device), labels.to(subject.stage.device)
        subject.optimizer.zero_grad()
        loss = subject.loss(images, labels)
        if "items" in self.features:
            self._running += loss.value.item()
        loss.total.backward()
        subject.optimizer.step()
        if "items" in self.features:
            self._total += labels.size(0)
            self._correct += int(loss.logits.argmax(-1).eq(labels).sum().item())
            return loss.value.item()
        return float("nan")

    def close(self) -> None:
        """Stop the worker processes."""
        self._batches = None


def _apply_features(network: Network, features: Collection[str]) -> None:
    if "rows" in features:
        network.channels_last = False
        network.to(memory_format=torch.contiguous_format)
    if "copies" in features and hasattr(network.body, "repeat_input"):
        network.body.repeat_input = True  # type: ignore[assignment]
    if "loop" in features:
        for name, module in list(network.named_modules()):
            if isinstance(module, LIF):
                parent, _, own = name.rpartition(".")
                setattr(network.get_submodule(parent), own, PlainLIF(cast(NeuronConfig, module.config)))


def check_neuron(neuron: AnyNeuron) -> None:
    """Raise UsageError for neurons and surrogates that the baseline loop does not implement."""
    if not isinstance(neuron, NeuronConfig) or neuron.name != "lif":
        raise UsageError(
            f"neuron.name: {neuron.name}; the baseline loop has only lif: omit --baseline and --ablations"
        )
    if neuron.surrogate not in SURROGATES:
        raise UsageError(
            f"neuron.surrogate: {neuron.surrogate}; "
            f"the baseline loop has only {' and '.join(SURROGATES)}: omit --baseline and --ablations"
        )


SURROGATES = ("sigmoid", "atan")


class PlainLIF(nn.Module):
    """Leaky integrate-and-fire as in published code: a loop over timesteps, then a stack."""

    def __init__(self, config: NeuronConfig) -> None:
        super().__init__()
        self._config = config

    def forward(self, x: Tensor, T: int) -> Tensor:
        config = self._config
        sequence = x.view(T, -1, *x.shape[1:])
        membrane: Any = 0.0
        spikes = []
        for t in range(T):
            if config.decay_input:
                membrane = membrane + (sequence[t] - membrane) / config.tau
            else:
                membrane = membrane * (1 - 1 / config.tau) + sequence[t]
            spike = _fire(membrane - config.threshold, config.surrogate, config.alpha)
            reset = spike.detach() if config.detach_reset else spike
            membrane = (
                membrane * (1 - reset) if config.reset == "hard" else membrane - reset * config.threshold
            )
            spikes.append(spike)
        return torch.stack(spikes).flatten(0, 1)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: str, alpha: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate, ctx.alpha = surrogate, alpha
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,), alpha = ctx.saved_tensors, ctx.alpha
        if ctx.surrogate == "sigmoid":
            rise = torch.sigmoid(alpha * x)
            slope = alpha * rise * (1 - rise)
        else:
            slope = alpha / 2 / (1 + (torch.pi / 2 * alpha * x) ** 2)
        return gradients[0] * slope, None, None


def _fire(x: Tensor, surrogate: str, alpha: float) -> Tensor:
    spikes: Tensor = _Fire.apply(x, surrogate, alpha)
    return spikes


class _PILImages(Dataset[Any]):
    """Images of a split as in torchvision's CIFAR datasets: PIL images, then the transforms."""

    def __init__(self, split: Split, transform: Any) -> None:
        self._pixels, self._labels = (
            split.images.permute(0, 2, 3, 1).contiguous().numpy(),
            split.labels.tolist(),
        )
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self._pixels[index]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return self._transform(image), self._labels[index]


def _loader(subject: Subject, network: Network) -> DataLoader[Any]:
    """The subject's images in its order: without augmentation both loops train on the same batches."""
    from snnkd.bench.baseline_transforms import make_transform

    recipe, split = subject.stage.recipe, subject.stage.data.train
    height, width = split.images.shape[2:]
    transform = make_transform(
        recipe.data.augment, height, width, network.mean.tolist(), network.std.tolist()
    )
    return DataLoader(
        _PILImages(split, transform),
        batch_size=recipe.train.batch_size,
        sampler=_EndlessSampler(subject),
        num_workers=min(WORKERS, available_cpus()),
        pin_memory=subject.stage.device.type == "cuda",
        drop_last=True,
    )


class _EndlessSampler:
    """Indices of epoch after epoch, so that workers never restart, as in long real epochs."""

    def __init__(self, subject: Subject) -> None:
        self._batches = subject.batches

    def __iter__(self) -> Iterator[int]:
        for epoch in itertools.count():
            yield from self._batches.order(epoch).tolist()
