"""The downloader against a server that breaks off, stalls, serves wrong bytes, redirects: the right bytes, or
one line."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from data.serving import Server, serving

from snnkd.console import Console
from snnkd.data.download import http
from snnkd.data.download.archives import Archive, FetchOptions, check_mirror, urls
from snnkd.data.download.fetch import fetch_archive, fetch_archives, find_copies
from snnkd.data.mmap_cache import SplitSource, write_cache
from snnkd.errors import FileError, Preempted, RunError, UsageError
from snnkd.files import remove_tree, write_atomic
from snnkd.locks import dataset_lock

CONTENT = np.random.default_rng(0).integers(0, 256, 300_001, dtype=np.uint8).tobytes()
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(http, "PAUSE", 0.001)
    monkeypatch.setattr(http, "STALL", 0.5)


@pytest.fixture
def server():
    with serving() as made:
        made.files["/there/data.zip"] = CONTENT
        yield made


def archive_of(server: Server, **changes: object) -> Archive:
    return Archive(
        **{"name": "data.zip", "url": f"{server.url}/there/data.zip", "size": len(CONTENT), "sha256": SHA256}
        | changes
    )


def bring(server: Server, fetch: FetchOptions | None = None, **changes: object) -> Path:
    path = fetch_archive(archive_of(server, **changes), Path("store"), fetch or FetchOptions(), QUIET)
    assert path == Path("store/data.zip")
    assert path.read_bytes() == CONTENT
    assert [left.name for left in Path("store").iterdir() if not left.name.endswith(".lock")] == ["data.zip"]
    return path


HALF = f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize(
    "known", [{}, {"size": None}, {"sha256": None, "md5": MD5, "size": None}], ids=["all", "no size", "md5"]
)
@pytest.mark.parametrize(
    ("moods", "ranges"),
    [
        (["whole"], [None]),
        (["break", "whole"], [None, HALF]),
        (["break", "trickle", "whole"], [None, HALF, f"bytes={len(CONTENT) // 2 + 2}-"]),
        (["stall", "whole"], [None, HALF]),
        (["silent", "whole"], [None, None]),
        (["break", "no-range"], [None, HALF]),
        (["break", "no-range-break", "whole"], [None, HALF, HALF]),
        (["break", "changed"], [None, HALF]),
        (["break", "bad-range"], [None, HALF, None]),
        (["no-length"], [None]),
        (["redirect", "whole"], [None, None]),
        (["break", "redirect", "whole"], [None, HALF, HALF]),
        (["503", "whole"], [None, None]),
        (["break", "503", "500", "429", "whole"], [None, *[HALF] * 4]),
        (["wrong", "whole"], [None, None]),
    ],
    ids=lambda value: "-".join(value) if value[0] is not None else "",
)
def test_what_a_bad_server_does_ends_with_the_right_bytes(server, moods, ranges, known):
    server.moods = list(moods)
    bring(server, **known)
    assert server.ranges == ranges


def test_a_file_that_is_there_is_asked_for_no_more(server):
    path = bring(server)
    before = path.stat()
    bring(server)
    assert (len(server.asked), path.stat().st_mtime_ns) == (1, before.st_mtime_ns)


def test_a_whole_file_needs_no_place_to_write(server):
    """A shared, read-only folder: not even a lock file."""
    path = Path("store/data.zip")
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    bring(server)
    assert server.asked == []
    assert os.listdir("store") == ["data.zip"]


@pytest.mark.parametrize(
    "damage",
    [b"", CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"],
    ids=["empty", "short", "changed", "long"],
)
def test_a_damaged_file_is_named_and_replaced(server, damage, capfd):
    Path("store").mkdir()
    Path("store/data.zip").write_bytes(damage)
    fetch_archive(archive_of(server), Path("store"), FetchOptions(), Console())
    assert Path("store/data.zip").read_bytes() == CONTENT
    said = capfd.readouterr().err
    assert "store/data.zip is damaged" in said
    assert hashlib.sha256(damage).hexdigest() in said
    assert SHA256 in said


def test_a_server_that_gives_no_validator_is_asked_from_the_start(server):
    server.moods, server.validator = ["break", "whole"], False
    bring(server)
    assert server.ranges == [None, None]


def test_a_later_command_goes_on_where_an_earlier_one_ended(server):
    server.moods = ["break", "404"]
    with pytest.raises(FileError):
        fetch_archive(archive_of(server), Path("store"), FetchOptions(), QUIET)
    assert Path("store/data.zip.part").read_bytes() == CONTENT[: len(CONTENT) // 2]
    assert not Path("store/data.zip").exists()
    server.moods = ["whole"]
    bring(server)
    assert server.ranges == [None, HALF, HALF]


@pytest.mark.parametrize(
    ("part", "note", "asked"),
    [
        (b"rubbish", None, [None]),
        (b"rubbish", '{"url": "URL", "validator": "\\"old\\""}', ["bytes=7-", None]),
        (CONTENT[:1000], '{"url": "elsewhere", "validator": "\\"old\\""}', [None]),
        (CONTENT[:1000], '{"url": "URL", "validator": "\\"older\\""}', ["bytes=1000-"]),
        (CONTENT[:1000], '{"url": "URL", "validator": "a\\r\\nX: y"}', [None]),
        (CONTENT[:1000], "{", [None]),
        (CONTENT[:1000], "[]", [None]),
        (CONTENT, '{"url": "URL", "validator": "\\"old\\""}', []),
        (CONTENT + b"more", '{"url": "URL", "validator": "\\"old\\""}', [f"bytes={len(CONTENT) + 4}-", None]),
    ],
)
def test_what_lies_there_from_before_is_continued_only_when_it_is_the_same_file(server, part, note, asked):
    Path("store").mkdir()
    Path("store/data.zip.part").write_bytes(part)
    if note is not None:
        Path("store/data.zip.part.json").write_text(note.replace("URL", archive_of(server).url))
    bring(server)
    assert server.ranges == asked


@pytest.mark.parametrize(
    ("moods", "said", "requests"),
    [
        (["404"], "answered 404", 1),
        (["403"], "answered 403", 1),
        (["503"], "answered 503", 5),
        (["loop"], "answered 302", 5),
        (["stall", "silent"], "no data for 0.5 s", 6),
        (["break", "no-range-break"], "connection closed after", 6),
        (["wrong"], "twice: the server has a different file", 2),
        (["page"], "offers 26 bytes, data.zip has 300,001", 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_end_well_ends_in_one_line(server, moods, said, requests):
    server.moods = moods
    with pytest.raises(FileError) as caught:
        fetch_archive(archive_of(server), Path("store"), FetchOptions(data="some"), QUIET)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert said in message
    assert "data.zip is not under store" in message
    assert "`snnkd data some --from FILE-OR-DIR`" in message
    assert len(server.asked) == requests
    assert not Path("store/data.zip").exists()


def test_further_addresses_are_asked_in_order_and_a_mirror_alone(server):
    away = f"{server.url}/nowhere/data.zip"
    bring(server, url=away, mirrors=(archive_of(server).url,))
    assert [path for path, _ in server.asked] == ["/nowhere/data.zip", "/there/data.zip"]
    Path("store/data.zip").unlink()
    bring(server, FetchOptions(mirror=f"{server.url}/there"), url=away)
    Path("store/data.zip").unlink()
    with pytest.raises(FileError, match="404"):
        bring(server, FetchOptions(mirror=f"{server.url}/wrong"))


def test_a_mirror_is_the_files_url_or_its_folders():
    archive = Archive("data.zip", "http://a/data.zip", md5="0", mirrors=("http://b/data.zip",))
    assert urls(archive, None) == ["http://a/data.zip", "http://b/data.zip"]
    for mirror in ("http://m/x", "http://m/x/"):
        assert urls(archive, mirror) == ["http://m/x/data.zip"]
    for mirror in ("https://m/data.zip", "https://m/other.zip?token=1"):
        assert urls(archive, mirror) == [mirror]


@pytest.mark.parametrize(
    "mirror",
    [
        "",
        "x",
        "ftp://a/b",
        "file:///etc/passwd",
        "http://",
        "http://[",
        "http://a:b/",
        "http://a/b c",
        "http://a/\n",
    ],
)
def test_what_is_no_mirror(mirror):
    with pytest.raises(UsageError, match="--mirror"):
        check_mirror(mirror)


def test_nobody_answers(server):
    closed = server.url
    server.released.set()
    archive = archive_of(server, url="http://127.0.0.1:9/data.zip", mirrors=(f"{closed}/nowhere",))
    with pytest.raises(FileError, match=r"127\.0\.0\.1:9: connection refused.*; 127.*404|Connection refused"):
        fetch_archive(archive, Path("store"), FetchOptions(), QUIET)


def test_the_source_is_recognised_by_its_bytes_and_never_asked_from_the_network(server):
    for name in ("data.zip", "other.name"):
        Path(name).write_bytes(CONTENT)
        bring(server, FetchOptions(source=Path(name)))
        Path("store/data.zip").unlink()
    Path("deep/er").mkdir(parents=True)
    Path("deep/data.zip").mkdir()
    Path("deep/er/data.zip").write_bytes(CONTENT)
    bring(server, FetchOptions(source=Path("deep")))
    assert server.asked == []
    assert Path("deep/er/data.zip").read_bytes() == CONTENT


def test_a_source_that_holds_one_of_two_files():
    Path("one").write_bytes(b"1")
    one, two = (
        Archive(name, "http://none/", md5=hashlib.md5(name[-1:].encode()).hexdigest())
        for name in ("file1", "file2")
    )
    with pytest.raises(FileError, match="--from one: only file1; give a folder that also contains file2"):
        find_copies([one, two], Path("one"))
    with pytest.raises(FileError, match="--from one: only file1"):
        fetch_archives([one, two], Path("store"), FetchOptions(source=Path("one")), QUIET)
    assert not Path("store").exists()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, RunError), (errno.EACCES, FileError), (errno.EROFS, FileError)]
)
def test_a_disk_that_takes_no_more(server, monkeypatch, number, kind):
    honest = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, content):
            if self.file.tell() > 100_000:
                raise OSError(number, os.strerror(number))
            return self.file.write(content)

    def opened(path, mode="r", **options):
        file = honest(path, mode, **options)
        return Full(file) if path.suffix == ".part" and mode != "rb" else file

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(kind):
        fetch_archive(archive_of(server), Path("store"), FetchOptions(), QUIET)
    monkeypatch.setattr(Path, "open", honest)
    assert not Path("store/data.zip").exists()
    kept = Path("store/data.zip.part").stat().st_size
    assert kept > 100_000
    bring(server)
    assert server.ranges == [None, f"bytes={kept}-"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(server):
    Path("store").mkdir(mode=0o555)
    with pytest.raises(FileError, match="permission denied"):
        fetch_archive(archive_of(server), Path("store"), FetchOptions(), QUIET)


def test_asked_to_stop_in_the_middle_it_keeps_what_came(server, monkeypatch):
    monkeypatch.setattr(http, "STALL", 30)
    server.moods = ["stall"]
    part = Path("store/data.zip.part")

    def stop(where: str) -> None:
        if part.exists() and part.stat().st_size > 1000:
            raise Preempted(f"stopped {where}")

    began = time.monotonic()
    with pytest.raises(Preempted, match=r"stopped while downloading data\.zip; received bytes are kept"):
        fetch_archive(archive_of(server), Path("store"), FetchOptions(stop=stop), QUIET)
    assert time.monotonic() - began < 20  # and not only after the stalled connection's 30 s
    kept = part.stat().st_size
    server.moods = ["whole"]
    bring(server)
    assert server.ranges == [None, f"bytes={kept}-"]


def test_of_two_at_once_one_downloads(server):
    """Threads stand for processes: flock belongs to the open file."""
    server.moods = ["break", "break", "whole"]
    failed = []

    def work() -> None:
        try:
            fetch_archive(archive_of(server), Path("store"), FetchOptions(), QUIET)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(server.asked) == 3
    bring(server)


def test_the_lock_is_waited_for_until_asked_to_stop(capfd):
    def stop(where: str) -> None:
        raise Preempted(where)

    store = Path("store")
    with (
        dataset_lock(store, "x", FetchOptions().stop, QUIET),
        pytest.raises(Preempted, match="that prepares x"),
        dataset_lock(store, "x", stop, Console()),
    ):
        raise AssertionError("both hold it")
    assert "waiting for another process that prepares x in store" in capfd.readouterr().err


def removed(store: Path) -> None:
    shutil.rmtree(store)


def restored(store: Path) -> None:
    shutil.copytree(store, "backup")
    shutil.rmtree(store)
    Path("backup").rename(store)


def unlocked(store: Path) -> None:
    for path in store.glob(".*.lock"):
        path.unlink()


LOST = pytest.mark.parametrize("change", [removed, restored, unlocked])


@LOST
def test_nothing_is_written_into_a_data_folder_that_was_taken_away(change):
    store = Path("store").absolute()
    labels = np.zeros(1, np.int64)
    splits = {"train": SplitSource(labels, lambda: [np.zeros((1, 2, 2, 1), np.uint8)])}
    with dataset_lock(store, "x", FetchOptions().stop, QUIET), dataset_lock(store, "y", print, QUIET):
        write_atomic(store / "file", b"mine")
        (store / ".unpacking").mkdir()
        change(store)
        before = sorted(store.rglob("*"))
        for write in (
            lambda: write_atomic(store / "file", b"late"),
            lambda: write_cache(store / "images.bin", (1, 2, 2), 2, splits),
            lambda: remove_tree(store / ".unpacking"),
        ):
            with pytest.raises(FileError, match="moved or removed while in use; repeat the command"):
                write()
        assert sorted(store.rglob("*")) == before
    with dataset_lock(store, "x", FetchOptions().stop, QUIET):
        write_atomic(store / "file", b"again")


@LOST
def test_a_download_ends_when_its_folder_is_taken_away(server, change):
    store = Path("store")

    def stop(where: str) -> None:
        part = store / "data.zip.part"
        if not lost and part.exists() and part.stat().st_size:
            lost.append(where)
            change(store)

    lost: list[str] = []
    with pytest.raises(FileError, match="moved or removed while in use"):
        fetch_archive(archive_of(server), store, FetchOptions(stop=stop), QUIET)
    assert not (store / "data.zip").exists()
    bring(server)


CHILD = """
import sys
from pathlib import Path
from snnkd.data.download.archives import Archive, FetchOptions
from snnkd.data.download.fetch import fetch_archive
from snnkd.console import Console
fetch_archive(Archive("data.zip", sys.argv[1], sha256=sys.argv[2]), Path("store"), FetchOptions(), Console())
"""


def test_killed_in_the_middle_it_goes_on(server):
    server.moods = ["stall"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, archive_of(server).url, SHA256], stderr=subprocess.PIPE
    )
    part = Path("store/data.zip.part")
    while not part.exists() or part.stat().st_size < 65_536:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    kept = part.stat().st_size
    server.moods = ["whole"]
    bring(server)
    assert server.ranges == [None, f"bytes={kept}-"]
