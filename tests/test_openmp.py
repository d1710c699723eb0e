"""OpenMP's defaults: waiting threads sleep, the container's quota counts, the user's own variables win."""

import os
import subprocess
import sys

import pytest

from snnkd import openmp
from snnkd.openmp import available_cpus, set_openmp_defaults

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


@pytest.fixture
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores them
        monkeypatch.delenv(name)


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Write files of control groups, and this process's place in them."""
    monkeypatch.setattr(openmp, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(openmp, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(openmp, "allowed_cpus", lambda: 8)

    def write(own: str, **files: str) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        ("0::/\n", {"cpu_max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "max 100000\n"}, 8),
        ("0::/job/step\n", {"job__cpu_max": "300000 100000\n", "job__step__cpu_max": "max 100000\n"}, 3),
        ("0::/job/step\n", {"job__cpu_max": "300000 100000", "job__step__cpu_max": "10000 100000"}, 1),
        ("4:cpu,cpuacct:/\n", {"cpu__cpu_cfs_quota_us": "400000", "cpu__cpu_cfs_period_us": "100000"}, 4),
        ("4:cpu,cpuacct:/\n", {"cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu_max": "nonsense"}, 8),
        ("0::/\n", {}, 8),
    ],
)
def test_the_cpus_of_a_container(cgroup, own, files, cpus):
    cgroup(own, **files)
    assert available_cpus() == cpus


def test_more_quota_than_cpus_does_not_count(cgroup, no_variables):
    cgroup("0::/\n", cpu_max="1600000 100000")
    set_openmp_defaults()
    assert available_cpus() == 8
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_quota_sets_the_threads(cgroup, no_variables):
    cgroup("0::/\n", cpu_max="200000 100000")
    set_openmp_defaults()
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_no_control_groups(cgroup):
    assert available_cpus() == 8


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_variables_of_the_user_win(name, monkeypatch, no_variables):
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    set_openmp_defaults()
    assert {key: os.environ[key] for key in VARIABLES if key in os.environ} == {
        name: "7",
        "OMP_NUM_THREADS": "5",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="OMP_DISPLAY_ENV of libgomp")
def test_torch_sees_them():
    """Both before torch loads OpenMP, which reads its variables once."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    program = "from snnkd import api"
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown
    assert f"GOMP_SPINCOUNT = '{openmp.SPIN_COUNT}'" in shown
