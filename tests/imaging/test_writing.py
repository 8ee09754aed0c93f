"""GeoTIFFs that rasterio and Pillow read back."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS

from hrseg.errors import DataError
from hrseg.imaging import Georeference, write_geotiff, writing
from hrseg.imaging.writing import (
    remove_abandoned,
    set_aside,
    temporary_folder,
    write_raster,
    write_text,
)

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(0)
PLACE = Georeference((0.5, 0.0, 5e5, 0.0, -0.5, 4e6), "EPSG:32632")
PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)


def test_a_palette_and_its_place_come_back(tmp_path):
    ids = RNG.integers(0, 9, (700, 600), dtype=np.uint8)
    write_geotiff(tmp_path / "a.tif", ids, georeference=PLACE, nodata=255, palette=PALETTE)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.crs.to_epsg(), file.transform[:6], file.nodata) == (
            32632,
            PLACE.transform,
            255,
        )
        assert file.colormap(1)[3][:3] == tuple(PALETTE[3])
        assert file.overviews(1) == [2]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(file.read(1), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_of_every_type_and_named_bands_come_back(tmp_path, dtype):
    values = (RNG.random((2, 30, 40)) * 200).astype(dtype)
    write_geotiff(tmp_path / "a.tif", values, names=["a & b", "ü"])
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.descriptions == ("a & b", "ü")
        np.testing.assert_array_equal(file.read(), values)


def test_a_system_without_code_and_ground_control_points_come_back(tmp_path):
    wkt = CRS.from_proj4("+proj=laea +lat_0=1 +lon_0=2 +units=m").to_wkt()
    points = ((0.0, 0.0, 10.0, 50.0, 0.0), (0.0, 9.0, 19.0, 50.0, 0.0), (9.0, 0.0, 10.0, 41.0, 0.0))
    place = Georeference((1.0, 0.0, 10.0, 0.0, -1.0, 50.0), wkt, points)
    write_geotiff(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), georeference=place)
    with rasterio.open(tmp_path / "a.tif") as file:
        found, crs = file.gcps
        assert [(p.row, p.col, p.x, p.y, p.z) for p in found] == list(points)
        assert crs == CRS.from_wkt(wkt)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_rows_from_top_to_bottom_give_the_same_file_each_time(tmp_path, suffix):
    ids = RNG.integers(0, 9, (1100, 530), dtype=np.uint8)
    for name in "ab":
        write_raster(
            *(tmp_path / f"{name}{suffix}", ((i, ids[i : i + 300]) for i in range(0, 1100, 300))),
            *(ids.shape, ids.dtype),
            palette=PALETTE,
            draft=tmp_path / "draft.tif",
        )
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), ids)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"a.tif: No space left") as caught:
        write_geotiff(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def abandoned(folder: Path, name: str, process: int) -> Path:
    """A temporary file as a process of this number leaves it, an hour old."""
    path = folder / name.replace("MARK", f"{writing._HOST:03x}{process:06x}000")
    path.touch()
    os.utime(path, (time.time() - 3600,) * 2)
    return path


@pytest.fixture
def ended():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_temporary_files_of_killed_processes_go_at_the_next_write(tmp_path, ended):
    gone = [abandoned(tmp_path, f".a-MARK{suffix}", ended) for suffix in (".png", ".ckpt", "")]
    gone.append(abandoned(tmp_path, ".a-MARK.csv", os.getpid()))  # the number was used before
    kept = [abandoned(tmp_path, ".a-MARK.txt", os.getppid()), tmp_path / ".mine.png"]
    kept[1].touch()
    write_text(tmp_path / "b.txt", "text")
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_temporary_files_of_other_machines_go_after_a_day(tmp_path):
    new, old = tmp_path / ".a-fff000001000.png", tmp_path / ".b-fff000001000.png"
    for path in (new, old):
        path.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    remove_abandoned(tmp_path)
    assert (new.exists(), old.exists()) == (True, False)


def test_temporary_folder_is_removed_and_so_are_those_of_killed_processes(tmp_path, ended):
    left = tmp_path / f"work[1]-{writing._HOST:03x}{ended:06x}000"
    (left / "inner").mkdir(parents=True)
    with temporary_folder("work[1]", tmp_path) as folder:
        assert not left.exists()
        assert folder.is_dir()
        with temporary_folder("work[1]", tmp_path) as other:
            assert folder.is_dir()
            assert other != folder
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\udcffb", "ü", "plain"])
def test_text_with_any_file_name_is_written_and_stays_json(tmp_path, name):
    write_text(tmp_path / "a.json", json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": name}


def test_damaged_files_are_set_aside_under_names_of_their_own(tmp_path, caplog):
    for content in "ab":
        (tmp_path / "x.json").write_text(content)
        set_aside(tmp_path / "x.json", "it is made anew.")
    assert (tmp_path / "x.json.damaged").read_text() == "a"
    assert (tmp_path / "x.json.damaged1").read_text() == "b"
    assert caplog.text.count("x.json was damaged and is now x.json.damaged") == 2
