"""What there is: data sets, models, divergences and losses, one entry each."""

from __future__ import annotations

from snnkd.recipe import schema
from snnkd.registry import Entry, Registry

DATA = Registry(
    "data set",
    [
        Entry("glyphs", "generated characters of up to 100 look-alike classes, 16x16 grey by default; needs no download",
              schema.GlyphsConfig, "snnkd.data.glyphs:load"),
        Entry("cifar10", "CIFAR-10, 32x32 RGB, 10 classes; downloaded and verified by torchvision",
              schema.PhotoConfig, "snnkd.data.cifar:load"),
        Entry("cifar100", "CIFAR-100, 32x32 RGB, 100 classes; downloaded and verified by torchvision",
              schema.PhotoConfig, "snnkd.data.cifar:load"),
        Entry("npz", "your own uint8 images in one file with MedMNIST's key names (train_images, train_labels, ...)",
              schema.DataConfig, "snnkd.data.npz:load", argument="PATH"),
    ],
)  # fmt: skip

MODELS = Registry(
    "model",
    [
        Entry("resnet8", "residual, 3 blocks, 16-32-64 channels; small, the default",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet18", "residual, [2, 2, 2, 2] blocks, 64-128-256-512 channels, 3x3 stem without max-pool",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet19", "residual, [3, 3, 2] blocks, 128-256-512 channels, hidden layer of 256 before the classes",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet20", "residual, [3, 3, 3] blocks, 16-32-64 channels (He et al.'s for CIFAR)",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
    ],
)  # fmt: skip

DIVERGENCES = Registry(
    "divergence",
    [
        Entry("kl", "forward KL(teacher || student) (Hinton et al. 2015)",
              schema.TermConfig, "snnkd.losses.divergences:kl"),
        Entry("rkl", "reverse KL(student || teacher)",
              schema.TermConfig, "snnkd.losses.divergences:rkl"),
        Entry("jeffreys", "forward plus reverse KL",
              schema.TermConfig, "snnkd.losses.divergences:jeffreys"),
        Entry("hta-kl", "head-tail aware KL: forward and reverse KL weighted per sample (arXiv 2504.20445)",
              schema.HtaKlTerm, "snnkd.losses.hta_kl:hta_kl",
              details=(("measured", "snnkd.losses.hta_kl:measured_hta_kl"),)),
    ],
)  # fmt: skip

LOSSES = Registry(
    "loss",
    [
        Entry("none", "direct training: cross-entropy of the time-mean logits, no teacher", schema.LossConfig,
              details=(("terms", ()),)),
        *(
            Entry(name, f"cross-entropy + {DIVERGENCES[name].help} of the time-mean logits", schema.LossConfig,
                  details=(("terms", (name,)),))
            for name in ("kl", "rkl", "jeffreys")
        ),
        Entry("hta-kl", f"cross-entropy + {DIVERGENCES['hta-kl'].help}; reconstructed", schema.LossConfig,
              details=(("terms", ("hta-kl",)),)),
    ],
)  # fmt: skip
