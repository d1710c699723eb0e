"""NFS between machines with a kernel of their own: one serves a folder, two have it mounted.

`.ci/cluster` runs these tests; they need root and user-mode Linux, and no Slurm: see machines.py.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from cluster.machines import PATIENCE, Done, Machine, cable, many_pages, missing
from cluster.slurm import CODE, install_commands, only_run, run_in_shell, wait_until, weights, write_recipes

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(missing() is not None, reason=str(missing()))]
CHECKOUT = Path(__file__).parents[2]
TRAIN = f"run ./small.yaml {CODE}"
SHARED = "/mnt/shared"
"""Where the clients have the served folder."""
NAMES = ("client-a", "client-b")
LEASE = 10
"""Seconds after which the server forgets a silent client, the least that Linux takes; 90 by default."""
GRACE = 90
"""Seconds in which a restarted server gives locks back, Linux's default: clients may take a minute to notice."""
START_STATD = """
set -e
mkdir -p /var/lib/nfs/sm
pgrep rpcbind || rpcbind
pgrep rpc.statd || rpc.statd --no-notify
"""
"""What the locks of version 3 need on each machine."""
SERVE = f"""{START_STATD}
mkdir -p /mnt/served /run/rpc_pipefs /var/lib/nfs/nfsdcld
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount /dev/ubda /mnt/served
mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
mount -t nfsd nfsd /proc/fs/nfsd
echo {LEASE} > /proc/fs/nfsd/nfsv4leasetime
echo {GRACE} > /proc/fs/nfsd/nfsv4gracetime
sysctl -q fs.nfs.nlm_grace_period={LEASE}
nfsdcld
exportfs -i -o rw,no_root_squash,no_subtree_check,fsid=0 '*:/mnt/served'
rpc.mountd -p 20048
rpc.nfsd 2
"""


class Nfs:
    """The server and the clients; `mount` makes the served folder a client's `SHARED`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cables = [cable() for _ in NAMES]
        disk = folder / "disk"
        with disk.open("wb") as file:
            file.truncate(2**30)
        subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
        ends = [(end, f"10.80.{number}.1/24") for number, (end, _) in enumerate(self._cables)]
        self.server = Machine("server", folder, ends, "512M", [disk])
        self.clients = [self._start(number) for number in range(len(NAMES))]
        self.server.run(SERVE)
        for number in range(len(NAMES)):
            self.mount(number)

    def _start(self, number: int) -> Machine:
        return Machine(NAMES[number], self.folder, [(self._cables[number][1], f"10.80.{number}.2/24")])

    def mount(self, number: int, options: str = "vers=4.2", place: str = SHARED) -> None:
        client, export = self.clients[number], "/"
        if "vers=3" in options:
            client.run(START_STATD)
            options, export = f"{options},port=2049,mountport=20048,mountproto=tcp", "/mnt/served"
        client.run(f"mkdir -p {place} && mount -t nfs -o {options} 10.80.{number}.1:{export} {place}")

    def restart(self, number: int) -> None:
        """Start a client that was killed."""
        self.clients[number] = self._start(number)
        self.mount(number)

    def kill(self) -> None:
        for machine in (*self.clients, self.server):
            machine.kill()
        for each in self._cables:
            for end in each:
                end.close()


@pytest.fixture(scope="module")
def nfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nfs]:
    with many_pages():
        started = Nfs(tmp_path_factory.mktemp("nfs"))
        yield started
        started.kill()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> str:
    """The sha256 of the weights of a run on a local disk of the host."""
    folder = tmp_path_factory.mktemp("local")
    install_commands(folder / "bin")
    write_recipes(folder)
    done = run_in_shell(f"PATH={folder}/bin:$PATH snnkd {TRAIN}", folder, SNNKD_DATA=str(data_folder))
    assert done.returncode == 0, done.stderr
    return hashlib.sha256(weights(only_run(folder / "runs"))).hexdigest()


class Shared:
    """A folder of runs that both clients see, the recipes, and commands in them."""

    def __init__(self, nfs: Nfs, name: str, recipes: Path) -> None:
        self.nfs, self.runs, self.recipes = nfs, f"{SHARED}/{name}", recipes
        nfs.clients[0].run(f"mkdir {self.runs}")

    def _environment(self) -> str:
        return (
            f"cd {self.recipes} && mkdir -p /run/data && export OMP_NUM_THREADS=1 PYTHONPATH={CHECKOUT} "
            f"SNNKD_RUNS={self.runs} SNNKD_DATA=/run/data; "
        )

    def start(self, client: int, words: str) -> Future[Done]:
        """Start `snnkd WORDS`, whose output goes to a file and whose pid is kept."""
        script = f"echo $$ > /run/pid; exec {sys.executable} -m snnkd {words} >/run/out 2>&1"
        return self.nfs.clients[client].start(f"rm -f /run/out; {self._environment()}{script}")

    def start_python(self, client: int, code: str, *words: str, **variables: str) -> Future[Done]:
        """Start Python code as `start` starts snnkd."""
        (self.recipes / f"code{client}.py").write_text(code)
        given = " ".join(f"{name}={value}" for name, value in variables.items())
        command = f"{sys.executable} code{client}.py {' '.join(words)}"
        script = f"echo $$ > /run/pid; exec env {given} {command} >/run/out 2>&1"
        return self.nfs.clients[client].start(f"rm -f /run/out; {self._environment()}{script}")

    def call(self, client: int, words: str) -> Done:
        """The exit code and output of `snnkd WORDS`."""
        script = f"{self._environment()}{sys.executable} -m snnkd {words}"
        return self.nfs.clients[client].start(script).result(PATIENCE)

    def python(self, client: int, code: str, *words: str) -> str:
        """What Python code of a few lines prints."""
        return self.nfs.clients[client].run(
            f"{self._environment()}{sys.executable} - {' '.join(words)} <<'END'\n{code}\nEND\n"
        )

    def log(self, client: int) -> str:
        return self.nfs.clients[client].run("cat /run/out 2>/dev/null || true")

    def signal(self, client: int, name: str) -> None:
        self.nfs.clients[client].run(f"kill -{name} $(cat /run/pid)")

    def run(self, client: int) -> str:
        """The only run that this client sees."""
        (name,) = self.nfs.clients[client].run(f"ls {self.runs}").split()
        return f"{self.runs}/{name}"

    def is_held(self, client: int, run: str) -> bool:
        return self.python(client, IS_HELD, run) == "True\n"

    def sha256(self, client: int) -> str:
        """The sum of the weights of the only run."""
        return self.nfs.clients[client].run(f"sha256sum {self.run(client)}/model.safetensors").split()[0]

    def wait_for_training(self, client: int) -> None:
        """Wait until the run of this client has two checkpoints, then suspend it."""
        there = f"ls {self.runs}/*/previous.pt 2>/dev/null || true"
        wait_until(lambda: self.nfs.clients[client].run(there), PATIENCE, lambda: self.log(client))
        self.signal(client, "STOP")

    def wait_for_line(self, client: int, line: str) -> None:
        found = re.compile(line, re.MULTILINE)
        wait_until(lambda: found.search(self.log(client)), PATIENCE, lambda: self.log(client))


@pytest.fixture
def shared(nfs: Nfs, request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    write_recipes(tmp_path)
    return Shared(nfs, request.node.name, tmp_path)


IS_HELD = """
import sys
from pathlib import Path
from snnkd.runs.lock import is_held
print(is_held(Path(sys.argv[1])))
"""
HOLD = """
import sys, time
from pathlib import Path
from snnkd.runs.lock import Lock
with Lock(Path(sys.argv[1])):
    time.sleep(1000)
"""


@pytest.mark.parametrize("version", ["4.2", "4.1", "4.0", "3"])
def test_a_lock(shared: Shared, version: str) -> None:
    """The other client sees it, is told the holder, and may lock when the holder was killed."""
    clients, place = shared.nfs.clients, f"/mnt/version{version}"
    for number in range(len(clients)):
        shared.nfs.mount(number, f"vers={version}", place)
    run = f"{shared.runs}/run".replace(SHARED, place)
    shared.start_python(0, HOLD, run)
    wait_until(lambda: shared.is_held(1, run), PATIENCE, lambda: shared.log(0))
    assert shared.is_held(0, run)
    clients[0].run(f"echo '{{}}' > {run}/run.json")
    refused = shared.call(1, f"runs tag {run} mine")
    assert refused.returncode == 3, refused
    assert re.search(
        rf"^snnkd: {re.escape(run)}: held by process \d+ on client-a since ", refused.stderr, re.MULTILINE
    )
    shared.signal(0, "KILL")
    wait_until(lambda: not shared.is_held(1, run), 20, lambda: "still held")
    assert not shared.is_held(0, run)
    for client in clients:
        client.run(f"umount {place}")


WRITE = """
import sys, time
from pathlib import Path
from snnkd.files import write_json
from snnkd.runs.metrics import append_metrics, rewind_metrics
folder, number = Path(sys.argv[1]), 0
while not (folder / "reading").exists():
    time.sleep(0.1)
end = time.monotonic() + 20
while time.monotonic() < end:
    number += 1
    write_json(folder / "result.json", {"number": number, "text": "x" * (number % 7 * 10_000)})
    append_metrics(folder, {"epoch": number})
    if number % 10 == 0:
        rewind_metrics(folder, number)
write_json(folder / "result.json", {"number": -number})
"""
READ = """
import sys, time
from pathlib import Path
from snnkd.files import read_json
from snnkd.runs.metrics import read_metrics
folder, seen, number = Path(sys.argv[1]), set(), 0
(folder / "reading").touch()
while number >= 0:
    number = read_json(folder / "result.json")["number"]
    seen.add(number)
    epochs = [row["epoch"] for row in read_metrics(folder)]
    assert epochs == list(range(1, len(epochs) + 1)), epochs
print(len(seen), -number)
"""


def test_a_reader(shared: Shared) -> None:
    """It sees each file complete, old or new, while the other client replaces it.

    With attributes cached for a second: by default a client may look at an old file for up to a minute.
    """
    place = "/mnt/reader"
    for number in range(len(shared.nfs.clients)):
        shared.nfs.mount(number, "vers=4.2,actimeo=1", place)
    runs = shared.runs.replace(SHARED, place)
    shared.nfs.clients[0].run(f"echo '{{\"number\": 0}}' > {runs}/result.json")
    writer = shared.start_python(0, WRITE, runs)
    seen, written = map(int, shared.python(1, READ, runs).split())
    assert writer.result(PATIENCE).returncode == 0, shared.log(0)
    assert 5 < seen <= written + 1
    for client in shared.nfs.clients:
        client.run(f"umount {place}")


def test_killed_and_continued(shared: Shared, expected: str) -> None:
    """The same command waits on the other client, and continues there after a SIGKILL.

    Once more it is that client that is killed, with all that runs on it: the server keeps its lock for a lease.
    """
    killed = shared.start(0, TRAIN)
    shared.wait_for_training(0)
    vanished = shared.start(1, TRAIN)
    shared.wait_for_line(1, rf"^waiting for {shared.runs}/\S+, held by process \d+ on client-a since ")
    assert not vanished.done()
    shared.signal(0, "KILL")
    assert killed.result(PATIENCE).returncode in (137, -9)
    shared.wait_for_line(1, "^continuing in epoch ")
    shared.wait_for_line(1, "^epoch ")
    shared.signal(1, "STOP")
    last = shared.start(0, TRAIN)
    shared.wait_for_line(0, rf"^waiting for {shared.runs}/\S+, held by process \d+ on client-b since ")
    shared.nfs.clients[1].kill()
    done = last.result(PATIENCE)
    shared.nfs.restart(1)
    assert done.returncode == 0, shared.log(0)
    assert "continuing in epoch" in shared.log(0)
    assert shared.sha256(1) == expected


def test_the_server_is_stopped_for_a_while(shared: Shared, expected: str) -> None:
    """Half a minute; the client waits for it, and keeps its lock."""
    training = shared.start(0, TRAIN)
    shared.wait_for_training(0)
    run = shared.run(1)
    shared.nfs.server.run("rpc.nfsd 0")
    shared.signal(0, "CONT")
    time.sleep(30)
    shared.nfs.server.run("rpc.nfsd 2")
    assert shared.is_held(1, run)
    assert training.result(PATIENCE).returncode == 0, shared.log(0)
    assert shared.sha256(1) == expected


WARN = """
import sys
from pathlib import Path
from snnkd.console import Console
from snnkd.runs.lock import Lock, warn_of_local_locks
folder = Path(sys.argv[1])
with Lock(folder):
    warn_of_local_locks(folder, Console())
"""


@pytest.mark.parametrize("option", ["nolock", "local_lock=flock"])
def test_locks_that_stay_local(shared: Shared, option: str) -> None:
    """With these options of version 3, which are named: both clients lock one run."""
    there = "/mnt/local"
    shared.nfs.mount(1, f"vers=3,{option}", there)
    try:
        run = f"{shared.runs}/run"
        shared.start_python(0, HOLD, run)
        wait_until(lambda: shared.is_held(1, run), PATIENCE, lambda: shared.log(0))
        run = run.replace(SHARED, there)
        assert not shared.is_held(1, run)
        shared.start_python(1, WARN, run, SLURM_JOB_ID="17").result(PATIENCE)
        shared.signal(0, "KILL")
        assert shared.log(1) == (
            f"warning: the lock of {run} is not seen on other machines (nfs, {option}); "
            "start this run nowhere else at the same time\n"
        )
    finally:
        shared.nfs.clients[1].run(f"umount {there}")


WRITE_FOLDER = """
import sys, time
from pathlib import Path
from snnkd.files import temporary_folder
with temporary_folder(Path(sys.argv[1]) / "onnx") as folder:
    (folder / "new").mkdir()
    time.sleep(1000)
"""
SWEEP = """
import sys
from pathlib import Path
from snnkd.files import sweep
sweep(Path(sys.argv[1]))
"""


def test_a_temporary_folder(shared: Shared) -> None:
    """The other client removes it only when its process was killed."""
    client = shared.nfs.clients[1]
    shared.start_python(0, WRITE_FOLDER, shared.runs)
    there = f"ls -d {shared.runs}/.onnx.*.tmp/new 2>/dev/null || true"
    wait_until(lambda: client.run(there), PATIENCE, lambda: shared.log(0))
    shared.python(1, SWEEP, shared.runs)
    assert client.run(there)
    shared.signal(0, "KILL")

    def swept() -> bool:
        shared.python(1, SWEEP, shared.runs)
        return not client.run(f"ls -A {shared.runs}")

    wait_until(swept, 20, lambda: client.run(f"ls -laR {shared.runs}"))


def test_open_files(shared: Shared) -> None:
    """Those that a run replaces or removes stay as .nfsNUMBER while they are open; no command minds them."""
    client = shared.nfs.clients[0]
    training = shared.start(0, TRAIN)
    shared.wait_for_training(0)
    run = shared.run(0)
    client.start(
        f"cd {run}; for file in *; do exec {{number}}<$file; done; echo $$ > /run/opener; sleep 1000"
    )
    wait_until(
        lambda: client.run("cat /run/opener 2>/dev/null || true"),
        PATIENCE,
        lambda: client.run(f"ls -A {run}"),
    )
    shared.signal(0, "CONT")
    assert training.result(PATIENCE).returncode == 0, shared.log(0)
    assert ".nfs" in client.run(f"ls -A {run}")
    assert "done" in shared.call(1, "status").stdout
    removed = shared.call(0, f"runs rm --yes {run}")
    assert removed.returncode == 0, removed
    assert client.run(f"ls -A {shared.runs}") == ".aside\n"
    client.run("pkill -KILL -P $(cat /run/opener); kill -KILL $(cat /run/opener)")
    wait_until(
        lambda: ".nfs" not in client.run(f"ls -AR {shared.runs}"),
        20,
        lambda: client.run(f"ls -AR {shared.runs}"),
    )
