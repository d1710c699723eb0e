"""Upload of an exported folder to the Hugging Face hub, with the token of the hub's own login."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snnkd.catalog.hub import HUB
from snnkd.errors import FileError, UsageError
from snnkd.models.files import FORMAT
from snnkd.models.hub import hub_config

ATTRIBUTES = ".gitattributes"
"""The file of a new repository."""


def check_client() -> None:
    """Raise UsageError without the package huggingface_hub."""
    if find_spec("huggingface_hub") is None:
        raise UsageError("push needs huggingface_hub, which is not installed: pip install huggingface_hub")


def check_remote(repository: str, private: bool) -> None:
    """Raise FileError without a login, and for an existing repository that must not be written.

    That is one with other content than an export of snnkd, and a public one if `private`.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if get_token() is None:
        raise FileError(f"{repository}: no login of the hub; run `hf auth login`, or set HF_TOKEN")
    try:
        info = HfApi().model_info(repository)
    except RepositoryNotFoundError:
        return
    except Exception as error:  # the hub's client and HTTP library raise errors of many kinds
        raise _not_uploaded(repository, error) from error
    if private and not info.private:
        raise FileError(f"{repository}: exists and is public; make it private on the hub, or omit --private")
    files = {file.rfilename for file in info.siblings or ()} - {ATTRIBUTES}
    if files and not ("config.json" in files and _is_export(repository)):
        raise FileError(f"{repository}: holds other files than an export of snnkd; choose another name")


def _is_export(repository: str) -> bool:
    _, config = hub_config(f"{HUB}:{repository}")
    return config.get("format") == FORMAT


def upload(folder: Path, repository: str, private: bool) -> dict[str, Any]:
    """Upload the files of `folder` in one commit, into a repository that is created if missing.

    Raises FileError if the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    hub = HfApi()
    operations = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
    try:
        hub.create_repo(repository, private=private or None, exist_ok=True)
        commit = hub.create_commit(repository, operations, commit_message="Upload by snnkd push")
    except Exception as error:
        raise _not_uploaded(repository, error) from error
    return {"url": f"{hub.endpoint}/{repository}", "commit": commit.oid}


def _not_uploaded(repository: str, error: Exception) -> FileError:
    reason = " ".join(str(error).split()).split(". ")[0][:120] or type(error).__name__
    return FileError(f"{repository}: not uploaded ({reason}); check the network, the name and the login")
