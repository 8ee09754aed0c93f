"""Georeferences from a file's own tags, .aux.xml and world files, and what they say of lengths and areas."""

import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint

from hrseg.imaging import Georeference, read_georeference

TRANSFORM = (2.0, 0.0, 500000.0, 0.0, -3.0, 5400000.0)
LAEA = "+proj=laea +lat_0=47 +lon_0=11 +x_0=1000 +y_0=2000 +ellps=GRS80 +units=m"


def written(path, crs=None, driver="GTiff", **options):
    options.setdefault("transform", rasterio.Affine(*TRANSFORM))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver=driver, height=4, width=5, count=1, dtype="uint8", crs=crs, **options
        ) as file:  # fmt: skip
            file.write(np.zeros((1, 4, 5), np.uint8))
    return path


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG"])
@pytest.mark.parametrize(
    ("crs", "named"),
    [("EPSG:32632", True), ("EPSG:2056", True), ("ESRI:102003", False), (LAEA, False)],
)
def test_systems_are_named_by_code_or_else_in_full(tmp_path, crs, named, driver):
    found = read_georeference(written(tmp_path / "a.img", crs, driver))
    assert found.transform == TRANSFORM
    assert found.meters == 1.0
    assert not found.degrees
    if named:
        assert found.crs == crs
    else:
        assert rasterio.crs.CRS.from_wkt(found.crs).to_dict() == rasterio.crs.CRS.from_user_input(crs).to_dict()


@pytest.mark.parametrize("suffix", ["tfw", "TFW", "tifw", "wld", "tif.w"])
def test_world_files_of_any_usual_ending(tmp_path, suffix):
    Image.new("L", (5, 4)).save(tmp_path / "a.tif")
    name = "a.tifw" if suffix == "tif.w" else f"a.{suffix}"
    (tmp_path / name).write_text("2.0\n0\n0\n-3.0\n500001.0\n5399998.5\n")
    assert read_georeference(tmp_path / "a.tif") == Georeference(TRANSFORM)


@pytest.mark.parametrize(
    ("image", "world"),
    [
        ("a.jpg", "jgw"),
        ("a.JPG", "JGW"),
        ("a.jpg", "jpgw"),
        ("a.jpeg", "jgw"),
        ("a.png", "pgw"),
        ("a.png", "pngw"),
        ("a.jp2", "j2w"),
        ("a.jp2", "jp2w"),
    ],
)
@pytest.mark.parametrize("system", ["EPSG:32632", LAEA])
def test_world_files_with_the_system_beside_them(tmp_path, image, world, system):
    Image.new("L", (5, 4)).save(tmp_path / image)
    (tmp_path / f"a.{world}").write_text("2,0 0 0 -3,0 500001,0 5399998,5")  # a comma for the point, as some write
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_user_input(system).to_wkt(version="WKT1_ESRI"))
    found = read_georeference(tmp_path / image)
    assert found.transform == TRANSFORM
    assert found.meters == 1.0
    assert (found.crs == system) == (system != LAEA)
    assert system != LAEA or "Lambert" in found.crs


def test_aux_xml(tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    wkt = rasterio.crs.CRS.from_epsg(32632).to_wkt()
    (tmp_path / "a.png.aux.xml").write_text(
        f"<PAMDataset><SRS dataAxisToSRSAxisMapping='1,2'>{wkt}</SRS>"
        "<GeoTransform>500000, 2.0, 0, 5400000, 0, -3.0</GeoTransform></PAMDataset>"
    )
    assert read_georeference(tmp_path / "a.png") == Georeference(TRANSFORM, "EPSG:32632")


def test_points_on_the_ground_become_the_best_transform(tmp_path):
    points = [GroundControlPoint(r, c, 500000 + 2 * c, 5400000 - 3 * r, 7) for r, c in ((0, 0), (0, 5), (4, 0), (4, 5))]
    written(tmp_path / "a.tif", transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = rasterio.open(tmp_path / "a.tif", "r+")
    with file:
        file.gcps = points, rasterio.crs.CRS.from_epsg(32632)
    found = read_georeference(tmp_path / "a.tif")
    assert found.transform == pytest.approx(TRANSFORM, abs=1e-6)
    assert found.crs == "EPSG:32632"
    assert found.gcps[1] == (0, 5, 500010, 5400000, 7)


def test_ground_control_points_with_nan_give_no_georeference(tmp_path):
    points = [(0, 0, 500000, 5400000), (0, 5, 500010, 5400000), (4, 0, "nan", 5399988)]
    gcps = "".join(f'<GCP Line="{r}" Pixel="{c}" X="{x}" Y="{y}"/>' for r, c, x, y in points)
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    sidecar = tmp_path / "a.png.aux.xml"
    sidecar.write_text(f"<PAMDataset><GCPList>{gcps}</GCPList></PAMDataset>")
    assert read_georeference(tmp_path / "a.png") is None
    sidecar.write_text(sidecar.read_text().replace("nan", "500000"))
    assert read_georeference(tmp_path / "a.png").transform == pytest.approx(TRANSFORM, abs=1e-6)


@pytest.mark.parametrize("content", ["", "1 2 3", "a b c d e f", "1 1 1 1 0 0", "nan 0 0 1 0 0", "\0" * 40])
def test_world_files_that_say_nothing(tmp_path, content):
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text(content)
    assert read_georeference(tmp_path / "a.png") is None


@pytest.mark.parametrize(
    ("crs", "meters", "degrees"),
    [
        ("EPSG:4326", None, True),
        ("EPSG:4807", None, False),
        ("EPSG:3857", None, False),
        ("EPSG:2263", 1200 / 3937, False),
        ("EPSG:25832", 1.0, False),
        (None, None, False),
    ],
)
def test_lengths_of_units(crs, meters, degrees):
    found = Georeference(TRANSFORM, crs)
    assert found.meters == (None if meters is None else pytest.approx(meters))
    assert found.degrees == degrees
    assert found.mirrored


def test_areas_in_degrees_also_where_rows_and_columns_are_exchanged():
    """One degree at 45 north measures 78,847 by 111,132 meters."""
    upright = Georeference((0.1, 0, 10, 0, -0.1, 46), "EPSG:4326").pixel_areas(20, 30)
    turned = Georeference((0, 0.1, 10, -0.1, 0, 46), "EPSG:4326").pixel_areas(30, 20)
    assert upright.shape == (20, 1)
    assert turned.shape == (30, 20)
    assert np.allclose(turned[0], upright[:, 0])
    assert upright[9:11].mean() == pytest.approx(78847 * 111132 / 100, rel=1e-3)
    assert Georeference(TRANSFORM, "EPSG:32632").pixel_areas(4, 5).tolist() == [[6.0]] * 4
    assert Georeference(TRANSFORM).pixel_areas(4, 5) is None
