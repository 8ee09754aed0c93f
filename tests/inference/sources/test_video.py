"""Frames of videos and cameras."""

import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hrseg.errors import DataError, MissingExtraError
from hrseg.inference.sources import Every, open_sources, video

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'hrseg[video]'")


def shade(number: int) -> int:
    return 40 + 20 * number % 200


def film(
    path: Path,
    frames: int = 8,
    rate: int = 4,
    *,
    codec: str = "mpeg4",
    pixel_format: str = "yuv420p",
    times: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode flat frames, each a shade lighter than the one before."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixel_format
        if times and codec == "mpeg4":
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, moment in enumerate(times or [i / rate for i in range(frames)]):
            pixels = np.full((32, 48, 3), shade(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = stream.codec_context.time_base or Fraction(1, rate)
            frame.pts = round(moment / frame.time_base)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def test_a_video_is_its_frames_in_order_with_their_times(tmp_path):
    pictures = list(open_sources([film(tmp_path / "drive.mp4")]))
    assert [p.name for p in pictures] == [f"drive/{i:06d}" for i in range(8)]
    assert [p.time for p in pictures] == pytest.approx([i / 4 for i in range(8)])
    assert pictures[1].origin == f"{tmp_path}/drive.mp4#0.25s"
    for number, picture in enumerate(pictures):
        assert picture.pixels.shape == (32, 48, 3)
        assert abs(picture.pixels.mean() - shade(number)) < 6


@pytest.mark.parametrize(("every", "expected"), [("3", [0, 3, 6]), ("0.5s", [0, 2, 4, 6])])
def test_frames_keep_their_numbers_when_others_are_left_out(tmp_path, every, expected):
    pictures = list(open_sources([film(tmp_path / "a.mp4")], every=Every.read(every)))
    assert [int(p.name[-6:]) for p in pictures] == expected
    assert pictures[0].clip.rate == pytest.approx({"3": 4 / 3, "0.5s": 2}[every])


def test_two_videos_of_one_name_keep_apart(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    arguments = [film(tmp_path / folder / "a.mp4", 2) for folder in ("x", "y")]
    names = [picture.name for picture in open_sources(arguments)]
    assert names == ["a/000000", "a/000001", "a-2/000000", "a-2/000001"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, arguments)), encoding="utf-8")
    assert [picture.name for picture in open_sources([f"@{tmp_path}/list.txt"])] == names


def test_a_damaged_video_is_one_error_and_the_next_source_is_read(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film(tmp_path / "a.mp4").read_bytes()[:300])
    first, *others = open_sources([broken, tmp_path / "a.mp4"])
    assert "broken.mp4" in str(first.error)  # FFmpeg's releases differ in what they notice
    assert "damaged" in str(first.error)
    assert len(others) == 8


def zero_frame(path: Path, number: int) -> None:
    """Overwrite the data of a frame of an AVI with zeros."""
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(rb"00dc", data[data.index(b"movi") :])]
    first = data.index(b"movi") + starts[number]
    size = int.from_bytes(data[first + 4 : first + 8], "little")
    data[first + 8 : first + 8 + size] = bytes(size)
    path.write_bytes(data)


def test_a_broken_frame_is_named_and_the_others_are_read(tmp_path):
    path = film(tmp_path / "a.avi", frames=9, codec="mjpeg", pixel_format="yuvj420p")
    zero_frame(path, 3)
    zero_frame(path, 8)
    pictures = list(open_sources([path]))
    assert [p.name for p in pictures] == [f"a/{i:06d}" for i in range(9)]
    assert [i for i, p in enumerate(pictures) if p.error] == [3, 8]
    assert "a.avi: frame 3 at 0.75 s is damaged" in str(pictures[3].error)
    assert pictures[3].time == pytest.approx(0.75)
    assert abs(pictures[4].pixels.mean() - shade(4)) < 6


def test_frames_that_come_in_another_order_keep_their_places(tmp_path):
    if "libx264" not in av.codecs_available:
        pytest.skip("this build of PyAV has no libx264")
    options = {"x264-params": "bframes=2:b-adapt=0:scenecut=0:keyint=30"}
    path = film(tmp_path / "a.mp4", 30, codec="libx264", rate=10, options=options)
    with av.open(str(path)) as file:
        packets = [(p.pos, p.size, p.pts * p.time_base) for p in file.demux(video=0) if p.size]
    times = [moment for _, _, moment in packets]
    assert times != sorted(times)
    place, size, moment = packets[5]
    path.write_bytes(path.read_bytes()[:place] + bytes(size) + path.read_bytes()[place + size :])
    pictures = list(open_sources([path]))
    assert [p.name for p in pictures] == [f"a/{i:06d}" for i in range(30)]
    assert [p.time for p in pictures if p.error] == pytest.approx([float(moment)])
    assert [p.time for p in pictures] == pytest.approx([i / 10 for i in range(30)])


def test_a_video_without_a_frame_or_an_end_is_said(tmp_path, caplog):
    path = film(tmp_path / "a.avi", 40, codec="mjpeg", pixel_format="yuvj420p")
    path.write_bytes(path.read_bytes()[:-9000])
    found = len(list(open_sources([path])))
    assert f"a.avi is probably cut off: it counts 40 frames, and has {found}" in caplog.text
    with av.open(str(tmp_path / "b.avi"), "w") as file:
        stream = file.add_stream("mjpeg", rate=4)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        file.start_encoding()
    (picture,) = open_sources([tmp_path / "b.avi"])
    assert "b.avi" in str(picture.error)


def test_frames_of_a_variable_rate_have_their_own_times(tmp_path):
    times = [0.0, 0.1, 0.2, 1.0, 3.0, 3.1]
    for name in ("a.mp4", "a.mkv"):
        pictures = list(open_sources([film(tmp_path / name, times=times)]))
        assert [p.time for p in pictures] == pytest.approx(times, abs=1e-3)


def test_times_count_from_the_beginning_where_a_clock_does_not(tmp_path):
    times = [50 + i / 25 for i in range(40)]
    path = film(tmp_path / "a.ts", times=times, codec="mpeg2video", rate=25)
    found = [p.time for p in open_sources([path])]
    assert found == pytest.approx([i / 25 for i in range(40)], abs=1e-3)


LISTS = {
    "concat": "ffconcat version 1.0\nfile other.avi\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nother.avi\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 33\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet><Representation id="1" mimeType="video/mp4" '
    'bandwidth="1"><BaseURL>other.avi</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "bom": "\ufeffffconcat version 1.0\nfile other.avi\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "mpg"])
@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_other_videos_are_not_followed_whatever_their_suffix(tmp_path, kind, suffix):
    film(tmp_path / "other.avi", 2)
    path = tmp_path / f"list.{suffix}"
    path.write_text(LISTS[kind], encoding="utf-8")
    (picture,) = open_sources([path])
    assert picture.pixels is None
    assert "is a text, such as a list" in str(picture.error)


def test_names_that_look_like_protocols_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "a.avi", 2)
    (tmp_path / "concat:a.avi").write_bytes((tmp_path / "a.avi").read_bytes())
    assert len(list(open_sources(["concat:a.avi"]))) == 2


# Network streams


@pytest.fixture
def web(tmp_path):
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_video_at_a_web_address_is_its_frames(tmp_path, web, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    film(tmp_path / "a.ts", 40, codec="mpeg2video", rate=25)
    (tmp_path / "play.m3u8").write_text(LISTS["hls"].replace("other.avi", "a.ts"))
    for name in ("a.ts", "play.m3u8"):
        pictures = list(open_sources([f"http://u:secret@{web}/{name}?x=1"]))
        stem = name.partition(".")[0]
        assert [p.name for p in pictures] == [f"{stem}/{i:06d}" for i in range(40)]
        assert pictures[1].origin == f"http://{web}/{name}?x=1#0.04s"
        assert not pictures[0].clip.live


def test_a_web_video_opens_no_files_and_is_said_where_it_fails(tmp_path, web, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    film(tmp_path / "a.ts", 40, codec="mpeg2video", rate=25)
    (tmp_path / "hls.m3u8").write_text(LISTS["hls"].replace("other.avi", f"file://{tmp_path}/a.ts"))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.ts\n")
    for name in ("hls.m3u8", "list.mp4", "none.mp4"):
        (picture,) = open_sources([f"http://u:secret@{web}/{name}"])
        assert f"http://{web}/{name} cannot be read" in str(picture.error)
        assert "secret" not in picture.origin


def datagrams(port: int, content: bytes, stop: threading.Event) -> None:
    """Send a transport stream again and again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        while not stop.wait(0.02):
            for first in range(0, len(content), 1316):
                plug.sendto(content[first : first + 1316], ("127.0.0.1", port))


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def test_a_live_stream_opens(tmp_path):
    content = film(tmp_path / "a.ts", 40, codec="mpeg2video", rate=25).read_bytes()
    port, stop = free_port(socket.SOCK_DGRAM), threading.Event()
    sender = threading.Thread(target=datagrams, args=(port, content, stop))
    sender.start()
    try:
        first = next(iter(open_sources([f"udp://127.0.0.1:{port}"])))
    finally:
        stop.set()
        sender.join()
    assert first.error is None
    assert first.name == "127.0.0.1/000000"
    assert first.pixels.shape == (32, 48, 3)
    assert first.clip.live


def answer_rtsp(listener: socket.socket, content: bytes) -> None:
    """Answer one RTSP client with a transport stream in its connection."""
    description = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:a\r\n"
    more = {
        "OPTIONS": "Public: DESCRIBE, SETUP, PLAY\r\n\r\n",
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(description)}\r\n\r\n{description}",
        "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
        "PLAY": "Session: 1\r\n\r\n",
    }
    plug = listener.accept()[0]
    with plug, plug.makefile("rb") as asked:
        method = ""
        while method != "PLAY":
            lines = [line.decode() for line in iter(asked.readline, b"\r\n")]
            method = lines[0].split()[0]
            order = next(line for line in lines if line.startswith("CSeq"))
            plug.sendall(f"RTSP/1.0 200 OK\r\n{order}{more[method]}".encode())
        for number, first in enumerate(range(0, len(content), 1316)):
            part = struct.pack(">BBHII", 0x80, 33, number, 3000 * number, 1)
            part += content[first : first + 1316]
            plug.sendall(b"$\0" + struct.pack(">H", len(part)) + part)


def test_the_stream_of_a_camera_opens(tmp_path):
    content = film(tmp_path / "a.ts", 40, codec="mpeg2video", rate=25).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_rtsp, args=(listener, content), daemon=True).start()
        port = listener.getsockname()[1]
        pictures = list(open_sources([f"rtsp://u:secret@127.0.0.1:{port}/cam1?x=1"]))
    assert len(pictures) > 30
    assert all(picture.error is None and picture.clip.live for picture in pictures)
    assert pictures[1].name == "cam1/000001"
    assert pictures[1].origin == f"rtsp://127.0.0.1:{port}/cam1?x=1#0.04s"


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "http", "tcp", "udp", "rtp"])
def test_an_address_that_does_not_answer_is_given_up_in_time(monkeypatch, scheme):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(video, "STREAM_SECONDS", 0.3)
    kind = socket.SOCK_DGRAM if scheme in ("udp", "rtp") else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as silent:
        if kind == socket.SOCK_STREAM:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
        else:
            port = free_port(kind)
        begun = time.monotonic()
        (picture,) = open_sources([f"{scheme}://u:secret@127.0.0.1:{port}/cam/live.ts"])
    assert time.monotonic() - begun < 10
    assert f"{scheme}://127.0.0.1:{port}/cam/live.ts cannot be read: nothing came for 0.3 s" in str(picture.error)


def test_an_address_where_nobody_listens_is_said():
    port = free_port(socket.SOCK_STREAM)
    (picture,) = open_sources([f"rtsp://127.0.0.1:{port}/cam"])
    assert "Connection refused" in str(picture.error)


def test_a_video_without_the_package_names_the_extra(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install '.*\[video\]'"):
        open_sources([tmp_path / "a.mp4"])


def test_frames_are_turned_as_their_video_says():
    frame = np.arange(2)[:, None, None] * np.ones((2, 3, 3), np.uint8)
    assert video.upright(frame, 0) is frame
    assert video.upright(frame, 90)[:, :, 0].tolist() == [[0, 1]] * 3
    assert video.upright(frame, -90)[:, :, 0].tolist() == [[1, 0]] * 3
    assert video.upright(frame, 180)[:, 0, 0].tolist() == [1, 0]


# Cameras


def test_a_camera_gives_rgb_frames_as_they_come(monkeypatch):
    left = iter(range(5))
    camera = SimpleNamespace(
        get=lambda what: 30.0,
        grab=lambda: next(left, None) is not None,
        retrieve=lambda: (True, np.full((2, 3, 3), (1, 2, 3), np.uint8)),
        release=lambda: None,
    )
    monkeypatch.setattr(video, "open_capture", lambda number: camera)
    pictures = list(open_sources(["camera:2"], every=Every(frames=2)))
    assert [p.name for p in pictures] == ["camera2/000000", "camera2/000002", "camera2/000004"]
    assert pictures[0].pixels[0, 0].tolist() == [3, 2, 1]
    assert pictures[0].clip.live


def test_a_camera_that_is_not_there_is_said():
    with pytest.raises(DataError, match="There is no camera 987"):
        video.open_capture(987)
