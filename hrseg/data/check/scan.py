"""Facts of each image and mask pair: sizes, modes, values of the mask, a digest and a thumbnail of the image.

Files are read in several processes; a few hundred bytes per pair are stored.
"""

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from hrseg.data.dataset import read_ids
from hrseg.data.layouts import Pair
from hrseg.errors import DataError
from hrseg.imaging import Stored, read_image, stored_form
from hrseg.labels import pack_colors

MOST_COLORS = 1024
"""A mask with more colors than this is a photo, or was saved as JPEG."""
THUMB = 16
_MIN_FOR_PROCESSES = 48  # starting processes takes longer than reading fewer pairs
_CHUNK = 4  # pairs that a process takes at once


@dataclass(frozen=True)
class ScannedPair:
    """Facts of one image and its mask.

    Attributes:
        split: Its split.
        pair: Its files.
        image_error, mask_error: Why the file cannot be read, or "".
        size, mask_size: (height, width) as read.
        image_form, mask_form: How the file stores its pixels; None without a mask and for MATLAB files.
        kind: Content of the mask: "ids", "colors", "photo" (too many colors), or "" without a mask.
        values: Id, or color as 0xRRGGBB, → pixels.
        edge: The same of pixels of which one of the 8 neighbors has another value.
        soft: The same of pixels between two neighbors' values, as smoothing makes them.
        sharp: Borders between two runs of equal values; smoothing puts a step between them.
        sums: Sum of R, G, B over the image, and of their squares.
        digest: Of the decoded image.
        thumb: The image in gray, uint8 (16, 16), to find copies that were saved again.
    """

    split: str
    pair: Pair
    image_error: str = ""
    mask_error: str = ""
    size: tuple[int, int] = (0, 0)
    mask_size: tuple[int, int] = (0, 0)
    image_form: Stored | None = None
    mask_form: Stored | None = None
    kind: str = ""
    values: dict[int, int] | None = None
    edge: dict[int, int] | None = None
    soft: dict[int, int] | None = None
    sharp: int = 0
    sums: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,) * 3, (0.0,) * 3)
    digest: bytes = b""
    thumb: bytes = b""

    @property
    def usable(self) -> bool:
        """Whether both files are readable and of one size, so that a network can learn from them."""
        fits = self.pair.mask is None or self.mask_size == self.size
        return not self.image_error and not self.mask_error and self.kind != "photo" and fits


Job = tuple[str, Pair]


def scan(
    jobs: Sequence[Job], workers: int = 0, advance: Callable[[int], None] = lambda count: None
) -> Iterator[ScannedPair]:
    """Scan pairs, in their order.

    Args:
        jobs: (split, pair).
        workers: Processes; 0 is one per core.
        advance: Called with 1 after each pair.

    Raises:
        DataError: A process died, usually for want of memory.
    """
    workers = workers or usable_cores()
    if workers == 1 or len(jobs) <= _MIN_FOR_PROCESSES:
        for job in jobs:
            yield scan_pair(job)
            advance(1)
        return
    # fork is quick and needs no second import of everything; elsewhere it is unsafe or missing
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for entry in pool.map(scan_pair, jobs, chunksize=_CHUNK):
                yield entry
                advance(1)
        except BrokenProcessPool as error:
            raise DataError(
                "A process that read images was ended from outside, usually because the memory is full. Go on with "
                "fewer: --workers 1."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def scan_pair(job: Job) -> ScannedPair:
    """Read the facts of one pair."""
    split, pair = job
    facts: dict[str, object] = {}
    try:
        facts["image_form"] = stored_form(pair.image)
        facts |= image_facts(read_image(pair.image))
    except DataError as error:
        facts["image_error"] = str(error)
    if pair.mask is not None:
        try:
            if pair.mask.suffix != ".mat":
                facts["mask_form"] = stored_form(pair.mask)
            facts |= _mask_facts(read_ids(pair))
        except DataError as error:
            facts["mask_error"] = str(error)
    return ScannedPair(split, pair, **facts)  # type: ignore[arg-type]


def usable_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def image_facts(image: np.ndarray) -> dict[str, Any]:
    """Return the facts of an image that `ScannedPair` stores. Shape: uint8 (H, W, 3)."""
    picture = Image.fromarray(image)
    counts = np.array(picture.histogram(), np.float64).reshape(3, 256)  # exact: whole numbers
    levels = np.arange(256) / 255.0
    small = picture.resize((THUMB, THUMB), Image.Resampling.BOX).convert("L")
    return {
        "size": image.shape[:2],
        "sums": (tuple((counts @ levels).tolist()), tuple((counts @ levels**2).tolist())),
        "digest": hashlib.blake2b(
            np.ascontiguousarray(image).data, digest_size=16, salt=str(image.shape).encode()[:16]
        ).digest(),
        "thumb": small.tobytes(),
    }


def _mask_facts(ids: np.ndarray | None) -> dict[str, object]:
    if ids is None:
        ids = np.zeros((0, 0), np.uint8)
    size = ids.shape[:2]
    of_colors = ids.ndim == 3
    if of_colors:
        ids = pack_colors(ids)
    values = _count(ids)
    if of_colors and len(values) > MOST_COLORS:
        return {"mask_size": size, "kind": "photo", "values": {}}
    kind = "colors" if of_colors else "ids"
    return {"mask_size": size, "kind": kind, "values": values} | _borders(ids, of_colors)


def _borders(ids: np.ndarray, of_colors: bool) -> dict[str, object]:
    """Count, of each value, the pixels at borders and those between their neighbors, and the sharp borders."""
    inner = np.zeros(ids.shape, bool)
    soft = np.zeros(ids.shape, bool)
    sharp = 0
    if min(ids.shape) >= 3:
        same = [ids[:, 1:] == ids[:, :-1], ids[1:] == ids[:-1]]  # along rows, along columns
        three = same[0][:, 1:] & same[0][:, :-1]  # equal to the left and right neighbor, (H, W - 2)
        middle = same[1][:, 1:-1]  # equal to the one below, (H - 1, W - 2)
        inner[1:-1, 1:-1] = three[:-2] & three[1:-1] & three[2:] & middle[1:] & middle[:-1]
        for across, equal in ((ids, same[0]), (ids.T, same[1].T)):
            row, column = np.nonzero(~equal[:, 1:] & ~equal[:, :-1])
            left, value, right = (_channels(across[row, column + i], of_colors) for i in range(3))
            low, high = np.minimum(left, right), np.maximum(left, right)  # (C, n)
            bent = ((low <= value) & (value <= high)).all(0) & (low < high).any(0)
            (soft if across is ids else soft.T)[row[bent], column[bent] + 1] = True
            row, column = np.nonzero(equal[:, :-2] & ~equal[:, 1:-1] & equal[:, 2:])
            before, after = (_channels(across[row, column + i], of_colors) for i in (1, 2))
            sharp += int((np.abs(before - after).max(0, initial=0) > 1).sum())
    return {"edge": _count(ids[~inner]), "soft": _count(ids[soft]), "sharp": sharp}


def _channels(values: np.ndarray, of_colors: bool) -> np.ndarray:
    """Split packed colors. Shape: (N,) → (C, N)."""
    wide = values.astype(np.int64)
    return np.stack([wide >> 16, wide >> 8 & 255, wide & 255] if of_colors else [wide])


def _count(values: np.ndarray) -> dict[int, int]:
    """Count values; sorting the runs of a mask is much faster than sorting its pixels."""
    flat = values.ravel()
    if flat.dtype == np.uint8:
        counts = (
            np.bincount(flat)
            if flat.size < 2**18 or values.ndim != 2
            else np.array(Image.fromarray(values).histogram())
        )
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])[: flat.size])  # of runs
    lengths = np.diff(np.append(starts, flat.size))
    found, place = np.unique(flat[starts], return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, place, lengths)
    return {int(value): int(count) for value, count in zip(found, sums, strict=True)}
