"""Writing of images, masks and GeoTIFFs; each file appears complete under its name or not at all."""

import contextlib
import errno
import glob
import itertools
import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hrseg.errors import DataError, write_hint
from hrseg.imaging.georeference import Georeference
from hrseg.imaging.rasters import gdal_settings

log = logging.getLogger(__name__)

TILE = 512
Rows = Iterable[tuple[int, np.ndarray]]


@contextlib.contextmanager
def write_atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside the target, and rename it to the target when the block succeeds.

    On any error, a full disk included, the temporary file is removed and an older target stays.

    Args:
        path: The final file. Missing folders are made.

    Raises:
        DataError: The file cannot be written.
    """
    path = Path(path)
    # hidden and with the same suffix, since writers choose the format by it
    temporary = path.with_name(f".{path.stem[:40]}-{_owner_mark()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_once(path.parent)
        temporary.open("xb").close()  # so that a folder without permission is reported at once
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # else a power failure may leave the name without content
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was left half written. {write_hint(error)}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8; bytes of file names that are not UTF-8 are escaped.

    Raises:
        DataError: The file cannot be written.
    """
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON and YAML do


@contextlib.contextmanager
def temporary_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """Give an empty folder, which is removed at the end; those of killed processes are removed first.

    Args:
        name: Common to all folders of this use.
        parent: Folder of the folder; it is made. None is the system's place for temporary files.

    Raises:
        OSError: It cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    place.mkdir(parents=True, exist_ok=True)
    remove_abandoned(place, f"{name}-")
    folder = place / f"{name}-{_owner_mark()}"
    folder.mkdir(mode=0o700 if parent is None else 0o777)  # a result takes its place under the umask
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_MARK = re.compile(r".+-([0-9a-f]{3})([0-9a-f]{6})[0-9a-f]{3}(\.[^.]+)?")
_HOST = zlib.crc32(socket.gethostname().encode()) % 4096
_ABANDONED_SECONDS = 86400
"""Age from which a temporary file of another machine, whose processes are out of sight, counts as abandoned."""
_BEGIN = time.time()
_numbers = itertools.count()
_seen_folders: set[tuple[int, str]] = set()
_seen_lock = threading.Lock()


def _owner_mark() -> str:
    """Return twelve digits for the name of a temporary file: machine, process, and a running number."""
    return f"{_HOST:03x}{os.getpid() % 2**24:06x}{next(_numbers) % 4096:03x}"


def _remove_abandoned_once(folder: Path) -> None:
    """Remove abandoned files before this process first writes into a folder, when none of them is its own."""
    key = (os.getpid(), os.path.abspath(folder))
    with _seen_lock:
        if key not in _seen_folders:
            _seen_folders.add(key)
            remove_abandoned(folder)


def remove_abandoned(folder: Path, start: str = ".", *, locked: bool = False) -> None:
    """Remove temporary files and folders that killed processes left in a folder.

    Args:
        folder: Where to look.
        start: Of their names.
        locked: Whether no other process may be writing there; then those of every machine and all folders below go.
    """
    with contextlib.suppress(OSError):
        pattern = f"{glob.escape(start)}*"
        for path in folder.rglob(pattern) if locked else folder.glob(pattern):
            mark = _MARK.fullmatch(path.name)
            if mark and (locked or _is_abandoned(path, mark)):
                log.debug("removing %s, which a killed process left", path)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _is_abandoned(path: Path, mark: re.Match[str]) -> bool:
    process = int(mark[2], 16)
    if int(mark[1], 16) != _HOST or os.name == "nt":  # Windows has no signal 0
        return path.stat().st_mtime < time.time() - _ABANDONED_SECONDS
    if process == os.getpid():  # of an earlier process of this number, as in containers, unless begun since
        return path.stat().st_mtime < _BEGIN
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    return False


def set_aside(path: Path, reason: str) -> Path:
    """Rename a damaged file of hrseg's own to NAME.damaged, and log one line.

    Args:
        path: The file.
        reason: What is wrong with it and what follows, as the end of the line.

    Raises:
        OSError: It cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged{n or ''}") for n in itertools.count())
    aside = next(name for name in names if not name.exists())
    path.replace(aside)
    log.warning("%s was damaged and is now %s: %s", path, aside.name, reason)
    return aside


def write_image(path: str | Path, image: np.ndarray, *, quick: bool = False) -> None:
    """Write RGB; the suffix names the format.

    Args:
        path: The file, such as a .png or .jpg.
        image: uint8.
        quick: Whether to pack a PNG in a quarter of the time, a tenth to a fifth larger.

    Raises:
        DataError: The file cannot be written, or no format has this suffix.

    Shape:
        (H, W, 3)
    """
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise DataError(f"No image format has the suffix of {path}. Use .png, .jpg or .tif.")
    _save(Image.fromarray(image), path, compress_level=1 if quick else 6)


def write_mask(path: str | Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write ids as a PNG: with a palette it shows colors and still holds the ids.

    Args:
        path: The .png file.
        mask: Ids from 0 to 65535. From 256 on the file has 16 bits and no palette.
        palette: Colors of all ids, uint8.

    Raises:
        DataError: The file cannot be written or is no .png, or an id does not fit.

    Shape:
        mask (H, W), palette (256, 3)
    """
    if Path(path).suffix.lower() != ".png":
        raise DataError(f"A mask is written as .png, which changes no id; {path} is none.")
    if mask.dtype not in (np.uint8, np.uint16):
        low, high = int(mask.min(initial=0)), int(mask.max(initial=0))
        if low < 0 or high > 65535:
            raise DataError(f"{path} would hold ids from {low} to {high}; a PNG holds 0 to 65535.")
        mask = mask.astype(np.uint8 if high < 256 else np.uint16)
    image = Image.fromarray(mask)
    if palette is None or mask.dtype == np.uint16:
        _save(image, path)
        return
    image.putpalette(np.ascontiguousarray(palette, dtype=np.uint8).tobytes())
    _save(image, path)


def _save(image: Image.Image, path: str | Path, compress_level: int = 6) -> None:
    # quality is for JPEG and WebP, the level for PNG; other formats ignore both
    with write_atomic(path) as temporary:
        image.save(temporary, quality=95, compress_level=compress_level)


def write_geotiff(
    path: str | Path,
    values: np.ndarray,
    *,
    georeference: Georeference | None = None,
    nodata: float | None = None,
    palette: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write an array that is in memory; see `write_raster`.

    Raises:
        DataError: The file cannot be written.

    Shape:
        values (H, W) or (bands, H, W)
    """
    from rasterio.io import MemoryFile

    options: Any = {"georeference": georeference, "nodata": nodata, "palette": palette}
    # unlike GDAL, Python distinguishes a full disk from other errors
    with write_atomic(path) as temporary, MemoryFile(ext=Path(path).suffix) as memory:
        target = Path(memory.name)
        write_raster(target, [(0, values)], values.shape, values.dtype, names=names, **options)
        temporary.write_bytes(memory.read())


def write_raster(
    path: Path,
    rows: Rows,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    georeference: Georeference | None = None,
    nodata: float | None = None,
    palette: np.ndarray | None = None,
    names: Sequence[str] = (),
    draft: Path | None = None,
) -> None:
    """Write a cloud-optimized GeoTIFF, or a PNG by the suffix, from rows that come from top to bottom.

    A tiled draft is written first, since overviews (of nearest pixels) precede the pixels in the file.

    Args:
        path: The file; its folder must be there.
        rows: First row, and values (rows, W) or (bands, rows, W).
        shape: (H, W) or (bands, H, W).
        dtype: Of the values.
        georeference: Position on the ground.
        nodata: The value of pixels without data.
        palette: Colors of the values of one band, uint8 (256, 3).
        names: Of the bands.
        draft: File for the draft, which is removed; None makes it in memory.

    Raises:
        OSError: The disk is full, or GDAL failed otherwise.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.windows import Window

    count, (height, width) = shape[0] if len(shape) == 3 else 1, shape[-2:]
    options = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "bigtiff": "IF_SAFER"}
    options |= {"compress": "deflate", "zlevel": 1, "interleave": "band", "nodata": nodata}
    options |= {"height": height, "width": width, "count": count, "dtype": dtype}
    options |= _georeference_options(georeference) | (
        {"photometric": "rgb"} if count == 3 and dtype == np.uint8 else {}
    )
    with _writing_settings(), _temporary_raster(draft) as place:
        with rasterio.open(place, "w", driver="GTiff", **options) as raster:
            if palette is not None:
                raster.write_colormap(1, {i: tuple(map(int, c)) for i, c in enumerate(palette)})
            for band, name in enumerate(names, start=1):
                raster.set_band_description(band, name)
            for top, values in _in_tile_rows(rows):
                window = Window(0, top, width, values.shape[-2])
                raster.write(values.reshape(count, -1, width), window=window)
        png = path.suffix.lower() == ".png"
        packed = {"blocksize": TILE, "level": 1 if count > 1 else 6}
        final = {"driver": "PNG"} if png else _COG | packed
        rasterio.shutil.copy(place, path, **final)


_COG = {"driver": "COG", "compress": "DEFLATE", "bigtiff": "IF_SAFER"}
_COG |= {"overview_resampling": "NEAREST"}


def _georeference_options(georeference: Georeference | None) -> dict[str, Any]:
    """Return the options of rasterio for a georeference."""
    if georeference is None:
        return {}
    from rasterio.control import GroundControlPoint

    placed: dict[str, Any] = {"crs": georeference.crs}
    if georeference.gcps:
        placed["gcps"] = [GroundControlPoint(*point) for point in georeference.gcps]
    else:
        from rasterio.transform import Affine

        placed["transform"] = Affine(*georeference.transform)
    return placed


def _in_tile_rows(rows: Rows) -> Rows:
    """Regroup rows into strips of TILE rows, so that no tile is compressed twice."""
    pending = np.empty((0, 0))
    top = 0
    for _, values in rows:
        pending = np.concatenate([pending, values], axis=-2) if pending.size else values
        while pending.shape[-2] >= TILE:
            yield top, pending[..., :TILE, :]
            top, pending = top + TILE, pending[..., TILE:, :]
    if pending.size:
        yield top, pending


@contextlib.contextmanager
def _temporary_raster(draft: Path | None) -> Iterator[str]:
    """Give the name of a temporary raster, on disk or in memory, and delete it at the end."""
    import rasterio.shutil

    name = str(draft or f"/vsimem/{uuid.uuid4().hex}.tif")
    try:
        yield name
    finally:
        if rasterio.shutil.exists(name):
            rasterio.shutil.delete(name, driver="GTiff")


@contextlib.contextmanager
def _writing_settings() -> Iterator[None]:
    """Bound GDAL's memory, write no side files, and raise its errors as OSError."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with gdal_settings():
            yield
    except (RasterioError, CPLE_BaseError) as error:  # such as of a full disk
        raise OSError(str(error)) from error
