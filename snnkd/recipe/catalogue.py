"""What there is: data sets, models, divergences and losses, one entry each."""

from __future__ import annotations

from snnkd.recipe import schema
from snnkd.registry import Entry, Registry

DATA = Registry(
    "data set",
    [
        Entry("glyphs", "generated 16x16 characters, up to 100 look-alike classes; no download",
              schema.GlyphsConfig, "snnkd.data.glyphs:load"),
        Entry("cifar10", "CIFAR-10, 32x32 RGB, 10 classes; torchvision fetches and verifies it",
              schema.PhotoConfig, "snnkd.data.cifar:load", details=(("nominal", (10, (3, 32, 32), 50_000)),)),
        Entry("cifar100", "CIFAR-100, 32x32 RGB, 100 classes; torchvision fetches and verifies it",
              schema.PhotoConfig, "snnkd.data.cifar:load", details=(("nominal", (100, (3, 32, 32), 50_000)),)),
        Entry("npz", "your own uint8 images in one file, key names as in MedMNIST",
              schema.DataConfig, "snnkd.data.npz:load", argument="PATH"),
    ],
)  # fmt: skip

MODELS = Registry(
    "model",
    [
        Entry("resnet8", "residual, 3 blocks, 16-32-64 channels; small, the default",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet18", "residual, [2, 2, 2, 2] blocks, 64-128-256-512 channels",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet19", "residual, [3, 3, 2] blocks, 128-256-512 channels, hidden layer 256",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet20", "residual, [3, 3, 3] blocks, 16-32-64 channels (He et al.'s for CIFAR)",
              schema.ResNetConfig, "snnkd.models.resnet:build"),
    ],
)  # fmt: skip

DIVERGENCES = Registry(
    "divergence",
    [
        Entry("kl", "forward KL(teacher || student) (Hinton 2015)",
              schema.TermConfig, "snnkd.losses.divergences:kl"),
        Entry("rkl", "reverse KL(student || teacher)",
              schema.TermConfig, "snnkd.losses.divergences:rkl"),
        Entry("jeffreys", "forward plus reverse KL",
              schema.TermConfig, "snnkd.losses.divergences:jeffreys"),
        Entry("hta-kl", "head-tail aware KL (arXiv 2504.20445; reconstructed)",
              schema.HtaKlTerm, "snnkd.losses.hta_kl:hta_kl",
              details=(("measured", "snnkd.losses.hta_kl:measured_hta_kl"),)),
    ],
)  # fmt: skip

LOSSES = Registry(
    "loss",
    [
        Entry("none", "direct training: cross-entropy alone, no teacher", schema.LossConfig,
              details=(("terms", ()),)),
        *(
            Entry(name, f"cross-entropy + {DIVERGENCES[name].help}", schema.LossConfig,
                  details=(("terms", (name,)),))
            for name in ("kl", "rkl", "jeffreys")
        ),
        Entry("hta-kl", f"cross-entropy + {DIVERGENCES['hta-kl'].help}", schema.LossConfig,
              details=(("terms", ("hta-kl",)),)),
    ],
)  # fmt: skip
