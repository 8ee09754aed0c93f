import sys
import time
from collections.abc import Iterator

import pytest

from hrseg.errors import DataError, MissingExtraError
from hrseg.inference.sources import Limits, open_sources
from tests.inference.sources.conftest import names, png


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
    with pytest.raises(MissingExtraError, match=r"pip install '.*\[cloud\]'"):
        open_sources(["gs://bucket/x.png"])
