"""torchrun on two machines, which are two network namespaces: the network cut, an agent killed or stopped.

`.ci/cluster` runs these tests; they need root and iproute2, and no Slurm.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from cluster.slurm import (
    CODE,
    PATIENCE,
    install_commands,
    only_run,
    run_in_shell,
    start_in_shell,
    wait_until,
    weights,
    write_recipes,
)

from snnkd.locks import local_locks
from snnkd.runs.lock import is_held

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]
TIMEOUT = 30
"""execution.timeout of these runs, in seconds."""
SUSPENDED = 10
"""That of runs whose launcher is suspended."""
TRAIN = f"snnkd run ./middle.yaml {CODE}"
MACHINES = ("snnkd-a", "snnkd-b")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
_ports = itertools.count(29611)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module", autouse=True)
def _network() -> Iterator[None]:
    """Two namespaces with a cable between them, and a loopback, host name and hosts file each."""
    for name in MACHINES:
        if Path(f"/run/netns/{name}").exists():  # of a test that was killed
            _ip("netns", "del", name)
        _ip("netns", "add", name)
        hosts = Path(f"/etc/netns/{name}/hosts")  # `ip netns exec` shows it as /etc/hosts
        hosts.parent.mkdir(parents=True, exist_ok=True)
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
    """The same command on both machines, as `srun` starts it; `agents` are the launchers.

    With `mounts`, a folder for each machine, these are its `runs`.
    """

    def __init__(self, port: int, timeout: int, mounts: Sequence[Path] = ()) -> None:
        self._since = time.time()
        self._mounts = mounts
        self.agents = [self._start(number, port, timeout) for number in range(2)]

    def _start(self, number: int, port: int, timeout: int) -> subprocess.Popen[str]:
        address = f"10.79.0.{number + 1}"
        launcher = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 10.79.0.1:{port}"
        mount = f"mount --bind {self._mounts[number]} runs && " if self._mounts else ""
        inside = (
            f"{mount}hostname {MACHINES[number]} && exec python -m snnkd.torchrun {launcher} "
            f"--rdzv-id {port} --local-addr {address} -m {TRAIN} --set execution.timeout={timeout}"
        )
        words = ["ip", "netns", "exec", MACHINES[number], "unshare", "--uts", "sh", "-c", inside]
        with Path(f"{MACHINES[number]}.log").open("a") as log:
            return subprocess.Popen(
                words, env=os.environ | {"GLOO_SOCKET_IFNAME": "eth0"}, stdout=log, stderr=log, text=True
            )

    def log(self) -> str:
        return "\n".join(Path(f"{name}.log").read_text() for name in MACHINES)

    def wait_for_training(self) -> None:
        """Wait for a checkpoint of this start."""
        wait_until(
            lambda: [path for path in Path("runs").glob("*/last.pt") if path.stat().st_mtime > self._since],
            PATIENCE,
            self.log,
        )

    def worker(self, number: int) -> int:
        children = Path(f"/proc/{self.agents[number].pid}/task/{self.agents[number].pid}/children")
        (pid,) = children.read_text().split()
        return int(pid)

    def wait(self, *numbers: int) -> list[int]:
        """The exit codes of the launchers, of both by default."""
        waited = [self.agents[number] for number in numbers or range(2)]
        wait_until(lambda: None not in [agent.poll() for agent in waited], PATIENCE, self.log)
        return [agent.returncode for agent in waited]

    def kill(self) -> None:
        """End the launchers that are left; their processes end with them."""
        for agent in self.agents:
            if agent.poll() is None:
                agent.kill()
            agent.wait()


Start = Callable[..., Machines]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start()` starts the command on both machines; what is left of it is ended with the test."""
    started = []

    def start(timeout: int = TIMEOUT, mounts: Sequence[Path] = ()) -> Machines:
        started.append(Machines(next(_ports), timeout, mounts))
        return started[-1]

    yield start
    for machines in started:
        machines.kill()


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
    return weights(only_run(folder / "runs"))


@pytest.fixture(autouse=True)
def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    write_recipes(Path())


def test_the_network_is_cut_for_a_while(start: Start, expected: bytes) -> None:
    """TCP tries again ever more rarely: 51 s after the cut."""
    machines = start(timeout=120)
    machines.wait_for_training()
    with cut():
        time.sleep(30)
    assert machines.wait() == [0, 0], machines.log()
    assert weights(only_run(Path("runs"))) == expected


def kill_worker(machines: Machines, machine: int) -> None:
    os.kill(machines.worker(machine), signal.SIGKILL)
    codes = machines.wait()
    assert (codes[machine], codes[1 - machine]) == (137, 75), machines.log()
    assert f"snnkd: process {machine} on {MACHINES[machine]} was killed by SIGKILL; " in machines.log()


def stop_worker(machines: Machines, machine: int) -> None:
    """It is killed by its launcher, which loses the other, and counts as lost, not as failed."""
    os.kill(machines.worker(machine), signal.SIGSTOP)
    assert machines.wait() == [75, 75], machines.log()


def kill_launcher(machines: Machines, machine: int) -> None:
    """Its process saves and ends, as after SIGTERM."""
    machines.agents[machine].kill()
    codes = machines.wait()
    assert (codes[machine], codes[1 - machine]) == (-signal.SIGKILL, 75), machines.log()


def stop_launcher(machines: Machines, machine: int) -> None:
    """Both processes save and end; the stopped launcher ends when it runs again."""
    machines.agents[machine].send_signal(signal.SIGSTOP)
    codes = machines.wait(1 - machine)
    machines.agents[machine].send_signal(signal.SIGCONT)
    assert [*codes, *machines.wait(machine)] == [75, 75], machines.log()
    asked = (
        rf"^snnkd: stopped by the launcher on {MACHINES[machine]} \(suspended for {SUSPENDED} s\) in epoch "
    )
    assert re.search(asked, machines.log(), re.MULTILINE), machines.log()


def cut_for_good(machines: Machines, machine: int) -> None:
    """Both processes end, and the launcher far from the first, which asks it in vain, 90 seconds later."""
    with cut():
        assert machines.wait() == [75, 75], machines.log()
    assert lost(0).search(machines.log()), machines.log()


def lost(machine: int) -> re.Pattern[str]:
    """The line of the other machine: its process's, unless the first machine's launcher has ended before it."""
    launcher = r"|10\.79\.0\.1:\d+: the launcher there ended" if machine == 0 else ""
    return re.compile(
        rf"^snnkd: (process 1 of 2: )?(process {machine} on {MACHINES[machine]} ended{launcher}) or does not",
        re.MULTILINE,
    )


def test_all_that_is_lost(start: Start, expected: bytes) -> None:
    """One fault after another; each time the same command continues. Weights as if nothing had happened."""
    faults = [
        (stop_launcher, 0),  # training goes on meanwhile, and must not come to its end
        (stop_launcher, 1),
        (kill_worker, 0),
        (kill_worker, 1),
        (stop_worker, 1),
        (kill_launcher, 0),
        (kill_launcher, 1),
        (cut_for_good, 1),
    ]
    for strike, machine in faults:
        for name in MACHINES:
            Path(f"{name}.log").unlink(missing_ok=True)
        machines = start(SUSPENDED if strike is stop_launcher else TIMEOUT)
        machines.wait_for_training()
        strike(machines, machine)
        assert strike in (kill_launcher, stop_launcher) or lost(machine).search(machines.log()), (
            machines.log()
        )
        assert "frame #" not in machines.log()
        assert "Traceback" not in machines.log()
    machines = start()
    machines.wait_for_training()
    assert "continuing in epoch" in machines.log()
    assert machines.wait() == [0, 0], machines.log()
    assert weights(only_run(Path("runs"))) == expected


@pytest.fixture
def sshfs(tmp_path: Path) -> Iterator[list[Path]]:
    """One folder, `server`, that each machine has mounted through sshfs, without the ssh."""
    (tmp_path / "server").mkdir()
    (tmp_path / "runs").mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\nexec {SFTP_SERVER}\n")
    ssh.chmod(0o755)
    mounts = [tmp_path / "mount-a", tmp_path / "mount-b"]
    try:
        for mount in mounts:
            mount.mkdir()
            words = ["sshfs", "-o", f"ssh_command={ssh}", f"server:{tmp_path / 'server'}", str(mount)]
            subprocess.run(words, check=True)
        yield mounts
    finally:
        _unmount(mounts)


def _unmount(mounts: list[Path]) -> None:
    for mount in mounts:
        subprocess.run(["umount", "--lazy", mount], check=False)


@pytest.mark.skipif(
    shutil.which("sshfs") is None or not SFTP_SERVER.exists(), reason="needs sshfs and openssh-sftp-server"
)
def test_a_file_system_whose_locks_stay_local(start: Start, sshfs: list[Path], expected: bytes) -> None:
    """sshfs shares files and renames, not flock: a warning says so, and a run of one job is as everywhere."""
    assert local_locks(sshfs[0]) == "fuse.sshfs"
    machines = start(mounts=sshfs)
    wait_until(lambda: list(sshfs[0].glob("*/previous.pt")), PATIENCE, machines.log)
    assert re.search(
        r"^warning: the lock of runs/\S+ is not seen on snnkd-b; start this run nowhere else at the same time$",
        machines.log(),
        re.MULTILINE,
    )
    run = only_run(sshfs[0])
    assert is_held(run)
    assert not is_held(sshfs[1] / run.name)
    kill_worker(machines, 1)
    again = start(mounts=sshfs)
    assert again.wait() == [0, 0], again.log()
    assert "continuing in epoch" in again.log()
    assert weights(only_run(Path("server"))) == expected


SERVER = """
volume posix
  type storage/posix
  option directory {folder}
end-volume
volume locks
  type features/locks
  subvolumes posix
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.listen-port 24017
  option auth.addr.locks.allow *
  subvolumes locks
end-volume
"""
CLIENT = """
volume remote
  type protocol/client
  option transport-type tcp
  option remote-host 10.79.0.1
  option remote-port 24017
  option remote-subvolume locks
  option ping-timeout 10
end-volume
volume write-behind
  type performance/write-behind
  subvolumes remote
end-volume
volume quick-read
  type performance/quick-read
  subvolumes write-behind
end-volume
volume md-cache
  type performance/md-cache
  subvolumes quick-read
end-volume
"""


@pytest.fixture
def glusterfs(tmp_path: Path) -> Iterator[list[Path]]:
    """A volume of GlusterFS that the first machine serves and each machine has mounted, with the usual caches."""
    (tmp_path / "server").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "server.vol").write_text(SERVER.format(folder=tmp_path / "server"))
    (tmp_path / "client.vol").write_text(CLIENT)
    mounts = [tmp_path / "mount-a", tmp_path / "mount-b"]
    pid = tmp_path / "server.pid"
    log = f"--log-file={tmp_path / 'gluster.log'}"

    def on(machine: int, *words: str) -> None:
        subprocess.run(["nsenter", f"--net=/run/netns/{MACHINES[machine]}", *words, log], check=True)

    try:
        on(0, "glusterfsd", f"--volfile={tmp_path / 'server.vol'}", f"--pid-file={pid}")
        for machine, mount in enumerate(mounts):
            mount.mkdir()
            on(machine, "glusterfs", f"--volfile={tmp_path / 'client.vol'}", str(mount))
        yield mounts
    finally:
        _unmount(mounts)
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)


NEEDS_GLUSTERFS = pytest.mark.skipif(shutil.which("glusterfsd") is None, reason="needs glusterfs-server")


@NEEDS_GLUSTERFS
def test_a_network_file_system(start: Start, glusterfs: list[Path], expected: bytes) -> None:
    """GlusterFS shares files, renames and flock."""
    assert local_locks(glusterfs[0]) is None
    machines = start(mounts=glusterfs)
    wait_until(lambda: list(glusterfs[0].glob("*/previous.pt")), PATIENCE, machines.log)
    assert "the lock of" not in machines.log()
    run = only_run(glusterfs[0])
    assert is_held(run)
    assert is_held(glusterfs[1] / run.name)
    kill_worker(machines, 1)
    again = start(mounts=glusterfs)
    assert again.wait() == [0, 0], again.log()
    assert "continuing in epoch" in again.log()
    assert weights(only_run(glusterfs[1])) == expected


@NEEDS_GLUSTERFS
def test_a_machine_is_cut_from_the_file_system(glusterfs: list[Path]) -> None:
    """Its process ends; another machine, which has waited for the lock, continues."""
    undisturbed = start_in_shell(TRAIN, SNNKD_RUNS="undisturbed")
    there = start_in_shell(TRAIN, SNNKD_RUNS=str(glusterfs[1]))
    wait_until(lambda: list(glusterfs[0].glob("*/previous.pt")), PATIENCE, lambda: "no checkpoint")
    here = start_in_shell(f"{TRAIN} --set execution.wait={PATIENCE}", SNNKD_RUNS=str(glusterfs[0]))
    with cut():
        _, err = there.communicate(timeout=PATIENCE)
        assert there.returncode == 3, err
        assert re.search(r"^snnkd: \S+: transport endpoint is not connected; ", err, re.MULTILINE)
        _, err = here.communicate(timeout=PATIENCE)
        assert here.returncode == 0, err
    assert "continuing in epoch" in err
    _, err = undisturbed.communicate()
    assert undisturbed.returncode == 0, err
    assert weights(only_run(glusterfs[0])) == weights(only_run(Path("undisturbed")))
