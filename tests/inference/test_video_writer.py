import numpy as np
import pytest

from hrseg.errors import ConfigError, DataError
from hrseg.inference.predict_files import predict_files
from hrseg.inference.sources import Picture
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


def test_an_image_makes_no_video(predictor, photos, tmp_path):
    pytest.importorskip("av")
    (result,) = predict_files(predictor, photos[:1], tmp_path / "out", ["video"])
    assert isinstance(result.error, ConfigError)
    assert "is an image" in str(result.error)
