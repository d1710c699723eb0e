"""The 1x1 convolution with stride: torch's numbers, without its write beyond memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from snnkd.models.blocks import Pointwise


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(4, 8, 16), (16, 32, 40), (3, 5, 35), (2, 4, 48)])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_same_numbers_as_torchs(inputs: int, outputs: int, size: int, stride: int) -> None:
    torch.manual_seed(0)
    ours = Pointwise(inputs, outputs, stride).to(memory_format=torch.channels_last)
    theirs = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    theirs.load_state_dict(ours.state_dict())
    found = []
    for convolution, layout in (
        (ours, torch.channels_last),
        (theirs, torch.contiguous_format),
    ):  # in the other it is not safe
        x = (
            torch.linspace(-1, 1, 6 * inputs * size**2)
            .view(6, inputs, size, size)
            .contiguous(memory_format=layout)
        )
        x.requires_grad_()
        y = convolution(x)
        (y * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum().backward()
        found.append((y.detach(), x.grad, convolution.weight.grad))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size"),
    [
        (2, 4, 64),
        (15, 30, 64),
        *(
            pytest.param(*case, marks=pytest.mark.nightly)
            for case in [(4, 8, 16), (7, 14, 32), (8, 16, 8), (16, 8, 64)]
        ),
    ],
)
@pytest.mark.nightly  # an interpreter of its own
def test_no_heap_is_spoilt(inputs: int, outputs: int, size: int) -> None:
    """In a process whose malloc checks itself; with a plain nn.Conv2d in its place torch ends some, by the
    CPU's instructions.
    """
    library = Path(
        "/lib/x86_64-linux-gnu/libc_malloc_debug.so.0"
    )  # without it glibc from 2.34 on checks nothing, and only luck shows
    code = (
        "import torch\nfrom snnkd.models.blocks import Pointwise\n"
        f"made = Pointwise({inputs}, {outputs}, 2).to(memory_format=torch.channels_last)\n"
        "for i in range(20):\n"
        f"    x = torch.rand(10, {inputs}, {size}, {size})\n"
        "    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()\n"
        "    made(x).sum().backward()\n"
        "    junk = [torch.rand(100 + 7 * i) for _ in range(50)]\n"
    )
    environment = {
        **os.environ,
        "MALLOC_CHECK_": "3",
        "MALLOC_PERTURB_": "165",
        **({"LD_PRELOAD": str(library)} if library.exists() else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
