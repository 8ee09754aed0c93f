"""Georeferences: the affine transform and coordinate system that place pixels on the ground.

They come from the file's own tags, an .aux.xml of GDAL, or a world file with its .prj, in this order.

Source:
    World files as ESRI has them: a, d, b, e, and x and y of the center of the first pixel. GDAL's data model of
    affine transforms, and its .aux.xml (PAMDataset: GeoTransform, SRS, GCPList).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from hrseg.imaging.failures import silent_libraries

Transform = tuple[float, float, float, float, float, float]
_WEB_MERCATOR = {3857, 3785, 900913, 102100, 102113}
"""Web Mercator codes: their unit is a meter at the equator only."""
_EQUATOR, _ECCENTRICITY_2 = 6378137.0, 0.00669437999014
"""WGS 84: radius of the equator in meters, and squared eccentricity."""
MAX_SIDECAR = 2**22
"""Bytes; a larger .aux.xml, world file or .prj is ignored."""


@dataclass(frozen=True)
class Georeference:
    """Position of an image on the ground.

    Attributes:
        transform: a, b, c, d, e, f: the corner of pixel (row, column) is at x = a column + b row + c and
            y = d column + e row + f. With ground control points it is the least-squares fit to them.
        crs: "EPSG:n" where the coordinate system has that code, else its WKT; None if unknown.
        gcps: (row, column, x, y, z) of ground control points, where the file has these instead of a transform.
    """

    transform: Transform
    crs: str | None = None
    gcps: tuple[tuple[float, ...], ...] = ()

    def points(self, corners: np.ndarray) -> np.ndarray:
        """Transform corners of pixels, (column, row) each, to coordinates. Shape: (n, 2) → (n, 2)."""
        a, b, c, d, e, f = self.transform
        x, y = corners[:, 0], corners[:, 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)

    @property
    def mirrored(self) -> bool:
        """Whether y decreases from row to row, as in every north-up map."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d < 0

    @property
    def meters(self) -> float | None:
        """Meters per unit of x and y; None where unknown, not a length, or not constant."""
        return _units(self.crs)[0]

    @property
    def degrees(self) -> bool:
        """Whether x and y are longitude and latitude in degrees."""
        return _units(self.crs)[1]

    def pixel_areas(self, height: int, width: int) -> np.ndarray | None:
        """Return the areas of pixels in square meters, None if unknown; degrees count on the ellipsoid of WGS 84.

        Shape:
            (height, 1) where all pixels of a row have one area, else (height, width)
        """
        a, b, _, d, e, f = self.transform
        size = abs(a * e - b * d)
        if self.meters is not None:
            return np.full((height, 1), size * self.meters**2)
        if not self.degrees:
            return None
        columns = np.arange(width if d else 1) + 0.5
        latitude = np.radians(d * columns + e * (np.arange(height)[:, None] + 0.5) + f)
        factor = 1 - _ECCENTRICITY_2 * np.sin(latitude) ** 2
        along, across = _EQUATOR * (1 - _ECCENTRICITY_2) / factor**1.5, _EQUATOR / np.sqrt(factor)
        areas: np.ndarray = size * math.radians(1) ** 2 * along * across * np.cos(latitude)
        return areas

    def turned(self, orientation: int, height: int, width: int) -> "Georeference":
        """Return the georeference of an image after its EXIF orientation is undone.

        Args:
            orientation: 1 to 8.
            height: Of the image as stored.
            width: Of the image as stored.
        """
        # column and row as stored, from those of the upright image: (factors of x and y, constant)
        column, row = {
            1: ((1, 0, 0), (0, 1, 0)),
            2: ((-1, 0, width), (0, 1, 0)),
            3: ((-1, 0, width), (0, -1, height)),
            4: ((1, 0, 0), (0, -1, height)),
            5: ((0, 1, 0), (1, 0, 0)),
            6: ((0, 1, 0), (-1, 0, height)),
            7: ((0, -1, width), (-1, 0, height)),
            8: ((0, -1, width), (1, 0, 0)),
        }[orientation]
        a, b, c, d, e, f = self.transform
        stored = np.array([column, row, (0, 0, 1)], float)
        turned = np.array([[a, b, c], [d, e, f]]) @ stored
        turning = np.linalg.inv(stored)
        gcps = tuple(
            (float(turning[1] @ (g[1], g[0], 1)), float(turning[0] @ (g[1], g[0], 1)), *g[2:]) for g in self.gcps
        )
        return Georeference(tuple(turned.ravel().tolist()), self.crs, gcps)


def crs_name(crs: Any) -> str | None:
    """Return "EPSG:n" or the WKT of rasterio's coordinate reference system."""
    if not crs:
        return None
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def from_points(gcps: Sequence[Sequence[float]], crs: str | None) -> Georeference | None:
    """Fit a georeference to ground control points, (row, column, x, y, z) each; None where they do not define one."""
    points = np.array([g[:4] for g in gcps], float)  # row, column, x, y
    pixels = np.column_stack([points[:, 1], points[:, 0], np.ones(len(points))])
    if not np.isfinite(points).all() or np.linalg.matrix_rank(pixels) < 3:
        return None
    fit, *_ = np.linalg.lstsq(pixels, points[:, 2:4], rcond=None)  # (3, 2), from column, row, 1
    transform: Any = tuple(fit.T.ravel().tolist())
    return Georeference(transform, crs, tuple(tuple(map(float, g)) for g in gcps))


def beside(path: Path) -> Georeference | None:
    """Read the georeference in an .aux.xml, or in a world file and its .prj, beside an image."""
    return _from_aux(path) or _from_world(path)


def aux_root(path: Path) -> ElementTree.Element | None:
    """Parse the .aux.xml beside an image; None for one that is too long or defines entities."""
    text = _sidecar(path, [f"{path.name}.aux.xml"])
    if text is None or "<!" in text.replace("<!--", ""):
        return None
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None
    return root if root.tag == "PAMDataset" else None


def _from_aux(path: Path) -> Georeference | None:
    root = aux_root(path)
    if root is None:
        return None
    try:
        points = root.find("GCPList")
        if points is not None:
            names = ("Line", "Pixel", "X", "Y")
            gcps = [(*(float(p.attrib[n]) for n in names), float(p.get("Z", 0))) for p in points]
            return from_points(gcps, _from_wkt(points.get("Projection")))
        numbers = (root.findtext("GeoTransform") or "").split(",")
        c, a, b, f, d, e = map(float, numbers)
    except (KeyError, ValueError):
        return None
    return Georeference((a, b, c, d, e, f), _from_wkt(root.findtext("SRS")))


def _from_world(path: Path) -> Georeference | None:
    ending = path.suffix.lower().lstrip(".")
    short = ending[:1] + ending[-1:] + "w"  # .tfw, .jgw, .pgw, .j2w
    names = [f"{path.stem}.{suffix}" for suffix in (short, f"{ending}w", "wld", "tfw")]
    text = _sidecar(path, [*names, f"{path.name}w"])
    if text is None:
        return None
    try:
        a, d, b, e, x, y = (float(word.replace(",", ".")) for word in text.split()[:6])
    except ValueError:
        return None
    if not np.isfinite([a, b, d, e, x, y]).all() or a * e == b * d:
        return None
    crs = _from_wkt(_sidecar(path, [f"{path.stem}.prj"]))
    return Georeference((a, b, x - (a + b) / 2, d, e, y - (d + e) / 2), crs)


def _sidecar(path: Path, names: Sequence[str]) -> str | None:
    """Read the first of these files beside an image that exists; case is ignored."""
    wanted = {name.lower(): place for place, name in reversed(list(enumerate(names)))}
    try:
        found = [other for other in _folder(path.parent) if other.lower() in wanted]
        found.sort(key=lambda other: wanted[other.lower()])
        for name in found:
            file = path.with_name(name)
            if file.is_file() and file.stat().st_size <= MAX_SIDECAR:
                return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return None


def _folder(folder: Path) -> Sequence[str]:
    """List the sidecars in a folder, once for all its images as long as it does not change."""
    return _listed(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _listed(folder: Path, changed: int) -> tuple[str, ...]:  # changed: in the cache's key
    endings = (".xml", "w", ".wld", ".prj")
    return tuple(p.name for p in folder.iterdir() if p.name.lower().endswith(endings))


@functools.lru_cache(maxsize=64)
def _from_wkt(text: str | None) -> str | None:
    if text is None or "[" not in text:  # PROJ takes other texts for file names or URLs
        return None
    from rasterio.crs import CRS

    with silent_libraries():
        try:
            return crs_name(CRS.from_wkt(text.strip(), morph_from_esri_dialect=True))
        except Exception:  # rasterio's error types have no common parent
            return None


@functools.lru_cache(maxsize=64)
def _units(crs: str | None) -> tuple[float | None, bool]:
    """Return meters per unit, and whether units are degrees."""
    if crs is None:
        return None, False
    from rasterio.crs import CRS

    with silent_libraries():
        try:
            system = CRS.from_wkt(crs) if "[" in crs else CRS.from_user_input(crs)
            name, factor = system.units_factor
        except Exception:  # see above
            return None, False
        if system.is_geographic:
            return None, math.isclose(factor, math.radians(1), rel_tol=1e-6)
        if not system.is_projected or system.to_epsg() in _WEB_MERCATOR:
            return None, False
    return (float(factor), False) if name != "unknown" else (None, False)
