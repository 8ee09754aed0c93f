"""Masks as GeoJSON polygons, one feature for each connected component of a class, and as COCO annotations.

Outlines run along pixel edges, so that at tolerance 0 rasterizing them gives the mask exactly. Components are
4-connected, and outlines are split where they would touch themselves. Coordinates are georeferenced, or pixels (x to
the right, y down, 0 at the upper left corner). Programs assume EPSG:4326 where "crs" is missing or null, so every other
system is named: by its code, by its WKT, or as a local system.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hrseg.imaging import Georeference, write_atomic, write_text
from hrseg.imaging.polygons import Ring, area, bounding_box, simplify, trace
from hrseg.imaging.rle import coco_box, to_coco
from hrseg.inference.outputs.options import Options

if TYPE_CHECKING:
    from hrseg.inference.prediction import Prediction

_PIXELS = 'LOCAL_CS["pixels",UNIT["pixel",1]]'
_UNKNOWN = 'LOCAL_CS["unknown",UNIT["unknown",1]]'


def write_geojson(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write a FeatureCollection with class, id, pixels, confidence and, where known, square meters of each part."""
    head = {"type": "FeatureCollection", "name": prediction.name} | _system(prediction.georeference)
    with write_atomic(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        between = "\n"
        for feature in features(prediction, options):
            file.write(between + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
            between = ",\n"
        file.write("\n]}\n")


def _system(place: Georeference | None) -> dict[str, Any]:
    """Return the members of the file that name the coordinate system."""
    crs = _PIXELS if place is None else place.crs or _UNKNOWN
    if crs == "EPSG:4326":
        return {}
    name = f"urn:ogc:def:crs:{crs.replace(':', '::')}" if crs.startswith("EPSG:") else crs
    named = {"crs": {"type": "name", "properties": {"name": name}}}
    return named if place is not None else {"coordinates": "pixels"} | named


def features(prediction: "Prediction", options: Options) -> Iterator[dict[str, Any]]:
    """Yield a GeoJSON feature for each component, class by class."""
    labels, place = prediction.labels, prediction.georeference
    known = options.pixel_areas(prediction)
    sizes = None if known is None else np.broadcast_to(known, prediction.size)
    for train_id in np.unique(prediction.mask).tolist():
        if train_id >= labels.num_classes:
            continue
        for part in find_components(prediction.mask == train_id):
            pixels = int(part.pixels.sum())
            if pixels < options.min_area:
                continue
            rows, columns = part.place
            sure = prediction.require_map("confidence")[rows, columns][part.pixels].mean(dtype=np.float64)
            facts: dict[str, Any] = {
                "class": labels.names[train_id],
                "id": labels.classes[train_id].id,
                "pixels": pixels,
                "confidence": round(float(sure), 4),
            }
            if sizes is not None:
                facts["square_meters"] = round(float(sizes[rows, columns][part.pixels].sum()), 4)
            rings = [
                part.outline,
                *(hole for hole in part.holes if -area(hole) >= options.min_area),
            ]
            drawn = [_coordinates(ring, place) for ring in simplified(rings, options.tolerance)]
            shape = {"type": "Polygon", "coordinates": drawn}
            yield {"type": "Feature", "properties": facts, "geometry": shape}


class Component:
    """One connected component of a class.

    Attributes:
        outline: Outer ring, clockwise on a screen.
        holes: Inner rings, counterclockwise.
        place: Rows and columns of its bounding box.
        pixels: Mask in the bounding box, bool (h, w).
    """

    def __init__(self, place: tuple[slice, slice], pixels: np.ndarray) -> None:
        self.place = place
        self.pixels = pixels
        self.outline: Ring = np.zeros((0, 2))
        self.holes: list[Ring] = []


def find_components(mask: np.ndarray) -> list[Component]:
    """Find the connected components of a mask, with outlines that do not touch themselves.

    Shape:
        bool (H, W)

    Example:
        >>> ring = np.ones((3, 3), bool)
        >>> ring[1, 1] = False
        >>> [part] = find_components(ring)
        >>> part.outline.astype(int).tolist(), part.holes[0].astype(int).tolist()
        ([[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 2], [2, 2], [2, 1], [1, 1]])
    """
    if not mask.any():
        return []
    box = bounding_box(mask)
    cut, top, left = mask[box], box[0].start, box[1].start
    count, numbers, boxes, _ = cv2.connectedComponentsWithStats(cut.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    found = []
    for number in range(1, count):
        x, y, width, height = (int(value) for value in boxes[number][:4])
        pixels = numbers[y : y + height, x : x + width] == number
        place = slice(top + y, top + y + height), slice(left + x, left + x + width)
        found.append(Component(place, pixels))
    for ring in trace(cut):
        for simple in _simple_rings(ring):
            part = found[_number_beside(simple, numbers) - 1]
            placed = simple + np.array((left, top))
            if area(simple) > 0:
                part.outline = placed
            else:
                part.holes.append(placed)
    return found


def _simple_rings(ring: Ring) -> Iterator[Ring]:
    """Split a ring at corners that it visits twice."""
    corners = [tuple(corner) for corner in ring.tolist()]
    if len(set(corners)) == len(corners):
        yield ring
        return
    path: list[tuple[float, ...]] = []
    seen: dict[tuple[float, ...], int] = {}
    for corner in corners:
        if corner in seen:
            start = seen[corner]
            yield np.array(path[start:])
            for left in path[start + 1 :]:
                del seen[left]
            del path[start + 1 :]
        else:
            seen[corner] = len(path)
            path.append(corner)
    yield np.array(path)


def _number_beside(ring: Ring, numbers: np.ndarray) -> int:
    """Return the component inside a ring: the one below its first edge that points right."""
    x, y = ring[:, 0], ring[:, 1]  # (corners,) each
    edges = np.flatnonzero((x[1:] > x[:-1]) & (y[1:] == y[:-1]))
    edge = edges[0] if len(edges) else -1  # the one that closes it
    return int(numbers[int(y[edge]), int(x[edge])])


def _coordinates(ring: Ring, place: Georeference | None) -> list[list[float]]:
    """Close a ring, in the orientation of GeoJSON: the outer ring counterclockwise in x and y."""
    points = np.concatenate([ring, ring[:1]])  # GeoJSON repeats the first point
    if place is None:
        pixels: list[list[float]] = points.astype(np.int64).tolist()
        return pixels
    points = place.points(points[::-1] if place.mirrored else points)
    placed: list[list[float]] = points.round(9 if place.degrees else 4).tolist()
    return placed


_TRIES = 4


def simplified(rings: Sequence[Ring], tolerance: float) -> list[Ring]:
    """Simplify the rings of one polygon by a tolerance in pixels, without making it invalid.

    Where edges would cross, half the tolerance is tried, up to `_TRIES` times; a ring that would collapse stays as it
    is.
    """
    for _ in range(_TRIES if tolerance > 0 else 0):
        shorter = [_shorter(ring, tolerance) for ring in rings]
        if not cross(shorter):
            return shorter
        tolerance /= 2
    return list(rings)


def cross(rings: Sequence[Ring]) -> bool:
    """Return whether any two edges meet elsewhere than in a common end point.

    Example:
        >>> bow = np.array([[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
        >>> cross([bow]), cross([bow[[0, 2, 1, 3]]])
        (True, False)
    """
    # Edges are sorted by their left ends, so that only those that overlap in x are compared.
    start = np.concatenate(rings)  # (edges, 2)
    end = np.concatenate([np.concatenate([ring[1:], ring[:1]]) for ring in rings])
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 0], kind="stable")  # by the left end
    start, end, low, high = start[order], end[order], low[order], high[order]
    count = np.searchsorted(low[:, 0], high[:, 0], side="right") - np.arange(len(start)) - 1
    first = np.repeat(np.arange(len(start)), count)
    second = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count) + first + 1
    near = (low[first, 1] <= high[second, 1]) & (low[second, 1] <= high[first, 1])  # overlap in y
    first, second = first[near], second[near]  # pairs of edges with overlapping bounding boxes
    a, b, c, d = start[first], end[first], start[second], end[second]
    sides = [_side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)]
    meet = (sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0)  # (pairs,)
    shared = _same(a, c) | _same(a, d) | _same(b, c) | _same(b, d)  # a common corner
    in_line = (sides[0] == 0) & (sides[1] == 0)
    overlap = in_line & _overlaps(a, b, c, d)
    return bool((meet & ~shared & ~in_line).any() or overlap.any())


def _shorter(ring: Ring, tolerance: float) -> Ring:
    short = simplify(ring, tolerance)
    return short if area(short) * area(ring) > 0 else ring


def _side(a: np.ndarray, b: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the side of the line a-b on which a point is: 1, 0 or -1."""
    line, way = b - a, point - a  # (pairs, 2) each
    return np.sign(line[:, 0] * way[:, 1] - line[:, 1] * way[:, 0])


def _same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first == second).all(axis=1)


def _overlaps(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return which collinear edges share more than one point."""
    across = np.minimum(np.maximum(a, b), np.maximum(c, d)) - np.maximum(np.minimum(a, b), np.minimum(c, d))
    return (across >= 0).all(axis=1) & (across > 0).any(axis=1)


def write_coco(prediction: "Prediction", target: Path, options: Options) -> None:
    """Write one annotation per class, scored by its mean confidence, and every category with the dataset's id."""
    height, width = prediction.size
    labels = prediction.labels
    present = np.flatnonzero(np.bincount(prediction.mask.ravel(), minlength=256)[: labels.num_classes])
    image = {
        "id": 1,
        "file_name": Path(prediction.origin).name if prediction.origin else prediction.name,
        "height": height,
        "width": width,
    }
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": labels.classes[train_id].id,
            **_object(prediction, train_id),
        }
        for number, train_id in enumerate(present.tolist(), start=1)
    ]
    categories = [{"id": label.id, "name": label.name} for label in labels.classes]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    write_text(target, json.dumps(content, ensure_ascii=False))


def _object(prediction: "Prediction", train_id: int) -> dict[str, Any]:
    pixels, sure = prediction.mask == train_id, prediction.require_map("confidence")
    return {
        "segmentation": {"size": list(pixels.shape), "counts": to_coco(pixels)},
        "area": int(pixels.sum()),
        "bbox": coco_box(*bounding_box(pixels)),
        "iscrowd": 0,
        "score": round(float(sure[pixels].mean(dtype=np.float64)), 6),
    }
