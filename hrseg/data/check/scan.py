"""One look at each pair: sizes, modes, values of the mask, a fingerprint of the image. Nothing is judged here.

Files are read in several processes, a few at a time, and of each only some hundred bytes are kept.
"""

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

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
_ALONE = 48  # pairs that do not pay for processes
_TOGETHER = 4  # pairs a process takes at once


@dataclass(frozen=True)
class Look:
    """What one pair showed.

    Attributes:
        split: Its split.
        pair: Its files.
        image_error: Why the image cannot be read, or "".
        mask_error: The same of the mask.
        size: (height, width) of the image as it is read.
        mask_size: Of the mask.
        image_form: How the image file keeps its pixels.
        mask_form: How the mask file does; None without a mask and for MATLAB files.
        kind: What the mask holds: "ids", "colors", "photo" (too many colors), or "" where there is none.
        values: Id, or color as 0xRRGGBB, → pixels.
        edge: The same of pixels of which a neighbor, of eight, has another value.
        soft: The same of pixels between two neighbors' values, as smoothing makes them.
        sharp: Borders between runs of one value on either side, in which smoothing leaves a step.
        sums: Sum of R, G, B over the image, and of their squares.
        digest: Of the decoded image.
        thumb: The image in gray, uint8 (16, 16), to find copies that were saved anew.
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
    def good(self) -> bool:
        """Whether a network could learn from it: both files are there and fit."""
        fits = self.pair.mask is None or self.mask_size == self.size
        return not self.image_error and not self.mask_error and self.kind != "photo" and fits


Job = tuple[str, Pair]


def scan(
    jobs: Sequence[Job], workers: int = 0, advance: Callable[[int], None] = lambda count: None
) -> Iterator[Look]:
    """Look at pairs, in their order.

    Args:
        jobs: (split, pair).
        workers: Processes; 0 is one per core.
        advance: Told how many more are done.

    Raises:
        DataError: A process died, usually for want of memory.
    """
    workers = workers or usable_cores()
    if workers == 1 or len(jobs) <= _ALONE:
        for job in jobs:
            yield look(job)
            advance(1)
        return
    # fork is quick and needs no second import of everything; elsewhere it is unsafe or missing
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    parts = [list(jobs[i : i + _TOGETHER]) for i in range(0, len(jobs), _TOGETHER)]
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: dict[Future[list[Look]], int] = {}
        ready: dict[int, list[Look]] = {}
        given = told = 0
        try:
            while told < len(parts):
                while given < len(parts) and given - told < 8 * workers:
                    running[pool.submit(_look_all, parts[given])] = given
                    given += 1
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    ready[running.pop(future)] = future.result()
                while told in ready:
                    found = ready.pop(told)
                    told += 1
                    yield from found
                    advance(len(found))
        except BrokenProcessPool as error:
            raise DataError(
                "A process that read images was ended from outside, usually because the memory is full. Go on with "
                "fewer: --workers 1."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def look(job: Job) -> Look:
    """Look at one pair."""
    split, pair = job
    facts: dict[str, object] = {}
    try:
        facts["image_form"] = stored_form(pair.image)
        image = read_image(pair.image)
        facts |= _of_image(image)
    except DataError as error:
        facts["image_error"] = str(error)
    if pair.mask is not None:
        try:
            if pair.mask.suffix != ".mat":
                facts["mask_form"] = stored_form(pair.mask)
            facts |= _of_mask(_ids(pair))
        except DataError as error:
            facts["mask_error"] = str(error)
    return Look(split, pair, **facts)  # type: ignore[arg-type]


def usable_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _look_all(jobs: list[Job]) -> list[Look]:
    return [look(job) for job in jobs]


def _ids(pair: Pair) -> np.ndarray:
    ids = read_ids(pair)
    return np.zeros((0, 0), np.uint8) if ids is None else ids


def _of_image(image: np.ndarray) -> dict[str, object]:
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


def _of_mask(ids: np.ndarray) -> dict[str, object]:
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
        same = [ids[:, 1:] == ids[:, :-1], ids[1:] == ids[:-1]]
        three = same[0][:, 1:] & same[0][:, :-1]  # in a row
        middle = same[1][:, 1:-1]
        inner[1:-1, 1:-1] = three[:-2] & three[1:-1] & three[2:] & middle[1:] & middle[:-1]
        for across, equal in ((ids, same[0]), (ids.T, same[1].T)):
            row, column = np.nonzero(~equal[:, 1:] & ~equal[:, :-1])
            left, value, right = (_channels(across[row, column + i], of_colors) for i in range(3))
            low, high = np.minimum(left, right), np.maximum(left, right)
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
    """Count values; masks have long runs, so it is the runs that are sorted."""
    flat = values.ravel()
    if flat.dtype == np.uint8:
        counts = (
            np.bincount(flat)
            if flat.size < 2**18 or values.ndim != 2
            else np.array(Image.fromarray(values).histogram())
        )
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])[: flat.size])
    lengths = np.diff(np.append(starts, flat.size))
    found, place = np.unique(flat[starts], return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, place, lengths)
    return {int(value): int(count) for value, count in zip(found, sums, strict=True)}
