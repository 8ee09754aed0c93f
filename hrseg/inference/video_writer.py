"""Overlay videos of clips, written atomically."""

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError, HrsegError
from hrseg.imaging import write_atomic
from hrseg.inference.sources import Clip, Picture
from hrseg.inference.sources.video import need_av, open_container
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
        self._name = ""  # of the clip

    def follow(self, picture: Picture, frame: np.ndarray | None, error: HrsegError | None) -> None:
        """Append the frame of a picture to the video of its clip, which ends where other pictures begin.

        A broken frame is left out; of a clip that broke off no video is left.

        Args:
            picture: The next one, also where it is no frame.
            frame: uint8 RGB (H, W, 3), or None where there is none.
            error: Of the picture.

        Raises:
            DataError: The video cannot be written.
        """
        name = picture.name.partition("/")[0]
        if frame is not None and picture.clip is not None:
            self._add(picture.clip, name, frame, picture.time)
        elif picture.time is None and error is not None and name == self._name:
            self.discard()
        elif picture.clip is None:
            self.close()

    def _add(self, clip: Clip, name: str, frame: np.ndarray, time: float | None) -> None:
        if clip is not self._clip:
            self.close()
            self._clip, self._video = clip, _Video(self.out / f"{name}_overlay.mp4", clip)
            self._name = name
        assert self._video is not None
        while len(self._waiting) >= _MAX_WAITING:
            result_of(self._waiting.popleft())
        self._waiting.append(self._pool.submit(self._video.add, frame, time))

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
    def __init__(self, path: Path, clip: Clip) -> None:
        self.path, self.count = path, 0
        self._clip = clip
        self._rate = Fraction(clip.rate).limit_denominator(1001)
        self._tick = clip.tick
        self._last = -1
        self._sound: _Sound | None = None
        self._stack = contextlib.ExitStack()
        self._file: Any = None
        self._stream: Any = None

    def add(self, pixels: np.ndarray, time: float | None) -> None:
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
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        time = float(self.count / self._rate) if time is None else time
        # clocks of cameras stand still at times, and those of streams jump back
        self._last = max(self._last + 1, round(time / self._tick))
        frame.pts, frame.time_base = self._last, self._tick
        self._mux(av, frame)
        self._copy_sound(self._last * self._tick)
        self.count += 1

    def close(self) -> None:
        self._mux(need_av(str(self.path)), None)
        self._copy_sound(self._last * self._tick + 1 / self._rate)
        if self._sound is not None:
            self._sound.close()
        self._file.close()
        self._stack.close()

    def discard(self) -> None:
        with contextlib.suppress(Exception):  # the file is deleted anyway
            if self._sound is not None:
                self._sound.close()
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(DataError):
            self._stack.__exit__(DataError, DataError("dropped"), None)

    def _open(self, av: Any, temporary: Path, pixels: np.ndarray) -> None:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        if codec == "mpeg4":
            self._tick = self._tick.limit_denominator(65535)
        # of the first frame's time, which is in milliseconds otherwise
        options = {"movie_timescale": "90000"}
        self._file = av.open(str(temporary), "w", format="mp4", options=options)
        self._stream = self._file.add_stream(codec, rate=self._rate)
        # yuv420p stores the colors of 2 x 2 pixels as one: an odd last row or column is cut
        self._stream.height = max(2, pixels.shape[0] // 2 * 2)
        self._stream.width = max(2, pixels.shape[1] // 2 * 2)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._tick
        if self._clip.sound is not None and self._clip.live:
            log.warning("%s is without sound: that of a live stream is not kept.", self.path)
        elif self._clip.sound is not None:
            self._sound = _Sound(av, self._clip, self._file)

    def _copy_sound(self, until: Fraction) -> None:
        if self._sound is not None:
            self._sound.copy(float(until))

    def _mux(self, av: Any, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._file.mux(packet)
        except av.error.FFmpegError as error:
            raise DataError(
                f"Cannot write {self.path}: {error.strerror or error}. Nothing was left half written. Free some space, "
                "or choose another folder."
            ) from error


class _Sound:
    """The first sound of a clip, copied as it is beside the frames.

    Args:
        av: PyAV.
        clip: With its file.
        file: The video that is written; its header is not.
    """

    def __init__(self, av: Any, clip: Clip, file: Any) -> None:
        self._av, self._clip, self._file = av, clip, file
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        self._stack = contextlib.ExitStack()
        try:
            source = self._stack.enter_context(open_container(str(clip.sound)))
            stream = source.streams.audio[0]
            codec = stream.codec_context.name
            if codec not in file.supported_codecs:
                raise ValueError(f"MP4 takes no {codec}")
            self._stream = file.add_stream_from_template(stream)
            self._packets = source.demux(stream)
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            self._lose(error)

    def copy(self, until: float) -> None:
        """Copy the sound before a time, in seconds."""
        try:
            while self._next is None or self._time(self._next) < until:
                if self._next is not None:
                    self._write(self._next)
                self._next = next(self._packets)
        except StopIteration:
            self._next, self._packets = None, iter(())
        except self._av.error.FFmpegError as error:
            self._lose(error)

    def close(self) -> None:
        """Close the clip's file."""
        self._stack.close()

    def _time(self, packet: Any) -> float:
        stamp = packet.dts if packet.pts is None else packet.pts
        return -1.0 if stamp is None else float(stamp * packet.time_base) - self._clip.start

    def _write(self, packet: Any) -> None:
        if self._time(packet) >= 0 and packet.dts is not None and packet.size:
            shift = round(self._clip.start / packet.time_base)
            packet.pts = (packet.dts if packet.pts is None else packet.pts) - shift
            packet.dts -= shift
            packet.stream = self._stream
            self._file.mux(packet)

    def _lose(self, error: Exception) -> None:
        log.warning(
            "%s: its sound cannot be copied into the overlay (%s). Add it by another program, such as ffmpeg.",
            self._clip.sound,
            getattr(error, "strerror", None) or error,
        )
        self._next, self._packets = None, iter(())
