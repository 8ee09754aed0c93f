"""Frames of videos and cameras."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hrseg.errors import DataError, MissingExtraError
from hrseg.inference.sources import Every, open_sources, video

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'hrseg[video]'")


def shade(number: int) -> int:
    return 40 + 20 * number


def film(path: Path, frames: int = 8, rate: int = 4) -> Path:
    """Encode flat frames, each a shade lighter than the one before."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(frames):
            pixels = np.full((32, 48, 3), shade(number), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
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


def test_a_video_without_the_package_names_the_extra(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hrseg\[video\]'"):
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
