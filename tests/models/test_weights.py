"""Weight files of other code: their names, wrappers, what lies beside the weights, and what is no weights."""

from __future__ import annotations

import argparse
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.foreign import NETWORKS, ResNet, used
from torch import nn

from snnkd.catalog.models import MODELS
from snnkd.errors import FileError, UsageError
from snnkd.models import Specification, build_network
from snnkd.models.weights import Source, load_weights, read_weights
from snnkd.schema.model import ModelConfig

State = dict[str, torch.Tensor]


def body(name: str, classes: int = 10, size: int = 32, **options: Any) -> nn.Module:
    specification = Specification(
        model=config(name, **options), neuron=None, classes=classes, shape=(3, size, size)
    )
    return build_network(specification).body.eval()


def config(name: str, **options: Any) -> ModelConfig:
    model: ModelConfig = MODELS[name].options(name=name, **options)
    return model


def small() -> nn.Module:
    torch.manual_seed(0)
    return body("resnet8", width=4)


def load(saved: object, network: nn.Module | None = None, key: str | None = None, **save: Any) -> Source:
    """Save, read and load into a resnet8 of width 4."""
    torch.save(saved, "t.pt", **save)
    return load_weights(network or small(), read_weights(Path("t.pt")), config("resnet8"), 10, key)


def loaded(saved: object, **save: Any) -> bool:
    """Whether exactly the weights of `small` come out of a file."""
    network = body("resnet8", width=4)
    load(saved, network, **save)
    return same(network.state_dict(), small().state_dict())


def same(some: State, other: State) -> bool:
    return some.keys() == other.keys() and all(torch.equal(some[name], other[name]) for name in some)


@pytest.mark.parametrize("source", NETWORKS)
def test_networks_of_other_code_compute_the_same_here(source: str) -> None:
    name, build = NETWORKS[source]
    options = {"width": 4, **({"pool": "max"} if name == "vgg8" else {})}
    theirs = used(build())
    torch.save(theirs.state_dict(), "t.pt")
    for size in (16, 32, 64) if name == "vgg8" else (16,):
        ours, images = body(name, size=size, **options), torch.rand(2, 3, size, size)
        read = load_weights(ours, read_weights(Path("t.pt")), config(name, **options), 10)
        assert source in str(read.names)
        with torch.inference_mode():
            torch.testing.assert_close(ours(images, 1)[0], theirs(images), rtol=1e-4, atol=1e-4)


def test_a_network_that_pools_otherwise_is_refused() -> None:
    with pytest.raises(UsageError, match=r"teacher\.model\.pool: avg, but t\.pt is of RepDistiller"):
        load_weights(body("vgg8", width=4), written(NETWORKS["mdistiller"][1]()), config("vgg8"), 10)


@pytest.mark.nightly
def test_a_network_of_timm_without_stem_stride() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet18", num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    torch.save(used(theirs).state_dict(), "t.pt")
    ours, images = body("resnet18"), torch.rand(2, 3, 16, 16)
    load_weights(ours, read_weights(Path("t.pt")), config("resnet18"), 10)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images, 1)[0], theirs(images), rtol=1e-4, atol=1e-4)


def wrapped(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in small().state_dict().items()}


BESIDE = {
    "numpy scalar": {"model": wrapped(""), "best_acc": np.float64(72.0), "epoch": np.int64(3)},
    "numpy array": {"model": wrapped(""), "curve": np.arange(3.0), "names": np.array(["a", "b"])},
    "namespace": {"state_dict": wrapped(""), "args": argparse.Namespace(lr=0.1, out=Path("a"))},
    "accuracy as a tensor": {"model": wrapped(""), "best_acc": torch.tensor(72.0)},
    "optimizer": {
        "state_dict": wrapped(""),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "class weights": {"state_dict": wrapped(""), "class_weights": torch.ones(10)},
    "an epoch among the weights": {**wrapped(""), "epoch": 3},
    "thop": {**wrapped(""), "total_ops": torch.zeros(1, dtype=torch.float64), "conv.total_params": torch.zeros(1)},
    "an averaged model": {"n_averaged": torch.tensor(5), **wrapped("module.")},
    "lightning": {"state_dict": wrapped("net."), "callbacks": {}, "global_step": 3},
    "nested": {"checkpoint": {"student": {"weights": wrapped("_orig_mod.module.backbone.")}}},
    "no counters": {name: tensor for name, tensor in wrapped("").items() if "num_batches" not in name},
}  # fmt: skip


@pytest.mark.parametrize("beside", BESIDE)
def test_what_lies_beside_the_weights_is_ignored(beside: str) -> None:
    network = body("resnet8", width=4)
    load(BESIDE[beside], network)
    assert same(parameters(network.state_dict()), parameters(small().state_dict()))


def parameters(state: State) -> State:
    """Without counters of batches."""
    return {name: tensor for name, tensor in state.items() if tensor.ndim}


def test_files_of_old_torch() -> None:
    saved = {"state_dict": wrapped("module."), "best_prec1": np.float64(91.7)}
    assert loaded(saved, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalars_of_both_numpys(module: str) -> None:
    torch.save({"model": wrapped(""), "best": np.float64(1)}, "t.pt", _use_new_zipfile_serialization=False)
    content = Path("t.pt").read_bytes()
    for other in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        content = content.replace(other, module.encode())
    Path("t.pt").write_bytes(content)
    assert read_weights(Path("t.pt")).states.keys() == {"model"}


def test_an_average_is_offered_by_name() -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in wrapped("").items()}
    saved = {"state_dict": wrapped("module."), "state_dict_ema": zeros}
    network = body("resnet8", width=4)
    source = load(saved, network)
    assert (source.key, source.others) == ("state_dict", ["state_dict_ema"])
    assert same(network.state_dict(), small().state_dict())
    load(saved, network, "state_dict_ema")
    assert same(network.state_dict(), zeros)
    assert load({"ema": zeros}).key == "ema", "there is nothing else"


def test_a_part_of_a_state_dict_is_chosen_by_its_prefix() -> None:
    saved = {"state_dict": {**wrapped("net."), **wrapped("ema.")}}
    with pytest.raises(FileError, match=r"weights of state_dict\.net, state_dict\.ema fit; choose"):
        load(saved)
    for key in ("net", "state_dict.ema"):
        assert load(saved, None, key).key == key
    with pytest.raises(FileError, match="no state_dict 'nets'"):
        load(saved, None, "nets")


REFUSED = [
    ({"teacher": wrapped(""), "student": wrapped("")}, r"weights of teacher, student fit; .* teacher.state_dict=teacher"),
    (
        ResNet(5, (1, 1, 1), "downsample", "fc").state_dict(),
        r"chenyaofo.* 46 tensors different: conv1.weight is \[5, 3, 3, 3\], not \[4, 3, 3, 3\], "
        r"bn1.weight is \[5\], not \[4\], bn1.bias is \[5\], not \[4\]; another width or network",
    ),
    (
        {**ResNet(4, (1, 1, 1), "shortcut", "linear").state_dict(), "extra.weight": torch.ones(2)},
        "kuangliu/pytorch-cifar, 1 tensor different: extra.weight is unexpected",
    ),
    ({**wrapped(""), "scale": torch.tensor(2.0)}, "scale is unexpected"),
    ({"a": [1, 2]}, "no state_dict but a;"),
    ([1, 2], "no state_dict but list;"),
]  # fmt: skip


@pytest.mark.parametrize(("saved", "message"), REFUSED)
def test_what_does_not_fit_names_the_nearest_dialect(saved: object, message: str) -> None:
    with pytest.raises(FileError, match=message):
        load(saved)


def test_other_classes_in_another_dialect() -> None:
    with pytest.raises(FileError, match="the teacher has 10 classes, the data 12"):
        load_weights(
            body("resnet8", 12, width=4),
            written(ResNet(4, (1, 1, 1), "shortcut", "linear")),
            config("resnet8"),
            12,
        )


def written(network: nn.Module) -> Any:
    torch.save(network.state_dict(), "t.pt")
    return read_weights(Path("t.pt"))


def test_names_are_not_taken_for_those_of_another_function() -> None:
    """MS-ResNet has the same layers in another order."""
    model = body("ms-resnet18", width=4)
    with pytest.raises(FileError, match="not ms-resnet18"):
        load_weights(model, written(ResNet(4, (2, 2, 2, 2), "shortcut", "linear")), config("ms-resnet18"), 10)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html>", "an HTML page"),
        (b"<?xml version='1.0'?><Error>", "an XML page"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"not weights", "is damaged|not a torch.save file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["t.pt", "t.safetensors"])
def test_what_is_no_file_of_weights_is_called_what_it_is(content: bytes, message: str, name: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(FileError, match=message if name == "t.pt" else f"{message}|not a safetensors"):
        read_weights(Path(name))


def test_a_torchscript_file_and_code_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), "t.pt")
    with pytest.raises(FileError, match="a TorchScript file"):
        read_weights(Path("t.pt"))
    for saved in ({"state_dict": wrapped(""), "evil": Evil()}, nn.Linear(2, 2)):
        torch.save(saved, "t.pt")
        with pytest.raises(FileError, match=r"contains \S+, whose loading could run code"):
            read_weights(Path("t.pt"))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2]
)
def test_other_floating_types_are_converted(dtype: torch.dtype) -> None:
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in wrapped("").items()
    }
    network = body("resnet8", width=4)
    load(state, network)
    weight = network.state_dict()["head.weight"]
    assert torch.equal(weight, state["head.weight"].float())
    assert weight.dtype == torch.float32


ODD = {
    "meta": (lambda t: t.to("meta"), "has no values"),
    "sparse": (lambda t: t.to_sparse(), "a sparse or quantized tensor"),
    "compressed": (lambda t: t.to_sparse_csr(), "a sparse or quantized tensor"),
    "quantized": (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a sparse or quantized tensor"),
    "nested": (lambda t: torch.nested.nested_tensor(list(t)), "a nested tensor"),
    "whole numbers": (lambda t: t.to(torch.int8), "is torch.int8, not floating point"),
    "complex": (lambda t: t.to(torch.complex64), "is torch.complex64, not floating point"),
    "packed": (lambda t: t.to(torch.uint8).view(torch.float4_e2m1fn_x2), "float4_e2m1fn_x2, which torch cannot convert"),
    "too large": (lambda t: t.double() * 1e200, "non-finite values"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("source", ["resnet8", "mdistiller"])
def test_tensors_that_no_network_computes_with_are_refused(kind: str, source: str) -> None:
    """Also the biases that are subtracted from means."""
    change, message = ODD[kind]
    if source == "resnet8":
        network, model, state, name = small(), config("resnet8"), wrapped(""), "head.weight"
    else:
        model = config("vgg8", width=4, pool="max")
        network, state = body("vgg8", width=4, pool="max"), NETWORKS[source][1]().state_dict()
        name = "block0.0.bias"
    if kind == "compressed" and state[name].ndim == 1:
        return
    state[name] = change(state[name])
    torch.save(state, "t.pt")
    with pytest.raises(FileError, match=message):
        load_weights(network, read_weights(Path("t.pt")), model, 10)


def test_an_archive_that_expands_to_far_more_is_refused() -> None:
    torch.save({"weight": torch.zeros(17_000_000)}, "t.pt")
    with zipfile.ZipFile("t.pt") as plain, zipfile.ZipFile("z.pt", "w", zipfile.ZIP_DEFLATED) as small:
        for member in plain.infolist():
            small.writestr(member.filename, plain.read(member))
    with pytest.raises(FileError, match="a possible zip bomb"):
        read_weights(Path("z.pt"))
