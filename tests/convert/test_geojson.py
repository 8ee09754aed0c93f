import json

import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.errors import DataError
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted

UTM = "EPSG:32633"
PLACE = Affine(0.5, 0.1, 400_000, -0.1, -0.5, 5_500_000)  # turned a little
ELSEWHERE = Affine(0.5, 0.1, 490_000, -0.1, -0.5, 5_500_000)
OUTER = [[2, 2], [30, 4], [28, 20], [3, 18], [2, 2]]
HOLE = [[8, 6], [8, 12], [20, 12], [20, 6], [8, 6]]
FAR = [[34, 22], [39, 22], [39, 28], [34, 28], [34, 22]]
SIZE = (32, 40)


def raster(path, place=PLACE, crs=UTM, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": size[0], "width": size[1]}
    with rasterio.open(path, "w", transform=place, crs=crs, **form) as file:
        file.write(np.random.default_rng(2).integers(0, 255, (3, *size), dtype=np.uint8))
    return path


def on_the_ground(ring):
    a, b, c, d, e, f = PLACE[:6]
    return [[a * column + b * row + c, d * column + e * row + f] for column, row in ring]


def geometries():
    parts = [[on_the_ground(OUTER), on_the_ground(HOLE)], [on_the_ground(FAR)]]
    return [
        {"type": "MultiPolygon", "coordinates": parts},
        {"type": "Polygon", "coordinates": [on_the_ground([[5, 20], [9, 31], [1, 31], [5, 20]])]},
    ]


def layer(path, shapes, crs=None, **properties):
    features = [
        {"type": "Feature", "properties": {"fid": i, "class": n} | properties, "geometry": shape}
        for i, (n, shape) in enumerate(zip(("house", "road"), shapes, strict=True))
    ]
    content = {"type": "FeatureCollection", "name": path.stem, "features": features}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    return s.save(path, content)


def expected():
    shapes = zip(geometries(), (1, 2), strict=True)
    return rasterize(list(shapes), SIZE, transform=PLACE)


@pytest.mark.parametrize(
    ("crs", "system"),
    [
        ("urn:ogc:def:crs:EPSG::32633", UTM),
        ("EPSG:32633", UTM),
        (None, UTM),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"),
        (None, "EPSG:4326"),
        ("urn:ogc:def:crs:EPSG::3857", "EPSG:3857"),
    ],
)
def test_polygons_over_a_raster_equal_those_of_gdal(crs, system, tmp_path):
    raster(tmp_path / "source/tile.tif")
    shapes = [transform_geom(UTM, system, shape, precision=-1) for shape in geometries()]
    path = layer(tmp_path / "source/fields.geojson", shapes, crs)
    mask, labels, _ = converted(path, tmp_path)
    assert labels.names == ["background", "house", "road"]
    assert (mask == expected()).all()


def test_one_layer_over_many_rasters_and_files_of_their_own(tmp_path):
    root = tmp_path / "source"
    raster(root / "images/a.tif")
    raster(root / "images/far.tif", ELSEWHERE)
    raster(root / "images/own.tif")
    layer(root / "all.geojson", geometries(), UTM)
    s.save(root / "own.geojson", {"type": "FeatureCollection", "features": []})
    report = convert(root, tmp_path / "out")
    assert {r.name: len(r.objects) for r in report.source.records} == {
        "images/a": 2,
        "images/own": 2,
    }
    assert report.source.skipped["images that no polygon touches"] == 1


def test_files_of_one_class_each_are_named_by_it(tmp_path):
    raster(tmp_path / "source/a.tif")
    for name, shape in zip(("house", "road"), geometries(), strict=True):
        features = [{"type": "Feature", "properties": {"fid": 1}, "geometry": shape}]
        s.save(tmp_path / f"source/{name}.geojson", {"type": "FeatureCollection", "features": features})
    mask, labels, report = converted(tmp_path / "source", tmp_path)
    assert labels.names == ["background", "house", "road"]
    assert (mask == expected()).all()
    assert "each file's name is one" in report.text()


def test_world_files_give_the_place(tmp_path):
    s.photo(tmp_path / "source/a.png", SIZE)
    (middle,) = on_the_ground([(0.5, 0.5)])
    a, b, _, d, e, _ = PLACE[:6]
    s.save(tmp_path / "source/a.pgw", "\n".join(map(str, [a, d, b, e, *middle])))
    mask, _, _ = converted(layer(tmp_path / "source/a.geojson", geometries(), UTM), tmp_path)
    assert (mask == expected()).all()


def test_pixels_of_qupath_count_even_where_the_image_has_a_place(tmp_path):
    raster(tmp_path / "source/a.tif")
    inner = [[8, 6], [8, 12], [20, 12], [20, 6]]
    features = [x.qupath_feature("Tumor", [OUTER[:-1], inner])]
    for form in (features, {"type": "FeatureCollection", "features": features}):
        s.save(tmp_path / "source/a.geojson", form)
        out = tmp_path / str(type(form).__name__)
        mask, labels, _ = converted(tmp_path / "source/a.geojson", out)
        shape = {"type": "Polygon", "coordinates": [OUTER, HOLE]}
        assert (mask == rasterize([(shape, 1)], SIZE)).all()
        assert labels.palette[1].tolist() == [200, 0, 0]


def test_qgis_shows_images_without_a_place_below_zero(tmp_path):
    s.photo(tmp_path / "source/a.png", SIZE)
    down = {"type": "Polygon", "coordinates": [[[c, -r] for c, r in OUTER]]}
    mask, _, _ = converted(layer(tmp_path / "source/a.geojson", [down, down], UTM), tmp_path)
    upright = {"type": "Polygon", "coordinates": [OUTER]}
    assert (mask == rasterize([(upright, 2)], SIZE)).all()


def test_predictions_written_as_geojson_come_back(tmp_path):
    s.photo(tmp_path / "source/a.png", SIZE)
    ring = s.corners((1, 1, 5, 3))
    feature = {
        "type": "Feature",
        "properties": {"class": "car", "id": 2, "pixels": 8, "confidence": 0.9},
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
    }
    head = {"type": "FeatureCollection", "name": "a", "coordinates": "pixels"}
    mask, _, _ = converted(s.save(tmp_path / "source/a.geojson", head | {"features": [feature]}), tmp_path)
    assert np.argwhere(mask).min(axis=0).tolist() == [1, 1]
    assert mask.sum() == 8


def test_points_and_lines_and_too_few_points_are_left_out(tmp_path):
    path = x.qupath(tmp_path / "source")
    content = json.loads(path.read_text())
    flat = {"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]}
    content["features"].append({"type": "Feature", "geometry": flat, "properties": {}})
    content["features"].append({"type": "Feature", "geometry": None})
    s.save(path, content)
    _, _, report = converted(path, tmp_path)
    assert "Point geometries (1)" in report.text()
    assert "shapes of too few points (1: a.geojson, feature 4)" in report.text()
    assert "features without a geometry (1)" in report.text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["features"][0]["geometry"].update(coordinates=[[["x"]]]),
            "feature 1: its coord",
        ),
        (
            lambda c: c["features"][0]["geometry"].update(coordinates=[[[1e300, 0]] * 4]),
            "feature 1: a coordinate",
        ),
        (lambda c: c.update(crs={"properties": {}}), "its 'crs' has no name"),
        (lambda c: c.update(features=3), "no list of features"),
    ],
)
def test_damage_is_named(change, words, tmp_path):
    path = x.qupath(tmp_path / "source")
    content = json.loads(path.read_text())
    change(content)
    s.save(path, content)
    with pytest.raises(DataError, match=words):
        convert(path, tmp_path / "out", ConvertOptions(tool="geojson"))


def test_polygons_beside_the_image_are_said(tmp_path, capfd):
    raster(tmp_path / "source/a.tif", ELSEWHERE)
    path = layer(tmp_path / "source/a.geojson", geometries(), UTM)
    with pytest.raises(DataError, match=r"a\.geojson: none of its polygons is inside a\.tif"):
        convert(path, tmp_path / "out")
    assert capfd.readouterr().err == ""
    layer(path, geometries(), "urn:nonsense")
    with pytest.raises(DataError, match="cannot be turned from urn:nonsense to EPSG:32633"):
        convert(path, tmp_path / "out")
    assert capfd.readouterr().err == ""
