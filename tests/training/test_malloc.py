"""glibc is told to keep memory, and only where nobody else tunes it; what a step computes is the same."""

from __future__ import annotations

import platform

import pytest
from conftest import SMALL, Cli

from snnkd.training import loop, malloc

GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="no glibc")
def test_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    assert malloc.keep_freed_memory()


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_a_user_who_tunes_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert not malloc.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not malloc.keep_freed_memory()


def test_the_key_decides_and_changes_no_bytes(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    called = []
    monkeypatch.setattr(loop, "keep_freed_memory", lambda: called.append(1))
    for out, keep in (("on", "true"), ("off", "false")):
        ended = cli(
            "distill",
            *SMALL,
            "--loss",
            "none",
            "--T",
            1,
            "--out",
            out,
            "--set",
            f"execution.keep_memory={keep}",
        )
        assert ended.code == 0, ended.err
    assert called == [1]
    assert Path("on/model.safetensors").read_bytes() == Path("off/model.safetensors").read_bytes()
