"""Overlay videos of clips, written atomically."""

import contextlib
import logging
from collections import deque
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError
from hrseg.imaging import write_atomic
from hrseg.inference.sources import Clip
from hrseg.inference.sources.video import need_av
from hrseg.inference.worker_pool import Pool, result_of

log = logging.getLogger(__name__)

_MAX_WAITING = 4
"""Frames that wait for the encoder."""


class VideoWriter:
    """Writer of NAME_overlay.mp4 of each clip, in a thread of its own. Frames of one clip must be consecutive.

    Args:
        out: Folder of the results.

    Raises:
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        need_av("An overlay video")
        self._pool = Pool(1, "hrseg-video")
        self._waiting: deque[Future[None]] = deque()
        self._clip: Clip | None = None
        self._video: _Video | None = None

    def add(self, clip: Clip, name: str, frame: np.ndarray) -> None:
        """Append a frame to its clip's video; the video of another clip is closed first.

        Raises:
            DataError: The video cannot be written.
        """
        if clip is not self._clip:
            self.close()
            self._clip, self._video = clip, _Video(self.out / f"{name}_overlay.mp4", clip.rate)
        assert self._video is not None
        while len(self._waiting) >= _MAX_WAITING:
            result_of(self._waiting.popleft())
        self._waiting.append(self._pool.submit(self._video.add, frame))

    def close(self) -> None:
        """Finish the video that is open.

        Raises:
            DataError: It cannot be written.
        """
        video, self._clip, self._video = self._video, None, None
        if video is None:
            return
        try:
            while self._waiting:
                result_of(self._waiting.popleft())
            result_of(self._pool.submit(video.close))
        except BaseException:
            video.discard()
            raise
        log.info("%s: %d frames", video.path, video.count)

    def discard(self) -> None:
        """Delete the video that is open."""
        video, self._clip, self._video = self._video, None, None
        self._pool.stop(wait=True)
        self._waiting.clear()
        self._pool = Pool(1, "hrseg-video")
        if video is not None:
            video.discard()

    def stop(self) -> None:
        """End the thread, and delete a video that is open."""
        if self._video is not None:
            self.discard()
        self._pool.stop(wait=False)


class _Video:
    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.count = path, 0
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stack = contextlib.ExitStack()
        self._file: Any = None
        self._stream: Any = None

    def add(self, pixels: np.ndarray) -> None:
        av = need_av(str(self.path))
        if self._file is None:
            temporary = self._stack.enter_context(write_atomic(self.path))
            self._open(av, temporary, pixels)
        height, width = self._stream.height, self._stream.width
        if pixels.shape[0] - height not in (0, 1) or pixels.shape[1] - width not in (0, 1):
            raise DataError(
                f"{self.path} has frames of {height} x {width}, and one of {pixels.shape[0]} x {pixels.shape[1]} "
                "follows. Write single files instead."
            )
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels[:height, :width]), format="rgb24"
        )
        frame.pts, frame.time_base = self.count, 1 / self._rate
        self._mux(av, frame)
        self.count += 1

    def close(self) -> None:
        self._mux(need_av(str(self.path)), None)
        self._file.close()
        self._stack.close()

    def discard(self) -> None:
        with contextlib.suppress(Exception):  # the file is deleted anyway
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(DataError):
            self._stack.__exit__(DataError, DataError("dropped"), None)

    def _open(self, av: Any, temporary: Path, pixels: np.ndarray) -> None:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._file = av.open(str(temporary), "w", format="mp4")
        self._stream = self._file.add_stream(codec, rate=self._rate)
        # yuv420p stores the colors of 2 x 2 pixels as one: an odd last row or column is cut
        self._stream.height = max(2, pixels.shape[0] // 2 * 2)
        self._stream.width = max(2, pixels.shape[1] // 2 * 2)
        self._stream.pix_fmt = "yuv420p"

    def _mux(self, av: Any, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._file.mux(packet)
        except av.error.FFmpegError as error:
            raise DataError(
                f"Cannot write {self.path}: {error.strerror or error}. Nothing was left half written. Free some space, "
                "or choose another folder."
            ) from error
