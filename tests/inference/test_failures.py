"""One picture that fails, wherever it does, is named, and the others are done."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hrseg.cli import EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.errors import DataError, guarded
from hrseg.inference.outputs import OUTPUTS
from hrseg.inference.outputs.manifest import read_manifests
from hrseg.inference.sources import Picture, open_sources
from hrseg.inference.sources.base import Source
from hrseg.labels import Label, LabelSet
from hrseg.weights import write_release

LABELS = LabelSet("own", tuple(Label(10 * i, i, f"c{i}", (i, 9 * i, i)) for i in range(3)))
ALL = ("--save", *OUTPUTS)


@pytest.fixture
def model(tiny_network, tmp_path) -> str:
    card = {
        "network": tiny_network.spec,
        "labels": LABELS.to_dict(),
        "mean": [0.5] * 3,
        "std": [1] * 3,
    }
    write_release(tmp_path / "m.safetensors", tiny_network.state_dict(), card)
    return str(tmp_path / "m.safetensors")


@pytest.fixture
def photos(tmp_path) -> Path:
    for name in "abc":
        photo(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def photo(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


def predict(model, photos, out, *words) -> int:
    plain = ("--device", "cpu", "--precision", "fp32", "--engine", "torch", "--out", str(out))
    return main(["predict", str(photos), "--model", model, *plain, *words])


def raising(function, error, when):
    """Wrap a function of a library so that it raises inside that library where `when` says so."""

    def wrapper(*words, **options):
        if when(*words):
            names = {"__name__": "PIL.x", "error": error}
            exec(compile("raise error('odd')", "library", "exec"), names)
        return function(*words, **options)

    return wrapper


ERRORS = [
    *(NotImplementedError, RuntimeError, SystemError, ValueError, KeyError, ZeroDivisionError),
    *(RecursionError, AssertionError),
]


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_library_raises_while_decoding_is_that_picture_s(
    model, photos, tmp_path, capsys, monkeypatch, error
):
    def second(image, *_):
        return "b.png" in str(getattr(image, "filename", ""))

    plugin = PngImagePlugin.PngImageFile
    monkeypatch.setattr(plugin, "load", raising(plugin.load, error, second))
    assert predict(model, photos, tmp_path / "out", "--save", "mask") == EXIT_PARTIAL
    done = capsys.readouterr()
    assert "b.png" in done.err
    assert "Traceback" not in done.err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a_mask.png", "c_mask.png"]


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_library_raises_while_writing_is_that_picture_s(model, photos, tmp_path, capsys, monkeypatch, error):
    def second(image, path, *_):
        return Path(path).name.startswith(".b_mask")

    monkeypatch.setattr(Image.Image, "save", raising(Image.Image.save, error, second))
    assert predict(model, photos, tmp_path / "out", "--save", "mask") == EXIT_PARTIAL
    assert "b.png" in capsys.readouterr().err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a_mask.png", "c_mask.png"]


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_library_raises_while_pictures_are_found_ends_that_word_only(photos, error):
    def listed():
        yield Picture("a", "a")
        raising(print, error, lambda: True)()

    sources = open_sources([photos / "a.png", photos / "b.png"])
    sources._sources[0] = Source(listed)
    found = list(sources)
    assert [picture.error is None for picture in found] == [True, False, True]
    assert error.__name__ in str(found[1].error)


def test_a_full_disk_ends_the_run(model, photos, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert predict(model, photos, tmp_path / "out", "--save", "mask") == EXIT_USAGE
    assert " ".join(capsys.readouterr().err.split()).count("No space left") == 1


@pytest.mark.parametrize("error", ERRORS)
def test_our_own_bugs_keep_their_traceback(error):
    with pytest.raises(error), guarded("a.png"):
        raise error("odd")
    with pytest.raises(DataError, match=rf"a\.png failed .*{error.__name__}"), guarded("a.png"):
        raising(print, error, lambda: True)()
    with pytest.raises(MemoryError), guarded("a.png"):
        raising(print, MemoryError, lambda: True)()


# Names

ODD = [
    b"bad\xff",
    b"bad\xfe",
    b"new\nline",
    b"esc\x1b[31m",
    b"\xe2\x80\xaeright",
    b"back\\slash",
    b"zz",
]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize("more", [(), ("--json",), ("--resume",)], ids=["plain", "json", "resume"])
def test_file_names_of_any_bytes_are_done_and_written_as_text(model, tmp_path, capsysbinary, more):
    folder = tmp_path / "in"
    for name in ODD:
        photo(Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".png")))
    photo(Path(os.fsdecode(os.fsencode(folder) + b"/hurt\xff.png")))
    Path(os.fsdecode(os.fsencode(folder) + b"/hurt\xff.png")).write_bytes(b"\x89PNG")
    assert predict(model, folder, tmp_path / "out", *ALL, *more) == EXIT_PARTIAL
    done = capsysbinary.readouterr()
    for text in (done.out.decode("utf-8"), done.err.decode("utf-8")):
        assert all(line.isprintable() for line in text.splitlines()), text
    assert len(done.out.decode().splitlines()) == len(ODD) + (more == ("--json",))
    assert r"hurt\xff.png" in done.err.decode()
    masks = [path for path in (tmp_path / "out").iterdir() if path.name.endswith("_mask.png")]
    assert len(masks) == len(ODD)
    for path in (tmp_path / "out").iterdir():
        os.fsencode(path).decode("utf-8")
        if path.suffix in (".json", ".geojson", ".jsonl", ".csv"):
            text = path.read_bytes().decode("utf-8")
            for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
                path.suffix == ".csv" or json.dumps(json.loads(line), ensure_ascii=False).encode()
    if more == ("--json",):
        for line in done.out.decode().splitlines():
            json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8")
    if more == ("--resume",):
        assert len([line for line in read_manifests(tmp_path / "out") if "name" in line]) == len(ODD)
        assert predict(model, folder, tmp_path / "out", *ALL, *more) == EXIT_PARTIAL
        assert b"7 images done before" in capsysbinary.readouterr().err


def test_a_member_of_an_archive_cannot_steer_the_terminal(model, photos, tmp_path, capsys):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photos / "a.png", "a\x1b]0;title\x07\nhrseg: fine.png")
        archive.writestr("b\x1b[2J.png", b"\x89PNG")
    assert predict(model, tmp_path / "a.zip", tmp_path / "out", "--save", "mask") == EXIT_PARTIAL
    done = capsys.readouterr()
    assert len(done.out.splitlines()) == 1
    assert all(line.isprintable() for line in (done.out + done.err).splitlines())


# Results of an earlier run


def test_results_of_an_earlier_run_are_not_replaced_in_silence(model, photos, tmp_path, caplog):
    out = tmp_path / "out"
    with Image.open(photos / "a.png") as image:
        image.save(tmp_path / "a.jpg")
    assert predict(model, tmp_path / "a.jpg", out, "--save", "mask") == EXIT_OK
    assert not [one for one in caplog.records if "replaced" in one.getMessage()]
    assert predict(model, photos, out, "--save", "mask") == EXIT_OK
    (record,) = [one for one in caplog.records if "replaced" in one.getMessage()]
    assert "a_mask.png is replaced" in record.getMessage()
    caplog.clear()
    assert predict(model, photos, out, "--save", "mask", "--resume") == EXIT_OK
    assert not [one for one in caplog.records if "replaced" in one.getMessage()]
