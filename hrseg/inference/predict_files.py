"""Prediction of many pictures: decoded ahead in threads, segmented in the caller's, written in threads.

Results come in the order of the pictures. Which pictures share a pass through the network follows from their order
and sizes alone, never from how fast they were read, so that a run is repeatable. A picture that cannot be read is
reported and the others are done; a disk that cannot be written ends the run.
"""

import contextlib
import errno
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Semaphore

import numpy as np
import torch

from hrseg.errors import ConfigError, DataError, HrsegError, WeightsError, guarded, printable
from hrseg.imaging import LoadedImage, read_georeference
from hrseg.imaging.reading import open_stored
from hrseg.inference.backends import usable_cores
from hrseg.inference.large import LARGE_PIXELS, segment_large
from hrseg.inference.large.memory import BYTES_PER_PIXEL, check_limit, used_memory
from hrseg.inference.outputs import (
    DEFAULT_KINDS,
    Options,
    check_kinds,
    possible_paths,
    result_paths,
    write_all,
)
from hrseg.inference.prediction import FileResult, Prediction
from hrseg.inference.predictor import Predictor, from_pretrained, open_predictor
from hrseg.inference.sources import Picture, named_files
from hrseg.inference.video_writer import VideoWriter
from hrseg.inference.windows import BATCH_PIXELS
from hrseg.inference.worker_pool import (
    POLL_SECONDS,
    MemoryBudget,
    Pool,
    Stopped,
    finished,
    result_of,
)

__all__ = ["FileResult", "from_pretrained", "open_predictor", "predict_files"]
log = logging.getLogger(__name__)

DEFAULT_BATCH = {"cuda": 8, "cpu": 1}
"""Device → pictures of one size that share a pass, as far as BATCH_PIXELS allow; a CPU gains nothing by it."""
MAX_PIXELS_IN_FLIGHT = 2**25
"""Pixels in memory at once, over all pictures that are read, segmented or written; a larger one is alone. Under a limit
of memory there is one, and the next."""
FATAL_ERRNO = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST),  # the folder cannot be made
}
"""Errors of writing that the next image would meet as well."""


def predict_files(
    predictor: Predictor,
    sources: Iterable[str | Path | Picture],
    out: str | Path,
    outputs: Sequence[str] = DEFAULT_KINDS,
    options: Options | None = None,
    *,
    batch: int | None = None,
    covers: Callable[[Path], bool] | None = None,
    max_memory: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[FileResult]:
    """Segment pictures, write the results of each, and yield a record of each in order; failed ones have an error.

    Files are NAME_mask.png (NAME_mask.tif of a georeferenced picture) and NAME_overlay.png; for names see
    `inference.sources`.

    Args:
        predictor: From `open_predictor`, with the maps that the kinds need.
        sources: Paths, or pictures from `inference.sources.open_sources`, which may be endless.
        out: Folder of the results; created if missing.
        outputs: Rows of `inference.outputs.OUTPUTS`, and "video": one overlay video of each clip.
        options: Of the writers.
        batch: Pictures of one size that share a pass through the network; None takes what suits the device.
        covers: Whether a file is one of the pictures, which no result may overwrite; None asks the sources.
        max_memory: Bytes that the process may use; images that need more are refused. None sets no limit.
        progress: Called for large images after each strip: rows done, rows of the image.

    Raises:
        ConfigError: An unknown kind, or one that needs a map that the predictor does not keep.
        DataError: A result would overwrite one of the pictures, or the folder cannot be written.
        MissingExtraError: A video is asked for, and PyAV is not installed.
    """
    out = Path(out)
    video = "video" in outputs
    others = [kind for kind in outputs if kind != "video"]
    kinds = check_kinds(others) if others or not video else ()
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; results need a folder. Choose another one with --out.")
    covers = covers or getattr(sources, "covers", None)
    pictures: Iterable[Picture] = sources  # type: ignore[assignment]
    if isinstance(sources, list | tuple) and not any(isinstance(one, Picture) for one in sources):
        pictures = named_files(sources)
        inputs = {one.path.resolve() for one in pictures if one.path is not None}
        covers = covers or (lambda path: path.resolve() in inputs)
    pipeline = Pipeline(
        predictor,
        out,
        kinds,
        options,
        video=video,
        batch=batch,
        covers=covers or (lambda path: False),
        max_memory=max_memory,
        progress=progress,
    )
    yield from pipeline.run(pictures)


@dataclass
class _Decoded:
    """A picture with its pixels, or the error of reading it."""

    picture: Picture
    loaded: LoadedImage | None = None  # none of a large image either, which is read row by row
    error: HrsegError | None = None
    seconds: float = 0.0
    cost: int = 0  # pixels acquired of the budget


_Outcome = tuple[Picture, FileResult, np.ndarray | None]
"""A picture, its result, and its frame of a video."""


class Pipeline:
    """Reader threads, the network in the caller's thread, and writer threads. Args: see `predict_files`."""

    def __init__(
        self,
        predictor: Predictor,
        out: Path,
        kinds: Sequence[str],
        options: Options | None = None,
        *,
        video: bool = False,
        batch: int | None = None,
        covers: Callable[[Path], bool] = lambda path: False,
        max_memory: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.predictor, self.out, self.kinds, self.options = predictor, out, tuple(kinds), options
        self.covers, self.max_memory, self.progress = covers, max_memory, progress
        self._base_memory = 0 if max_memory is None else used_memory()  # before any picture
        self._requested_batch = batch
        self.batch = batch or DEFAULT_BATCH.get(predictor.device.type, 1)
        self._threads = min(8, max(2, usable_cores() // 2))  # that read, and as many that write
        self._videos = VideoWriter(out) if video else None

    def run(self, pictures: Iterable[Picture]) -> Iterator[FileResult]:
        """Yield the result of each picture, in order, as soon as it is done; files are complete however this ends."""
        self._queue: SimpleQueue[Future[_Decoded] | BaseException | None] = SimpleQueue()
        self._slots = Semaphore(self._threads + max(2, self.batch))  # pictures in the queue
        self._budget = MemoryBudget(MAX_PIXELS_IN_FLIGHT if self.max_memory is None else 0)
        self._write_failed = self._stopped = False
        self._source_error: BaseException | None = None
        self._readers = Pool(self._threads, "hrseg-read")
        self._writers = Pool(self._threads, "hrseg-write")
        feeder = Pool(1, "hrseg-feed")
        feeder.submit(self._feed, pictures)
        pending: deque[Future[_Outcome]] = deque()
        ended = False
        try:
            for block in self._blocks():
                pending.extend(self._segment_block(block))
                limit = 2 * (self._threads + self.batch)  # results that wait to be delivered
                while pending and (
                    pending[0].done() or len(pending) > limit or self._budget.exceeded or self._write_failed
                ):
                    yield self._deliver(pending.popleft())
            while pending:
                yield self._deliver(pending.popleft())
            if self._source_error is not None:  # after the results of the pictures before it
                raise self._source_error
            if self._videos is not None:
                self._videos.close()
            ended = True
        finally:
            self._stopped = True
            self._slots.release()
            self._budget.stop()
            # Everything has been read, or the caller stops and a slow server must not delay it.
            feeder.stop(wait=ended)
            self._readers.stop(wait=ended)
            self._writers.stop(wait=True)
            if self._videos is not None:
                self._videos.stop()

    # Before the network

    def _feed(self, pictures: Iterable[Picture]) -> None:
        """Take pictures from the source in a thread of its own, and have the readers decode them."""
        try:
            for number, picture in enumerate(pictures):
                self._refuse_overwriting(picture)
                cost = 0
                if picture.pixels is not None:  # they are in memory now
                    cost = picture.pixels.shape[0] * picture.pixels.shape[1]
                    self._budget.acquire(number, cost)
                self._slots.acquire()  # bounds how far reading runs ahead
                if self._stopped:
                    return
                self._queue.put(self._readers.submit(self._read, number, picture, cost))
            self._queue.put(None)
        except Stopped:
            return
        except BaseException as error:  # raised in the caller's thread
            self._queue.put(error)

    def _refuse_overwriting(self, picture: Picture) -> None:
        """Raise if a result would replace an input: x_mask.png may be an image beside x.png."""
        names = possible_paths(self.out, picture.name, self.kinds) if self.kinds else []
        targets = {path for path in names if path.exists() and self.covers(path)}
        if targets and picture.path is not None:
            with contextlib.suppress(DataError):  # the reader reports why it cannot be opened
                placed = read_georeference(picture.path) is not None
                targets &= set(result_paths(self.out, picture.name, self.kinds, placed).values())
        if targets:
            raise DataError(
                f"{min(targets)} is one of the images, and a result would overwrite it. Choose another folder with "
                "--out, or leave that file out."
            )

    def _read(self, number: int, picture: Picture, cost: int) -> _Decoded:
        start = time.perf_counter()
        decoded = _Decoded(picture, cost=cost)
        try:
            with guarded(picture.origin):
                if picture.error is not None:
                    raise picture.error
                data = picture.fetch() if picture.fetch else None
                if picture.pixels is None:
                    cost = _header_pixels(picture.path if data is None else data)
                    if picture.path is not None and cost > LARGE_PIXELS:
                        return decoded  # no pixels: `_segment_large` reads rows
                    self._budget.acquire(number, cost)
                    decoded.cost = cost
                start = time.perf_counter()
                source = next(x for x in (picture.pixels, data, picture.path) if x is not None)
                decoded.loaded = self.predictor.load(source, picture.origin)
        except HrsegError as error:
            decoded.error = error
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            decoded.error = _out_of_memory(picture.origin)
        decoded.seconds = time.perf_counter() - start
        return decoded

    def _blocks(self) -> Iterator[list[_Decoded]]:
        """Yield decoded pictures that follow one another, as many as may share a pass."""
        block: list[_Decoded] = []
        number = 0
        while (future := self._next()) is not None:
            if isinstance(future, BaseException):
                self._source_error = future
                break
            block.append(result_of(future))
            number += 1
            self._budget.advance(number)  # the next picture passes even above the limit
            clip = block[-1].picture.clip
            live = clip is not None and clip.live
            if live or len(block) >= self.batch or sum(one.cost for one in block) >= BATCH_PIXELS:
                yield block
                block = []
        yield block

    def _next(self) -> Future[_Decoded] | BaseException | None:
        while True:
            with contextlib.suppress(Empty):
                item = self._queue.get(timeout=POLL_SECONDS)
                self._slots.release()
                return item

    # The network

    def _segment_block(self, block: list[_Decoded]) -> list[Future[_Outcome]]:
        """Segment a block, pictures of one size together, and schedule the writing of the results."""
        done: dict[int, Future[_Outcome]] = {}
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, one in enumerate(block):
            if one.error is not None:
                done[i] = finished(self._failed(one, one.error))
            elif one.loaded is None:
                done[i] = finished(self._segment_large(one))
            else:
                shapes.setdefault(one.loaded.pixels.shape, []).append(i)
        for shape, indices in shapes.items():
            size = self._requested_batch or max(1, BATCH_PIXELS // (shape[0] * shape[1]))
            for first in range(0, len(indices), size):
                chosen = indices[first : first + size]
                start = time.perf_counter()
                predictions = self._segment([block[i] for i in chosen])
                seconds = (time.perf_counter() - start) / len(chosen)
                for i, prediction in zip(chosen, predictions, strict=True):
                    one = block[i]
                    one.loaded, one.seconds = None, one.seconds + seconds
                    if isinstance(prediction, HrsegError):
                        done[i] = finished(self._failed(one, prediction))
                    else:
                        done[i] = self._writers.submit(self._write, one, prediction)
        return [done[i] for i in range(len(block))]

    def _segment(self, group: list[_Decoded]) -> list[Prediction | HrsegError]:
        images = [one.loaded for one in group if one.loaded is not None]
        names = [Path(one.picture.name).name for one in group]
        origin = group[0].picture.origin
        try:
            if self.max_memory is not None:
                height, width = images[0].pixels.shape[:2]
                held = self._base_memory + BYTES_PER_PIXEL * len(group) * height * width
                check_limit(self.predictor, (height, width), self.max_memory, held, origin)
            predictions = self.predictor.batch(images, names)
        except WeightsError:  # the model's, so no other image will do
            raise
        except (MemoryError, RuntimeError, DataError) as error:
            if len(group) > 1 and (isinstance(error, DataError) or _is_out_of_memory(error)):
                return [result for one in group for result in self._segment([one])]
            if isinstance(error, HrsegError):
                return [error]
            if not _is_out_of_memory(error):
                raise
            return [_out_of_memory(origin)]
        return [replace(one, origin=source.picture.origin) for one, source in zip(predictions, group, strict=True)]

    def _segment_large(self, one: _Decoded) -> _Outcome:
        picture = one.picture
        assert picture.path is not None
        try:
            with guarded(picture.origin):
                result = segment_large(
                    *(self.predictor, picture.path, self.out / picture.name),
                    max_memory=self.max_memory,
                    kinds=self.kinds,
                    progress=self.progress,
                )
        except HrsegError as error:
            if _is_fatal(error):
                raise
            return self._failed(one, error)
        return picture, replace(result, name=picture.name), None

    # After the network

    def _write(self, one: _Decoded, prediction: Prediction) -> _Outcome:
        picture, start = one.picture, time.perf_counter()
        try:
            if not self.kinds and picture.clip is None:
                raise ConfigError(
                    f"A video is made of frames, and {picture.origin} is an image. Ask for other results too, such "
                    "as --save video mask."
                )
            files, frame = {}, None
            with guarded(picture.origin):
                if self.kinds:
                    files = write_all(prediction, self.out, picture.name, self.kinds, self.options)
                if self._videos is not None and picture.clip is not None:
                    frame = prediction.overlay(legend=False)
        except HrsegError as error:
            if _is_fatal(error):
                self._write_failed = True
                raise
            return self._failed(one, error)
        finally:
            self._release(one)
        confidence = prediction.mean_confidence
        result = FileResult(
            image=picture.path or picture.origin,
            files=files,
            size=prediction.size,
            classes=prediction.shares(),
            confidence=None if math.isnan(confidence) else confidence,
            seconds=one.seconds + time.perf_counter() - start,
            name=picture.name,
            time=picture.time,
            notes=prediction.notes,
        )
        return picture, result, frame

    def _failed(self, one: _Decoded, error: HrsegError) -> _Outcome:
        self._release(one)
        picture = one.picture
        result = FileResult(
            picture.path or picture.origin,
            error=error,
            seconds=one.seconds,
            name=picture.name,
            time=picture.time,
        )
        return picture, result, None

    def _release(self, one: _Decoded) -> None:
        self._budget.release(one.cost)
        one.cost = 0

    def _deliver(self, future: Future[_Outcome]) -> FileResult:
        picture, result, frame = result_of(future)
        for note in result.notes:
            log.warning(printable(note))
        if self._videos is not None:
            self._videos.follow(picture, frame, result.error)
        return result


def _header_pixels(source: Path | bytes | None) -> int:
    """Return the pixels of an image from its header; 0 where it cannot be read, which decoding reports."""
    if source is not None:
        with contextlib.suppress(HrsegError), open_stored(source) as image:
            return image.height * image.width
    return 0


def _out_of_memory(origin: str) -> DataError:
    return DataError(
        f"{origin} needs more memory than there is. Run it in windows, such as --window 512 1024, or close other "
        "programs."
    )


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _is_fatal(error: HrsegError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in FATAL_ERRNO
