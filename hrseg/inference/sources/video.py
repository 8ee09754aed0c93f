"""Frames of videos (PyAV) and cameras (OpenCV), decoded in order and on demand."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError, MissingExtraError
from hrseg.inference.sources.base import Clip, Every, Picture, Source, SourceOptions

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .wmv .flv .ogv".split()  # noqa: SIM905
)
_CAMERA = re.compile(r"camera:(\d+)", re.IGNORECASE)


def is_video(argument: str) -> bool:
    """Return whether an argument is a file with a video's suffix."""
    path = Path(argument).expanduser()
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def is_camera(argument: str) -> bool:
    """Return whether an argument is "camera:" and a number."""
    return _CAMERA.fullmatch(argument) is not None


def open_video(argument: str, options: SourceOptions) -> Source:
    """Open the frames of a video; results are named STEM/000000 and so on, by frame number."""
    need_av(argument)
    path = Path(argument).expanduser()
    return Source(
        lambda: _frames(path, options.every), lambda other: other.resolve() == path.resolve()
    )


def open_camera(argument: str, options: SourceOptions) -> Source:
    """Open the frames of a camera; frames that arrive during inference are dropped."""
    number = int(argument.partition(":")[2])
    return Source(lambda: _camera_frames(number, options.every))


def need_av(argument: str) -> Any:
    """Return PyAV, or raise MissingExtraError where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f"{argument} is a video, and PyAV, which reads videos, is not installed: pip install 'hrseg[video]'"
        ) from error
    return av


def upright(pixels: np.ndarray, degrees: int) -> np.ndarray:
    """Rotate a frame counterclockwise by a multiple of 90 degrees. Shape: (H, W, 3) → (H or W, …, 3)."""
    steps = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, steps)) if steps else pixels


def _frames(path: Path, every: Every) -> Iterator[Picture]:
    av = need_av(str(path))
    wanted, last = every.selector(), 0.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(
                    f"{path} holds no frames that can be read: only sound, or it is damaged. Copy it again."
                )
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            clip = Clip(path.stem, every.rate(rate))
            for number, frame in enumerate(container.decode(stream)):
                last = number / rate if frame.time is None else float(frame.time)
                if wanted(number, last):
                    pixels = upright(frame.to_ndarray(format="rgb24"), int(frame.rotation))
                    origin = f"{path}#{last:.2f}s"
                    yield Picture(origin, f"{number:06d}", pixels=pixels, time=last, clip=clip)
    except av.error.FFmpegError as error:
        done = f" after {last:.2f} s" if last else ""
        raise DataError(
            f"{path} cannot be read{done}: {error.strerror or error}. It is probably damaged; copy it again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.") from error


def _camera_frames(number: int, every: Every) -> Iterator[Picture]:
    camera = open_capture(number)
    try:
        rate = float(camera.get(5)) or 25.0  # CAP_PROP_FPS
        clip = Clip(f"camera{number}", every.rate(rate), live=True)
        wanted, start, index = every.selector(), time.monotonic(), 0
        while camera.grab():
            now = time.monotonic() - start
            if wanted(index, now):
                there, pixels = camera.retrieve()
                if there:
                    rgb = np.ascontiguousarray(pixels[..., ::-1])
                    origin = f"camera:{number}#{now:.2f}s"
                    yield Picture(origin, f"{index:06d}", pixels=rgb, time=now, clip=clip)
            index += 1
        if not index:
            raise DataError(f"Camera {number} gives no pictures. Is another program using it?")
        log.info("Camera %d gives no more pictures.", number)
    finally:
        camera.release()


def open_capture(number: int) -> Any:
    """Open a camera, or raise DataError where there is none of this number."""
    import cv2

    cv2.utils.logging.setLogLevel(0)  # hides warnings about missing cameras
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        camera.release()
        raise DataError(
            f"There is no camera {number}, or it may not be used. The first is camera:0; check the cable and the "
            "permissions."
        )
    return camera
