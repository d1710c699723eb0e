"""ONNX: what stands in the file, any batch size in onnxruntime, and that a changed weight is found."""

import json

import pytest
import torch
from students import IMAGES, network_of, source_of

from snnkd.exports import onnx as export
from snnkd.exports.agreement import compare, is_faithful
from snnkd.exports.source import Source

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A student exported with T = 4, trained at 3."""
    root = tmp_path_factory.mktemp("onnx")
    source = Source(source_of(root / "run").loaded, 4)
    export.write(root / "model", source)
    return source, root / "model"


def test_onnxruntime_answers_as_the_network(made):
    source, path = made
    found = compare(source.logits, export.read_back(path), IMAGES)
    assert is_faithful(found, export.TOLERANCE, source.loaded.network, source.logits, IMAGES)
    assert (found.agreement, found.median_difference < 1e-5) == (1.0, True)


def test_any_batch_size(made):
    source, path = made
    answer = export.read_back(path)
    for count in (1, 2, 7):
        assert answer(IMAGES[:count]).shape == (4, count, 10)
    with torch.no_grad():
        assert torch.allclose(answer(IMAGES[:1]), source.logits(IMAGES[:1]), atol=1e-4)


def test_what_the_model_says_of_itself(made):
    source, path = made
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
    (takes,), (gives,) = model.graph.input, model.graph.output
    assert (takes.name, gives.name) == ("images", "logits")
    sizes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (takes, gives)
    ]
    assert sizes == [["batch", 3, 16, 16], [4, "batch", 10]]
    about = {entry.key: entry.value for entry in model.metadata_props}
    facts = json.loads(about["snnkd"])
    assert (about["T"], about["classes"], about["weights_sha256"]) == ("4", "10", source.loaded.sha256)
    assert (facts["T"], facts["trained_T"], facts["format"]) == (4, 3, "snnkd-network")


def test_the_same_network_gives_the_same_bytes_and_no_places(made, tmp_path):
    source, path = made
    export.write(tmp_path / "again", source)
    content = path.read_bytes()
    assert (tmp_path / "again").read_bytes() == content
    assert b"snnkd/models" not in content
    assert b".py" not in content


def test_one_flipped_weight_is_found(made, tmp_path):
    source, path = made
    model = onnx.load(path)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("head.weight")]
    weights = onnx.numpy_helper.to_array(tensor).copy()
    weights.flat[0] *= -1
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    onnx.save(model, tmp_path / "flipped")
    found = compare(source.logits, export.read_back(tmp_path / "flipped"), IMAGES)
    assert not is_faithful(found, export.TOLERANCE, source.loaded.network, source.logits, IMAGES)


def test_a_teacher_has_one_timestep(tmp_path):
    source = source_of(tmp_path / "run", network_of(T=None), T=1)
    export.write(tmp_path / "model", source)
    answer = export.read_back(tmp_path / "model")
    assert answer(IMAGES).shape == (1, 12, 10)
    assert compare(source.logits, answer, IMAGES).max_difference < 1e-4
