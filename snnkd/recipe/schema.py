"""The sections of a recipe as dataclasses. A field's docstring is its help, `Bounds` its range.

The defaults are those of the HTA-KL authors' sibling code (SGD 0.9, lr 0.1, weight decay 5e-4, cosine to 0,
300 epochs, batch 128, temperature 3, LIF v <- 0.5 v + x with threshold 1, hard reset, sigmoid surrogate alpha 4),
because the paper's own settings could not be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.recipe.loss_schema import LossConfig
from snnkd.recipe.marks import ADDED, Bounds

Augmentation = Literal["crop", "flip"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`data:`, the keys that every data set has."""

    name: str = "glyphs"
    """A data set of `snnkd list data`."""
    val_fraction: Annotated[float, Bounds(0, 0.5)] = 0.0
    """Share of the training split held out for validation, the same images for every seed; needed by select: best."""
    augment: tuple[Augmentation, ...] = ()
    """Applied to training images in this order: crop (zero padding of an eighth of the size), flip (horizontal)."""


@dataclass(frozen=True, kw_only=True)
class GlyphsConfig(DataConfig):
    """`data:` of the generated glyphs."""

    size: Annotated[int, Bounds(8, 64)] = 16
    """Height and width in pixels."""
    channels: Literal[1, 3] = 1
    """1: grey; 3: RGB with random ink and paper colours."""
    classes: Annotated[int, Bounds(2, 100)] = 100
    """The first this many characters: digits, upper case, lower case, Greek, signs."""
    train_images: Annotated[int, Bounds(1, 1_000_000)] = 10_000
    """Number of training images, classes in equal shares."""
    test_images: Annotated[int, Bounds(1, 1_000_000)] = 2_000
    """Number of test images, drawn from a stream of their own."""
    noise: Annotated[float, Bounds(0, 1)] = 0.05
    """Standard deviation of the Gaussian pixel noise, white being 1."""
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of the images; the run's own seed does not change the data."""
    augment: tuple[Augmentation, ...] = ("crop",)


@dataclass(frozen=True, kw_only=True)
class PhotoConfig(DataConfig):
    """`data:` of cifar10 and cifar100."""

    augment: tuple[Augmentation, ...] = ("crop", "flip")


@dataclass(frozen=True, kw_only=True)
class UserData(DataConfig):
    """`data:` of a function of your own."""

    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`model:`, the keys that every model has."""

    name: str = "resnet8"
    """A model of `snnkd list models`."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps of the student; a teacher has none."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """`model:` of the residual family."""

    width: Annotated[int, Bounds(1, 4096)] | None = None
    """Channels of the first stage; empty for the family member's own."""


@dataclass(frozen=True, kw_only=True)
class UserModel(ModelConfig):
    """`model:` of a function of your own."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""


@dataclass(frozen=True, kw_only=True)
class NeuronConfig:
    """`neuron:`, the spiking activation."""

    name: Literal["lif"] = "lif"
    """lif: leaky integrate-and-fire (SpikingJelly's lif_multi_step)."""
    tau: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Membrane time constant in timesteps."""
    decay_input: bool = False
    """Whether the leak also scales the input: v <- v + (x - v)/tau instead of v <- v (1 - 1/tau) + x."""
    threshold: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Membrane potential at which a spike is fired."""
    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to 0 after a spike; soft: the threshold is subtracted."""
    surrogate: Literal["sigmoid", "atan"] = "sigmoid"
    """Shape whose derivative stands in for that of the step."""
    alpha: Annotated[float, Bounds(0, open_low=True)] = 4.0
    """Steepness of the surrogate."""
    detach_reset: bool = False
    """Whether the gradient skips the reset."""
    last: Annotated[Literal["spike", "relu"], ADDED] = "spike"
    """The last activation before the classifier; relu: real-valued instead of spikes (EnOF's RepAct)."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """`teacher:`, the finished teacher run that the student learns from."""

    run: str | None = None
    """Folder with model.safetensors and config.json; empty to use the one finished teacher of the same data."""
    sha256: str | None = None
    """Of its weights; added when the run starts, and checked when given."""


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
    ema: Annotated[float, Bounds(0, 1, open_high=True), ADDED] = 0.0
    """Decay per step of an exponential moving average of weights and norm statistics, which is then the result; 0: none."""
    init: Annotated[Literal["random", "teacher"], ADDED] = "random"
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
    wait: Annotated[float, Bounds(0, 1e9)] = 3600.0
    """Seconds that `snnkd run` waits in all for a run that another process holds, such as the shared teacher of a sweep."""


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """What both stages share."""

    schema: Literal[1] = 1
    """Version of this format."""
    stage: Literal["teach", "distill"]
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
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """`eval:` of a pipeline."""

    split: Literal["test", "val"] = "test"
    """Which images to measure."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps to measure; empty for the trained ones."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`export:` of a pipeline."""

    formats: tuple[Literal["safetensors"], ...] = ("safetensors",)
    """Written to RUN/export/<format>."""
