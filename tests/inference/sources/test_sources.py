"""Words become pictures: in order, each once, under names of their own, and none before its turn."""

import os
import sys
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from hrseg.errors import DataError
from hrseg.inference.sources import Limits, Picture, open_sources
from hrseg.inference.sources.base import Namer, SourceOptions
from hrseg.inference.sources.files import open_archive
from tests.inference.sources.conftest import names, png, write

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
    monkeypatch.setattr(os, "scandir", lambda path: (read.append(Path(path).name), scandir(path))[1])
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
    archive_file(here / "a.zip", {"../../etc/x.png": png(), "/var/y.png": png(), "C:\\z.png": png()})
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


def test_pixels_are_counted_of_a_few_files_only(here):
    write(here / "a.png", png(size=(20, 30)))
    write(here / "b.png", png(size=(10, 10)))
    write(here / "broken.png", b"no image")
    assert open_sources(["a.png", "b.png", "./a.png"]).pixels() == 700
    assert open_sources(["a.png", "."]).pixels() is None
    assert open_sources(["a.png", "broken.png"]).pixels() is None
    assert open_sources(["*.png"]).pixels() is None
