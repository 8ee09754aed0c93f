"""Many pictures through one network: decoded ahead in threads, segmented in the caller's, written in threads.

Results come in the order of the pictures. Which pictures share a pass through the network follows from their order
and sizes alone, never from how fast they were read, so that a run gives the same again.
"""

import contextlib
import errno
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import ConfigError, DataError, HrsegError, guarded, path_text, percent, printable
from hrseg.imaging import read_georeference
from hrseg.inference.backends import usable_cores
from hrseg.inference.decode import Decoded, fetch, is_out_of_memory, pixels_of, read, too_large
from hrseg.inference.large import HugeResult, is_large, segment_huge
from hrseg.inference.large.plan import IN_MEMORY, check_limit, used_memory
from hrseg.inference.outputs import Options, possible_paths, result_paths, write_all
from hrseg.inference.predictor import Prediction, Predictor
from hrseg.inference.sources import Picture
from hrseg.inference.video_writer import Films
from hrseg.inference.window_grid import BATCH_PIXELS
from hrseg.inference.worker_pool import Budget, Line, Pool, Stopped, finished, result_of


@dataclass(frozen=True)
class FileResult:
    """What became of one picture.

    Attributes:
        image: The file, or what a person would call the picture: an address, "clip.mp4#12.04s".
        files: Kind of result → file; empty if the picture failed.
        size: (height, width) of the picture; None if it failed.
        classes: Class name → share of the pixels, largest first.
        confidence: Mean probability of the chosen classes, over every fourth row and column; None if the picture
            failed.
        seconds: Of work: reading, its part of the network's time, writing. Pictures overlap, so that all take less.
        error: Why it failed, else None.
        name: What its results are called.
        time: Seconds from the beginning of its clip.
        notes: What its file had to be told about, in sentences.
    """

    image: Path | str
    files: dict[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    classes: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    seconds: float = 0.0
    error: HrsegError | None = None
    name: str = ""
    time: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> Path | None:
        """Dataset ids, as palette PNG or GeoTIFF; None if the picture failed or nobody asked for it."""
        return self.files.get("mask")

    @property
    def overlay(self) -> Path | None:
        """The picture with its legend; None if it failed or nobody asked for it."""
        return self.files.get("overlay")

    def line(self, most: int = 4) -> str:
        """Say it in one line: the picture, its largest classes, where the overlay (or the last file) is.

        Example:
            >>> FileResult(Path("a.png"), {"overlay": Path("a_overlay.png")}, classes={"road": 0.5}).line()
            'a.png: road 50.0 %  -> a_overlay.png'
        """
        if self.error is not None:
            return printable(f"{self.image}: {self.error}")
        shown = [f"{name} {percent(share)}" for name, share in self.classes.items()]
        rest = f", {len(shown) - most} more" if len(shown) > most else ""
        last = self.overlay or next(reversed(self.files.values()), None)
        where = f"  -> {last}" if last else ""
        return printable(f"{self.image}: {', '.join(shown[:most])}{rest}{where}")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        files = {kind: path_text(path) for kind, path in self.files.items()}
        return {
            "image": path_text(self.image),
            "name": self.name,
            "time": self.time if self.time is None else round(self.time, 6),
            "mask": files.get("mask"),
            "overlay": files.get("overlay"),
            "files": files,
            "height": self.size and self.size[0],
            "width": self.size and self.size[1],
            "classes": {name: round(share, 6) for name, share in self.classes.items()},
            "confidence": self.confidence and round(self.confidence, 6),
            "seconds": round(self.seconds, 4),
            "notes": [path_text(note) for note in self.notes],
            "error": self.error and path_text(str(self.error)),
        }


log = logging.getLogger(__name__)

__all__ = ["AT_ONCE", "FileResult", "Pipeline"]

AT_ONCE = {"cuda": 8, "cpu": 1}
"""Device → pictures of one size that share a pass, as far as grid.BATCH_PIXELS allow; a CPU gains nothing by it."""
MAX_PIXELS_IN_FLIGHT = 2**25
"""Pixels in memory at once, over all pictures that are read, segmented or written; a larger one is alone. Under a limit
of memory there is one, and the next."""
FATAL_ERRNO = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST),  # the folder cannot be made
}
"""Reasons not to write that the next image would meet as well."""

Waiting = tuple[Picture, "Future[Decoded]"]


class Pipeline:
    """Segments pictures and writes their results.

    Args:
        predictor: Keeps the maps that the kinds need.
        out: Folder of the results.
        kinds: Rows of OUTPUTS; may be empty where there is a video.
        options: What their writers may be told.
        video: Whether the overlays of each clip become one video.
        batch: Pictures of one size that share a pass; None takes what suits the device.
        covers: Tells whether a file is one of the pictures, which no result may overwrite.
        max_memory: Bytes that the process may use; images that need more are refused. None sets no limit.
        huge: Does that; `huge.segment_huge` with options.
    """

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
        huge: Callable[..., HugeResult] = segment_huge,
    ) -> None:
        self.predictor, self.out, self.kinds, self.options = predictor, out, tuple(kinds), options
        self.covers, self.max_memory, self.huge = covers, max_memory, huge
        self._used = used_memory()  # before any picture
        self.chosen = batch
        self.batch = batch or AT_ONCE.get(predictor.device.type, 1)
        self._threads = helpers()  # that decode, and as many that write
        self._films = Films(out) if video else None

    def run(self, pictures: Iterable[Picture]) -> Iterator[FileResult]:
        """Yield what became of each picture, in order, as soon as it is done.

        However this ends, files that are there are whole.

        Raises:
            DataError: A result would overwrite a picture, or the folder cannot be written.
        """
        self._line: Line[Waiting | BaseException | None] = Line(self._threads + max(2, self.batch))
        self._budget, self._broken = (
            Budget(MAX_PIXELS_IN_FLIGHT if self.max_memory is None else 0),
            False,
        )
        self._readers = Pool(self._threads, "hrseg-read")
        self._writers = Pool(self._threads, "hrseg-write")
        self._failure: BaseException | None = None
        feeder = Pool(1, "hrseg-feed")
        feeder.submit(self._feed, pictures)
        pending: deque[Future[tuple[Picture, FileResult, np.ndarray | None]]] = deque()
        ended = False
        try:
            for block in self._blocks():
                pending.extend(self._look(block))
                most = 2 * (self._threads + self.batch)
                while pending and (
                    pending[0].done() or len(pending) > most or self._budget.over or self._broken
                ):
                    yield self._handed_on(pending.popleft())
            while pending:
                yield self._handed_on(pending.popleft())
            if self._failure is not None:  # of the source, after what came before it
                raise self._failure
            if self._films is not None:
                self._films.close()
            ended = True
        finally:
            self._line.stopped.set()
            self._budget.stop()
            # All is read, or somebody stops and a slow server must not hold them up.
            feeder.stop(wait=ended)
            self._readers.stop(wait=ended)
            self._writers.stop(wait=True)
            if self._films is not None:
                self._films.stop()

    # Ahead of the network

    def _feed(self, pictures: Iterable[Picture]) -> None:
        try:
            for number, picture in enumerate(pictures):
                self._refuse_overwriting(picture)
                cost = 0
                if picture.pixels is not None:  # they are in memory now
                    cost = pixels_of(picture, None)
                    self._budget.take(number, cost)
                self._line.put((picture, self._readers.submit(self._read, number, picture, cost)))
            self._line.put(None)
        except Stopped:
            return
        except BaseException as error:  # the caller's thread raises it
            self._line.put(error)

    def _refuse_overwriting(self, picture: Picture) -> None:
        """A mask called x_mask.png may be somebody's own, lying beside the image x.png."""
        names = possible_paths(self.out, picture.name, self.kinds) if self.kinds else []
        targets = {path for path in names if path.exists() and self.covers(path)}
        if targets and picture.path is not None:
            with contextlib.suppress(DataError):  # whoever decodes it says why it cannot be opened
                placed = read_georeference(picture.path) is not None
                targets &= set(result_paths(self.out, picture.name, self.kinds, placed).values())
        if targets:
            raise DataError(
                f"{min(targets)} is one of the images, and a result would overwrite it. Choose another folder with "
                "--out, or leave that file out."
            )

    def _read(self, number: int, picture: Picture, cost: int) -> Decoded:
        start = time.perf_counter()
        decoded = Decoded(picture, cost=cost)
        try:
            with guarded(picture.origin):
                data = fetch(picture)
                if picture.pixels is None:
                    if picture.path is not None and is_large(picture.path):
                        return decoded
                    decoded.cost = pixels_of(picture, data)
                    self._budget.take(number, decoded.cost)
                start = time.perf_counter()
                decoded.loaded = read(self.predictor, picture, data)
        except HrsegError as error:
            decoded.error = error
        decoded.seconds = time.perf_counter() - start
        return decoded

    def _blocks(self) -> Iterator[list[Decoded]]:
        """Yield decoded pictures that follow one another, as many as may share a pass."""
        block: list[Decoded] = []
        number = 0
        while (waiting := self._line.get()) is not None:
            if isinstance(waiting, BaseException):
                self._failure = waiting
                break
            picture, future = waiting
            block.append(result_of(future))
            number += 1
            self._budget.turn(number)
            live = picture.clip is not None and picture.clip.live
            if live or len(block) >= self.batch or sum(one.cost for one in block) >= BATCH_PIXELS:
                yield block
                block = []
        yield block

    # The network

    def _look(
        self, block: list[Decoded]
    ) -> list["Future[tuple[Picture, FileResult, np.ndarray | None]]"]:
        """Segment a block, those of one size together, and have the results written."""
        done: dict[int, Future[tuple[Picture, FileResult, np.ndarray | None]]] = {}
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, one in enumerate(block):
            if one.error is not None:
                done[i] = finished(self._failed(one, one.error))
            elif one.loaded is None:
                done[i] = finished(self._look_at_huge(one))
            else:
                sizes.setdefault(one.loaded.pixels.shape, []).append(i)
        for shape, all_of_it in sizes.items():
            most = self.chosen or max(1, BATCH_PIXELS // (shape[0] * shape[1]))
            for first in range(0, len(all_of_it), most):
                chosen = all_of_it[first : first + most]
                start = time.perf_counter()
                looked = self._segment([block[i] for i in chosen])
                seconds = (time.perf_counter() - start) / len(chosen)
                for i, prediction in zip(chosen, looked, strict=True):
                    one = block[i]
                    one.loaded, one.seconds = None, one.seconds + seconds
                    if isinstance(prediction, HrsegError):
                        done[i] = finished(self._failed(one, prediction))
                    else:
                        done[i] = self._writers.submit(self._write, one, prediction)
        return [done[i] for i in range(len(block))]

    def _segment(self, group: list[Decoded]) -> list[Prediction | HrsegError]:
        images = [one.loaded for one in group if one.loaded is not None]
        names = [Path(one.picture.name).name for one in group]
        try:
            if self.max_memory is not None:
                height, width = images[0].pixels.shape[:2]
                held = self._used + IN_MEMORY * len(group) * height * width
                origin = group[0].picture.origin
                check_limit(self.predictor, (height, width), self.max_memory, held, origin)
            found = self.predictor.batch(images, names)
        except (MemoryError, RuntimeError, DataError) as error:
            if len(group) > 1 and (isinstance(error, DataError) or is_out_of_memory(error)):
                return [answer for one in group for answer in self._segment([one])]
            if isinstance(error, HrsegError):
                return [error]
            if not is_out_of_memory(error):
                raise
            return [too_large(group[0].picture.origin)]
        return [
            replace(one, origin=source.picture.origin)
            for one, source in zip(found, group, strict=True)
        ]

    def _look_at_huge(self, one: Decoded) -> tuple[Picture, FileResult, None]:
        assert one.picture.path is not None
        try:
            target = self.out / one.picture.name
            with guarded(one.picture.origin):
                result = self.huge(
                    self.predictor,
                    one.picture.path,
                    target,
                    max_memory=self.max_memory,
                    kinds=self.kinds,
                )
        except HrsegError as error:
            if _hopeless(error):
                raise
            return self._failed(one, error)
        done = FileResult(
            image=one.picture.path,
            files=result.files,
            size=result.size,
            classes=result.classes,
            confidence=result.confidence,
            seconds=result.seconds,
            name=one.picture.name,
            notes=result.notes,
        )
        return one.picture, done, None

    # Behind the network

    def _write(
        self, one: Decoded, prediction: Prediction
    ) -> tuple[Picture, FileResult, np.ndarray | None]:
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
                if self._films is not None and picture.clip is not None:
                    frame = prediction.overlay(legend=False)
        except HrsegError as error:
            if _hopeless(error):
                self._broken = True
                raise
            return self._failed(one, error)
        finally:
            self._budget.give(one.cost)
            one.cost = 0
        result = FileResult(
            image=picture.path or picture.origin,
            files=files,
            size=prediction.size,
            classes=prediction.shares(),
            confidence=None if math.isnan(sure := prediction.mean_confidence) else sure,
            seconds=one.seconds + time.perf_counter() - start,
            name=picture.name,
            time=picture.time,
            notes=prediction.notes,
        )
        return picture, result, frame

    def _failed(self, one: Decoded, error: HrsegError) -> tuple[Picture, FileResult, None]:
        self._budget.give(one.cost)
        one.cost = 0
        picture = one.picture
        image = picture.path or picture.origin
        about = {"seconds": one.seconds, "name": picture.name, "time": picture.time}
        return picture, FileResult(image, error=error, **about), None  # type: ignore[arg-type]

    def _handed_on(
        self, future: "Future[tuple[Picture, FileResult, np.ndarray | None]]"
    ) -> FileResult:
        picture, result, frame = result_of(future)
        for note in result.notes:
            log.warning(printable(note))
        if self._films is not None:
            if frame is not None and picture.clip is not None:
                self._films.add(picture.clip, picture.name.rpartition("/")[0], frame)
            elif result.error is not None:
                self._films.drop()  # a clip that broke off
            else:
                self._films.close()
        return result


def helpers() -> int:
    """Return how many threads read, and how many write: half the cores that may be used, two to eight."""
    return min(8, max(2, usable_cores() // 2))


def _hopeless(error: HrsegError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in FATAL_ERRNO
