"""The sections of a recipe as dataclasses. A field's docstring is its help, `Bounds` its range.

The defaults are those of the HTA-KL authors' sibling code (SGD 0.9, lr 0.1, weight decay 5e-4, cosine to 0,
300 epochs, batch 128, temperature 3, LIF v <- 0.5 v + x with threshold 1, hard reset, sigmoid surrogate alpha 4),
because the paper's own settings could not be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from snnkd.schema.data import DataConfig
from snnkd.schema.loss import LossConfig
from snnkd.schema.marks import Bounds
from snnkd.schema.model import ModelConfig
from snnkd.schema.neuron import AnyNeuron, NeuronConfig


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """`teacher:`, whose answers the student learns from."""

    run: str | None = None
    """A run or export of `snnkd teach`, a .safetensors file beside its config.json, or with `model` a plain file of weights;
    empty to use the one finished teacher of the same data."""
    sha256: str | None = None
    """Of its weights; added when the run starts, and checked when given."""
    model: ModelConfig | None = None
    """The network of a plain file of weights (a state_dict): one of `snnkd list models`, torchvision:NAME or timm:NAME."""
    size: Annotated[int | None, Bounds(4, 4096)] = None
    """Height and width that a plain file's network was trained at; empty for the data's, or a library network's own."""
    mean: tuple[float, ...] | None = None
    """Mean that it was trained to see subtracted, a number a channel, white being 1; empty for the data's, or a library network's own."""
    std: tuple[float, ...] | None = None
    """Standard deviation that it was trained to see divided by; as mean."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`train:`."""

    epochs: Annotated[int, Bounds(1, 100_000)] = 300
    """Passes over the training images."""
    batch_size: Annotated[int, Bounds(2, 1_000_000)] = 128
    """Images per step; the incomplete last batch of an epoch is left out (other images each epoch)."""
    lr: Annotated[float, Bounds(0, 1e38, open_low=True)] = 0.1
    """Learning rate after warm-up."""
    momentum: Annotated[float, Bounds(0, 1, open_high=True)] = 0.9
    """Of SGD, without Nesterov's look-ahead."""
    weight_decay: Annotated[float, Bounds(0, 1e38)] = 5.0e-4
    """On convolution and linear weights; none on norm and bias."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: from lr towards 0, which it would reach one step after the last."""
    warmup_epochs: Annotated[int, Bounds(0, 100_000)] = 0
    """Epochs of linear rise from 0 to lr, within `epochs`."""
    label_smoothing: Annotated[float, Bounds(0, 1, open_high=True)] = 0.0
    """Of the cross-entropy with the labels."""
    select: Literal["last", "best"] = "last"
    """Which epoch's weights are kept; best: highest validation accuracy, needs data.val_fraction > 0 or a val split."""
    ema: Annotated[float, Bounds(0, 1, open_high=True)] = 0.0
    """Decay per step of an exponential moving average of weights and norm statistics, which is then the result; 0: none."""
    init: Literal["random", "teacher"] = "random"
    """The weights that training starts from; teacher: a copy of the teacher's, which must be of the same architecture."""


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """`execution:`, how and where; never part of a run's identity."""

    device: str = "auto"
    """auto (a GPU when there is one), cpu, cuda or cuda:N."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16: convolutions under autocast, membrane and loss in float32; auto: bf16 on GPUs that have it."""
    compile: Literal["auto", "neurons", "on", "off"] = "auto"
    """By torch.compile, for training: neurons, their timesteps fused (seconds to compile), on: the whole network (a minute or
    more on a CPU). auto: neurons on a CPU where the run is long enough, otherwise off; fixed in the run at its first start."""
    keep_memory: bool = True
    """On a CPU: what is freed stays with the process for the next step (glibc's mallopt), instead of going back and forth."""
    accumulate: Annotated[int, Bounds(1, 100_000)] = 1
    """Micro-batches that each process cuts its batch into, for memory; norms see one at a time. Not for losses across the batch."""
    activation_checkpointing: bool = False
    """Keep only the input of each block and compute the rest again when going backward: less memory, a third more time."""
    sync_norm: bool = False
    """With several processes on GPUs: norms see the batch of all of them (SyncBatchNorm) instead of each its own."""
    threads: Annotated[int, Bounds(0, 4096)] = 0
    """CPU threads of torch; 0: its own choice. Fixed in the run at its first start."""
    eval_batch_size: Annotated[int, Bounds(1, 1_000_000)] = 250
    """Images per forward pass when measuring."""
    allow_weak_teacher: bool = False
    """Accept a teacher below twice chance accuracy."""
    keep_state: bool = False
    """Keep the training checkpoints of a finished run."""
    track: Literal["none", "tensorboard"] = "none"
    """Where the metrics of each epoch also go; tensorboard: event files in RUN/tensorboard."""
    wait: Annotated[float, Bounds(0, 1e9)] = 3600.0
    """Seconds that `snnkd run` waits in all for a run that another process holds, such as the shared teacher of a sweep."""


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """What both stages share."""

    schema: Literal[1] = 1
    """Version of this format."""
    stage: Literal["teach", "distill"]
    """teach: an ANN teacher is trained; distill: a spiking student."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Of initialisation, order and augmentation, each a stream of its own."""
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)


@dataclass(frozen=True, kw_only=True)
class TeachRecipe(StageRecipe):
    """An ANN teacher."""

    stage: Literal["teach"] = "teach"


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(StageRecipe):
    """A spiking student, distilled or (loss none) trained directly."""

    stage: Literal["distill"] = "distill"
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    neuron: AnyNeuron = field(default_factory=NeuronConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """`eval:` of a pipeline."""

    split: Literal["test", "val"] = "test"
    """Which images to measure."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps to measure; empty for the trained ones."""
    recalibrate_bn: bool = False
    """Take the statistics of batch norms anew, on training images at these timesteps, before measuring."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`export:` of a pipeline."""

    formats: tuple[Literal["safetensors", "nir", "onnx", "pt2"], ...] = ("safetensors",)
    """Written to RUN/export/<format>."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """`compare:` of a pipeline, made when `snnkd run` has carried out all of its tasks."""

    baseline: str | None = None
    """Row that the others are subtracted from, a loss by name or label; empty for kl, else none."""
    split: Literal["test", "val"] = "test"
    """Which images."""
    rank_on: Literal["val"] | None = None
    """val: of each loss only the setting of highest validation accuracy is shown; empty for all settings."""
