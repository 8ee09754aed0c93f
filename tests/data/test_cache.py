"""A cached pair is the pair; a changed file is read anew; the cache stays within its bound."""

import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from hrseg.data import cache
from hrseg.data.cache import CachedReader
from hrseg.data.datamodule import SegmentationData
from hrseg.data.layouts import Pair
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from hrseg.imaging import write_image, write_mask

SIZE = (30, 40)
ENTRY = SIZE[0] * SIZE[1] + 4096  # of a mask; an image has three times the pixels


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    generator = np.random.default_rng(0)
    write_image(tmp_path / "a.png", generator.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    write_mask(tmp_path / "a_ids.png", generator.integers(0, 9, SIZE).astype(np.uint8))
    return Pair(tmp_path / "a.png", tmp_path / "a_ids.png", "a")


def unpacked(monkeypatch) -> list[Path]:
    """Note each file that is decoded."""
    seen: list[Path] = []
    opener = cache.open_picture
    monkeypatch.setattr(
        cache, "open_picture", lambda path, *how: seen.append(path) or opener(path, *how)
    )
    return seen


def test_second_reading_decodes_nothing_and_gives_the_same(tmp_path, pair, monkeypatch):
    seen = unpacked(monkeypatch)
    reader = CachedReader(tmp_path / "cache", 1)
    first, second = reader(pair), pickle.loads(pickle.dumps(reader))(pair)
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one, two)
        assert one.dtype == two.dtype
    assert seen == [pair.image]
    assert not second[0].flags.writeable  # mapped


def test_changed_file_replaces_its_entry(tmp_path, pair, monkeypatch):
    seen = unpacked(monkeypatch)
    reader = CachedReader(tmp_path / "cache", 1)
    reader(pair)
    write_image(pair.image, np.full((*SIZE, 3), 7, np.uint8))
    os.utime(pair.image, ns=(1, 1))
    assert (reader(pair)[0] == 7).all()
    os.utime(pair.image, ns=(2, 2))  # same size, another time
    assert (reader(pair)[0] == 7).all()
    assert len(seen) == 3
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2


def test_cut_entry_is_made_anew(tmp_path, pair):
    reader = CachedReader(tmp_path / "cache", 1)
    expected = reader(pair)
    for entry in (tmp_path / "cache").rglob("*.npy"):
        entry.write_bytes(entry.read_bytes()[:-100])
    for _ in range(2):
        for one, two in zip(reader(pair), expected, strict=True):
            assert np.array_equal(one, two)


def test_full_cache_takes_nothing_in(tmp_path, pair, monkeypatch):
    seen = unpacked(monkeypatch)
    reader = CachedReader(tmp_path / "cache", ENTRY / 1e9)
    for _ in range(3):
        assert np.array_equal(reader(pair)[0], CachedReader(tmp_path / "other", 1)(pair)[0])
    assert seen.count(pair.image) == 3 + 1
    (mask,) = (tmp_path / "cache").rglob("*.npy")
    assert mask.stat().st_size <= ENTRY
    assert (tmp_path / "cache" / "full").exists()


def test_lost_count_is_counted_again(tmp_path, pair):
    reader = CachedReader(tmp_path / "cache", 2.5 * ENTRY / 1e9)
    reader(pair)
    (tmp_path / "cache" / "bytes").write_text("no number")
    assert 0 < reader._used() <= reader.limit


def _read(task: tuple[CachedReader, Pair]) -> int:
    reader, pair = task
    image, mask = reader(pair)
    return int(image.sum()) + int(mask.sum())


def test_several_processes_share_a_cache(tmp_path, pair):
    tasks = [(CachedReader(tmp_path / "cache", 1), pair)] * 8
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sums = set(pool.map(_read, tasks))
    assert sums == {_read((CachedReader(tmp_path / "fresh", 1), pair))}
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.npy"))
    assert kept <= int((tmp_path / "cache" / "bytes").read_text())


def test_training_through_a_cache_gives_the_same_samples(tmp_path):
    write_scenes(tmp_path, "camvid", {"train": 2}, (40, 60))
    options = {
        "layout": "camvid",
        "root": tmp_path,
        "crop": (24, 32),
        "batch_size": 2,
        "workers": 0,
    }
    plain, kept = SegmentationData(**options), SegmentationData(**options, cache=tmp_path / "cache")
    for _ in range(2):
        one, two = plain.sample_batch(), kept.sample_batch()
        assert np.array_equal(one["image"], two["image"])
        assert np.array_equal(one["mask"], two["mask"])


def test_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache .*file.* cannot be made.*data\.cache"):
        CachedReader(tmp_path / "file" / "cache", 1)
