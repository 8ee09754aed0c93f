"""One large image from its file to its results: rows as windows need them, bands of labels, the final files."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrseg.errors import ConfigError, DataError, HrsegError
from hrseg.imaging import Georeference, ImageFile, open_image, stretched, write_image
from hrseg.imaging.reading import open_stored
from hrseg.imaging.writing import Rows, write_raster
from hrseg.inference.large.journal import Spool
from hrseg.inference.large.plan import check_limit, used_memory
from hrseg.inference.large.strips import Strips
from hrseg.inference.outputs import result_paths
from hrseg.inference.outputs.rasters import NODATA, in_sixteen_bits
from hrseg.inference.predictor import Predictor
from hrseg.inference.window_grid import STRIDE, WINDOW_PIXELS
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.viz import overlay

MOST = 2048
"""Longest side of the overlay's picture."""


class Reduced:
    """Means over squares of 2, 4 … 32 pixels; bands begin on a grid of 32, so no square lies in two of them.

    Args:
        size: (height, width) of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.factor = 1
        while max(size) > MOST * self.factor and self.factor < STRIDE:
            self.factor *= 2

    def band(self, pixels: np.ndarray) -> np.ndarray:
        """Reduce the first three bands (or the first) of some rows. Shape: (rows, W, B) → (rows', W', 3 or 1)."""
        shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        below, right = (-side % self.factor for side in shown.shape[:2])
        if below or right:
            shown = np.pad(shown, ((0, below), (0, right), (0, 0)), mode="edge")
        size = (shown.shape[1] // self.factor, shown.shape[0] // self.factor)
        small = cv2.resize(np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA)
        return small if small.ndim == 3 else small[..., None]

    def picture(self, bands: Iterable[tuple[int, np.ndarray]], plain: bool) -> np.ndarray:
        """Put bands together, at most MOST pixels long. Shape: uint8 (h, w, 3)."""
        whole = np.concatenate([band for _, band in bands])
        small = cv2.resize(
            *(whole, _bounded(whole.shape[0], whole.shape[1])), interpolation=cv2.INTER_AREA
        )
        small = small if small.ndim == 3 else small[..., None]
        return small if plain else stretched(small)


def small_mask(
    bands: Iterable[tuple[int, np.ndarray]], size: tuple[int, int], factor: int
) -> np.ndarray:
    """Take the pixel in the middle of each square. Shape: → uint8 (h, w)."""
    height, width = (-(-side // factor) for side in size)
    columns = np.minimum(np.arange(width) * factor + factor // 2, size[1] - 1)
    rows = np.minimum(np.arange(height) * factor + factor // 2, size[0] - 1)
    small = np.empty((height, width), np.uint8)
    for top, values in bands:
        mine = np.flatnonzero((rows >= top) & (rows < top + len(values)))
        small[mine] = values[np.ix_(rows[mine] - top, columns)]
    return cv2.resize(small, _bounded(height, width), interpolation=cv2.INTER_NEAREST)


def _bounded(height: int, width: int) -> tuple[int, int]:
    """Return (width, height) as OpenCV has it, MOST at most."""
    shrink = min(1.0, MOST / max(height, width))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


@dataclass(frozen=True)
class HugeResult:
    """What was written about a huge image, and what it says.

    Attributes:
        files: Kind of result → file.
        size: (height, width) of the image.
        classes: Class name → share of the pixels that have one, largest first.
        confidence: Mean probability of the chosen classes; None where no pixel has one.
        seconds: This run took, from opening the image to the last file on disk.
        resumed: Rows that an earlier run had finished.
        notes: What the file had to be told about, in sentences.
    """

    files: dict[str, Path]
    size: tuple[int, int]
    classes: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    seconds: float = 0.0
    resumed: int = 0
    notes: tuple[str, ...] = ()


log = logging.getLogger(__name__)

KINDS = ("mask", "trainids", "confidence", "overlay")
"""What can be written of a large image. The overlay is reduced to 2048 pixels at most."""
LARGE_PIXELS = 2**25
"""Images of more pixels (33.5 megapixels) are read, segmented and written in bands of rows."""
Progress = Callable[[int, int], None]
"""Is told after each band: rows that are done, rows of the image."""


def huge_paths(
    target: str | Path, kinds: Sequence[str], georeferenced: bool = False
) -> dict[str, Path]:
    """Return where the results go, as of smaller images.

    Raises:
        ConfigError: A kind that large images do not have.
    """
    target = Path(target)
    for kind in kinds or ("nothing",):
        if kind not in KINDS:
            raise ConfigError(
                f"'{kind}' needs the whole image in memory, and this one is read in bands of rows, as all above "
                f"{LARGE_PIXELS // 10**6} megapixels. Choose among {', '.join(KINDS)}, or cut the image into tiles."
            )
    return result_paths(target.parent, target.name, kinds, georeferenced)


def is_large(path: str | Path) -> bool:
    """Tell from a file's header whether it is to be segmented by `segment_huge`: its size alone decides.

    Args:
        path: An image file. One that cannot be opened is not large; whoever reads it says why.
    """
    try:
        with open_stored(path) as image:
            return image.height * image.width > LARGE_PIXELS
    except HrsegError:
        return False


def segment_huge(
    predictor: Predictor,
    path: str | Path,
    target: str | Path,
    *,
    max_memory: int | None = None,
    kinds: Sequence[str] = ("mask", "overlay"),
    progress: Progress | None = None,
) -> HugeResult:
    """Segment one image in bounded memory.

    Unfinished bands lie in a hidden folder beside the results until all is done.

    Args:
        predictor: Its protocol must look at an image at its own size.
        path: The image.
        target: What the results' names begin with: `out/a` gives out/a_mask.png, or out/a_mask.tif where the
            image has a place on the ground.
        max_memory: Bytes that the process may use; None sets no limit.
        kinds: Of KINDS.
        progress: Called after each band.

    Raises:
        ConfigError: A kind that large images do not have, or a protocol that needs the image whole.
        DataError: The image cannot be read, does not fit the limit, or a result cannot be written.
    """
    start = time.perf_counter()
    path, target = Path(path), Path(target)
    identity = _identity(path)
    with open_image(path, bands=predictor.stored_bands, bits=predictor.bits) as image:
        files = huge_paths(target, kinds, image.georeference is not None)
        if any(path.resolve() == file.resolve() for file in files.values()):
            raise DataError(f"A result would overwrite {path}. Choose another folder with --out.")
        if predictor.protocol.absolute:
            raise ConfigError(
                f"Protocol '{predictor.protocol.name}' resizes whole images, and this one is too large for it. Use "
                "tta."
            )
        facts = predictor.facts() | {
            "image": identity,
            "windows": WINDOW_PIXELS,
            "results": sorted(kinds),
        }
        spool = Spool(target.with_name(f".{target.name}.unfinished"), facts)
        try:
            return _Work(predictor, image, spool, files).run(max_memory, progress, start)
        finally:
            spool.close()


def _identity(path: Path) -> list[Any]:
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]


class _Work:
    """The steps of one image, and what they share."""

    def __init__(
        self, predictor: Predictor, image: ImageFile, spool: Spool, files: dict[str, Path]
    ) -> None:
        self.predictor, self.image, self.spool, self.files = predictor, image, spool, files
        self.size = (image.height, image.width)
        self.strips = Strips(image, predictor.mean, predictor.std, predictor.value_range)
        self.reduced = Reduced(self.size)

    def run(self, max_memory: int | None, progress: Progress | None, start: float) -> HugeResult:
        """Do what is not done yet, and write the results."""
        grid = self.predictor.scorer.plan(self.size)
        held = used_memory() + self.strips.bytes_held(grid.window[0])
        check_limit(self.predictor, self.size, max_memory, held, self.image.name)
        if not self.spool.head:
            self.spool.begin()
        resumed = self.spool.rows
        if resumed:
            log.warning(
                "%s: an earlier run finished %d of %d rows; it goes on from there.",
                *(self.image.name, resumed, self.size[0]),
            )
        if progress:
            progress(resumed, self.size[0])
        if resumed < self.size[0]:
            self._bands(progress)
        labels, plain, place = self.predictor.labels, self.predictor.plain, self.image.georeference
        finish(self.spool, place, self.reduced, labels, self.files, self.size, plain)
        counts = np.sum([band["counts"] for band in self.spool.bands], axis=0)
        total = int(counts.sum())
        confidence = sum(band["confidence"] for band in self.spool.bands)
        self.spool.remove()
        return HugeResult(
            files=self.files,
            size=self.size,
            classes=_shares(self.predictor.labels, counts),
            confidence=confidence / total if total else None,
            seconds=time.perf_counter() - start,
            resumed=resumed,
            notes=self.image.notes,
        )

    def _bands(self, progress: Progress | None) -> None:
        begin = self.spool.rows
        for band in self.predictor.scorer.label_bands(self.strips, ("confidence",), begin):
            assert band.confidence is not None
            top, bottom = band.top, band.top + band.labels.shape[1]
            if bottom <= begin:
                continue
            mask = band.labels[0].cpu().numpy().astype(np.uint8)
            share = band.confidence[0].cpu().numpy()
            self.strips.hold(top, bottom)
            valid = self.strips.valid(top, bottom)
            if valid is not None:
                mask[~valid], share[~valid] = IGNORE_INDEX, np.nan
            confidence = float(np.nansum(share, dtype=np.float64))
            self._put(top, mask, in_sixteen_bits(share), confidence)
            if progress:
                progress(bottom, self.size[0])

    def _put(self, top: int, mask: np.ndarray, sure: np.ndarray, confidence: float) -> None:
        maps = {"mask": mask}
        if "confidence" in self.files:
            maps["confidence"] = sure
        if "overlay" in self.files:
            maps["picture"] = self.reduced.band(self.strips.pixels(top, top + len(mask)))
        counts = np.zeros(256, np.int64)
        for row in mask:  # all at once would take eight bytes a pixel
            counts += np.bincount(row, minlength=256)
        classes = self.predictor.labels.num_classes
        self.spool.put(
            top + len(mask), maps, counts=counts[:classes].tolist(), confidence=confidence
        )


def _shares(labels: LabelSet, counts: np.ndarray) -> dict[str, float]:
    order = np.argsort(-counts, kind="stable")
    total = max(1, int(counts.sum()))
    return {labels.names[i]: float(counts[i] / total) for i in order if counts[i]}


def finish(
    spool: Spool,
    place: Georeference | None,
    reduced: Reduced,
    labels: LabelSet,
    files: dict[str, Path],
    size: tuple[int, int],
    rgb: bool,
) -> None:
    """Make the final files in the spool's folder, then move all of them to their places.

    Args:
        spool: All bands.
        place: Where the image lies.
        reduced: What made the bands of the reduced picture.
        labels: Names, ids and colors.
        files: Kind → file; "mask", "trainids" and "confidence" as .tif or .png.
        size: (height, width).
        rgb: Whether the picture is RGB of 8 bits.

    Raises:
        DataError: A file cannot be written; all bands are kept.
    """
    ready: dict[str, Path] = {}
    for kind, file in files.items():
        if kind == "overlay":
            continue
        ready[kind] = spool.folder / f"{kind}{file.suffix}"
        rows, dtype, nodata = _RASTERS[kind](spool, labels)
        try:
            write_raster(
                *(ready[kind], rows, size, dtype),
                georeference=place,
                nodata=nodata if file.suffix == ".tif" else None,
                palette=labels.id_palette() if kind == "mask" and dtype == np.uint8 else None,
                draft=spool.folder / "draft.tif",
            )
        except OSError as error:
            raise DataError(
                f"Cannot write {file}: {error.strerror or error}. All bands are kept; free some space and run the "
                "same command again."
            ) from error
    if "overlay" in files:
        picture = reduced.picture(spool.read("picture"), rgb)
        mask = small_mask(spool.read("mask"), size, reduced.factor)
        write_image(files["overlay"], overlay(picture, mask, labels))
    for kind, file in ready.items():
        file.replace(files[kind])


_Raster = tuple[Rows, np.dtype[Any], int]


def _ids(spool: Spool, labels: LabelSet) -> _Raster:
    nodata = labels.nodata_id
    dtype = np.dtype(np.uint8 if nodata == IGNORE_INDEX else np.uint16)
    table = labels.decode(np.arange(256)).astype(dtype)
    table[IGNORE_INDEX] = nodata  # the network chooses a class wherever there is data
    return ((top, table[mask]) for top, mask in spool.read("mask")), dtype, nodata


_RASTERS: dict[str, Callable[[Spool, LabelSet], _Raster]] = {
    "mask": _ids,
    "trainids": lambda spool, _: (spool.read("mask"), np.dtype(np.uint8), IGNORE_INDEX),
    "confidence": lambda spool, _: (spool.read("confidence"), np.dtype(np.uint16), NODATA),
}
"""Kind → rows, their type and the value of pixels without data."""
