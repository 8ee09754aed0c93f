"""One large image from its file to its results: rows as windows need them, bands of labels, the final files."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.errors import ConfigError, DataError, HrsegError
from hrseg.imaging import ImageFile, open_image
from hrseg.imaging.reading import open_stored
from hrseg.inference.grid import WINDOW_PIXELS
from hrseg.inference.huge.finish import finish
from hrseg.inference.huge.memory import check_limit, used_memory
from hrseg.inference.huge.result import HugeResult
from hrseg.inference.huge.small import Reduced
from hrseg.inference.huge.spool import Spool
from hrseg.inference.huge.strips import Strips
from hrseg.inference.outputs import result_paths
from hrseg.inference.outputs.scores import in_sixteen_bits
from hrseg.inference.predictor import Predictor

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
