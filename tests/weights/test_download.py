"""Downloads from a server on loopback that breaks off, lies, stalls and redirects."""

import errno
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hrseg.errors import WeightsError
from hrseg.weights import download as fetching
from hrseg.weights import http
from hrseg.weights.checkpoint_io import file_digest
from hrseg.weights.download import (
    LogWatcher,
    Remote,
    Watcher,
    cache_dir,
    cached,
    check,
    fetch,
    receipt_of,
    write_receipt,
)
from tests.weights import server as serve
from tests.weights.server import Server

CONTENT = random.Random(0).randbytes(3_000_000)


class Notes(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.starts: list[tuple[int, int | None]] = []
        self.got = 0

    def start(self, name: str, done: int, total: int | None) -> None:
        self.starts.append((done, total))

    def advance(self, count: int) -> None:
        self.got += count

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("HRSEG_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(fetching, "WAITS", (0.01,) * 4)


@pytest.fixture
def server():
    with serve.serving(CONTENT) as running:
        yield running


@pytest.fixture
def remote(server: Server, tmp_path: Path) -> Remote:
    return Remote("a.tag", f"{server.url}/files/w.pth", tmp_path / "a.tag" / "w.pth", server.sha256)


def other(remote: Remote, **changes: Any) -> Remote:
    return Remote(**{**remote.__dict__, **changes})


def left(remote: Remote) -> list[str]:
    """Names in the folder, without the lock, which may stay."""
    return sorted(p.name for p in remote.path.parent.iterdir() if p.suffix != ".lock")


# What goes well


def test_a_file_is_fetched_once_and_verified(server, remote):
    receipt = fetch(remote)
    assert remote.path.read_bytes() == CONTENT
    assert (receipt.checked, receipt.sha256) == ("sha256", server.sha256)
    assert fetch(remote) == cached(remote) == receipt
    assert len(server.asked) == 1
    assert left(remote) == ["w.pth", "w.pth.receipt.json"]


@pytest.mark.parametrize(("digits", "checked"), [(8, "prefix"), (0, "size")])
def test_what_is_not_published_is_not_called_verified(remote, digits, checked):
    receipt = fetch(other(remote, sha256=remote.sha256[:digits]))
    assert receipt.checked == checked
    assert receipt.describe().startswith("verified" if digits else "unverified")


def test_a_server_that_names_no_size_is_read_to_its_end(server, remote):
    server.plan.append(serve.endless)
    watcher = Notes()
    assert fetch(remote, watcher).size == len(CONTENT)
    assert watcher.starts == [(0, None)]


def test_a_redirect_is_followed_and_its_digest_checked(server, remote):
    linked = {"X-Linked-ETag": f'"{server.sha256}"', "Location": f"{server.url}/elsewhere"}
    server.plan.append(serve.status(302, **linked))
    receipt = fetch(other(remote, sha256=""))
    assert [request["path"] for request in server.asked] == ["/files/w.pth", "/elsewhere"]
    assert receipt.checked == "server"


def test_the_digest_a_redirect_names_must_fit(server, remote):
    linked = {"X-Linked-ETag": f'"{"0" * 64}"', "Location": f"{server.url}/elsewhere"}
    server.plan.append(serve.status(302, **linked))
    with pytest.raises(WeightsError, match="should begin with 0000000000000000"):
        fetch(other(remote, sha256=""))


# Broken connections


def test_a_connection_that_breaks_half_way_is_gone_on_with(server, remote):
    server.plan.append(serve.cut(1_000_000))
    watcher = Notes()
    fetch(remote, watcher)
    assert remote.path.read_bytes() == CONTENT
    assert server.asked[1]["range"] == "bytes=1000000-"
    assert server.asked[1]["if-range"] == server.etag
    assert watcher.starts == [(0, 3_000_000), (1_000_000, 3_000_000)]
    assert watcher.got == 3_000_000
    assert "the connection broke after 1.0 MB of 3.0 MB; trying again" in watcher.told[0]


def test_many_breaks_do_not_matter_while_bytes_come(server, remote):
    server.plan.extend([serve.cut(300_000)] * 8)
    fetch(remote)
    assert len(server.asked) == 9


def test_a_server_without_ranges_starts_again(server, remote):
    server.plan.extend([serve.cut(2_000_000, ranges=False), serve.without_ranges])
    watcher = Notes()
    fetch(remote, watcher)
    assert remote.path.read_bytes() == CONTENT
    assert "the server cannot resume" in watcher.told[1]


def test_a_file_that_changed_meanwhile_is_not_stitched_together(server, remote):
    server.plan.append(serve.cut(1_000_000))
    new = CONTENT[::-1]

    class Swap(Notes):
        def note(self, text: str) -> None:
            server.content = new

    fetch(other(remote, sha256=""), Swap())
    assert remote.path.read_bytes() == new


def test_an_interrupted_download_goes_on_later(server, remote):
    server.plan.append(serve.cut(2_000_000))

    class Impatient(Watcher):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, Impatient())
    there = remote.path.with_name("w.pth.part").stat().st_size
    assert not remote.path.exists()
    assert 0 < there < len(CONTENT)
    fetch(remote)
    assert server.asked[1]["range"] == f"bytes={there}-"
    assert remote.path.read_bytes() == CONTENT


def test_a_download_that_was_whole_but_not_renamed_needs_no_bytes(server, remote):
    server.plan.append(serve.cut(1_000_000))
    remote.path.parent.mkdir()
    with pytest.raises(http.TransferError):
        fetching._exchange(remote, Watcher())
    remote.path.with_name("w.pth.part").write_bytes(CONTENT)
    fetch(remote)
    assert remote.path.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_part_longer_than_the_file_is_thrown_away(server, remote):
    server.plan.append(serve.cut(1_000_000))
    remote.path.parent.mkdir()
    with pytest.raises(http.TransferError):
        fetching._exchange(remote, Watcher())
    remote.path.with_name("w.pth.part").write_bytes(CONTENT + b"more")
    fetch(remote)
    assert remote.path.read_bytes() == CONTENT


def test_a_silent_server_is_tried_again(server, remote, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", 0.2)
    server.plan.append(serve.silent(0.6))
    watcher = Notes()
    fetch(remote, watcher)
    assert "timed out" in watcher.told[0]


# Servers that refuse


def test_503_is_waited_for_as_long_as_it_asks(server, remote, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(fetching, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    server.plan.extend([serve.status(503, Retry_After="7"), serve.status(429), serve.status(500)])
    fetch(remote)
    assert slept == [7.0, 0.01, 0.01]


def test_a_server_that_stays_down_is_given_up_with_the_way_to_do_without(server, remote):
    server.plan.extend([serve.status(502)] * 9)
    with pytest.raises(WeightsError) as caught:
        fetch(remote)
    text = str(caught.value)
    assert "does not give the file: it answers 502 Bad Gateway" in text
    assert f"fetch {remote.url} elsewhere" in text
    assert f"at {remote.path}" in text
    assert len(server.asked) == 5


def test_404_is_not_tried_again(server, remote):
    server.plan.append(serve.status(404))
    with pytest.raises(WeightsError, match="it answers 404 Not Found"):
        fetch(remote)
    assert len(server.asked) == 1
    assert left(remote) == []


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_a_web_page_is_no_weight_file(server, remote, kind):
    server.plan.append(serve.page(kind))
    with pytest.raises(WeightsError, match="web page"):
        fetch(other(remote, sha256=""))
    assert left(remote) == []


def test_nobody_at_home_is_said_so(tmp_path):
    remote = Remote("a.tag", "http://127.0.0.1:9/w.pth", tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\)"):
        fetch(remote)


# Wrong files


def test_a_wrong_file_is_removed(server, remote):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsError, match=r"The download was removed\. Try once more") as caught:
        fetch(remote)
    assert remote.sha256[:16] in str(caught.value)
    assert left(remote) == []


def test_another_size_than_published_is_refused_before_a_byte_is_kept(server, remote):
    with pytest.raises(WeightsError, match="3,000,000 bytes where 17 were published"):
        fetch(other(remote, size=17))
    assert left(remote) == []


# Disks


def test_too_little_space_is_noticed_before_it_starts(remote, monkeypatch):
    usage = SimpleNamespace(free=50_000_000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match=r"needs 70\.1 MB, and .* has 50\.0 MB free"):
        fetch(remote)
    assert not remote.path.exists()


def test_a_disk_that_fills_up_keeps_what_came(server, remote, monkeypatch):
    write, room = os.write, [1_200_000]

    def full(number: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(number, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(fetching.os, "write", full)
    with pytest.raises(WeightsError, match=r"the disk is full \(No space left on device\) after 1\.2 MB"):
        fetch(remote)
    room[0] = 10_000_000
    fetch(remote)
    assert server.asked[1]["range"] == "bytes=1200000-"
    assert remote.path.read_bytes() == CONTENT


LIMITED = """
import resource, sys
from pathlib import Path
from hrseg.weights.download import Remote
from hrseg.weights.download import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
fetch(Remote("a.tag", sys.argv[1], Path(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_real_limit_of_the_system_is_met_the_same_way(server, remote):
    words = [sys.executable, "-c", LIMITED, remote.url, str(remote.path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert "WeightsError: a.tag: the disk is full (File too large) after 1.5 MB" in done.stderr
    fetch(remote)
    assert remote.path.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_names_the_variable(remote, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="Set HRSEG_CACHE to a folder that you may write to"):
        fetch(other(remote, path=tmp_path / "file" / "w.pth"))


# Several processes

PULL = """
import logging, sys
from pathlib import Path
from hrseg.weights.download import Remote
from hrseg.weights.download import fetch
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
print(fetch(Remote("a.tag", sys.argv[1], Path(sys.argv[2]))).sha256, flush=True)
"""


def pull(remote: Remote) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PULL, remote.url, str(remote.path)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines_until(process: subprocess.Popen[str], part: str) -> str:
    assert process.stdout is not None
    text = ""
    while part not in text:
        line = process.stdout.readline()
        assert line, text
        text += line
    return text


@pytest.mark.slow
def test_two_processes_fetch_once_and_the_second_says_that_it_waits(server, remote):
    go_on = threading.Event()
    server.plan.append(serve.held(go_on))
    first = pull(remote)
    lines_until(first, "fetching 3.0 MB")
    second = pull(remote)
    lines_until(second, "another process is fetching it; waiting for that one")
    go_on.set()
    assert server.sha256 in first.communicate(timeout=120)[0]
    assert server.sha256 in second.communicate(timeout=120)[0]
    assert len(server.asked) == 1


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock_and_its_part(server, remote):
    go_on = threading.Event()
    server.plan.append(serve.held(go_on))
    process = pull(remote)
    part = remote.path.with_name("w.pth.part")
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    go_on.set()
    fetch(remote)
    assert server.asked[1]["range"].startswith("bytes=")
    assert remote.path.read_bytes() == CONTENT


# Proxies, offline, files put there by hand


def test_the_proxy_variables_are_honored(server, remote, monkeypatch):
    address = "http://weights.invalid/files/w.pth"
    monkeypatch.setenv("http_proxy", server.url)
    fetch(other(remote, url=address))
    assert server.asked[0]["path"] == address  # a proxy is asked for the whole address
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch(other(remote, path=remote.path.with_name("direct.pth")))
    assert server.asked[1]["path"] == "/files/w.pth"


def test_a_proxy_that_is_down_is_named_without_its_password(remote, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"cannot be reached through the proxy 127\.0\.0\.1") as caught:
        fetch(other(remote, url="http://weights.invalid/w.pth"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("variable", ["HRSEG_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_to_fetch_and_where_to_put_it(server, remote, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError) as caught:
        fetch(remote)
    assert f"{variable} is set" in str(caught.value)
    assert f"fetch {remote.url} elsewhere and put it, under its own name, at {remote.path}" in str(caught.value)
    remote.path.write_bytes(CONTENT)
    assert fetch(remote).checked == "sha256"
    assert server.asked == []


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(remote):
    remote.path.parent.mkdir()
    remote.path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="Remove it to have it fetched again"):
        fetch(remote)
    assert remote.path.read_bytes() == b"something else"


def test_a_file_that_lost_its_end_is_not_taken_for_whole(server, remote):
    unpublished = other(remote, sha256="")
    fetch(unpublished)
    remote.path.write_bytes(CONTENT[:-5])
    with pytest.raises(WeightsError, match="Remove it to have it fetched again"):
        fetch(unpublished)


# The cache


def test_each_platform_keeps_its_caches_where_it_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_dir({}, "linux") == tmp_path / ".cache" / "hrseg"
    assert cache_dir({"XDG_CACHE_HOME": "relative"}, "linux") == tmp_path / ".cache" / "hrseg"
    assert cache_dir({}, "darwin") == tmp_path / "Library" / "Caches" / "hrseg"
    assert cache_dir({"LOCALAPPDATA": "L"}, "win32") == Path("L") / "hrseg" / "Cache"
    assert cache_dir({"HRSEG_CACHE": "~/c"}, "darwin") == tmp_path / "c"


def test_a_damaged_receipt_is_no_receipt(remote):
    remote.path.parent.mkdir()
    remote.path.write_bytes(CONTENT)
    write_receipt(check(remote, remote.path))
    assert cached(remote)
    remote.path.with_name("w.pth.receipt.json").write_text("{")
    assert receipt_of(remote.path) is None
    assert cached(remote) is None
    assert file_digest(remote.path) == remote.sha256


def test_the_log_says_a_line_for_each_tenth(caplog):
    caplog.set_level("INFO")
    watcher = LogWatcher()
    watcher.start("a.tag w.pth", 0, 10_000_000)
    for _ in range(100):
        watcher.advance(100_000)
    assert [r.message for r in caplog.records][:2] == [
        "a.tag w.pth: fetching 10.0 MB",
        "a.tag w.pth: 1.0 MB (10 %)",
    ]
    assert len(caplog.records) == 11
