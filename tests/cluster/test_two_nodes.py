"""torchrun on two machines, which are two network namespaces: the network cut, an agent killed or stopped.

`.ci/cluster` runs these tests; they need root and iproute2, and no Slurm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.slurm import CODE, install_commands, run_in_shell, wait_until, weights, write_recipes

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]
TIMEOUT = 30
"""execution.timeout of these runs, in seconds."""
TRAIN = f"snnkd run ./small.yaml {CODE} --set execution.timeout={TIMEOUT}"
MACHINES = ("snnkd-a", "snnkd-b")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    """Two namespaces with a cable between them, and a loopback, host name and hosts file each."""
    for name in MACHINES:
        _ip("netns", "add", name)
        hosts = Path(f"/etc/netns/{name}/hosts")  # `ip netns exec` shows it as /etc/hosts
        hosts.parent.mkdir(parents=True)
        hosts.write_text("127.0.0.1 localhost\n10.79.0.1 snnkd-a\n10.79.0.2 snnkd-b\n")
    try:
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            "snnkd-a",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            "snnkd-b",
        )
        for number, name in enumerate(MACHINES):
            _ip("-n", name, "addr", "add", f"10.79.0.{number + 1}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield
    finally:
        for name in MACHINES:
            _ip("netns", "del", name)
            shutil.rmtree(f"/etc/netns/{name}")


@contextlib.contextmanager
def cut() -> Iterator[None]:
    _ip("-n", "snnkd-b", "link", "set", "eth0", "down")
    try:
        yield
    finally:
        _ip("-n", "snnkd-b", "link", "set", "eth0", "up")


class Machines:
    """The same command on both machines, as `srun` starts it; `agents` are the launchers."""

    def __init__(self, port: int) -> None:
        self.agents = [self._start(number, port) for number in range(2)]

    def _start(self, number: int, port: int) -> subprocess.Popen[str]:
        address = f"10.79.0.{number + 1}"
        launcher = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 10.79.0.1:{port}"
        inside = (
            f"hostname {MACHINES[number]} && exec python -m snnkd.torchrun {launcher} "
            f"--rdzv-id {port} --local-addr {address} -m {TRAIN}"
        )
        words = ["ip", "netns", "exec", MACHINES[number], "unshare", "--uts", "sh", "-c", inside]
        with Path(f"{MACHINES[number]}.log").open("a") as log:
            return subprocess.Popen(
                words, env=os.environ | {"GLOO_SOCKET_IFNAME": "eth0"}, stdout=log, stderr=log, text=True
            )

    def log(self) -> str:
        return "\n".join(Path(f"{name}.log").read_text() for name in MACHINES)

    def wait_for_training(self) -> None:
        wait_until(lambda: list(Path("runs").glob("*/previous.pt")), 120, self.log)

    def worker(self, number: int) -> int:
        children = Path(f"/proc/{self.agents[number].pid}/task/{self.agents[number].pid}/children")
        (pid,) = children.read_text().split()
        return int(pid)

    def ends(self, seconds: float) -> list[int]:
        """The exit codes of both, which come within `seconds`; nothing is left behind."""
        end = time.monotonic() + seconds
        try:
            return [agent.wait(max(0.1, end - time.monotonic())) for agent in self.agents]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended within {seconds:g} s: {self.log()}") from None
        finally:
            for agent in self.agents:
                if agent.poll() is None:
                    agent.kill()
                    agent.wait()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> bytes:
    """The weights of two processes on one machine."""
    folder = tmp_path_factory.mktemp("one-machine")
    install_commands(folder / "bin")
    write_recipes(folder)
    launcher = "python -m snnkd.torchrun --standalone --nproc-per-node 2"
    done = run_in_shell(
        f"cd {folder} && PATH={folder}/bin:$PATH && {launcher} -m {TRAIN}", SNNKD_DATA=str(data_folder)
    )
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").iterdir()
    return weights(run)


@pytest.fixture(autouse=True)
def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    write_recipes(Path())


def check_continues(port: int, expected: bytes) -> None:
    machines = Machines(port)
    assert machines.ends(180) == [0, 0], machines.log()
    (run,) = Path("runs").iterdir()
    assert weights(run) == expected


def test_two_machines_compute_what_one_does(expected: bytes) -> None:
    check_continues(29611, expected)


def test_the_network_is_cut_for_a_while(expected: bytes) -> None:
    machines = Machines(29612)
    machines.wait_for_training()
    with cut():
        time.sleep(TIMEOUT / 2)
    assert machines.ends(180) == [0, 0], machines.log()
    (run,) = Path("runs").iterdir()
    assert weights(run) == expected


def test_the_network_is_cut_for_good(expected: bytes) -> None:
    machines = Machines(29613)
    machines.wait_for_training()
    with cut():
        codes = machines.ends(TIMEOUT + 120)
    assert all(codes), machines.log()
    for other, name in ((1, "snnkd-b"), (0, "snnkd-a")):
        assert f"snnkd: process {other} on {name} ended or does not answer (" in machines.log()
    check_continues(29614, expected)


@pytest.mark.parametrize(
    ("victim", "number"), [("worker", signal.SIGKILL), ("worker", signal.SIGSTOP), ("agent", signal.SIGKILL)]
)
def test_a_process_is_lost(expected: bytes, victim: str, number: signal.Signals) -> None:
    port = 29620 + 2 * number + (victim == "agent") * 50
    machines = Machines(port)
    machines.wait_for_training()
    os.kill(machines.agents[1].pid if victim == "agent" else machines.worker(1), number)
    assert all(machines.ends(TIMEOUT + 120)), machines.log()
    check_continues(port + 1, expected)
