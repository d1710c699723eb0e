"""Networks as other public code writes and names them, for tests of teachers; weights are random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class OptionA(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.outputs // 4, self.outputs // 4))


class BasicBlock(nn.Module):
    """`shortcut` is its name, or "A" for option A."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.name = "shortcut" if shortcut == "A" else shortcut
        same = stride == 1 and inputs == outputs
        path: nn.Module = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        setattr(self, self.name, nn.Sequential() if same else OptionA(outputs) if shortcut == "A" else path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + getattr(self, self.name)(x))


class ResNet(nn.Module):
    """Stages `layer1`, ... of `blocks` blocks; the first has `width` channels, the stem `stem` or as many."""

    def __init__(
        self, width: int, blocks: tuple[int, ...], shortcut: str, head: str, channels: int = 3, stem: int = 0
    ) -> None:
        super().__init__()
        inputs = stem or width
        self.conv1, self.bn1 = conv(channels, inputs, 3), nn.BatchNorm2d(inputs)
        for i, count in enumerate(blocks):
            layers, outputs = [], width * 2**i
            for j in range(count):
                layers.append(BasicBlock(inputs, outputs, 2 if i and not j else 1, shortcut))
                inputs = outputs
            setattr(self, f"layer{i + 1}", nn.Sequential(*layers))
        self.head, self.stages = head, len(blocks)
        setattr(self, head, nn.Linear(inputs, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        out: Tensor = getattr(self, self.head)(x.mean((2, 3)))
        return out


class SequentialBlock(nn.Module):
    """weiaicunzai's."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual_function = nn.Sequential(
            conv(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            conv(outputs, outputs, 3),
            nn.BatchNorm2d(outputs),
        )
        path = (
            [conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)]
            if stride != 1 or inputs != outputs
            else []
        )
        self.shortcut = nn.Sequential(*path)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual_function(x) + self.shortcut(x))


class SequentialResNet(nn.Module):
    """weiaicunzai's."""

    def __init__(self, width: int, blocks: tuple[int, ...], channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(channels, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.count, inputs = len(blocks), width
        for i, count in enumerate(blocks):
            layers = []
            for j in range(count):
                layers.append(SequentialBlock(inputs, width * 2**i, 2 if i and not j else 1))
                inputs = width * 2**i
            setattr(self, f"conv{i + 2}_x", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for i in range(self.count):
            x = getattr(self, f"conv{i + 2}_x")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class WideBlock(nn.Module):
    """xternalz's."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.convShortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return out + (x if self.convShortcut is None else self.convShortcut(y))


class WideStage(nn.Module):
    def __init__(self, inputs: int, outputs: int, count: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(WideBlock(outputs if j else inputs, outputs, 1 if j else stride) for j in range(count))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """xternalz's; the stem has half the width."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.conv1 = conv(3, width // 2, 3)
        self.block1 = WideStage(width // 2, width, count, 1)
        self.block2 = WideStage(width, 2 * width, count, 2)
        self.block3 = WideStage(2 * width, 4 * width, count, 2)
        self.bn1, self.fc = nn.BatchNorm2d(4 * width), nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class VGG8(nn.Module):
    """RepDistiller's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inputs = 3
        for i, multiplier in enumerate((1, 2, 4, 8, 8)):
            layers = nn.Conv2d(inputs, width * multiplier, 3, padding=1), nn.BatchNorm2d(width * multiplier)
            setattr(self, f"block{i}", nn.Sequential(*layers))
            inputs = width * multiplier
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        for i in range(5):
            x = F.relu(getattr(self, f"block{i}")(x))
            if i < 3 or (i == 3 and height == 64):
                x = F.max_pool2d(x, 2)
        out: Tensor = self.classifier(x.mean((2, 3)))
        return out


def used(network: nn.Module) -> nn.Module:
    """`network` in eval mode, with norms that compute something."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.5, 0.5, generator=generator)
    return network.eval()


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "chenyaofo": ("resnet20", lambda: ResNet(4, (3, 3, 3), "downsample", "fc")),
    "kuangliu": ("resnet18", lambda: ResNet(4, (2, 2, 2, 2), "shortcut", "linear")),
    "weiaicunzai": ("resnet18", lambda: SequentialResNet(4, (2, 2, 2, 2))),
    "akamaster": ("resnet20", lambda: ResNet(4, (3, 3, 3), "A", "linear")),
    "RepDistiller": ("resnet8x4", lambda: ResNet(4, (1, 1, 1), "downsample", "fc", stem=2)),
    "xternalz": ("wrn-40-2", lambda: WideResNet(4, 6)),
    "mdistiller": ("vgg8", lambda: VGG8(4)),
}
"""By the name of their source: our name of the network, and the network at width 4."""
