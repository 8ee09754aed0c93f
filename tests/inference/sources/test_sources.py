"""Words become pictures: in order, each once, under names of their own, and none before its turn."""

import io
import os
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrseg.errors import ConfigError, DataError, MissingExtraError
from hrseg.inference.sources import Every, Limits, Picture, open_sources
from hrseg.inference.sources.base import Namer, SourceOptions
from hrseg.inference.sources.files import open_archive


def png(shade: int = 0, size: tuple[int, int] = (4, 6)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)
    return path


def names(pictures: object) -> list[str]:
    return [picture.name for picture in pictures]  # type: ignore[attr-defined]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Folders, globs, lists


def test_a_folder_stands_for_its_subfolders_too_unless_told(here):
    for name in ("b.png", "a.jpg", "sub/b.png", "sub/deep/c.png", ".git/x.png", "sub/notes.txt"):
        write(here / "photos" / name)
    assert names(open_sources(["photos"])) == ["a", "b", "sub/b", "sub/deep/c"]
    assert names(open_sources(["photos"], recursive=False)) == ["a", "b"]


def test_several_folders_keep_their_own_names_whoever_else_is_there(here):
    for name in ("cam1/0.png", "cam2/0.png", "cam2/x/0.png"):
        write(here / name)
    assert names(open_sources(["cam1", "cam2/"])) == ["cam1/0", "cam2/0", "cam2/x/0"]
    assert names(open_sources(["cam*/*.png"])) == ["cam1/0", "cam2/0"]


def test_the_folder_of_the_results_is_no_source(here, caplog):
    for name in ("x.png", "hrseg_out/x_mask.png"):
        write(here / name)
    caplog.set_level("INFO")
    sources = open_sources(["."], skip="hrseg_out")
    assert names(sources) == ["x"]
    assert "hrseg_out holds the results" in caplog.text
    assert sources.covers(here / "x.png")
    assert not sources.covers(here / "hrseg_out/x_mask.png")


def test_a_large_folder_is_read_one_subfolder_at_a_time(here, monkeypatch):
    for name in ("a/1.png", "b/1.png", "c/1.png"):
        write(here / "photos" / name)
    read: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: (read.append(Path(path).name), scandir(path))[1]
    )
    pictures = iter(open_sources(["photos"]))
    next(pictures)
    assert "b" not in read
    assert "c" not in read
    assert names(pictures) == ["b/1", "c/1"]


def test_a_folder_that_cannot_be_read_is_one_error_among_the_others(here, monkeypatch):
    write(here / "photos/a.png")
    write(here / "photos/shut/b.png")
    scandir = os.scandir

    def guarded(path: object) -> object:
        if Path(str(path)).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(str(path))

    monkeypatch.setattr(os, "scandir", guarded)
    first, second = open_sources(["photos"])
    assert (first.name, first.error) == ("a", None)
    assert "shut cannot be read: Permission denied" in str(second.error)


def test_a_list_holds_words_of_any_kind_and_its_broken_lines_are_told(here):
    for name in ("data/a/1.png", "data/b/1.png", "more/2.png"):
        write(here / name)
    lines = [
        "# a comment",
        "data/a/1.png",
        "",
        "data/b/1.png",
        "more",
        "data/c/gone.png",
        "nowhere/*.png",
    ]
    Path("list.txt").write_text("\ufeff" + "\r\n".join([*lines, "@other.txt"]), encoding="utf-8")
    pictures = list(open_sources(["@list.txt"]))
    assert names(pictures)[:4] == ["a/1", "b/1", "2", "c/gone"]
    assert [picture.error is None for picture in pictures] == [True] * 4 + [False] * 2
    assert "lists do not nest" in str(pictures[-1].error)
    assert open_sources(["@list.txt"]).covers(here / "data/a/1.png")


@pytest.mark.parametrize(("text", "arguments"), [("", "is empty"), (None, "cannot be read")])
def test_a_list_without_lines_or_a_file_is_refused(here, text, arguments):
    if text is not None:
        Path("list.txt").write_text(text)
    with pytest.raises(DataError, match=arguments):
        open_sources(["@list.txt"])


def test_names_are_never_shared_between_sources(here):
    write(here / "x.png")
    write(here / "d/x.png")
    write(here / "d/x.jpg")
    write(here / "e/x.jpg")
    assert names(open_sources(["x.png", "d", "./x.png"])) == ["x", "x.jpg", "x.png"]
    assert names(open_sources(["x.png", "e"])) == ["x", "x-2"]


def test_the_frames_of_a_clip_have_a_folder_of_their_own():
    namer = Namer()
    claimed = [namer.claim("clip/1"), namer.reserve("clip"), namer.reserve("Film")]
    assert claimed == ["clip/1", "clip-2", "Film"]
    assert namer.claim("clip/1") == "clip/1-2"
    assert namer.claim("film/9") == "film-2/9"
    assert namer.reserve("FILM") == "FILM-3"


# Archives


def archive_file(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_an_archive_gives_its_images_in_its_own_order(here):
    members = {
        "b.png": png(1),
        "in/a.png": png(2),
        "notes.txt": b"",
        "__MACOSX/._b.png": b"",
        "d/": b"",
    }
    archive_file(here / "all.zip", members)
    first, second = open_sources(["all.zip"])
    assert (first.origin, first.name) == ("all.zip/b.png", "all/b")
    assert (second.origin, second.name) == ("all.zip/in/a.png", "all/in/a")
    assert second.fetch() == png(2)
    assert names(open_sources(["all.zip/in"])) == ["all/in/a"]
    assert names(open_sources(["all.zip/b.png"])) == ["all/b"]


def test_members_cannot_leave_the_folder_of_the_results(here):
    archive_file(
        here / "a.zip", {"../../etc/x.png": png(), "/var/y.png": png(), "C:\\z.png": png()}
    )
    assert names(open_sources(["a.zip"])) == ["a/etc/x", "a/var/y", "a/C_/z"]


def test_a_bomb_is_refused_before_it_is_unpacked(here):
    archive_file(here / "a.zip", {"bomb.png": bytes(40 << 20), "fine.png": png()})
    bomb, fine = open_sources(["a.zip"])
    with pytest.raises(DataError, match="made to fill the memory"):
        bomb.fetch()
    assert fine.fetch() == png()
    (large, _) = open_archive("a.zip", SourceOptions(limits=Limits(size=1000))).pictures()
    with pytest.raises(DataError, match="more than the 1,000 that are read"):
        large.fetch()


def test_damaged_archives_are_told_and_whole_members_are_read(here):
    path = archive_file(here / "a.zip", {"x.png": png(1), "y.png": png(2)}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(png(1), png(1)[:-3] + b"abc"))
    broken, fine = open_sources(["a.zip"])
    with pytest.raises(DataError, match=r"a.zip/x.png cannot be read"):
        broken.fetch()
    assert fine.fetch() == png(2)
    path.write_bytes(data[:60])
    with pytest.raises(DataError, match="not a whole zip archive"):
        open_sources(["a.zip"])
    archive_file(path, {"x.txt": b""})
    with pytest.raises(DataError, match="holds no images"):
        open_sources(["a.zip"])


# Addresses


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/street.png": (200, {}, png(7)),
            "/a%20b.png": (200, {}, png(8)),
            "/moved": (302, {"Location": "/street.png"}, b""),
            "/round": (302, {"Location": "/round"}, b""),
            "/nowhere": (302, {}, b""),
            "/file": (302, {"Location": "file:///etc/hostname"}, b""),
            "/page.png": (200, {"Content-Type": "text/html"}, b"<html>"),
            "/cut.png": (200, {"Content-Length": "1999"}, png()),
            "/endless.png": (200, {"Content-Length": None}, bytes(5000)),
        }
        if self.path.startswith("/slow"):
            self.drip()
            return
        status, headers, body = answers.get(self.path.partition("?")[0], (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def drip(self) -> None:
        """Send the status, the headers or the body byte by byte, never pausing for long."""
        parts = {"status": b"", "headers": b"HTTP/1.1 200 OK\r\nX: "}
        parts["body"] = parts["headers"] + b"y\r\nContent-Length: 100000\r\n\r\n"
        parts["chunks"] = parts["headers"] + b"y\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n"
        try:
            self.wfile.write(parts[self.path.rpartition("_")[2]])
            for _ in range(400):
                self.wfile.write(b"H")
                time.sleep(0.02)
        except OSError:
            pass  # the client is gone
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_is_fetched_when_its_turn_comes(address):
    arguments = [f"{address}/street.png?size=2", f"{address}/moved", f"{address}/a b.png"]
    pictures = list(open_sources(arguments))
    assert names(pictures) == ["street", "moved", "a b"]
    assert pictures[0].origin == arguments[0]
    assert [picture.fetch() for picture in pictures] == [png(7), png(7), png(8)]


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("gone.png", "404 Not Found"),
        ("page.png", "web page instead of a file"),
        ("cut.png", "ended after|connection broke"),
        ("endless.png", "more than the 2,000"),
        ("round", "redirects in a circle"),
        ("file", "redirects to 'file:///etc/hostname', which is no http"),
        ("nowhere", "which is no http"),
    ],
)
def test_what_an_address_can_do_wrong_is_said(address, path, arguments):
    (picture,) = open_sources([f"{address}/{path}"], limits=Limits(size=2000, seconds=20))
    with pytest.raises(DataError, match=arguments):
        picture.fetch()


@pytest.mark.parametrize("part", ["status", "headers", "body", "chunks"])
def test_a_server_that_drips_bytes_is_cut_at_the_promised_time(address, part):
    (picture,) = open_sources([f"{address}/slow_{part}"], limits=Limits(seconds=0.4))
    before = time.monotonic()
    with pytest.raises(DataError, match=r"in 0\.4 seconds and was not done"):
        picture.fetch()
    assert time.monotonic() - before < 2


def test_nobody_answering_and_no_time_left_are_said(address):
    (picture,) = open_sources(["http://127.0.0.1:1/x.png"])
    with pytest.raises(DataError, match="cannot be fetched"):
        picture.fetch()
    (picture,) = open_sources([f"{address}/street.png"], limits=Limits(seconds=1e-9))
    with pytest.raises(DataError, match=r"cannot be fetched|was not done"):
        picture.fetch()
    with pytest.raises(DataError, match="names no host"):
        open_sources(["http:///x.png"])


# Other file systems


@pytest.fixture
def memory() -> Iterator[object]:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for name, shade in {"b.png": 1, "sub/a.png": 2, "sub/b.png": 3, "notes.txt": 4}.items():
        with system.open(f"/hrseg/{name}", "wb") as file:
            file.write(png(shade))
    yield system
    system.rm("/hrseg", recursive=True)


def test_other_file_systems_have_files_folders_and_globs(memory):
    pictures = list(open_sources(["memory://hrseg"]))
    assert names(pictures) == ["b", "sub/a", "sub/b"]
    assert pictures[1].origin == "memory://hrseg/sub/a.png"
    assert pictures[1].fetch() == png(2)
    assert names(open_sources(["memory://hrseg"], recursive=False)) == ["b"]
    assert names(open_sources(["memory://hrseg/*/*.png"])) == ["sub/a", "sub/b"]
    assert names(open_sources(["memory://hrseg/sub/a.png"])) == ["a"]


def test_what_other_file_systems_lack_is_said(memory, monkeypatch):
    for argument in ("memory://hrseg/*.gif", "memory://hrseg/nothing"):
        with pytest.raises(DataError, match=r"No images at|There is no"):
            open_sources([argument])
    with pytest.raises(DataError, match="cannot be opened"):
        open_sources(["abc://x/y.png"])
    (picture,) = open_sources(["memory://hrseg/b.png"], limits=Limits(size=10))
    with pytest.raises(DataError, match="larger than the 10 bytes"):
        picture.fetch()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hrseg\[cloud\]'"):
        open_sources(["gs://bucket/x.png"])


# Standard input


def test_standard_input_is_one_image(monkeypatch):
    out, into = os.pipe()
    os.write(into, png())
    os.close(into)
    with open(out, "rb") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        (picture,) = open_sources(["-"])
        assert (picture.name, picture.origin) == ("stdin", "stdin")
        assert picture.fetch() == png()
        with pytest.raises(DataError, match="was empty"):
            picture.fetch()


def test_standard_input_that_is_a_terminal_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="nothing is connected to it"):
        open_sources(["-"])


# Frames


@pytest.mark.parametrize(("text", "expected"), [("3", [0, 3, 6, 9]), ("0.25s", [0, 3, 5, 8])])
def test_every_takes_frames_by_number_or_by_time(text, expected):
    selector = Every.read(text).selector()
    assert [i for i in range(10) if selector(i, i / 10)] == expected


@pytest.mark.parametrize("text", ["0", "x", "s", ".s", "-1", "1.5", "0s"])
def test_every_refuses_what_says_nothing(text):
    with pytest.raises(ConfigError, match="does not say which frames"):
        Every.read(text)


def test_the_same_word_twice_is_read_once(address, here):
    write(here / "x.png")
    arguments = ["x.png", here / "x.png", f"{address}/street.png", f"{address}/street.png"]
    assert names(open_sources(arguments)) == ["x", "street"]


def test_sources_are_asked_for_no_more_than_is_taken(here):
    asked: list[int] = []

    def endless() -> Iterator[Picture]:
        number = 0
        while True:
            asked.append(number)
            yield Picture(f"p{number}", f"p{number}")
            number += 1

    sources = open_sources([write(here / "x.png")])
    sources._sources = [sources._sources[0].__class__(endless)]
    assert len(list(islice(sources, 5))) == 5
    assert len(asked) == 5
