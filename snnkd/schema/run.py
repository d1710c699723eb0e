"""The sections of a recipe as dataclasses. A field's docstring is its help.

Where the settings of the HTA-KL paper could not be read, the defaults are those of sibling code by the same
authors: SGD with momentum 0.9, lr 0.1, weight decay 5e-4, cosine to 0, 300 epochs, batch 128, temperature 3,
and LIF v <- 0.5 v + x with threshold 1, hard reset and sigmoid surrogate of alpha 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from snnkd.schema.data import DataConfig
from snnkd.schema.loss import LossConfig
from snnkd.schema.marks import Bounds, Since
from snnkd.schema.model import ModelConfig
from snnkd.schema.neuron import AnyNeuron, NeuronConfig


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """`teacher:`, the network that the student is distilled from."""

    run: str | None = None
    """A run or export of `snnkd teach`, hf-hub:OWNER/NAME, a .safetensors file next to its config.json, or
    with `model` a plain weights file or pretrained; empty to use the only finished teacher of the same
    data."""
    sha256: str | None = None
    """Checksum of its weights; recorded when the run starts, and checked when set."""
    model: ModelConfig | None = None
    """Network of a plain weights file (a state_dict): one of `snnkd list models`, torchvision:NAME or
    timm:NAME."""
    state_dict: str | None = None
    """Key of the weights in a plain file that has several, such as state_dict_ema, or a prefix of names."""
    size: Annotated[int | None, Bounds(4, 4096)] = None
    """Input height and width of the network of a plain weights file; empty for the data's, or a library
    network's own."""
    mean: tuple[float, ...] | None = None
    """Mean per channel for normalizing its inputs, for pixels in 0..1; empty for the data's, or a library
    network's own."""
    std: tuple[float, ...] | None = None
    """Standard deviation per channel for normalizing its inputs; empty as for `mean`."""
    class_names: Annotated[tuple[str, ...] | None, Since("0.2.0")] = None
    """Class names of a plain weights file's outputs, in order; empty for those in the file."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """`train:`, the optimization."""

    # epochs, batch, lr, momentum and weight decay are the sibling code's, see the top of this file
    epochs: Annotated[int, Bounds(1, 100_000)] = 300
    """Passes over the training images."""
    batch_size: Annotated[int, Bounds(2, 1_000_000)] = 128
    """Images per step over all processes; the incomplete last batch of an epoch is dropped (other images each
    epoch)."""
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Since("0.2.0")] = "sgd"
    """Optimizer of torch.optim. adam and adamw have other defaults: lr 0.001, weight_decay 0 and 0.01."""
    lr: Annotated[float, Bounds(0, 1e38, open_low=True)] = 0.1
    """Highest learning rate."""
    momentum: Annotated[float, Bounds(0, 1, open_high=True)] = 0.9
    """Momentum of sgd."""
    nesterov: Annotated[bool, Since("0.2.0")] = False
    """Nesterov momentum of sgd."""
    betas: Annotated[tuple[float, ...], Since("0.2.0")] = (0.9, 0.999)
    """Decay of the first and second moment of adam and adamw."""
    eps: Annotated[float, Bounds(0, 1), Since("0.2.0")] = 1.0e-8
    """Added to the denominator of adam and adamw."""
    # not on norms and biases, as there: they place the membrane potential relative to the threshold
    weight_decay: Annotated[float, Bounds(0, 1e38)] = 5.0e-4
    """Weight decay of convolution and linear weights: an L2 penalty in sgd and adam, decoupled in adamw."""
    norm_weight_decay: Annotated[float, Bounds(0, 1e38), Since("0.2.0")] = 0.0
    """Weight decay of norms and biases."""
    norm_lr_factor: Annotated[float, Bounds(0, 1e6), Since("0.2.0")] = 1.0
    """Learning rate of norms and biases, as a multiple of lr; 0 freezes them."""
    neuron_weight_decay: Annotated[float, Bounds(0, 1e38), Since("0.2.0")] = 0.0
    """Weight decay of the parameters of neurons, such as plif's tau."""
    neuron_lr_factor: Annotated[float, Bounds(0, 1e6), Since("0.2.0")] = 1.0
    """Learning rate of the parameters of neurons, as a multiple of lr; 0 freezes them."""
    clip_grad_norm: Annotated[float, Bounds(0, 1e38), Since("0.2.0")] = 0.0
    """Highest L2 norm of the gradient of all parameters, which is scaled down to it; 0: no clipping."""
    schedule: Literal["cosine", "linear", "multistep", "constant", "one-cycle", "triangular"] = "cosine"
    """Learning rate schedule, by step. cosine, linear: from lr to final_lr, reached one step after the last;
    multistep: times gamma at each of milestones; one-cycle: from lr / 25 to lr at peak and on to final_lr
    along cosines, triangular: along straight lines (torch's OneCycleLR)."""
    warmup_epochs: Annotated[int, Bounds(0, 100_000)] = 0
    """Epochs of linear rise from 0 to lr, counted within `epochs`; not with one-cycle and triangular."""
    final_lr: Annotated[float, Bounds(0, 1e38), Since("0.2.0")] = 0.0
    """Learning rate at the end of cosine, linear, one-cycle and triangular."""
    milestones: Annotated[tuple[int, ...], Since("0.2.0")] = ()
    """Finished epochs after which multistep lowers the rate, such as [150, 180, 210]."""
    gamma: Annotated[float, Bounds(0, 1, open_low=True), Since("0.2.0")] = 0.1
    """Factor of multistep."""
    peak: Annotated[float, Bounds(0, 1, open_low=True, open_high=True), Since("0.2.0")] = 0.3
    """Fraction of the steps at which one-cycle and triangular reach lr."""
    # 0: teachers trained with smoothing distil worse (Mueller et al. 2019)
    label_smoothing: Annotated[float, Bounds(0, 1, open_high=True)] = 0.0
    """Label smoothing of the cross-entropy."""
    # last: without a validation split the best epoch could only be chosen on test images
    select: Literal["last", "best"] = "last"
    """Epoch whose weights are kept; best: highest validation accuracy, needs data.val_fraction above 0 or a
    val split."""
    ema: Annotated[float, Bounds(0, 1, open_high=True)] = 0.0
    """Decay per step of an exponential moving average of weights and norm statistics, which is then the
    result; 0: off."""
    init: str = "random"
    """Initial weights: random, teacher (a copy, of the same architecture), pretrained (a library's published
    ones), or a run, an export, hf-hub:OWNER/NAME or a file of weights of this network; a classifier of other
    classes is left out."""
    freeze: Annotated[tuple[str, ...], Since("0.2.0")] = ()
    """Layers that keep their initial weights and norm statistics, by name; stages.0 freezes all within."""
    first_T: Annotated[tuple[int, ...], Since("0.2.0")] = ()
    """Timesteps of the student in the first epochs, a number for each, such as [1, 1]; model.T after them."""
    first_sizes: Annotated[tuple[int, ...], Since("0.2.0")] = ()
    """Height and width to which images are shrunk in the first epochs, a number for each, such as [24, 24]; a
    teacher sees them in full."""


OPTIMIZER_KEYS = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps"),
}
"""The keys of TrainConfig that an optimizer has of its own."""
OPTIMIZER_DEFAULTS = {
    "adam": {"lr": 1.0e-3, "weight_decay": 0.0},
    "adamw": {"lr": 1.0e-3, "weight_decay": 1.0e-2},
}
"""torch's defaults where they differ from TrainConfig's, which are those of sgd."""
SCHEDULE_KEYS = {
    "cosine": ("warmup_epochs", "final_lr"),
    "linear": ("warmup_epochs", "final_lr"),
    "multistep": ("warmup_epochs", "milestones", "gamma"),
    "constant": ("warmup_epochs",),
    "one-cycle": ("peak", "final_lr"),
    "triangular": ("peak", "final_lr"),
}
"""The keys of TrainConfig that a schedule has of its own."""


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """`execution:`, how and where a run is computed; not part of its identity."""

    device: str = "auto"
    """auto (a GPU if available), cpu, cuda or cuda:N."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16: convolutions under autocast, membrane and loss in float32; auto: bf16 on GPUs that support it."""
    compile: Literal["auto", "neurons", "on", "off"] = "auto"
    """torch.compile in training; neurons: their timesteps fused (compiles in seconds); on: the full network
    (a minute or more on a CPU); auto: neurons on a CPU if the run is long enough, else off. Fixed at a run's
    first start."""
    keep_memory: bool = True
    """On a CPU: keep freed memory in the process between steps (glibc mallopt)."""
    accumulate: Annotated[int, Bounds(1, 100_000)] = 1
    """Micro-batches per step and process, to save memory; batch norm uses one at a time. Not for losses
    across the batch."""
    activation_checkpointing: bool = False
    """Keep only the input of each block and recompute the rest in the backward pass: less memory, a third
    more time."""
    sync_norm: bool = False
    """With several processes on GPUs: norms over the batch of all of them (SyncBatchNorm)."""
    threads: Annotated[int, Bounds(0, 4096)] = 0
    """CPU threads of torch; 0: torch's default. Fixed at a run's first start."""
    eval_batch_size: Annotated[int, Bounds(1, 1_000_000)] = 250
    """Images per forward pass in evaluation."""
    allow_weak_teacher: bool = False
    """Accept a teacher below twice chance accuracy."""
    continue_anyway: bool = False
    """Resume a run on other versions, CPU vectors or GPU than it was started with; its last digits then
    differ from an uninterrupted run's, and its result says so."""
    # a checkpoint is written in a second or less, so this costs nothing
    save_every: Annotated[float, Bounds(0, 1e6)] = 30.0
    """Minutes between checkpoints within an epoch, which bound what a kill loses; 0: only after epochs."""
    keep_state: bool = False
    """Keep the training checkpoints of a finished run."""
    track: tuple[str, ...] = ()
    """Trackers of recipe, metrics of each epoch, result and its plot: tensorboard (RUN/tensorboard), wandb,
    mlflow. One that fails does not stop the run."""
    timeout: Annotated[float, Bounds(1, 7200)] = 600.0
    """With several processes: seconds in training after which one that does not answer is lost, and the job
    ends (75)."""
    wait: Annotated[float, Bounds(0, 1e9)] = 3600.0
    """Seconds that `snnkd run` waits in all for runs locked by other processes, such as the shared teacher of
    a sweep."""


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """Sections of both stages."""

    schema: Literal[1] = 1
    """Version of the recipe format."""
    stage: Literal["teach", "distill"]
    """teach: train an ANN teacher; distill: train a spiking student."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of initialization, data order and augmentation, each with its own random stream."""
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    @property
    def needs_teacher(self) -> bool:
        """Whether training needs a teacher: for the loss, or for the initial weights."""
        return False


@dataclass(frozen=True, kw_only=True)
class TeachRecipe(StageRecipe):
    """Recipe of an ANN teacher."""

    stage: Literal["teach"] = "teach"


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(StageRecipe):
    """Recipe of a spiking student, distilled or (loss none) trained directly."""

    stage: Literal["distill"] = "distill"
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    neuron: AnyNeuron = field(default_factory=NeuronConfig)
    loss: LossConfig

    @property
    def needs_teacher(self) -> bool:
        return self.loss.needs_teacher or self.train.init == "teacher"


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """`eval:` of a pipeline."""

    split: Literal["test", "val"] = "test"
    """Images to evaluate on."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps to evaluate at; empty for those of training."""
    recalibrate_bn: bool = False
    """Recompute batch norm statistics on training images at these timesteps first."""


Confidence = Annotated[float, Bounds(0, 1, open_low=True)]
"""Probability of a class from which `snnkd predict` calls a network sure of it."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`export:` of a pipeline."""

    formats: tuple[str, ...] = ("safetensors",)
    """Formats of `snnkd export --help`; each is written to RUN/export/FORMAT."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """`search:`, how many settings are drawn from the distributions of a sweep."""

    samples: Annotated[int, Bounds(1, 10_000)]
    """Settings of each loss; more continue the same sequence, and finished runs stay."""
    seed: Annotated[int, Bounds(0, 2**32 - 1)] = 0
    """Seed of the scrambled Sobol sequence that draws them."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """`compare:` of a pipeline, run when all tasks of `snnkd run` are finished."""

    baseline: str | None = None
    """Row that differences are computed against, by loss name or label; empty for kl, else none."""
    split: Literal["test", "val"] = "test"
    """Images to compare on."""
    rank_on: Literal["val"] | None = None
    """val: show only the setting of highest validation accuracy for each loss; empty for all settings."""
    equivalent: Annotated[float, Bounds(0, 100, open_low=True)] | None = None
    """Percentage points within which a row may be called equivalent to the baseline; empty for no such
    test."""
