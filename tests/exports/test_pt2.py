"""torch.export: a file that loads without SpikingJelly and snnkd, any batch size, and that a changed weight is found."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import torch
from students import IMAGES, network_of, source_of

from snnkd.exports import pt2 as export
from snnkd.exports.agreement import compare, is_faithful


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("pt2")
    source = source_of(root / "run")
    export.write(root / "model", source)
    return source, root / "model"


def test_the_program_answers_as_the_network(made):
    source, path = made
    found = compare(source.logits, export.read_back(path), IMAGES)
    assert is_faithful(found, export.TOLERANCE, source.loaded.network, source.logits, IMAGES)
    assert (found.agreement, found.median_difference < 1e-5) == (1.0, True)


def test_any_batch_size(made):
    _, path = made
    answer = export.read_back(path)
    for count in (1, 2, 7):
        assert answer(IMAGES[:count]).shape == (3, count, 10)


ALONE = """
import importlib.abc, json, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("spikingjelly", "snnkd"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Blocked())
import torch
extra = {"snnkd.json": ""}
with open(sys.argv[1], "rb") as file:
    program = torch.export.load(file, extra_files=extra)
with torch.no_grad():
    torch.save(program.module()(torch.load(sys.argv[2], weights_only=True)), sys.argv[3])
print(json.loads(extra["snnkd.json"])["T"])
"""


def test_it_loads_where_spikingjelly_is_not(made, tmp_path):
    source, path = made
    torch.save(IMAGES, tmp_path / "images")
    words = [str(path), str(tmp_path / "images"), str(tmp_path / "logits")]
    done = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3\n"
    logits = torch.load(tmp_path / "logits", weights_only=True)
    assert compare(source.logits, lambda images: logits, IMAGES).median_difference < 1e-5


def test_what_the_program_says_of_itself(made):
    source, path = made
    extra = {export.METADATA: ""}
    torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
    facts = json.loads(extra[export.METADATA])
    assert facts["weights_sha256"] == source.loaded.sha256
    assert (facts["T"], facts["classes"], facts["input"]) == (3, 10, [3, 16, 16])


def test_the_same_network_gives_the_same_bytes_and_no_places(made, tmp_path):
    source, path = made
    export.write(tmp_path / "other-name", source)
    assert (tmp_path / "other-name").read_bytes() == path.read_bytes()
    assert b"snnkd/models" not in path.read_bytes()


def test_one_flipped_weight_is_found(made, tmp_path):
    """The head's first, in the zip that the file is."""
    source, path = made
    head = source.loaded.network.body.head.weight.detach().contiguous().numpy().tobytes()
    flipped = bytearray(head)
    flipped[3] ^= 0x80  # the sign of the first
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "flipped", "w") as new:
        changed = 0
        for item in old.infolist():
            content = old.read(item)
            changed += content == head
            new.writestr(item, bytes(flipped) if content == head else content)
    assert changed == 1
    found = compare(source.logits, export.read_back(tmp_path / "flipped"), IMAGES)
    assert not is_faithful(found, export.TOLERANCE, source.loaded.network, source.logits, IMAGES)


def test_a_neuron_that_learns(tmp_path):
    source = source_of(tmp_path / "run", network_of(neuron="plif"))
    export.write(tmp_path / "model", source)
    assert compare(source.logits, export.read_back(tmp_path / "model"), IMAGES).median_difference < 1e-5


def test_event_frames_and_any_number_of_samples(tmp_path):
    source = source_of(tmp_path / "run", network_of(shape=(2, 16, 16), frames=4))
    export.write(tmp_path / "model", source)
    events = torch.rand(4, 5, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    found = compare(source.logits, export.read_back(tmp_path / "model"), events)
    assert (found.images, found.median_difference < 1e-5) == (5, True)
