"""Polygons give the mask back, and are what the standard calls valid."""

import itertools
import json
import math

import numpy as np
import pytest
from rasterio.crs import CRS

from hrseg.imaging import Georeference
from hrseg.imaging.polygons import area, fill
from hrseg.inference.outputs import Options, write_all
from hrseg.inference.outputs.vectors import find_components
from tests.inference.outputs.made import LABELS, prediction

OWN_SYSTEM = CRS.from_proj4("+proj=laea +lat_0=1 +lon_0=2 +units=m").to_wkt()
ESRI = CRS.from_user_input("ESRI:102003").to_wkt()
RNG = np.random.default_rng(3)
EIGHT = np.ones((5, 5), int)  # two holes that touch at a corner, and a part that touches its outline
EIGHT[1, 1] = EIGHT[2, 2] = EIGHT[3, 4] = EIGHT[4, 3] = 0
OPEN = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1]])  # a hole that touches the outside


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def polygons(made, tmp_path, **options):
    return read(write_all(made, tmp_path, "x", ["geojson"], Options(**options))["geojson"])


def drawn(content, size):
    """Draw the features again, without any of ours but the rule of the polygons."""
    ids = np.full(size, 255, np.uint8)
    train_ids = {label.id: label.train_id for label in LABELS.labels}
    for feature in content["features"]:
        rings = [np.array(ring, float)[:-1] for ring in feature["geometry"]["coordinates"]]
        patch = fill(rings, size)
        part = ids[patch.top :, patch.left :][: patch.pixels.shape[0], : patch.pixels.shape[1]]
        assert (part[patch.pixels] == 255).all()  # nothing is drawn twice
        assert feature["properties"]["pixels"] == patch.pixels.sum()
        part[patch.pixels] = train_ids[feature["properties"]["id"]]
    return ids


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((1, 1)),
        EIGHT,
        OPEN,
        RNG.integers(0, 3, (40, 60)),
        RNG.integers(0, 2, (33, 31)) * 255,
        np.kron(RNG.integers(0, 3, (6, 7)), np.ones((9, 5))),
    ],
    ids=["pixel", "eight", "open", "noise", "ignored", "blocks"],
)
def test_the_mask_comes_back_exactly(mask, tmp_path):
    made = prediction(np.asarray(mask))
    content = polygons(made, tmp_path)
    np.testing.assert_array_equal(drawn(content, made.size), made.mask)


@pytest.mark.parametrize("mask", [EIGHT, OPEN, RNG.integers(0, 2, (40, 60))])
def test_rings_are_simple_closed_and_turn_as_the_standard_says(mask, tmp_path):
    for feature in polygons(prediction(mask), tmp_path)["features"]:
        assert feature["geometry"]["type"] == "Polygon"
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            corners = [tuple(corner) for corner in ring[:-1]]
            assert len(set(corners)) == len(corners) >= 4
            assert (area(np.array(corners)) > 0) == (number == 0)


def test_parts_that_touch_at_a_corner_are_two_and_holes_stay():
    assert len(find_components(np.eye(3, dtype=bool))) == 3
    assert [len(part.holes) for part in find_components(EIGHT == 1)] == [2, 0]
    whole = find_components(OPEN == 1)
    assert [len(part.holes) for part in whole] == [1, 0]
    assert find_components(np.zeros((3, 3), bool)) == []


def test_small_parts_and_small_holes_are_left_out(tmp_path):
    mask = np.zeros((20, 20), int)
    mask[5:8, 5:8] = 1
    mask[12, 12] = 1
    content = polygons(prediction(mask), tmp_path, min_area=2)
    facts = [feature["properties"] for feature in content["features"]]
    assert [(fact["class"], fact["pixels"]) for fact in facts] == [("road", 390), ("car", 9)]
    assert len(content["features"][0]["geometry"]["coordinates"]) == 2


def test_simplified_outlines_stay_within_the_tolerance(tmp_path):
    y, x = np.mgrid[:120, :120]
    mask = ((y - 60) ** 2 + (x - 60) ** 2 < 50**2).astype(int)
    exact = polygons(prediction(mask), tmp_path)["features"][1]["geometry"]["coordinates"][0]
    simple = polygons(prediction(mask), tmp_path, tolerance=1.5)["features"][1]
    ring = np.array(simple["geometry"]["coordinates"][0], float)
    assert len(ring) < len(exact) / 5
    far = np.abs(np.hypot(*(ring - 60).T) - 50)
    assert far.max() < 2.5
    redrawn = fill([ring[:-1]], mask.shape)
    assert abs(int(redrawn.pixels.sum()) - int(mask.sum())) < 0.03 * mask.sum()
    dot = polygons(prediction(np.array([[0, 1, 0]])), tmp_path, tolerance=5)  # nothing vanishes
    assert len(dot["features"]) == 3


def crosses(rings):
    """Every pair of edges, by the plain formula in whole numbers."""
    edges = [(a, b) for ring in rings for a, b in itertools.pairwise(ring)]

    def side(a, b, p):
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    def inside(a, b, p):
        return min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])

    for i, (a, b) in enumerate(edges):
        for c, d in edges[:i]:
            s = side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)
            if s[0] * s[1] < 0 and s[2] * s[3] < 0:
                return True
            for k, (e, p) in enumerate((((a, b), c), ((a, b), d), ((c, d), a), ((c, d), b))):
                if s[k] == 0 and inside(*e, p) and p not in e:
                    return True
    return False


@pytest.mark.parametrize("tolerance", [1, 2, 5])
def test_simplified_polygons_are_still_polygons(tolerance, tmp_path):
    mask = np.kron(RNG.integers(0, 2, (12, 13)), np.ones((2, 2))).astype(int)
    mask ^= RNG.random(mask.shape) < 0.1
    content = polygons(prediction(mask), tmp_path, tolerance=tolerance)
    exact = polygons(prediction(mask), tmp_path)
    assert sum(map(corners, content["features"])) < sum(map(corners, exact["features"]))
    for feature in content["features"]:
        assert not crosses(feature["geometry"]["coordinates"])


def corners(feature):
    return sum(map(len, feature["geometry"]["coordinates"]))


def placed(*transform, crs=None):
    return Georeference(transform or (2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0), crs)


def test_coordinates_are_those_of_the_place(tmp_path):
    mask = np.zeros((4, 6), int)
    mask[1:3, 2:5] = 1
    content = polygons(prediction(mask, georeference=placed(crs="EPSG:32632")), tmp_path)
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    car = content["features"][1]
    ring = car["geometry"]["coordinates"][0]
    assert sorted(ring[:-1]) == [
        [500004, 3999994],
        [500004, 3999998],
        [500010, 3999994],
        [500010, 3999998],
    ]
    assert area(np.array(ring[:-1])) > 0  # counterclockwise on the map
    assert car["properties"]["square_meters"] == 6 * 4


@pytest.mark.parametrize(
    ("crs", "square"),
    [
        ("EPSG:32632", 4.0),
        ("EPSG:2263", 4 * (1200 / 3937) ** 2),
        ("EPSG:3857", None),
        (OWN_SYSTEM, 4.0),
        (None, None),
    ],
)
def test_square_meters_only_where_the_unit_is_certain(crs, square, tmp_path):
    made = prediction(np.zeros((4, 6)), georeference=placed(crs=crs))
    facts = polygons(made, tmp_path)["features"][0]["properties"]
    assert facts.get("square_meters") == (square and pytest.approx(24 * square, abs=1e-3))


@pytest.mark.parametrize(
    "place",
    [
        *(None, placed(), placed(crs=OWN_SYSTEM), placed(crs=ESRI), placed(crs="EPSG:32632")),
        *(placed(crs="EPSG:2056"), placed(0.1, 0.0, 10.0, 0.0, -0.1, 50.0, crs="EPSG:4326")),
    ],
    ids=["pixels", "unknown", "own", "esri", "utm", "swiss", "degrees"],
)
def test_other_programs_see_the_system_of_the_place_and_no_other(place, tmp_path):
    geopandas = pytest.importorskip("geopandas")
    made = prediction(np.zeros((4, 6)), georeference=place)
    seen = geopandas.read_file(write_all(made, tmp_path, "x", ["geojson"])["geojson"]).crs
    if place is None or place.crs is None:
        assert seen.is_engineering  # local: nothing else can be laid over it
    else:
        assert seen.equals(geopandas.GeoSeries(crs=place.crs).crs, ignore_axis_order=True)


def test_degrees_are_measured_on_the_ellipsoid(tmp_path):
    # Between the equator and latitude 1, one degree wide: the zone's area in closed form (Snyder 1987, 3-12).
    b2, e, sine = 6356752.314245**2, 0.00669437999014**0.5, math.sin(math.radians(1))
    zone = sine / (1 - (e * sine) ** 2) + math.log((1 + e * sine) / (1 - e * sine)) / (2 * e)
    expected = b2 / 2 * zone * math.radians(1)
    place = placed(0.01, 0.0, 10.0, 0.0, -0.01, 1.0, crs="EPSG:4326")
    made = prediction(np.zeros((100, 100)), georeference=place)
    content = polygons(made, tmp_path)
    assert "crs" not in content
    assert content["features"][0]["geometry"]["coordinates"][0][0][0] == pytest.approx(10)
    square = content["features"][0]["properties"]["square_meters"]
    assert square == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    "transform",
    [
        *((0, 0.1, 10, -0.1, 0, 60), (-0.1, 0, 12, 0, 0.1, 55)),
        *((0, 0.1, 10, 0.1, 0, 55), (0.1, 0, 10, 0, 0.1, 55)),
    ],
)
def test_areas_in_degrees_are_those_of_the_ground_however_the_image_is_turned(transform, tmp_path):
    square = []
    for numbers in ((0.1, 0, 10, 0, -0.1, 60), transform):
        mask = np.zeros((50, 20) if numbers[0] else (20, 50))
        made = prediction(mask, georeference=placed(*map(float, numbers), crs="EPSG:4326"))
        (feature,) = polygons(made, tmp_path)["features"]
        square.append(feature["properties"]["square_meters"])
    assert square[1] == pytest.approx(square[0], rel=1e-9)
