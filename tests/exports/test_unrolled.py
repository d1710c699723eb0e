"""ONNX and pt2: deterministic files of the unrolled network, any batch size, and a changed weight is
detected.
"""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import torch
from students import IMAGES, network_of, source_of

from snnkd.catalog.formats import EXPORTS
from snnkd.exports.agreement import compare, is_faithful
from snnkd.exports.protocol import load_format


@pytest.fixture(params=["onnx", pytest.param("pt2", marks=pytest.mark.nightly)])
def format(request):
    for package in EXPORTS[request.param].packages:
        pytest.importorskip(package)
    return request.param


@pytest.fixture
def onnx():
    pytest.importorskip("onnxscript")
    return pytest.importorskip("onnx")


def test_outputs_are_those_of_the_network(exports, format):
    module = load_format(EXPORTS[format])
    agreement = compare(exports.source.logits, module.read_back(exports.path(format)), IMAGES)
    network = exports.source.loaded.network
    assert is_faithful(agreement, module.TOLERANCE, network, exports.source.logits, IMAGES)
    assert (agreement.agreement, agreement.median_difference < 1e-5) == (1.0, True)


def test_any_batch_size(exports, format):
    forward = load_format(EXPORTS[format]).read_back(exports.path(format))
    for count in (1, 2, 7):
        assert forward(IMAGES[:count]).shape == (4, count, 10)
    with torch.no_grad():
        assert torch.allclose(forward(IMAGES[:1]), exports.source.logits(IMAGES[:1]), atol=1e-4)


@pytest.mark.nightly  # exports twice
def test_the_same_network_gives_the_same_bytes_without_paths(exports, format, tmp_path):
    load_format(EXPORTS[format]).write(tmp_path / "other-name", exports.source)
    content = exports.path(format).read_bytes()
    assert (tmp_path / "other-name").read_bytes() == content
    assert b"snnkd/models" not in content
    assert format == "pt2" or b".py" not in content


def flip_in_onnx(path, target, weight):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("head.weight")]
    weights = onnx.numpy_helper.to_array(tensor).copy()
    weights.flat[0] *= -1
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    onnx.save(model, target)


def flip_in_pt2(path, target, weight):
    """In the zip archive that the file is."""
    head = weight.detach().contiguous().numpy().tobytes()
    flipped = bytearray(head)
    flipped[3] ^= 0x80  # the sign of the first weight
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        changed = 0
        for item in old.infolist():
            content = old.read(item)
            changed += content == head
            new.writestr(item, bytes(flipped) if content == head else content)
    assert changed == 1


def test_one_flipped_weight_is_detected(exports, format, tmp_path):
    source, module = exports.source, load_format(EXPORTS[format])
    flip = {"onnx": flip_in_onnx, "pt2": flip_in_pt2}[format]
    flip(exports.path(format), tmp_path / "flipped", source.loaded.network.body.head.weight)
    agreement = compare(source.logits, module.read_back(tmp_path / "flipped"), IMAGES)
    assert not is_faithful(agreement, module.TOLERANCE, source.loaded.network, source.logits, IMAGES)


def test_metadata_of_onnx(exports, onnx):
    model = onnx.load(exports.path("onnx"))
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    sizes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (images, logits)
    ]
    assert sizes == [["batch", 3, 16, 16], [4, "batch", 10]]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    sha256 = exports.source.loaded.sha256
    assert (properties["T"], properties["classes"], properties["weights_sha256"]) == ("4", "10", sha256)
    metadata = json.loads(properties["snnkd"])
    assert (metadata["T"], metadata["trained_T"], metadata["format"]) == (4, 3, "snnkd-network")


@pytest.mark.nightly  # onnx by default
def test_metadata_of_pt2(exports):
    from snnkd.exports.pt2 import METADATA

    extra = {METADATA: ""}
    torch.export.load(io.BytesIO(exports.path("pt2").read_bytes()), extra_files=extra)
    metadata = json.loads(extra[METADATA])
    assert metadata["weights_sha256"] == exports.source.loaded.sha256
    assert (metadata["T"], metadata["classes"], metadata["input"]) == (4, 10, [3, 16, 16])


@pytest.mark.nightly  # as in cli/test_export_formats
def test_a_teacher_has_one_timestep(tmp_path, onnx):
    export = load_format(EXPORTS["onnx"])
    source = source_of(tmp_path / "run", network_of(T=None), T=1)
    export.write(tmp_path / "model", source)
    forward = export.read_back(tmp_path / "model")
    assert forward(IMAGES).shape == (1, 12, 10)
    assert compare(source.logits, forward, IMAGES).max_difference < 1e-4


@pytest.mark.nightly  # with nir by default: test_nir
def test_a_neuron_with_parameters(tmp_path):
    export = load_format(EXPORTS["pt2"])
    source = source_of(tmp_path / "run", network_of(neuron="plif"))
    export.write(tmp_path / "model", source)
    assert compare(source.logits, export.read_back(tmp_path / "model"), IMAGES).median_difference < 1e-5


@pytest.mark.nightly  # the plain student by default
def test_event_frames_and_any_number_of_samples(tmp_path):
    export = load_format(EXPORTS["pt2"])
    source = source_of(tmp_path / "run", network_of(shape=(2, 16, 16), frames=4))
    export.write(tmp_path / "model", source)
    events = torch.rand(4, 5, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    agreement = compare(source.logits, export.read_back(tmp_path / "model"), events)
    assert (agreement.images, agreement.median_difference < 1e-5) == (5, True)


ALONE = """
import importlib.abc, json, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("spikingjelly", "snnkd"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import torch
extra = {"snnkd.json": ""}
with open(sys.argv[1], "rb") as file:
    program = torch.export.load(file, extra_files=extra)
with torch.no_grad():
    torch.save(program.module()(torch.load(sys.argv[2], weights_only=True)), sys.argv[3])
print(json.loads(extra["snnkd.json"])["T"])
"""


@pytest.mark.nightly  # an interpreter of its own; pt2's answers: cli/test_export_formats
def test_pt2_loads_without_spikingjelly_and_snnkd(exports, tmp_path):
    torch.save(IMAGES, tmp_path / "images")
    words = [str(exports.path("pt2")), str(tmp_path / "images"), str(tmp_path / "logits")]
    done = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4\n"
    logits = torch.load(tmp_path / "logits", weights_only=True)
    assert compare(exports.source.logits, lambda images: logits, IMAGES).median_difference < 1e-5
