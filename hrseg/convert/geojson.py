"""Reader of GeoJSON polygons over images: by georeference (QGIS, GDAL), or in pixels (QuPath).

One file belongs to the image of its name, else its polygons go to every raster of the folder that they touch. Rings
inside a polygon are holes, and later features cover earlier ones. Without "crs" coordinates are longitude and
latitude, unless the image has no georeference, or the file is QuPath's: then they are pixels.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.convert.attributes import OBJECT, UNNAMED, class_attribute, class_of
from hrseg.convert.base import (
    FIX,
    Color,
    Object,
    Record,
    Skipped,
    Source,
    data_error,
    errors_at,
    read_each,
)
from hrseg.convert.classes import SourceClasses
from hrseg.convert.files import files_of_tool, json_files, read_json
from hrseg.data.layouts.pairs import name_of, visible_images
from hrseg.errors import DataError
from hrseg.imaging import Georeference, image_size, read_georeference
from hrseg.imaging.failures import silent_libraries
from hrseg.imaging.polygons import Patch, Ring, Size, box, fill, joined

_FARTHEST = 1e10
"""Coordinates beyond this are neither degrees, meters, feet nor pixels."""
_NOT_CLASSES = ("objectType", "object_type", "isLocked", "measurements", "color", "metadata")
"""Properties of QuPath's objects beside their class."""


@dataclass(frozen=True)
class Feature:
    """One object.

    Attributes:
        place: Position in the source, for messages.
        properties: Candidates for its class.
        polygons: Outline and holes of each, as slices of its layer's points.
    """

    place: str
    properties: Mapping[str, Any]
    polygons: list[list[slice]]


@dataclass(frozen=True, eq=False)
class Layer:
    """One GeoJSON file.

    Attributes:
        file: The file.
        crs: Its coordinate system, where it names one.
        pixels: Whether its coordinates are pixels.
        features: Its objects with an area.
        points: Corners of all of them, x and y, float64 (n, 2).
    """

    file: Path
    crs: str | None
    pixels: bool
    features: list[Feature]
    points: np.ndarray

    def near(self, ground: Georeference | None, size: Size) -> list[tuple[Feature, list[list[Ring]]]]:
        """Return the features whose bounds meet an image, and their polygons in its pixels."""
        if not self.features:
            return []
        here = None if self.pixels else ground
        points, low, high = self._placed(here.crs if here else None, here is None)
        corners = box(0, 0, size[1], size[0])
        bounds = here.points(corners) if here else corners
        met = (low <= bounds.max(axis=0)).all(axis=1) & (high >= bounds.min(axis=0)).all(axis=1)
        found = [self.features[index] for index in np.flatnonzero(met)]
        return [
            (item, [[_to_pixels(points[part], here) for part in rings] for rings in item.polygons]) for item in found
        ]

    @cache  # noqa: B019 - a layer lives as long as the conversion
    def _placed(self, crs: str | None, pixels: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the points in a coordinate system, and the least and greatest of each feature."""
        points = self.points
        if pixels and not self.pixels and points[:, 1].max() <= 0:
            points = points * (1, -1)  # QGIS shows an image without a place below y = 0
        elif not pixels:
            points = self._reprojected(crs)
        starts = [feature.polygons[0][0].start for feature in self.features]
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        return points, low, high

    def _reprojected(self, crs: str | None) -> np.ndarray:
        degrees = bool((np.abs(self.points) <= (180, 90)).all())
        source = self.crs or ("EPSG:4326" if degrees else None)
        if source is None or crs is None or source == crs:
            return self.points
        from rasterio import Env
        from rasterio.crs import CRS
        from rasterio.warp import transform

        try:
            with silent_libraries(), Env():
                systems = CRS.from_user_input(source), CRS.from_user_input(crs)
                x, y = transform(*systems, *self.points.T.tolist())[:2]
        except Exception as error:  # rasterio's errors have no common parent
            what = f"its coordinates cannot be turned from {source} to {crs[:40]}: {error}"
            step = "Save it in the coordinate system of the image"
            raise data_error(self.file.name, what, step) from error
        points = np.stack([x, y], axis=1).astype(np.float64)
        points[~np.isfinite(points).all(axis=1)] = np.nan  # outside the projection: near no image
        return points


def recognizes(path: Path) -> bool:
    """Return whether this is a GeoJSON file, or a folder with some."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None, classes: SourceClasses | None = None) -> Source:
    """Read the file, or a folder with some; images are by default beside the files and below.

    `classes` gives the order of the classes and the names of numbers.
    """
    source = Source()
    skipped = source.skipped
    files = _files(path) or json_files(path) or [path]
    layers = read_each(files, lambda file: _layer(file, skipped), source.broken)
    folder = images or (path if path.is_dir() else path.parent)
    key = class_attribute((f.properties for layer in layers for f in layer.features), str(path))
    photos = visible_images(folder, "**/*")
    stems = {photo.stem.lower() for photo in photos}
    shared = [layer for layer in layers if layer.file.stem.lower() not in stems]
    # roads.geojson and houses.geojson; a digit would be the number of an image
    by_file = key is None and len(shared) > 1 and not re.search(r"\d", "".join(map(_name, shared)))
    labels: dict[int, str] = {}
    colors: dict[str, Color | None] = dict.fromkeys(classes.names if classes else ())
    for layer, feature in [(x, feature) for x in layers for feature in x.features]:
        usual = _name(layer) if by_file and layer in shared else OBJECT
        try:
            label = class_of(feature.properties.get(key), classes) if key else usual
        except ValueError as error:
            raise data_error(feature.place, str(error), FIX) from error
        if label is None:
            skipped.add("polygons without a class", feature.place)
            continue
        labels[id(feature)] = label
        colors[label] = colors.get(label) or _color(feature.properties.get(key or ""))
    _read_images(layers, folder, photos, labels, source)
    if not source.records:
        raise DataError(
            f"No polygon in {path} is inside an image in {folder}. Name the folder of the images with --images; images "
            "need a place on the ground (GeoTIFF, world file), or the name of the GeoJSON file."
        )
    given = list(classes.names) if classes else []
    order = [*given, *sorted(set(colors) - set(given))]
    source.classes = {name: colors[name] for name in order}
    source.notes = (UNNAMED,) * (key is None and OBJECT in labels.values())
    source.notes += ("The polygons name no class: each file's name is one.",) * by_file
    return source


def _name(layer: Layer) -> str:
    return layer.file.stem


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.rglob("*.*json"))
    files = [file for file in found if file.suffix.lower() in (".json", ".geojson")]
    return files_of_tool(files, is_geojson)


def is_geojson(content: Any) -> bool:
    """Return whether a file's content is GeoJSON: features, or QuPath's list of them."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and first.get("type") in ("FeatureCollection", "Feature")


def _layer(file: Path, skipped: Skipped) -> Layer:
    content = read_json(file)
    rows = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise data_error(str(file), "it holds no list of features", "Export it again as GeoJSON")
    collection = content if isinstance(content, dict) else {}
    pixels = collection.get("coordinates") == "pixels"  # as hrseg predict writes it
    features: list[Feature] = []
    points: list[Ring] = [np.zeros((0, 2))]  # concatenate needs an array
    count = 0
    for index, row in enumerate(rows, start=1):
        place = f"{file.name}, feature {index}"
        properties, geometry = row.get("properties") or {}, row.get("geometry")
        polygons = []
        with errors_at(place, FIX):
            pixels |= isinstance(properties.get("classification"), dict)
            pixels |= "plane" in (geometry or {})
            pixels |= "objectType" in properties or "object_type" in properties
            for rings in _polygons(geometry, place, skipped):
                ends = count + np.cumsum([0, *(len(ring) for ring in rings)])
                polygons.append([slice(*pair) for pair in pairwise(ends.tolist())])
                points += rings
                count = int(ends[-1])
            properties = {k: v for k, v in properties.items() if k not in _NOT_CLASSES}
        if polygons:
            features.append(Feature(place, properties, polygons))
    crs = _named_crs(collection.get("crs"), file)
    return Layer(file, crs, pixels, features, np.concatenate(points))


def _named_crs(crs: Any, file: Path) -> str | None:
    """Return "EPSG:n" or another text that names a coordinate system."""
    if crs is None:
        return None
    name = crs.get("properties", {}).get("name") if isinstance(crs, dict) else None
    if not isinstance(name, str):
        raise data_error(str(file), "its 'crs' has no name", "Export it again as GeoJSON")
    if name.endswith("CRS84"):
        return "EPSG:4326"  # with longitude first, as all coordinates of GeoJSON
    match = re.search(r"EPSG:(?:[\d.]*:)?(\d+)$", name)
    return f"EPSG:{match[1]}" if match else name


def _polygons(geometry: Any, place: str, skipped: Skipped) -> Iterator[list[Ring]]:
    """Return polygons as outline and holes; what has no area is counted."""
    kind = geometry["type"] if geometry else None
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part, place, skipped)
    elif kind in ("Polygon", "MultiPolygon"):
        found = geometry["coordinates"]
        for polygon in [found] if kind == "Polygon" else found:
            rings = [_ring(ring) for ring in polygon]
            if rings and len(rings[0]) > 2:
                yield [ring for ring in rings if len(ring) > 2]
            else:
                skipped.add("shapes of too few points", place)
    else:
        skipped["features without a geometry" if kind is None else f"{kind} geometries"] += 1


def _ring(points: Any) -> Ring:
    try:
        ring = np.array([point[:2] for point in points], dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise ValueError("its coordinates are not lists of x and y") from error
    if not (np.abs(ring) <= _FARTHEST).all():
        raise ValueError("a coordinate of it is no place on the Earth and no pixel")
    return ring


def _color(value: Any) -> Color | None:
    """Return the color of a class of QuPath."""
    fields = value if isinstance(value, dict) else {}
    code, triple = fields.get("colorRGB"), fields.get("color")
    if isinstance(code, int):
        return (code >> 16 & 255, code >> 8 & 255, code & 255)
    if isinstance(triple, list) and len(triple) == 3 and all(isinstance(v, int) for v in triple):
        return (triple[0] & 255, triple[1] & 255, triple[2] & 255)
    return None


def _read_images(
    layers: list[Layer], folder: Path, photos: list[Path], labels: Mapping[int, str], source: Source
) -> None:
    """Add the images that contain polygons, each with those of its own file and of files for no single image."""
    alone = len(photos) == 1
    stems = {photo.stem.lower() for photo in photos}
    shared = [layer for layer in layers if layer.file.stem.lower() not in stems]

    def read_image(photo: Path) -> Record | None:
        own = [layer for layer in layers if layer.file.stem.lower() == photo.stem.lower()]
        size, ground = image_size(photo), read_georeference(photo)
        if ground and not _determinant(ground):
            what = "its georeference gives pixels no area"
            raise data_error(str(photo), what, "Remove or correct it")
        others = [x for x in shared if alone or (ground is not None and not x.pixels)]
        found = []
        for layer in [*own, *others]:
            near = layer.near(ground, size)
            if layer.features and not near and (layer in own or alone):
                raise data_error(
                    layer.file.name,
                    f"none of its polygons is inside {photo.name}",
                    "Look whether both have the same coordinate system",
                )
            found += near
        if not found and not own:
            source.skipped["images that no polygon touches"] += 1
            return None
        objects = [
            Object(labels[id(item)], partial(_fill_all, polygons), item.place.rpartition(", ")[2])
            for item, polygons in found
            if id(item) in labels
        ]
        name = name_of(photo, folder)
        return Record(name, photo, f"image {photo.name}", size=size, objects=objects)

    source.read_records(photos, read_image)


def _to_pixels(points: np.ndarray, ground: Georeference | None) -> Ring:
    """Turn coordinates into columns and rows. Shape: (n, 2) → (n, 2)."""
    if ground is None:
        return points
    a, b, c, d, e, f = ground.transform
    x, y = (points - (c, f)).T
    return np.stack([e * x - b * y, a * y - d * x], axis=1) / _determinant(ground)


def _determinant(ground: Georeference) -> float:
    a, b, _, d, e, _ = ground.transform
    return a * e - b * d


def _fill_all(polygons: list[list[Ring]], size: Size) -> Patch:
    return joined(fill(rings, size) for rings in polygons)
