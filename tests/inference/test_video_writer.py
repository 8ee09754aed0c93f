from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from hrseg.errors import ConfigError, DataError
from hrseg.inference.predict_files import predict_files
from hrseg.inference.sources import Clip, Every, Picture, open_sources
from tests.inference.conftest import frames


def test_the_overlays_of_a_clip_become_one_video(predictor, tmp_path):
    av = pytest.importorskip("av")
    results = list(predict_files(predictor, frames(7), tmp_path / "out", ["video"]))
    assert [result.files for result in results] == [{}] * 7
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive_overlay.mp4"]
    with av.open(str(tmp_path / "out/drive_overlay.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.height, stream.width, stream.average_rate) == (32, 46, 5)
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(shown) == 7
    expected = predictor(frames(1)[0].pixels).overlay(legend=False)[:32, :46]
    assert np.abs(shown[0].astype(float) - expected).mean() < 30


def test_a_clip_that_breaks_off_leaves_no_video(predictor, tmp_path):
    pytest.importorskip("av")
    broken = [*frames(3), Picture("drive", "drive", error=DataError("damaged"))]
    results = list(predict_files(predictor, broken, tmp_path / "out", ["video", "mask"]))
    assert [result.error is None for result in results] == [True] * 3 + [False]
    assert len(list((tmp_path / "out/drive").iterdir())) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive"]
    run = predict_files(predictor, frames(40), tmp_path / "two", ["video"])
    next(run)
    run.close()
    assert not list((tmp_path / "two").glob("*"))


def overlay_times(path: Path) -> list[float]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as file:
        return [float(frame.time) for frame in file.decode(video=0)]


def test_frames_of_the_overlay_have_their_own_times(predictor, tmp_path):
    times = [0.0, 0.1, 0.2, 1.0, 3.0, 3.1]
    clip = Clip("drive", 25.0, tick=Fraction(1, 1000))
    moved = [replace(f, time=t, clip=clip) for f, t in zip(frames(6), times, strict=True)]
    list(predict_files(predictor, moved, tmp_path, ["video"]))
    assert overlay_times(tmp_path / "drive_overlay.mp4") == pytest.approx(times, abs=1e-6)
    still = [replace(f, time=t, clip=clip) for f, t in zip(frames(3), (0.5, 0.5, 0.1), strict=True)]
    list(predict_files(predictor, still, tmp_path, ["video"]))
    found = overlay_times(tmp_path / "drive_overlay.mp4")
    assert found == pytest.approx([0.5, 0.501, 0.502], abs=1e-6)


def test_a_broken_frame_and_the_error_of_another_source_leave_the_video(predictor, tmp_path):
    pytest.importorskip("av")
    four = frames(4)
    four[2] = replace(four[2], pixels=None, error=DataError("damaged"))
    other = Picture("other", "other", error=DataError("no image"))
    results = list(predict_files(predictor, [*four, other], tmp_path / "out", ["video"]))
    assert [result.error is None for result in results] == [True, True, False, True, False]
    found = overlay_times(tmp_path / "out/drive_overlay.mp4")
    assert found == pytest.approx([0.0, 0.2, 0.6], abs=1e-4)


def film(path: Path, codec: str, sound: str, sample: str, rate: int = 48_000) -> Path:
    """Write two seconds of frames and of a tone."""
    av = pytest.importorskip("av")
    if sound not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {sound}")
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream(codec, rate=10), file.add_stream(sound, rate=rate)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        wave = np.sin(np.arange(rate // 10) / 20)
        tone = (wave * 9000).astype(np.int16) if sample == "s16" else wave.astype(np.float32)
        for number, frame in enumerate(frames(20)):
            image = av.VideoFrame.from_ndarray(frame.pixels[:32, :46], format="rgb24")
            file.mux(video.encode(image.reformat(48, 32)))
            part = av.AudioFrame.from_ndarray(tone[None], format=sample, layout="mono")
            part.sample_rate, part.pts = rate, number * len(wave)
            part.time_base = Fraction(1, rate)
            file.mux(audio.encode(part))
        file.mux(video.encode())
        file.mux(audio.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "sound", "sample"),
    [
        ("a.mp4", "mpeg4", "aac", "fltp"),
        ("a.ts", "mpeg2video", "aac", "fltp"),
        ("a.mkv", "mpeg4", "libopus", "s16"),
        ("a.avi", "mpeg4", "libmp3lame", "fltp"),
    ],
)
def test_sound_is_copied_beside_the_frames(predictor, tmp_path, name, codec, sound, sample):
    path = film(tmp_path / name, codec, sound, sample)
    out = tmp_path / "out"
    list(predict_files(predictor, open_sources([path]), out, ["video"]))
    av = pytest.importorskip("av")
    with av.open(str(out / "a_overlay.mp4")) as file:
        assert 1.9 < sum(f.samples for f in file.decode(audio=0)) / 48_000 < 2.1
    limited = islice(open_sources([path], every=Every.read("5")), 2)  # 0 and 0.5 s, each shown for 0.5 s
    list(predict_files(predictor, limited, out, ["video"]))
    with av.open(str(out / "a_overlay.mp4")) as file:
        assert 0.9 < sum(f.samples for f in file.decode(audio=0)) / 48_000 < 1.2


def test_sound_that_the_overlay_cannot_hold_is_told(predictor, tmp_path, caplog):
    path = film(tmp_path / "a.mkv", "mpeg4", "wavpack", "fltp")
    list(predict_files(predictor, open_sources([path]), tmp_path / "out", ["video"]))
    assert "a.mkv: its sound cannot be copied" in caplog.text
    assert len(overlay_times(tmp_path / "out/a_overlay.mp4")) == 20
    clip = Clip("drive", 5.0, live=True, sound="udp://x")
    live = [replace(frame, clip=clip) for frame in frames(2)]
    list(predict_files(predictor, live, tmp_path / "out", ["video"]))
    assert "drive_overlay.mp4 is without sound" in caplog.text


def test_an_image_makes_no_video(predictor, photos, tmp_path):
    pytest.importorskip("av")
    (result,) = predict_files(predictor, photos[:1], tmp_path / "out", ["video"])
    assert isinstance(result.error, ConfigError)
    assert "is an image" in str(result.error)
