"""Shards, manifests, and a batch that is interrupted half way."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrseg.errors import ConfigError, DataError
from hrseg.inference.outputs import Options, write_all
from hrseg.inference.outputs.class_areas import read_table
from hrseg.inference.outputs.manifest import Job, Manifest, read_manifests
from hrseg.inference.outputs.options import Shard, read_shard
from tests.inference.outputs.made import prediction

SETTINGS = {"model": "m", "precision": "fp32"}
KINDS = ("mask", "areas")


@dataclass
class Asked:
    name: str
    path: Path | None = None
    pixels: np.ndarray | None = None
    fetch: Callable[[], bytes] | None = None

    @property
    def origin(self) -> str:
        return self.name


@dataclass
class Done:
    name: str
    files: dict[str, Path] = field(default_factory=dict)
    error: DataError | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"image": self.name, "height": 20, "width": 30, "confidence": 0.5}


def predict(pictures: Iterable[Asked], out: Path, kinds=KINDS, broken=()) -> Iterator[Done]:
    """Stands for the network: what it writes depends on the image's bytes only."""
    for picture in pictures:
        if picture.name in broken:
            yield Done(picture.name, error=DataError("broken"))
            continue
        values = picture.pixels
        if values is None:
            content = picture.path.read_bytes() if picture.path else picture.fetch()
            values = np.frombuffer(content, np.uint8)
        mask = np.resize(values, (20, 30)) % 3
        made = prediction(mask, origin=picture.name)
        yield Done(picture.name, write_all(made, out, picture.name, kinds))


@pytest.fixture
def pictures(tmp_path):
    asked = []
    for number in range(7):
        path = tmp_path / "in" / f"{number}.raw"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(range(number, number + 9)))
        asked.append(Asked(f"{number % 2}/{number}", path))
    return asked


def run(pictures, out, kinds=KINDS, broken=(), shard=None, settings=SETTINGS, options=None):
    job = Job(out, kinds, options, shard, settings)
    names = [r.name for r in job.results(predict(job.pictures(pictures), out, kinds, broken))]
    return names, job


# Shards


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_shards_are_disjoint_keep_the_order_and_give_the_whole(count):
    items = [f"image {i}" for i in range(23)]
    shards = [list(Shard(number, count).take(iter(items))) for number in range(1, count + 1)]
    assert sorted(item for shard in shards for item in shard) == sorted(items)
    assert all(shard == sorted(shard, key=items.index) for shard in shards)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_shards_are_read_from_words():
    assert read_shard("2/8") == Shard(2, 8)
    assert read_shard(None) == Shard()


@pytest.mark.parametrize("word", ["0/8", "9/8", "1", "a/b", "-1/2", "1/0", "1/2/3", ""])
def test_words_that_are_no_shard(word):
    with pytest.raises(ConfigError, match="the first is 1/8 and the last 8/8"):
        read_shard(word)


def test_several_shards_in_one_folder_are_one_whole(pictures, tmp_path):
    out = tmp_path / "out"
    for number in (1, 2, 3):
        names, _ = run(pictures, out, shard=Shard(number, 3))
        assert names == [picture.name for picture in pictures[number - 1 :: 3]]
    assert len(list(out.glob("manifest-*-of-3.jsonl"))) == 3
    names, job = run(pictures, out)  # nothing is left to do, and the totals are those of all
    assert names == []
    assert job.summary == "7 images done before and skipped"
    assert not (out / "manifest.jsonl").exists()
    assert read_table(out / "areas.json")["images"] == 7
    assert read_table(out / "areas-1-of-3.json")["images"] == 3
    alone = tmp_path / "alone"
    run(pictures, alone)
    assert read_table(alone / "areas.json") == read_table(out / "areas.json")


def test_totals_of_csv_are_those_of_json(pictures, tmp_path):
    run(pictures, tmp_path / "out", kinds=("areas", "areas_csv"), settings=None)
    assert not list((tmp_path / "out").glob("manifest*"))
    first, second = (read_table(tmp_path / "out" / f"areas.{end}") for end in ("json", "csv"))
    assert first["classes"] == second["classes"]
    assert first["pixels"] == second["pixels"] == 7 * 600


# Manifests


def test_what_is_done_is_left_as_it_is_and_broken_images_are_tried_again(pictures, tmp_path):
    out = tmp_path / "out"
    names, job = run(pictures, out, broken=("0/2",))
    assert (len(names), job.summary) == (7, "")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*_*.*")}
    names, job = run(pictures, out)
    assert names == ["0/2"]
    assert job.summary == "6 images done before and skipped"
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_the_reason_is_told_why_an_image_is_done_again(pictures, tmp_path):
    out = tmp_path / "out"
    run(pictures, out)
    (out / "0/0_mask.png").unlink()
    (out / "1/1_areas.json").write_text("{}")
    pictures[2].path.write_bytes(b"other")
    names, job = run(pictures, out)
    assert names == ["0/0", "1/1", "0/2"]
    assert job.summary == (
        "4 images done before and skipped; done again: 1 because the image changed, "
        "2 with a result that is missing or changed"
    )
    for change, reason in (
        ({"settings": {**SETTINGS, "model": "n"}}, "made with another model"),
        ({"settings": {**SETTINGS, "precision": "bf16"}}, "made with other options"),
        ({"options": Options(pixel_size=2)}, "made with other options"),
        ({"kinds": ("mask", "areas", "coco")}, "without some of the kinds asked for now"),
    ):
        _, job = run(pictures, tmp_path / "out", **change)
        assert job.summary == f"done again: 7 {reason}"
    names, _ = run(pictures, out, kinds=("mask",))  # fewer kinds than there are
    assert names == []


def test_pixels_without_a_file_are_known_by_their_values(tmp_path):
    frames = [Asked("f1", pixels=np.full((2, 2, 3), 1, np.uint8))]
    run(frames, tmp_path)
    assert run(frames, tmp_path)[0] == []
    frames[0].pixels[0, 0, 0] = 9
    assert run(frames, tmp_path)[0] == ["f1"]


def test_what_has_to_be_fetched_is_fetched_once(tmp_path):
    calls = []

    def fetch() -> bytes:
        calls.append(1)
        return b"123"

    def offline() -> bytes:
        raise DataError("offline")

    asked = [Asked("a", fetch=fetch), Asked("b", fetch=offline)]
    names, _ = run(asked, tmp_path, broken=("b",))
    assert (names, len(calls)) == (["a", "b"], 1)
    assert run(asked, tmp_path, broken=("b",))[0] == ["b"]


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_line_cut_off_is_as_if_not_written(cut, pictures, tmp_path):
    run(pictures, tmp_path)
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    names, _ = run(pictures, tmp_path)
    assert names == ([] if cut == 1 else [pictures[-1].name])  # only the line's end was lost
    assert run(pictures, tmp_path)[0] == []
    for line in path.read_text().splitlines()[:-3]:
        json.loads(line)


@pytest.mark.parametrize(
    "damage",
    [
        *(b"{", b"\xff\x00", b"5", b'{"made": 3}', b'{"made": "x"}', b'{"made": "x", "facts": 3}'),
        b'{"made": "x", "name": [], "source": "y", "kinds": [], "files": {}}',
        b'{"made": "x", "name": "y", "source": "z", "kinds": ["mask"], "files": {"mask": 5}}',
        b"[" * 100_000,
    ],
)
def test_damaged_lines_are_passed_over_and_told(damage, pictures, tmp_path, caplog):
    run(pictures, tmp_path)
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(damage + b"\n" + path.read_bytes())
    assert run(pictures, tmp_path)[0] == []
    assert "1 damaged lines are passed over" in caplog.text


def test_each_line_says_what_a_reader_needs(pictures, tmp_path):
    run(pictures[:1], tmp_path)
    head, line = read_manifests(tmp_path)
    assert head["facts"]["model"] == "m"
    assert head["made"] == line["made"]
    assert line["files"]["mask"].keys() == {"path", "bytes", "sha256"}
    assert len(line["source"]) == 64


def test_a_folder_that_cannot_be_written_is_told(pictures, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    manifest = Manifest(tmp_path, SETTINGS, KINDS)
    results = list(predict(manifest.missing(pictures[:1]), tmp_path))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"manifest.jsonl: No space left"):
        list(manifest.record(results))
