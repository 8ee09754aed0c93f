"""A run that is killed goes on after its last finished band, and ends with the same files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hrseg.inference.large import segment_large
from hrseg.inference.large.journal import Journal

from .files import BUILT_FOR, picture, tiny
from .test_segment import write

pytest.importorskip("tifffile")
KINDS = ("mask", "confidence", "overlay")
SCRIPT = """
import os, signal, sys
from pathlib import Path
import hrseg.inference.large.journal as journal
import hrseg.inference.large.segment as segment
from hrseg.inference.large import segment_large
from tests.inference.large.files import BUILT_FOR, tiny

folder, predictor = Path(sys.argv[1]), tiny(blend="ramp")
append, write, replace = journal.Journal._append, segment.write_raster, Path.replace


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(name, place, number):
    if os.fork():
        return os.WIFSIGNALED(os.wait()[1])
    calls = []

    def count():
        calls.append(1)
        if len(calls) == number:
            die()

    def half(self, name, content):
        if len(calls) == number - 1:
            with (self.folder / name).open("ab") as file:
                file.write(content[: len(content) // 2])
        count()
        return append(self, name, content)

    def late(*args, **options):
        write(*args, **options)
        count()

    if place == "band":
        journal.Journal._append = half
    else:
        segment.write_raster = late
    target = folder / name
    segment_large(predictor, folder / "a.tif", target, max_memory=BUILT_FOR, kinds=sys.argv[2:])
    os._exit(0)


for place, numbers in {"band": (2, 7, 8, 9, 12), "end": (1, 2)}.items():
    for number in numbers:
        name = f"{place}{number}"
        assert attempt(name, place, number), name
        assert not list(folder.glob(f"{name}_*")), name
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with an image, and runs of it that were killed at seven places."""
    folder = tmp_path_factory.mktemp("killed")
    write(folder / "a.tif", picture())
    words = [sys.executable, "-c", SCRIPT, str(folder), *KINDS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(words, check=True, cwd=Path(__file__).parents[3], env=environment, timeout=120)
    return folder


def finish(folder, name, blend="ramp", **options):
    options = {"max_memory": BUILT_FOR, "kinds": KINDS} | options
    return segment_large(tiny(blend=blend), folder / "a.tif", folder / name, **options)


def bands(folder, name):
    lines = (folder / f".{name}.unfinished" / "journal.jsonl").read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines[1:]]


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(killed):
    whole = finish(killed, "whole")
    names = sorted(path.name[1:].split(".")[0] for path in killed.glob(".*.unfinished"))
    assert names == ["band12", "band2", "band7", "band8", "band9", "end1", "end2"]
    resumed = {}
    for name in names:
        expected = bands(killed, name)[-1]["bottom"] if bands(killed, name) else 0
        found = finish(killed, name)
        resumed[name] = found.resumed
        assert found.resumed in (expected, 300), name
        assert found.classes == whole.classes
        assert found.confidence == whole.confidence
        for kind, file in found.files.items():
            assert file.read_bytes() == whole.files[kind].read_bytes(), (name, kind)
    assert resumed["band2"] == 0
    assert resumed["band12"] > resumed["band7"] > 0
    assert resumed["end1"] == resumed["end2"] == 300
    assert not list(killed.glob(".*.unfinished"))


@pytest.mark.parametrize("change", ["image", "option", "journal", "data", "bits", "line"])
def test_what_does_not_belong_together_begins_anew(tmp_path, change, caplog):
    write(tmp_path / "a.tif", picture())

    def stop(done, total):
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(tmp_path, "out", progress=stop)
    folder = tmp_path / ".out.unfinished"
    assert (folder / "journal.jsonl").exists()
    blend = "ramp"
    if change == "image":
        write(tmp_path / "a.tif", picture()[::-1])
    elif change == "option":
        blend = "cosine"
    elif change == "journal":
        (folder / "journal.jsonl").write_bytes(b"{\n")
    elif change == "bits":
        content = (folder / "mask.z").read_bytes()
        (folder / "mask.z").write_bytes(content[:4] + b"\xff" + content[5:])
    elif change == "line":
        head, *_ = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "journal.jsonl").write_bytes(head + b"[]\n")
    else:
        (folder / "mask.z").unlink()
    shutil.copytree(folder, tmp_path / "kept")
    found = finish(tmp_path, "out", blend=blend)
    assert found.resumed == 0
    said = {"image": "another image", "option": "another protocol", "bits": "is damaged"}
    assert said.get(change, "") in caplog.text
    other = finish(tmp_path, "other", blend=blend)
    assert found.files["mask"].read_bytes() == other.files["mask"].read_bytes()


def test_two_runs_do_not_write_at_once(tmp_path):
    from hrseg.errors import DataError

    one = Journal(tmp_path / "spool", {})
    with pytest.raises(DataError, match="still writing"):
        Journal(tmp_path / "spool", {})
    one.close()
    Journal(tmp_path / "spool", {}).remove()
    assert not (tmp_path / "spool").exists()
