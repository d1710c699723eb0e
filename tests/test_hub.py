"""Teachers and initial weights of a hub, served here, and of the libraries that publish weights."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Cli, random_npz
from models.foreign import ResNet, used
from safetensors.torch import save_file
from torch import nn

import snnkd
from snnkd.models import Specification, build_network
from snnkd.models.files import save_network
from snnkd.models.hub import hub_config, hub_weights
from snnkd.schema.model import ResNetConfig

hub = pytest.importorskip("huggingface_hub")

STUDENT = ["--T", 1, "--loss", "kl", "--allow-weak-teacher", "--epochs", 1, "--batch-size", 50]
STUDENT += ["--set", "model.width=4"]


class Hub(BaseHTTPRequestHandler):
    """Serves `OWNER/NAME/resolve/REVISION/FILE` from the folder `hub`, as the Hugging Face hub does."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, send: bool) -> None:
        owner, name, _, _, *rest = self.path.lstrip("/").split("/")
        self.requests.append(self.path)
        repository = Path("hub", owner, name)
        path = repository.joinpath(*rest)
        content = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if path.is_file() else 404)
        if path.is_file():
            self.send_header("ETag", f'"{abs(hash(content))}"')
            self.send_header("X-Repo-Commit", "1" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound" if repository.is_dir() else "RepoNotFound")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if send:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self._answer(True)
            return
        if not self.path.startswith("/api/models/"):
            self._reply(404, {})
            return
        self.requests.append(self.path)
        repository = Path("hub", *self.path.split("/")[3:5])
        files = sorted(path.name for path in repository.glob("*"))
        info = {"id": "/".join(repository.parts[1:]), "private": ".private" in files}
        siblings = [{"rfilename": name} for name in files]
        self._reply(200, info | {"siblings": siblings}) if repository.is_dir() else self._reply(404, {})

    def do_POST(self) -> None:
        """Creates repositories and commits files, for the token hf_secret."""
        self.requests.append(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_secret":
            self._reply(401, {"error": "Invalid credentials in Authorization header"})
            return
        action = self.path.strip("/").split("/")
        if action[1:] == ["repos", "create"]:
            wanted = json.loads(content)
            repository = Path("hub", wanted["organization"], wanted["name"])
            repository.mkdir(parents=True, exist_ok=True)
            (repository / ".gitattributes").touch()
            if wanted.get("visibility") == "private":
                (repository / ".private").touch()
            self._reply(200, {"url": f"http://{self.headers['Host']}/{'/'.join(repository.parts[1:])}"})
        elif action[1:] == ["validate-yaml"]:
            self._reply(200, {"errors": [], "warnings": []})
        elif action[4] == "preupload":
            paths = [file["path"] for file in json.loads(content)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._reply(200, {"files": files})
        else:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    path = Path("hub", *action[2:4], line["value"]["path"])
                    path.write_bytes(base64.b64decode(line["value"]["content"]))
            url = f"http://{self.headers['Host']}/{action[2]}/{action[3]}/commit/{'1' * 40}"
            self._reply(200, {"commitUrl": url, "commitOid": "1" * 40})

    def _reply(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that a hub, served from the folder `hub`, was asked for."""
    handler = type("Handler", (Hub,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that leaves early
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    use_endpoint(monkeypatch, url)
    yield handler.requests  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """As HF_ENDPOINT and HF_HUB_CACHE do for a new process."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(Path("cache").absolute()))


def published(network: nn.Module, config: dict[str, Any], name: str = "some/net") -> None:
    folder = Path("hub", name)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), folder / "model.safetensors")


INPUT = {"input_size": [3, 16, 16], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "num_classes": 10}


def test_a_timm_resnet_with_a_small_stem(cli: Cli, requests: list[str]) -> None:
    torch.manual_seed(0)
    network = used(ResNet(4, (2, 2, 2, 2), "downsample", "fc"))
    published(network, {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": INPUT})
    data = random_npz("ten.npz", 10, channels=(3,))
    words = ["distill", "--data", data, *STUDENT, "--teacher", "hf-hub:some/net"]
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert "teacher: hf-hub:some/net, as resnet18, in names of chenyaofo" in done.err
    assert "teacher input: 3x16x16, mean [0.5, 0.5, 0.5], std [0.25, 0.25, 0.25]" in done.err
    assert done.json["teacher"]["run"] == "hf-hub:some/net"
    assert any(path.startswith("/some/net/resolve/main/") for path in requests)
    recipe = Path(done.json["run"]) / "recipe.yaml"
    assert "hf-hub:some/net" in recipe.read_text()
    assert "already done" in cli("distill", recipe).err
    published(used(ResNet(4, (2, 2, 2, 2), "downsample", "fc")), {"architecture": "resnet18"}, "other/net")
    shutil.copy("hub/other/net/model.safetensors", "hub/some/net/model.safetensors")
    shutil.rmtree("cache")
    changed = cli("distill", recipe)
    assert changed.code == 3
    assert "weights have sha256" in changed.complaint
    no_input = cli(*words[:-1], "hf-hub:other/net")
    assert no_input.code == 3
    assert "hf-hub:other/net: config.json: 'mean'" in no_input.complaint


def test_a_revision_and_safetensors_are_what_is_downloaded(requests: list[str]) -> None:
    published(nn.Linear(2, 2), {"architecture": "resnet18"})
    Path("hub/some/net/pytorch_model.bin").write_bytes(b"a pickle")
    assert hub_config("hf-hub:some/net@v2")[1] == {"architecture": "resnet18"}
    assert hub_weights("hf-hub:some/net@v2").states[""].keys() == {"weight", "bias"}
    assert requests
    assert all(path.startswith("/some/net/resolve/v2/") for path in requests), requests
    assert not any(path.endswith(".bin") for path in requests)


def test_an_export_of_ours_teaches_and_initialises(cli: Cli, requests: list[str]) -> None:
    taught = cli("teach", *SMALL).folder
    listed = cli("push", taught, "lab/teacher", "--dry-run")
    assert [line.split()[0] for line in listed.out.splitlines()] == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert (listed.code, requests, Path("hub").exists()) == (0, [], False)
    pushed = cli("push", taught, "lab/teacher", "--private")
    assert (pushed.code, pushed.out.endswith("/lab/teacher\n")) == (0, True), pushed.err
    assert {path.name for path in Path("hub/lab/teacher").iterdir()} == {
        *(".gitattributes", ".private"),
        *("README.md", "config.json", "model.safetensors"),
    }
    assert cli("push", taught, "lab/teacher", "--json").json["commit"] == "1" * 40, "another version of it"
    name = "hf-hub:lab/teacher"
    assert f'snnkd.load("{name}")' in Path("hub/lab/teacher/README.md").read_text()
    measured = cli("eval", name, "--json")
    assert measured.code == 0, measured.err
    own = json.loads((taught / "result.json").read_text())
    assert (measured.json["run"], measured.json["curve"]) == (name, own["curve"])
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(snnkd.load(name)(images), snnkd.load(taught)(images))
    in_no_folder = cli("export", name)
    assert (in_no_folder.code, f"--out: {name} is no folder to export into" in in_no_folder.complaint) == (
        2,
        True,
    )
    words = ["distill", *SMALL, "--T", 1, "--allow-weak-teacher", "--loss", "kl", "--teacher", name]
    done = cli(*words, "--init", name, "--json")
    assert done.code == 0, done.err
    assert f"teacher: {name}" in done.err
    assert f"initial weights: {name}" in done.err
    assert done.json["teacher"]["run"] == name


def test_a_network_of_timm_from_the_hub(cli: Cli, requests: list[str]) -> None:
    timm = pytest.importorskip("timm")
    config = {
        "architecture": "test_resnet",
        "num_classes": 10,
        "label_names": [*"abcdefghij"],
        "pretrained_cfg": INPUT | {"input_size": [3, 32, 32]},
    }
    published(timm.create_model("test_resnet", num_classes=10), config)
    data = random_npz("ten.npz", 10, size=32, channels=(3,))
    done = cli("distill", "--data", data, *STUDENT, "--teacher", "hf-hub:some/net")
    assert done.code == 0, done.err
    assert "teacher: hf-hub:some/net, as timm:hf-hub:some/net" in done.err
    assert "3x32x32, mean [0.5, 0.5, 0.5]" in done.err
    assert f"{data} has no class names; matched with hf-hub:some/net by number" in done.err
    words = ["teach", "--data", data, "--model", "timm:hf-hub:some/net", "--epochs", 1, "--batch-size", 50]
    tuned = cli(*words, "--init", "pretrained")
    assert tuned.code == 0, tuned.err
    assert "initial weights: hf-hub:some/net" in tuned.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "eva_giant_patch14_224"}, "too few for timm:hf-hub:some/net as described"),
        (
            {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {}, "model_args": {"img_size": 10**6}},
            "too few for timm:hf-hub:some/net as described",
        ),
        ({"architecture": "no_such_network"}, "timm cannot build it: RuntimeError: Unknown model"),
        ({"pretrained_cfg": INPUT | {"input_size": [3, 10**6, 10**6]}}, "teacher.size: 1000000 is too large"),
        ({"pretrained_cfg": INPUT | {"mean": "grey"}}, "teacher.mean: 'grey' is not a list"),
        ({"pretrained_cfg": 3}, "config.json: "),
    ],
)
def test_a_config_of_the_hub_that_asks_for_too_much(
    cli: Cli, requests: list[str], change: dict[str, Any], message: str
) -> None:
    pytest.importorskip("timm")
    published(nn.Linear(3, 10), {"architecture": "test_resnet", "num_classes": 10} | change)
    refused = cli("distill", "--data", random_npz("ten.npz", 10), *STUDENT, "--teacher", "hf-hub:some/net")
    assert refused.code == 3, refused.err
    assert message in refused.complaint


def test_pretrained_weights_of_a_library(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    torch.manual_seed(0)
    network = models.mobilenet_v3_small(weights=None, num_classes=10)
    monkeypatch.setattr("snnkd.models.hub._library_network", lambda library, member: network)
    words = ["--data", random_npz("ten.npz", 10, size=32, channels=(3,)), *STUDENT]
    words += [
        "--teacher",
        "torchvision:mobilenet_v3_small",
        "--teacher-weights",
        "pretrained",
        "--set",
        "teacher.size=32",
    ]
    done = cli("distill", *words, "--json")
    assert done.code == 0, done.err
    assert "teacher: pretrained, as torchvision:mobilenet_v3_small" in done.err
    again = cli("distill", Path(done.json["run"]) / "recipe.yaml")
    assert "already done" in again.err
    monkeypatch.setattr(
        "snnkd.models.hub._library_network", lambda *_: models.mobilenet_v3_small(num_classes=12)
    )
    refused = cli("distill", *words)
    assert refused.code == 3
    assert "pretrained: the teacher has 12 classes, the data 10" in refused.complaint


def test_without_a_network_there_is_one_line(
    cli: Cli, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["distill", *SMALL, "--T", 1, "--loss", "kl", "--teacher"]
    absent = cli(*words, "hf-hub:some/net")
    assert absent.code == 3
    assert "hf-hub:some/net: no such repository, or a private one" in absent.complaint
    Path("hub/some/net").mkdir(parents=True)
    empty = cli(*words, "hf-hub:some/net")
    assert "hf-hub:some/net: the repository has no config.json" in empty.complaint
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = cli(*words, "hf-hub:some/net")
    assert offline.code == 3
    assert "hf-hub:some/net: weights not loaded (" in offline.complaint
    monkeypatch.setattr(
        "snnkd.models.hub._library_network", lambda *_: (_ for _ in ()).throw(OSError("no route"))
    )
    library = cli(*words, "torchvision:resnet18", "--teacher-weights", "pretrained")
    assert library.code == 3
    assert "torchvision:resnet18: weights not loaded (no route); connect" in library.complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "hf-hub:name"], "is not hf-hub:OWNER/NAME"),
        (["--teacher", "hf-hub:a/b", "--teacher-model", "resnet8"], "remove --teacher-model"),
        (
            ["--teacher", "pretrained", "--teacher-model", "resnet8"],
            "pretrained weights exist for torchvision and timm",
        ),
        (["--teacher", "pretrained"], "pretrained weights exist for torchvision and timm"),
        (["--init", "pretrained"], "resnet8 has no published weights"),
    ],
)
def test_names_are_checked_before_anything_is_downloaded(cli: Cli, words: list[str], message: str) -> None:
    refused = cli("distill", "--loss", "kl", *words)
    assert refused.code == 2, refused.err
    assert message in refused.complaint


@pytest.fixture
def run() -> Path:
    """A finished run whose network has learned nothing; its data need not be read."""
    network = build_network(specification(ResNetConfig(name="resnet8", width=4), None))
    Path("run").mkdir()
    save_network(
        Path("run"),
        network,
        {"data": {"name": "glyphs", "classes": 10, "train_images": 10, "test_images": 10}},
    )
    Path("run/result.json").write_text("{}")
    return Path("run")


def specification(model: ResNetConfig, neuron: Any) -> Specification:
    return Specification(model=model, neuron=neuron, classes=10, shape=(1, 16, 16))


def test_uploads_that_are_refused(
    cli: Cli, requests: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for repository, files in (("lab/other", ["weights.bin"]), ("lab/public", ["config.json"])):
        Path("hub", repository).mkdir(parents=True)
        for name in files:
            Path("hub", repository, name).write_text('{"format": "snnkd-network"}')
    for words, code, message in (
        (["run", "lab"], 2, "'lab' is not OWNER/NAME"),
        (["absent", "lab/net"], 3, "absent: no such folder"),
        (["run", "lab/other"], 3, "lab/other: holds other files than an export of snnkd"),
        (["run", "lab/public", "--private"], 3, "lab/public: exists and is public"),
    ):
        refused = cli("push", *words)
        assert (refused.code, message in refused.complaint) == (code, True), refused.err
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    wrong = cli("push", run, "lab/net")
    assert (wrong.code, "lab/net: not uploaded (" in wrong.complaint) == (3, True), wrong.err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "no-such-file")
    no_login = cli("push", run, "lab/net")
    assert (no_login.code, "lab/net: no login of the hub; run `hf auth login`" in no_login.complaint) == (
        3,
        True,
    )
    (run / "result.json").unlink()
    unfinished = cli("push", run, "lab/net", "--dry-run")
    assert (unfinished.code, "run: not a finished run" in unfinished.complaint) == (3, True)
    assert not Path("hub/lab/net").exists()


def test_a_network_of_another_library_is_only_a_teacher(cli: Cli, requests: list[str]) -> None:
    published(nn.Linear(2, 2), {"architecture": "resnet18"})
    refused = cli("eval", "hf-hub:some/net")
    assert (refused.code, "hf-hub:some/net: not an export of snnkd" in refused.complaint) == (3, True)
    malformed = cli("eval", "hf-hub:some")
    assert (malformed.code, "'hf-hub:some' is not hf-hub:OWNER/NAME" in malformed.complaint) == (2, True)


def test_the_endpoint_of_the_environment(requests: list[str], run: Path, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_TOKEN and HF_HOME themselves, in a process of its own."""
    code = (
        "import sys, snnkd; from snnkd.cli import main; sys.argv = ['snnkd', 'push', 'run', 'lab/net']\n"
        "try: main()\nexcept SystemExit as ended: assert not ended.code\n"
        "print(snnkd.load('hf-hub:lab/net').specification.classes)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-c", code]
    ended = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "10"
    assert "/api/models/lab/net/commit/main" in requests
    assert "/lab/net/resolve/main/model.safetensors" in requests
    assert (tmp_path / "home/hub/models--lab--net").is_dir()
