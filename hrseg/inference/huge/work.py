"""One huge image from its file to its results: plan, bands, and the final files."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.data.labels import IGNORE_INDEX, LabelSet
from hrseg.errors import ConfigError, DataError
from hrseg.inference.blending import Blend
from hrseg.inference.blocks import window_blocks
from hrseg.inference.grid import check_window
from hrseg.inference.huge.finish import finish
from hrseg.inference.huge.geo import environment, has_rasterio
from hrseg.inference.huge.memory import SPARE, bytes_per_pixel, free_memory, used_memory
from hrseg.inference.huge.plan import SIDES, Needs, Plan, make_plan
from hrseg.inference.huge.readers import Reader, open_reader
from hrseg.inference.huge.result import HugeResult
from hrseg.inference.huge.small import Reduced
from hrseg.inference.huge.spool import Spool
from hrseg.inference.huge.strips import Strips
from hrseg.inference.predictor import Predictor

log = logging.getLogger(__name__)

KINDS = {"mask": "_mask.tif", "confidence": "_confidence.tif", "overlay": "_overlay.png"}
"""What can be written of a huge image → what follows its name. The overlay is reduced to 2048 pixels at most."""
Progress = Callable[[int, int], None]
"""Is told after each band: rows that are done, rows of the image."""
DEFAULT_BLEND: Blend = "gaussian"
"""Of all blends it comes nearest to the image in one piece, see docs/results.md."""
_SLICE = 64  # rows reduced at once


def huge_paths(target: str | Path, kinds: Sequence[str]) -> dict[str, Path]:
    """Return where the results go.

    Raises:
        ConfigError: A kind that huge images do not have.

    Example:
        >>> huge_paths("out/a", ["mask"])["mask"].as_posix()
        'out/a_mask.tif'
    """
    target = Path(target)
    for kind in kinds or ("nothing",):
        if kind not in KINDS:
            raise ConfigError(
                f"'{kind}' is not written of an image that is read in bands of rows. Choose among "
                f"{', '.join(KINDS)}, or allow more with --max-memory so that the image fits."
            )
    return {kind: target.with_name(f"{target.name}{KINDS[kind]}") for kind in kinds}


def segment_huge(
    predictor: Predictor,
    path: str | Path,
    target: str | Path,
    *,
    max_memory: int | None = None,
    blend: Blend | None = None,
    overlap: float | None = None,
    kinds: Sequence[str] = ("mask", "overlay"),
    progress: Progress | None = None,
) -> HugeResult:
    """Segment one image in bounded memory.

    Unfinished bands lie in a hidden folder beside the results until all is done.

    Args:
        predictor: Its protocol must look at an image at its own size.
        path: The image.
        target: What the results' names begin with: `out/a` gives out/a_mask.tif.
        max_memory: Bytes that the process may use; None means half of what the machine has free.
        blend: How windows are blended; None takes the protocol's where that is no ramp, else "gaussian".
        overlap: Shared fraction of neighbouring windows; None takes the protocol's where it has windows, else 0.25.
        kinds: Of KINDS.
        progress: Called after each band.

    Raises:
        ConfigError: A kind that huge images do not have, or a protocol that needs the image whole.
        DataError: The image cannot be read, does not fit the limit, or a result cannot be written.
        MissingExtraError: A package that reads or writes this format is not installed.
    """
    start = time.perf_counter()
    files = huge_paths(target, kinds)
    path, target = Path(path), Path(target)
    if any(path.resolve() == file.resolve() for file in files.values()):
        raise DataError(f"A result would overwrite {path}. Choose another folder with --out.")
    wishes = _wishes(predictor, blend, overlap)
    facts = predictor.facts() | {
        "image": _identity(path),
        "limit": max_memory,
        "windows": [wishes.blend, wishes.overlap, wishes.window],
        "results": sorted(kinds),
    }
    with environment() if has_rasterio() else contextlib.nullcontext():
        spool = Spool(target.with_name(f".{target.name}.unfinished"), facts)
        try:
            with _open(predictor, path, max_memory) as reader:
                return _Work(predictor, reader, spool, files, max_memory, wishes).run(
                    progress, start
                )
        finally:
            spool.close()


@dataclass(frozen=True)
class _Wishes:
    """What was asked of windows."""

    blend: Blend
    overlap: float | None
    window: tuple[int, int] | None


def _wishes(predictor: Predictor, blend: Blend | None, overlap: float | None) -> _Wishes:
    row = predictor.protocol
    predictor.scorer.look  # noqa: B018  refuses protocols that need whole images
    blend = blend or (DEFAULT_BLEND if row.blend == "ramp" else row.blend)
    window = row.window if row.plain else None
    if window is not None and overlap is None:
        stride = row.stride_of(window)
        overlap = 1 - stride[0] / window[0] if stride else row.overlap
    check_window(window or (1024, 1024), overlap or 0.0, None, "ramp")
    return _Wishes(blend, overlap, window)


def _identity(path: Path) -> list[Any]:
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]


def _open(predictor: Predictor, path: Path, max_memory: int | None) -> Reader:
    rgb = predictor.bands is None and predictor.in_channels == 3
    limit = free_memory() // 2 if max_memory is None else max_memory - used_memory() - SPARE
    return open_reader(path, rgb=rgb, limit=limit)


class _Work:
    """The steps of one image, and what they share."""

    def __init__(
        self,
        predictor: Predictor,
        reader: Reader,
        spool: Spool,
        files: dict[str, Path],
        max_memory: int | None,
        wishes: _Wishes,
    ) -> None:
        self.predictor, self.reader, self.spool, self.files = predictor, reader, spool, files
        self.size = (reader.head.height, reader.head.width)
        self.max_memory, self.wishes = max_memory, wishes
        plain = predictor.bands is None and predictor.in_channels == 3
        bands = None if plain else tuple(predictor.bands or range(predictor.in_channels))
        self.strips = Strips(reader, bands, predictor.mean, predictor.std, predictor.value_range)
        self.plain = plain
        self.reduced = Reduced(self.size)

    def run(self, progress: Progress | None, start: float) -> HugeResult:
        """Do what is not done yet, and write the results."""
        plan = self._plan()
        resumed = self.spool.rows
        if resumed:
            log.warning(
                "%s: an earlier run finished %d of %d rows; it goes on from there.",
                *(self.reader.path, resumed, self.size[0]),
            )
        if progress:
            progress(resumed, self.size[0])
        if resumed < self.size[0]:
            self._bands(plan, progress)
            self.strips.tell()
        finish(self.spool, self.reader, self.reduced, self.predictor.labels, self.files, self.plain)
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
        )

    def _plan(self) -> Plan:
        """Take the plan of the run that is gone on with, or make one."""
        if self.spool.head:
            return Plan.from_dict(self.spool.head["plan"])
        head, on_host = self.reader.head, self.predictor.device.type == "cpu"
        bands, classes = self.predictor.in_channels, self.predictor.labels.num_classes
        kind = 1 if self.plain else min(head.dtype.itemsize, 4)
        look = self.predictor.scorer.look
        release = getattr(self.predictor.logits_fn, "release", None)
        needs = Needs(
            head=head,
            seen=bands * kind,
            network=bytes_per_pixel(look, bands, release) if on_host else 8 * bands,
            logits=4 * classes if on_host else 0,
        )
        used = used_memory()
        limit = used + free_memory() // 2 if self.max_memory is None else self.max_memory
        plan = make_plan(
            needs,
            limit - used - SPARE,
            blend=self.wishes.blend,
            window=self.wishes.window,
            overlap=self.wishes.overlap,
            used=used,
            name=str(self.reader.path),
        )
        self.spool.begin(plan=plan.to_dict())
        best = Plan((SIDES[0], SIDES[0]), plan.overlap, plan.blend, 1)
        if self.wishes.window is None and plan.window < best.window and min(self.size) > SIDES[0]:
            log.warning(
                "%s: windows of %d x %d fit into the limit. With --max-memory %.1fG they would be %d x %d, which is "
                "nearer to the image in one piece.",
                *(self.reader.path, *plan.window),
                (used + SPARE + needs.of(best)) / 2**30 + 0.05,
                *best.window,
            )
        log.info(
            "%s: %d x %d pixels in windows of %d x %d, %d at once, that overlap by %g.",
            *(self.reader.path, *self.size, *plan.window, plan.batch, plan.overlap),
        )
        return plan

    def _bands(self, plan: Plan, progress: Progress | None) -> None:
        begin, (_, width) = self.spool.rows, self.size
        look, grid = self.predictor.scorer.look, plan.grid(*self.size)
        mask = sure = np.empty((0, 0), np.uint8)
        confidence = 0.0
        for top, left, logits in window_blocks(look, self.strips, grid, begin):
            rows, columns = logits.shape[-2:]
            if top + rows <= begin:
                continue
            if not left:
                mask, sure = np.empty((rows, width), np.uint8), np.empty((rows, width), np.uint8)
                confidence = 0.0
                self.strips.hold(top, top + rows)
            for row in range(0, rows, _SLICE):
                part = logits[0, :, row : row + _SLICE]
                best, winner = part.max(dim=0)
                share = torch.exp(best - torch.logsumexp(part, dim=0)).cpu().numpy()
                place = (slice(row, row + _SLICE), slice(left, left + columns))
                valid = self.strips.valid(top + row, top + min(row + _SLICE, rows))
                with_data = np.True_ if valid is None else valid[:, place[1]]
                share = np.where(with_data, share, 0)
                confidence += float(share.sum(dtype=np.float64))
                mask[place] = np.where(with_data, winner.cpu().numpy(), IGNORE_INDEX)
                sure[place] = np.where(with_data, (100 * share).round(), IGNORE_INDEX)
            if left + columns == width:
                self._put(top, mask, sure, confidence)
                if progress:
                    progress(top + rows, self.size[0])

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
