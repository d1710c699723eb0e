"""`snnkd info`: what a bug report needs, also where something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Cli

from snnkd import __version__


def test_versions_machine_and_folders(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs").mkdir()
    monkeypatch.setenv("SNNKD_DATA", "absent/data")
    facts = cli("info", "--json").json
    assert (facts["snnkd"], facts["packages"]["torch"]) == (__version__, torch.__version__.partition("+")[0])
    assert facts["torch"]["threads"] == torch.get_num_threads()
    assert (facts["runs"]["path"], facts["runs"]["state"]) == ("runs", "present")
    assert (facts["data"]["path"], facts["data"]["state"]) == ("absent/data", "missing")
    assert facts["environment"]["SNNKD_DATA"] == "absent/data"
    text = cli("info").out
    assert f"snnkd {__version__} in" in " ".join(text.split())
    assert "runs (present, " in text


def test_a_missing_package_is_said_without_a_traceback() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from snnkd.cli import main\n"
        "for words in (['info'], ['teach']):\n"
        "    sys.argv = ['snnkd', *words]\n"
        "    try: main()\n"
        "    except SystemExit as ended: print(ended.code)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "unknown: torch cannot be imported (ModuleNotFoundError" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "3", ended.stderr
    assert ended.stderr == "snnkd: torch is not installed; `snnkd info` lists what is needed\n"


def test_a_home_that_is_not_known(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_DATA", "~nobody-here/data")
    ended = cli("info")
    assert (ended.code, "no home folder is known" in ended.out) == (0, True)
