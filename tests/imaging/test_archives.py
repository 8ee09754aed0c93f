"""A dataset inside zip archives is found and read as if they were unpacked."""

import pickle
import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from hrseg.data.dataset import CachedReader, SegmentationDataset
from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from hrseg.imaging import image_size, read_image
from hrseg.imaging.archives import ArchivedPath, archived_root, in_archive, read_bytes
from hrseg.labels import load_labels

LABELS = load_labels("cityscapes")


def packed(folder: Path, archive: Path, top: str = "") -> None:
    with zipfile.ZipFile(archive, "w") as written:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                written.write(path, Path(top, path.relative_to(folder)))


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Cityscapes as folders, and as its two archives."""
    plain, zipped = tmp_path / "plain", tmp_path / "zipped"
    write_scenes(plain, "cityscapes", {"train": 2, "val": 1}, (32, 48))
    zipped.mkdir()
    for part in ("leftImg8bit", "gtFine"):
        packed(plain / part, zipped / f"{part}_trainvaltest.zip", part)
    return plain, zipped


def samples(root: Path, layout: str = "cityscapes", **options) -> list:
    pairs = find_pairs(layout, root, "train")
    return list(SegmentationDataset(pairs, load_labels(layout), **options))


def assert_same(one: list, two: list) -> None:
    assert [sample["name"] for sample in one] == [sample["name"] for sample in two]
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a["image"], b["image"])
        assert np.array_equal(a["mask"], b["mask"])


def test_official_archives_of_cityscapes(trees):
    plain, zipped = trees
    assert_same(samples(plain), samples(zipped))
    assert len(find_pairs("cityscapes", zipped, "val")) == 1
    image = find_pairs("cityscapes", zipped, "val")[0].image
    assert in_archive(image) == zipped / "leftImg8bit_trainvaltest.zip"
    assert image_size(image) == (32, 48)
    assert np.array_equal(read_image(str(image)), read_image(image))


def test_one_archive_as_root(trees, tmp_path):
    plain, _ = trees
    packed(plain, tmp_path / "everything.zip")
    assert_same(samples(plain), samples(tmp_path / "everything.zip"))
    write_scenes(tmp_path / "ade", "ade20k", {"train": 2}, (32, 48))
    packed(tmp_path / "ade", tmp_path / "ADEChallengeData2016.zip", "ADEChallengeData2016")
    assert_same(
        samples(tmp_path / "ade", "ade20k"),
        samples(tmp_path / "ADEChallengeData2016.zip", "ade20k"),
    )


def test_folders_and_archives_together(trees):
    plain, zipped = trees
    shutil.copytree(plain / "gtFine", zipped / "gtFine")
    (zipped / "gtFine_trainvaltest.zip").unlink()
    assert_same(samples(plain), samples(zipped))


def test_subfolders_are_followed(tmp_path):
    for name in ("images/train/a/x.png", "images/train/y.png", "images/train/.hidden/z.png"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    packed(tmp_path / "tree", tmp_path / "t.zip")
    root = archived_root(tmp_path / "t.zip")
    assert isinstance(root, ArchivedPath)
    found = [p.relative_to(root).as_posix() for p in root.glob("images/train/**/*") if p.is_file()]
    assert sorted(found) == [
        "images/train/.hidden/z.png",
        "images/train/a/x.png",
        "images/train/y.png",
    ]
    assert (root / "images").is_dir()
    assert not (root / "images").is_file()
    assert not (root / "masks").exists()


def _bytes(path: Path) -> int:
    return len(read_bytes(path))


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_other_processes_open_archives_for_themselves(trees, context):
    pairs = find_pairs("cityscapes", trees[1], "train")
    assert pickle.loads(pickle.dumps(pairs)) == pairs
    paths = [pair.image for pair in pairs] * 10
    expected = [_bytes(path) for path in paths]
    with ProcessPoolExecutor(2, mp_context=get_context(context)) as pool:
        assert list(pool.map(_bytes, paths)) == expected


def test_cache_knows_when_an_archive_changes(trees, tmp_path):
    reader = CachedReader(tmp_path / "cache", 1)
    assert_same(samples(trees[0]), samples(trees[1], read=reader))
    assert_same(samples(trees[0]), samples(trees[1], read=reader))


def test_what_is_made_to_fill_the_memory_is_refused(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images/a.png", "w", force_zip64=True) as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    with pytest.raises(DataError, match="more than the 268,435,456"):
        read_bytes(tmp_path / "bomb.zip/images/a.png")
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        for number in range(100):  # each level would be a path of its own
            archive.writestr("a/" * 30_000 + f"{number}.png", b"")
    with pytest.raises(DataError, match="folders in each other"):
        archived_root(tmp_path / "deep.zip")


def test_missing_files_and_broken_archives_are_named(trees, tmp_path):
    _, zipped = trees
    with pytest.raises(DataError, match=r"No such file: .*nothing\.png"):
        read_bytes(archived_root(zipped) / "leftImg8bit" / "nothing.png")
    (zipped / "gtFine_trainvaltest.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"gtFine_trainvaltest\.zip is not a whole zip archive"):
        find_pairs("cityscapes", tmp_path / "zipped", "val")
    with pytest.raises(DataError, match="does not exist"):
        find_pairs("cityscapes", tmp_path / "none.zip", "val")
