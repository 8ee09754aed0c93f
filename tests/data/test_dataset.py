"""Samples from files, and the cache of decoded images."""

import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hrseg.data import dataset as datasets
from hrseg.data.datamodule import SegmentationData
from hrseg.data.dataset import CachedReader, Draw, SegmentationDataset
from hrseg.data.layouts import Pair
from hrseg.data.sampling import ShardSampler
from hrseg.data.synthetic import write_scenes
from hrseg.data.transforms import limit_threads
from hrseg.errors import DataError
from hrseg.imaging import denormalize, write_image, write_mask
from hrseg.labels import IGNORE_INDEX, load_labels
from tests.data.recipes import recipe_of

LABELS = load_labels("cityscapes")


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    found = []
    generator = np.random.default_rng(0)
    for number in range(6):
        image = generator.integers(0, 256, (24, 40, 3)).astype(np.uint8)
        ids = np.full((24, 40), 7, np.uint8)
        ids[:, 20:], ids[0] = 26, 0
        found.append(Pair(tmp_path / f"{number}.png", tmp_path / f"{number}_ids.png", str(number)))
        write_image(found[-1].image, image)
        write_mask(found[-1].mask, ids)
    return found


def test_sample_of_a_whole_image(pairs):
    dataset = SegmentationDataset(pairs, LABELS)
    sample = dataset[1]
    assert len(dataset) == 6
    assert (sample["image"].dtype, sample["image"].shape) == (torch.float32, (3, 24, 40))
    assert (sample["mask"].dtype, sample["mask"].shape) == (torch.int64, (24, 40))
    assert sample["name"] == "1"
    assert np.array_equal(denormalize(sample["image"]), dataset.read_trainids(pairs[1])[0])
    assert sample["mask"][0].unique().tolist() == [IGNORE_INDEX]
    assert sample["mask"][5, :20].unique().tolist() == [0]
    assert sample["mask"][5, 20:].unique().tolist() == [13]


def test_filler_is_the_same_image_without_a_mask(pairs):
    dataset = SegmentationDataset(pairs, LABELS)
    filler = dataset[Draw(-1 - 4)]
    assert torch.equal(filler["image"], dataset[4]["image"])
    assert filler["mask"].unique().tolist() == [IGNORE_INDEX]


def test_pair_without_mask_is_ignored_everywhere(pairs):
    dataset = SegmentationDataset([pairs[0]._replace(mask=None)], LABELS)
    assert dataset[0]["mask"].unique().tolist() == [IGNORE_INDEX]


def test_iteration_ends(pairs):
    assert [sample["name"] for sample in SegmentationDataset(pairs, LABELS)] == list("012345")


def test_sizes_that_differ(pairs):
    write_mask(pairs[0].mask, np.zeros((24, 41), np.uint8))
    with pytest.raises(DataError, match=r"0\.png has 24x40 .*0_ids\.png 24x41\. .*belong"):
        SegmentationDataset(pairs, LABELS)[0]


def test_unknown_id_names_the_file(pairs):
    write_mask(pairs[2].mask, np.full((24, 40), 77, np.uint8))
    with pytest.raises(DataError, match=r"2_ids\.png holds id 77"):
        SegmentationDataset(pairs, LABELS)[2]


def test_own_table_of_a_pair(pairs):
    write_mask(pairs[0].mask, np.full((24, 40), 13, np.uint8))
    own = pairs[0]._replace(table="cityscapes_trainids")
    assert SegmentationDataset([own], LABELS)[0]["mask"].unique().tolist() == [13]


def test_read_function_instead_of_files():
    def read(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((8, 9, 3), np.uint8), np.full((8, 9), 7, np.uint8)

    dataset = SegmentationDataset([Pair(Path("x"), Path("x"), "x")], LABELS, read=read)
    assert dataset[0]["mask"].unique().tolist() == [0]


def test_augmentation_depends_on_seed_epoch_image_and_turn(pairs):
    def image(draw: Draw, seed: int = 0) -> torch.Tensor:
        recipe = recipe_of(crop=(16, 16))
        return SegmentationDataset(pairs, LABELS, recipe, seed=seed)[draw]["image"]

    base = image(Draw(3, 5, 0))
    assert torch.equal(base, image(Draw(3, 5, 0)))
    for other in (image(Draw(3, 6, 0)), image(Draw(3, 5, 1)), image(Draw(3, 5, 0), seed=1)):
        assert not torch.equal(base, other)


def epochs(pairs: list[Pair], workers: int, context: str | None = None) -> list[torch.Tensor]:
    """Two epochs from one loader: persistent workers must hear of the second."""
    dataset = SegmentationDataset(pairs, LABELS, recipe_of(crop=(16, 16), photometric=0.5))
    sampler = ShardSampler(len(pairs), train=True)
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=limit_threads,
        multiprocessing_context=context if workers else None,
    )
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += [batch["image"].clone() for batch in loader]
    return batches


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core
@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_workers_change_nothing(pairs, workers, context):
    alone, together = epochs(pairs, 0), epochs(pairs, workers, context)
    assert len(alone) == 6
    for one, two in zip(alone, together, strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(alone[0], alone[3])


def test_errors_in_workers_reach_the_user(pairs):
    write_mask(pairs[0].mask, np.zeros((3, 3), np.uint8))
    loader = DataLoader(SegmentationDataset(pairs, LABELS), batch_size=None, num_workers=1)
    with pytest.raises(DataError, match=r"0_ids\.png 3x3"):
        next(iter(loader))


def test_draws_survive_pickling():
    draw = Draw(-3, 2, 1, 7)
    assert pickle.loads(pickle.dumps(draw)) == draw


def test_padding_is_black_before_normalization(tmp_path: Path) -> None:
    """The official padding is 0 and normalized with the image: -mean / std, not 0. "mean" gives about 0."""
    write_image(tmp_path / "a.png", np.full((4, 4, 3), 200, np.uint8))
    write_mask(tmp_path / "a_ids.png", np.full((4, 4), 7, np.uint8))
    pair = Pair(tmp_path / "a.png", tmp_path / "a_ids.png", "a")
    plain = {"crop": (4, 6), "scale_min": 1.0, "scale_max": 1.0, "flip": 0.0}
    black = SegmentationDataset([pair], LABELS, recipe_of(**plain))[0]["image"]
    official = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert torch.allclose(black[:, :, 4:], official[:, None, None].expand(3, 4, 2), atol=1e-5)
    mean = recipe_of(**plain, pad="mean", mean=(124 / 255, 116 / 255, 104 / 255))
    assert SegmentationDataset([pair], LABELS, mean)[0]["image"][:, :, 4:].abs().max() < 0.01


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
    opener = datasets.open_picture
    monkeypatch.setattr(datasets, "open_picture", lambda path, *how: seen.append(path) or opener(path, *how))
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


@pytest.mark.slow
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
    assert 0 < reader._count() <= reader.limit


def _read(task: tuple[CachedReader, Pair]) -> int:
    reader, pair = task
    image, mask = reader(pair)
    return int(image.sum()) + int(mask.sum())


@pytest.mark.slow
def test_several_processes_share_a_cache(tmp_path, pair):
    tasks = [(CachedReader(tmp_path / "cache", 1), pair)] * 8
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:  # as loaders start their workers
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
