"""Frames of videos and network streams (PyAV) and cameras (OpenCV), decoded in order and on demand."""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from hrseg.errors import DataError, MissingExtraError, install_command
from hrseg.inference.sources.base import (
    Clip,
    Every,
    Picture,
    Source,
    SourceOptions,
    safe_name,
)

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .3gp .mkv .webm .avi .mpg .mpeg .vob .ts .mts .m2ts .wmv .asf .flv .f4v .ogv .mxf".split()  # noqa: SIM905
)
STREAM_SECONDS = 15.0
"""Time for a network stream to begin, and between two of its packets."""
_LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp", "mmsh", "mmst")
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,obu,ivf,mjpeg,asf,flv,live_flv,"
    "ogg,mxf,dv,nut,rm,yuv4mpegpipe"
)
"""Formats of ffmpeg that hold their own frames; playlists and lists of files (concat, hls, dash, sdp) open others."""
_LAG_SECONDS = 1.0
_CAMERA = re.compile(r"camera:(\d+)", re.IGNORECASE)


def is_video(argument: str) -> bool:
    """Return whether an argument is a file with a video's suffix."""
    path = Path(argument).expanduser()
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def is_stream(argument: str) -> bool:
    """Return whether an argument is an address of a live stream, or a web address with a video's suffix.

    Example:
        >>> [is_stream(f"{scheme}://host/a.ts") for scheme in ("rtsp", "UDP", "https", "s3")]
        [True, True, True, False]
        >>> is_stream("https://host/a.jpg")
        False
    """
    scheme, sign, rest = argument.lower().partition("://")
    suffix = PurePosixPath(rest.partition("?")[0]).suffix
    web = scheme in ("http", "https") and (suffix in VIDEO_SUFFIXES or suffix == ".m3u8")
    return bool(sign) and (web or scheme in _LIVE)


def is_camera(argument: str) -> bool:
    """Return whether an argument is "camera:" and a number."""
    return _CAMERA.fullmatch(argument) is not None


def open_video(argument: str, options: SourceOptions) -> Source:
    """Open the frames of a video; results are named STEM/000000 and so on, by frame number."""
    need_av(argument)
    path = Path(argument).expanduser()
    return Source(
        lambda: _frames(str(path), path.stem, options.every),
        lambda other: other.resolve() == path.resolve(),
    )


def open_stream(argument: str, options: SourceOptions) -> Source:
    """Open the frames of a network stream; results are named after the last part of its address."""
    need_av(argument)
    parts = urlsplit(argument)
    last = PurePosixPath(unquote(parts.path)).name
    name = safe_name(last or parts.hostname or parts.scheme, stem=bool(last))
    return Source(lambda: _frames(argument, name, options.every))


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
            f"{argument} is a video, and PyAV, which reads videos, is not installed: {install_command('video')}"
        ) from error
    return av


def upright(pixels: np.ndarray, degrees: int) -> np.ndarray:
    """Rotate a frame counterclockwise by a multiple of 90 degrees. Shape: (H, W, 3) → (H or W, …, 3)."""
    steps = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, steps)) if steps else pixels


def open_container(address: str) -> Any:
    """Open a video file or stream by ffmpeg, which follows no reference to another file.

    Args:
        address: Path, or address of a stream.

    Raises:
        av.error.FFmpegError: It cannot be opened.
    """
    av = need_av(address)
    scheme = address.partition("://")[0].lower() if is_stream(address) else ""
    if not scheme:  # an absolute path is never taken for another protocol
        allowed = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        return av.open(os.path.abspath(address), options=allowed)
    network = "https,tls,tcp,crypto,httpproxy" + (
        "" if scheme == "https" else ",http,rtsp,rtsps,rtp,srtp,udp,rtmp,rtmps,srt,mmsh,mmst"
    )
    formats = f"{_FORMATS},hls,rtsp,rtp,sdp"
    options = {"protocol_whitelist": network, "format_whitelist": formats}
    if scheme.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"
    if scheme == "udp":
        options["overrun_nonfatal"] = "1"
    return av.open(address, options=options, timeout=STREAM_SECONDS)


def _frames(address: str, name: str, every: Every) -> Iterator[Picture]:
    """Yield the wanted frames; broken ones have an error, and so has the end where the video breaks off."""
    av = need_av(address)
    shown = re.sub(r"://[^/@]*@", "://", address)  # without a password
    clip, last, received = None, 0.0, time.monotonic()
    try:
        with open_container(address) as container:
            if not container.streams.video:
                raise DataError("holds no frames that can be read: only sound, or it is damaged.")
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"  # threads by frame tell errors of a frame at later ones
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            clip = Clip(
                name,
                every.rate(rate),
                live=address.partition("://")[0].lower() in _LIVE,
                tick=stream.time_base or Clip.tick,
                sound=address if container.streams.audio else None,
                start=(container.start_time or 0) / av.time_base,
            )
            wanted, begun, number = every.selector(), time.monotonic(), -1
            for number, (stamp, frame) in enumerate(_decoded(av, container, stream)):
                last = number / rate if stamp is None else stamp - clip.start
                received = time.monotonic()
                begun = min(begun, received - last)
                late = clip.live and received - begun - last > _LAG_SECONDS  # prediction is slower than the stream
                if late or not wanted(number, last):
                    continue
                picture = Picture(f"{shown}#{last:.2f}s", f"{number:06d}", time=last, clip=clip)
                if isinstance(frame, Exception):
                    reason = getattr(frame, "strerror", None) or frame
                    yield replace(
                        picture,
                        error=DataError(
                            f"{shown}: frame {number} at {last:.2f} s is damaged ({reason}). The others are read; "
                            "copy the video again to have this one."
                        ),
                    )
                else:
                    pixels = upright(frame.to_ndarray(format="rgb24"), int(frame.rotation))
                    yield replace(picture, pixels=pixels)
                received = time.monotonic()
            if number < 0:
                raise DataError("holds no frames that can be decoded; it is damaged.")
            if number + 1 < stream.frames and "mov" not in container.format.name:  # MP4 leaves out
                counts = shown, stream.frames, number + 1
                log.warning("%s is probably cut off: it counts %d frames, and has %d.", *counts)
    except (av.error.FFmpegError, DataError, OSError) as error:
        failure = DataError(f"{shown} {_reason(address, error, last, time.monotonic() - received)}")
        if clip is not None and clip.live and last:
            log.warning("%s", failure)  # the end of most live streams
        else:
            yield Picture(shown, "end" if clip else name, error=failure, clip=clip)


def _decoded(av: Any, container: Any, stream: Any) -> Iterator[tuple[float | None, Any]]:
    """Yield time and frame in the order of times; in the place of a frame that cannot be decoded, the error."""
    lost: list[tuple[float, Exception]] = []
    for packet in container.demux(stream):
        stamp = packet.dts if packet.pts is None else packet.pts
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            frames = []
            if stamp is None:
                yield None, error
            else:
                lost.append((float(stamp * packet.time_base), error))
                lost.sort(key=lambda one: one[0])
        for frame in frames:
            while lost and frame.time is not None and lost[0][0] < frame.time:
                yield lost.pop(0)
            yield frame.time, frame
    yield from lost


def _reason(address: str, error: Any, last: float, waited: float) -> str:
    """Return why a video cannot be read, and what to do."""
    done = f" after {last:.2f} s" if last else ""
    text = getattr(error, "strerror", None) or error
    if is_stream(address):
        if waited >= STREAM_SECONDS:
            text = f"nothing came for {STREAM_SECONDS:g} s"
        elif "Protocol not found" in str(text):
            text = "this build of PyAV does not know its protocol"
        return (
            f"cannot be read{done}: {text}. Check the address, and that it is sent, by another program, such as ffplay."
        )
    if isinstance(error, DataError):
        return f"{error} Copy it again."
    with contextlib.suppress(OSError), open(address, "rb") as file:
        start = file.read(512).removeprefix(b"\xef\xbb\xbf")
        if start and not done and start.isascii() and b"\0" not in start:
            return (
                "is a text, such as a list of other videos, which is not followed. Name the videos themselves, or "
                "one a line in a list of hrseg: @list.txt."
            )
    return f"cannot be read{done}: {text}. It is probably damaged; copy it again."


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
