"""Segmentation of one large image: rows read as windows need them, strips of labels, the final files."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from hrseg.errors import ConfigError, DataError, HrsegError
from hrseg.imaging import ImageFile, open_image, stretched, to_tensor, write_image
from hrseg.imaging.reading import open_stored
from hrseg.imaging.writing import Rows, write_raster
from hrseg.inference.large.journal import Journal
from hrseg.inference.large.memory import check_limit, used_memory
from hrseg.inference.outputs import result_paths
from hrseg.inference.outputs.rasters import NODATA, in_sixteen_bits
from hrseg.inference.prediction import FileResult, class_shares
from hrseg.inference.predictor import Predictor
from hrseg.inference.windows import STRIDE, WINDOW_PIXELS
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.viz import overlay

log = logging.getLogger(__name__)

KINDS = ("mask", "trainids", "confidence", "overlay")
"""Kinds of results of a large image. The overlay is reduced to MAX_OVERLAY pixels."""
LARGE_PIXELS = 2**25
"""Images of more pixels (33.5 megapixels) are read, segmented and written in strips of rows."""
MAX_OVERLAY = 2048
"""Longest side of the overlay's image."""
MAX_READ_AHEAD = 1024
"""Rows that are read ahead at most, so that blocks of the file are decoded once."""
READ_ROWS = 256
"""Rows that are read at a time, or one block of the file."""
Progress = Callable[[int, int], None]
"""Called after each strip: rows that are done, rows of the image."""


def large_paths(target: str | Path, kinds: Sequence[str], georeferenced: bool = False) -> dict[str, Path]:
    """Return the paths of the results, named as those of smaller images.

    Raises:
        ConfigError: A kind that large images do not have.
    """
    target = Path(target)
    for kind in kinds or ("nothing",):
        if kind not in KINDS:
            raise ConfigError(
                f"'{kind}' needs the whole image in memory, and this one is read in strips of rows, as all above "
                f"{LARGE_PIXELS // 10**6} megapixels. Choose among {', '.join(KINDS)}, or cut the image into tiles."
            )
    return result_paths(target.parent, target.name, kinds, georeferenced)


def is_large(path: str | Path) -> bool:
    """Return whether a file is to be segmented by `segment_large`, by the size in its header.

    Args:
        path: An image file. One that cannot be opened is not large; decoding it reports the error.
    """
    try:
        with open_stored(path) as image:
            return image.height * image.width > LARGE_PIXELS
    except HrsegError:
        return False


def segment_large(
    predictor: Predictor,
    path: str | Path,
    target: str | Path,
    *,
    max_memory: int | None = None,
    kinds: Sequence[str] = ("mask", "overlay"),
    progress: Progress | None = None,
) -> FileResult:
    """Segment one image in bounded memory.

    Unfinished strips are stored in a hidden folder beside the results until everything is done.

    Args:
        predictor: Its protocol must run an image at its own size.
        path: The image.
        target: Prefix of the results: `out/a` gives out/a_mask.png, or out/a_mask.tif where the image is
            georeferenced.
        max_memory: Bytes that the process may use; None sets no limit.
        kinds: Of KINDS.
        progress: Called after each strip: rows done, rows of the image.

    Raises:
        ConfigError: A kind that large images do not have, or a protocol that needs the image whole.
        DataError: The image cannot be read, does not fit the limit, or a result cannot be written.
    """
    start = time.perf_counter()
    path, target = Path(path), Path(target)
    identity = _identity(path)
    with open_image(path, bands=predictor.stored_bands, bits=predictor.bits) as image:
        files = large_paths(target, kinds, image.georeference is not None)
        if any(path.resolve() == file.resolve() for file in files.values()):
            raise DataError(f"A result would overwrite {path}. Choose another folder with --out.")
        if predictor.protocol.absolute:
            raise ConfigError(
                f"Protocol '{predictor.protocol.name}' resizes whole images, and this one is too large for it. Use tta."
            )
        settings = predictor.settings() | {
            "image": identity,
            "windows": WINDOW_PIXELS,
            "results": sorted(kinds),
        }
        journal = Journal(target.with_name(f".{target.name}.unfinished"), settings)
        try:
            return _Segmentation(predictor, image, journal, files).run(path, max_memory, progress, start)
        finally:
            journal.close()


def _identity(path: Path) -> list[Any]:
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]


class _Segmentation:
    """The steps of one image."""

    def __init__(self, predictor: Predictor, image: ImageFile, journal: Journal, files: dict[str, Path]) -> None:
        self.predictor, self.image, self.journal, self.files = predictor, image, journal, files
        self.size = (image.height, image.width)
        self.rows = RowSource(image, predictor.mean, predictor.std, predictor.value_range)
        self.reduced = ReducedImage(self.size)

    def run(self, path: Path, max_memory: int | None, progress: Progress | None, start: float) -> FileResult:
        """Segment the rows that are not done yet, and write the results."""
        grid = self.predictor.inference.plan(self.size)
        held = used_memory() + self.rows.max_bytes(grid.window[0])
        check_limit(self.predictor, self.size, max_memory, held, self.image.name)
        if not self.journal.header:
            self.journal.begin()
        resumed = self.journal.rows
        if resumed:
            log.warning(
                "%s: an earlier run finished %d of %d rows; the rest follows.",
                *(self.image.name, resumed, self.size[0]),
            )
        if progress:
            progress(resumed, self.size[0])
        if resumed < self.size[0]:
            self._segment(progress)
        self._write()
        counts = np.sum([strip["counts"] for strip in self.journal.strips], axis=0)
        total = int(counts.sum())
        confidence = sum(strip["confidence"] for strip in self.journal.strips)
        self.journal.remove()
        return FileResult(
            path,
            files=self.files,
            size=self.size,
            classes=class_shares(counts, self.predictor.labels),
            confidence=confidence / total if total else None,
            seconds=time.perf_counter() - start,
            notes=self.image.notes,
            resumed=resumed,
        )

    def _segment(self, progress: Progress | None) -> None:
        begin = self.journal.rows
        for strip in self.predictor.inference.label_strips(self.rows, ("confidence",), begin):
            assert strip.confidence is not None
            top, bottom = strip.top, strip.top + strip.labels.shape[1]
            if bottom <= begin:
                continue
            mask = strip.labels[0].cpu().numpy().astype(np.uint8)  # (rows, W)
            confidence = strip.confidence[0].cpu().numpy()
            self.rows.hold(top, bottom)
            valid = self.rows.valid(top, bottom)
            if valid is not None:
                mask[~valid], confidence[~valid] = IGNORE_INDEX, np.nan
            self._store(top, mask, confidence)
            if progress:
                progress(bottom, self.size[0])

    def _store(self, top: int, mask: np.ndarray, confidence: np.ndarray) -> None:
        maps = {"mask": mask}
        if "confidence" in self.files:
            maps["confidence"] = in_sixteen_bits(confidence)
        if "overlay" in self.files:
            maps["picture"] = self.reduced.strip(self.rows.pixels(top, top + len(mask)))
        counts = np.zeros(256, np.int64)
        for row in mask:  # all at once would take eight bytes a pixel
            counts += np.bincount(row, minlength=256)
        self.journal.put(
            top + len(mask),
            maps,
            counts=counts[: self.predictor.labels.num_classes].tolist(),
            confidence=float(np.nansum(confidence, dtype=np.float64)),
        )

    def _write(self) -> None:
        """Write the final files in the journal's folder, then move all of them to their places."""
        journal, labels = self.journal, self.predictor.labels
        ready: dict[str, Path] = {}
        for kind, file in self.files.items():
            if kind == "overlay":
                continue
            ready[kind] = journal.folder / f"{kind}{file.suffix}"
            rows, dtype, nodata = _RASTERS[kind](journal, labels)
            try:
                write_raster(
                    *(ready[kind], rows, self.size, dtype),
                    georeference=self.image.georeference,
                    nodata=nodata if file.suffix == ".tif" else None,
                    palette=labels.id_palette() if kind == "mask" and dtype == np.uint8 else None,
                    draft=journal.folder / "draft.tif",
                )
            except OSError as error:
                raise DataError(
                    f"Cannot write {file}: {error.strerror or error}. All strips are saved; free space and run the "
                    "same command again."
                ) from error
        if "overlay" in self.files:
            image = self.reduced.image(journal.read("picture"), self.predictor.plain)
            mask = reduced_mask(journal.read("mask"), self.size, self.reduced.factor)
            write_image(self.files["overlay"], overlay(image, mask, labels))
        for kind, file in ready.items():
            file.replace(self.files[kind])


_Raster = tuple[Rows, np.dtype[Any], int]


def _ids(journal: Journal, labels: LabelSet) -> _Raster:
    nodata = labels.nodata_id
    dtype = np.dtype(np.uint8 if nodata == IGNORE_INDEX else np.uint16)
    table = labels.decode(np.arange(256)).astype(dtype)  # trainId → id
    table[IGNORE_INDEX] = nodata  # the network chooses a class wherever there is data
    return ((top, table[mask]) for top, mask in journal.read("mask")), dtype, nodata


_RASTERS: dict[str, Callable[[Journal, LabelSet], _Raster]] = {
    "mask": _ids,
    "trainids": lambda journal, _: (journal.read("mask"), np.dtype(np.uint8), IGNORE_INDEX),
    "confidence": lambda journal, _: (journal.read("confidence"), np.dtype(np.uint16), NODATA),
}
"""Kind → rows, their type and the value of pixels without data."""


class RowSource:
    """A `windows.Source` over an open image: rows are read once, from top to bottom, and freed when they are done."""

    def __init__(
        self,
        image: ImageFile,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        value_range: float | None,
    ) -> None:
        self.image, self.size = image, (image.height, image.width)
        self.mean, self.std, self.value_range = mean, std, value_range
        self._top = self._bottom = 0  # rows in memory
        self._pixels = np.empty((0, 0, 0))  # its first row is _top
        self._valid: np.ndarray | None = None

    def max_bytes(self, rows: int) -> int:
        """Return the memory of rows as high as a window: as stored, as pixels, and their labels."""
        image = self.image
        stored = image.count * image.dtype.itemsize
        pixel = min(image.dtype.itemsize, 4) * len(image.bands) if image.bands else 3
        ahead = image.block if image.block <= MAX_READ_AHEAD else 0
        portion = max(READ_ROWS, image.block) if ahead else rows
        held = (rows + ahead) * (pixel + 1) + 12 * rows  # labels, confidence, both compressed
        whole = 2 * stored * image.height if image.block >= image.height else 0
        return image.width * (whole + held + 2 * portion * (stored + pixel))

    def cut(self, top: int, left: int, height: int, width: int) -> torch.Tensor:
        """Return one window, normalized. Shape: (1, bands, height, width)."""
        self.hold(top, top + height)
        pixels = self.pixels(top, top + height)[:, left : left + width]  # (height, width, bands)
        return to_tensor(np.ascontiguousarray(pixels), self.mean, self.std, self.value_range)[None]

    def empty(self, top: int, left: int, height: int, width: int) -> bool:
        """Return whether a window has no pixel with data."""
        self.hold(top, top + height)
        valid = self.valid(top, top + height)
        return valid is not None and not valid[:, left : left + width].any()

    def pixels(self, top: int, bottom: int) -> np.ndarray:
        """Return rows that are held. Shape: (rows, W, bands)."""
        return self._pixels[top - self._top : bottom - self._top]

    def valid(self, top: int, bottom: int) -> np.ndarray | None:
        """Return where rows that are held have data; None: everywhere. Shape: bool (rows, W)."""
        return None if self._valid is None else self._valid[top - self._top : bottom - self._top]

    def hold(self, top: int, bottom: int) -> None:
        """Read down to `bottom`, and free the rows above `top` if there is more to read."""
        if bottom <= self._bottom:
            return
        block, ahead = self.image.block, self.image.block <= MAX_READ_AHEAD
        if ahead:
            bottom = min(self.size[0], -(-bottom // block) * block)
        self._free(top)
        portion = -(-READ_ROWS // block) * block if ahead else bottom
        while self._bottom < bottom:
            end = min(bottom, (self._bottom // portion + 1) * portion)
            pixels, valid = self.image.rows(self._bottom, end)  # (rows, W, bands), (rows, W)
            rows = slice(self._bottom - self._top, end - self._top)
            self._pixels = _enlarged(self._pixels, bottom - self._top, pixels)
            self._pixels[rows] = pixels
            if valid is not None:
                held = np.empty((0, 0), bool) if self._valid is None else self._valid
                self._valid = _enlarged(held, bottom - self._top, valid)
                self._valid[rows] = valid
            self._bottom = end

    def _free(self, top: int) -> None:
        """Move the rows below `top` to the beginning."""
        count, by = max(0, self._bottom - top), top - self._top
        for rows in (self._pixels, self._valid):
            if rows is not None and by:
                # in pieces that do not overlap: numpy would copy overlapping rows first
                for begin in range(0, count, by):
                    end = min(begin + by, count)
                    rows[begin:end] = rows[begin + by : end + by]
        self._top, self._bottom = top, top + count


def _enlarged(rows: np.ndarray, count: int, like: np.ndarray) -> np.ndarray:
    """Return an array of at least `count` rows of this shape and type, beginning with the given rows."""
    if len(rows) >= count and rows.shape[1:] == like.shape[1:]:
        return rows
    larger = np.empty((count, *like.shape[1:]), like.dtype)  # (count, W, bands) or (count, W)
    if rows.shape[1:] == like.shape[1:]:
        larger[: len(rows)] = rows
    return larger


class ReducedImage:
    """Means over squares of 2, 4 … 32 pixels; strips begin on a grid of 32, so that none cuts a square."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.factor = 1
        while max(size) > MAX_OVERLAY * self.factor and self.factor < STRIDE:
            self.factor *= 2

    def strip(self, pixels: np.ndarray) -> np.ndarray:
        """Reduce the first three bands (or the first) of some rows. Shape: (rows, W, B) → (rows', W', 3 or 1)."""
        shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        below, right = (-side % self.factor for side in shown.shape[:2])
        if below or right:
            shown = np.pad(shown, ((0, below), (0, right), (0, 0)), mode="edge")
        size = (shown.shape[1] // self.factor, shown.shape[0] // self.factor)
        return _area_resize(np.ascontiguousarray(shown), size)

    def image(self, strips: Iterable[tuple[int, np.ndarray]], plain: bool) -> np.ndarray:
        """Put strips together, at most MAX_OVERLAY pixels long. Shape: uint8 (h, w, 3)."""
        whole = np.concatenate([strip for _, strip in strips])  # (H', W', 3 or 1)
        small = _area_resize(whole, _bounded(whole.shape[0], whole.shape[1]))
        return small if plain else stretched(small)


def reduced_mask(strips: Iterable[tuple[int, np.ndarray]], size: tuple[int, int], factor: int) -> np.ndarray:
    """Take the pixel in the middle of each square. Shape: → uint8 (h, w)."""
    height, width = (-(-side // factor) for side in size)
    columns = np.minimum(np.arange(width) * factor + factor // 2, size[1] - 1)
    rows = np.minimum(np.arange(height) * factor + factor // 2, size[0] - 1)
    small = np.empty((height, width), np.uint8)  # one pixel for each square
    for top, values in strips:
        inside = np.flatnonzero((rows >= top) & (rows < top + len(values)))
        small[inside] = values[np.ix_(rows[inside] - top, columns)]
    return cv2.resize(small, _bounded(height, width), interpolation=cv2.INTER_NEAREST)


def _area_resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small if small.ndim == 3 else small[..., None]  # OpenCV drops a single channel


def _bounded(height: int, width: int) -> tuple[int, int]:
    """Return (width, height) as OpenCV has it, MAX_OVERLAY at most."""
    shrink = min(1.0, MAX_OVERLAY / max(height, width))
    return max(1, round(width * shrink)), max(1, round(height * shrink))
