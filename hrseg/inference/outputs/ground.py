"""Where an image lies on the ground: read from a GeoTIFF's own tags or a world file beside it, without other packages.

(a, b, c, d, e, f) says that the corner of pixel (row, column) lies at x = a column + b row + c and
y = d column + e row + f.

Source:
    OGC GeoTIFF 1.1: tags 33550, 33922, 34264 and 34735 with its keys 1024, 1025, 2048, 3072 and 3076. World files as
    ESRI has them: a, d, b, e, and x and y of the middle of the first pixel.
"""

import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hrseg.inference.prediction import Prediction

Transform = tuple[float, float, float, float, float, float]
_SCALE, _TIEPOINT, _MATRIX, _KEYS = 33550, 33922, 34264, 34735
_MODEL, _RASTER, _GEOGRAPHIC, _PROJECTED, _UNIT = 1024, 1025, 2048, 3072, 3076
_METRES = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937}
"""Code of a unit of length → metres."""
_UNTRUE = {3857, 3785, 900913}
"""Web Mercator: its metre is a metre at the equator only."""
_WORLD = {".tif": ".tfw", ".tiff": ".tfw", ".png": ".pgw", ".jpg": ".jgw", ".jpeg": ".jgw"}
_DAMAGE = (OSError, ValueError, SyntaxError, LookupError, TypeError, AttributeError, struct.error)
_RADIUS, _SQUARED = 6378137.0, 0.00669437999014
"""Of WGS 84: the equator's radius, and the square of the eccentricity."""


@dataclass(frozen=True)
class Ground:
    """Where pixels lie.

    Attributes:
        transform: See above.
        crs: Such as "EPSG:32632"; None where nobody says.
        metres: Length of one unit of x and y; None where it is unknown, or no length.
        degrees: Whether x and y are longitude and latitude.
    """

    transform: Transform
    crs: str | None = None
    metres: float | None = None
    degrees: bool = False

    def points(self, corners: np.ndarray) -> np.ndarray:
        """Turn corners of pixels, (column, row) each, into coordinates. Shape: (n, 2) → (n, 2)."""
        a, b, c, d, e, f = self.transform
        x, y = corners[:, 0], corners[:, 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    @property
    def mirrored(self) -> bool:
        """Whether rows go down where y goes up, as in every map with north above."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d < 0

    def pixel_areas(self, height: int) -> np.ndarray | None:
        """Return the square metres of a pixel of each row, or None where they cannot be known.

        Degrees are measured on the ellipsoid of WGS 84.
        """
        a, b, _, d, e, f = self.transform
        size = abs(a * e - b * d)
        if self.metres is not None:
            return np.full(height, size * self.metres**2)
        if not self.degrees:
            return None
        latitude = np.radians(e * (np.arange(height) + 0.5) + f)
        flat = 1 - _SQUARED * np.sin(latitude) ** 2
        along, across = _RADIUS * (1 - _SQUARED) / flat**1.5, _RADIUS / np.sqrt(flat)
        areas: np.ndarray = size * math.radians(1) ** 2 * along * across * np.cos(latitude)
        return areas


def ground_of(prediction: Prediction) -> Ground | None:
    """Return where a prediction's image lies: what it says itself, else what its file says."""
    if prediction.transform is not None:
        return _named(prediction.transform, prediction.crs)
    return read_ground(prediction.origin) if prediction.origin else None


@lru_cache(maxsize=4)  # several writers ask for one image
def read_ground(path: str) -> Ground | None:
    """Return where an image file lies, or None where neither it nor a world file says so."""
    place = Path(path)
    try:
        if place.suffix.lower() in (".tif", ".tiff") and place.is_file():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damaged tags, which then say nothing
                ground = _from_tags(_tags(place))
            if ground is not None:
                return ground
        return _from_world(place)
    except _DAMAGE:
        return None


def _tags(path: Path) -> dict[int, Any]:
    with Image.open(path) as image:
        return dict(getattr(image, "tag_v2", {}))


def _from_tags(tags: Mapping[int, Any]) -> Ground | None:
    words = tags.get(_KEYS, ())
    keys = {words[i]: words[i + 3] for i in range(4, len(words) - 3, 4) if words[i + 1] == 0}
    if _MATRIX in tags:
        m = tags[_MATRIX]
        a, b, c, d, e, f = m[0], m[1], m[3], m[4], m[5], m[7]
    elif _SCALE in tags and _TIEPOINT in tags:
        (sx, sy), (column, row, _, x, y) = tags[_SCALE][:2], tags[_TIEPOINT][:5]
        a, b, c, d, e, f = sx, 0.0, x - column * sx, 0.0, -sy, y + row * sy
    else:
        return None
    if keys.get(_RASTER) == 2:  # the point is the middle of the pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    degrees = keys.get(_MODEL) == 2
    code = keys.get(_GEOGRAPHIC if degrees else _PROJECTED)
    code = None if code in (None, 0, 32767) else int(code)  # 32767: the file defines its own
    metres = None if degrees or code in _UNTRUE else _METRES.get(keys.get(_UNIT, 0))
    transform = (float(a), float(b), float(c), float(d), float(e), float(f))
    return Ground(transform, None if code is None else f"EPSG:{code}", metres, degrees)


def _from_world(path: Path) -> Ground | None:
    for suffix in (_WORLD.get(path.suffix.lower(), ".wld"), ".wld"):
        beside = path.with_suffix(suffix)
        if beside != path and beside.is_file():
            numbers = [float(word.replace(",", ".")) for word in beside.read_text().split()[:6]]
            a, d, b, e, x, y = numbers
            return Ground((a, b, x - (a + b) / 2, d, e, y - (d + e) / 2))
    return None


def _named(transform: Transform, crs: str | None) -> Ground:
    """Say of a coordinate system's code what is certain: what 4326 and UTM mean."""
    code = int(crs[5:]) if crs and crs.upper().startswith("EPSG:") and crs[5:].isdecimal() else 0
    zone = code // 100 in (326, 327, 258) and 1 <= code % 100 <= 60
    degrees = code in (4326, 4258, 4269, 4267, 6318, 7844)
    return Ground(transform, crs, 1.0 if zone else None, degrees)


def tiff_tags(ground: Ground) -> list[tuple[int, int, int | None, Any, bool]]:
    """Return the tags that say it in a TIFF, as tifffile takes them."""
    a, b, c, d, e, f = ground.transform
    matrix = (a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    keys = [(_MODEL, 2 if ground.degrees else 1), (_RASTER, 1)]
    if ground.crs and ground.crs.upper().startswith("EPSG:"):
        keys.append((_GEOGRAPHIC if ground.degrees else _PROJECTED, int(ground.crs[5:])))
    unit = next((code for code, metres in _METRES.items() if metres == ground.metres), None)
    if unit:
        keys.append((_UNIT, unit))
    words = [1, 1, 0, len(keys)]
    for key, value in keys:
        words += [key, 0, 1, value]
    return [(_MATRIX, 12, 16, matrix, True), (_KEYS, 3, len(words), tuple(words), True)]
