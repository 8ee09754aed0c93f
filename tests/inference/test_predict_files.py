import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging import image_size, read_mask
from hrseg.inference.predict_files import FileResult, open_predictor, predict_files
from hrseg.inference.predictor import Predictor
from hrseg.labels import Label, LabelSet
from hrseg.weights import write_release


@pytest.fixture
def predictor(tiny_network: torch.nn.Module) -> Predictor:
    return Predictor(tiny_network, device="cpu", precision="fp32")


def photo(path: Path, size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# Many images


def test_each_image_gets_a_mask_an_overlay_and_a_record(predictor, tmp_path):
    paths = [photo(tmp_path / "ü 1.png"), photo(tmp_path / "b.png", (1, 1))]
    first, second = predict_files(predictor, paths, tmp_path / "out")
    assert image_size(first.mask) == (20, 30)
    assert first.mask.name == "ü 1_mask.png"
    assert first.overlay.name == "ü 1_overlay.png"
    assert (first.size, second.size) == ((20, 30), (1, 1))
    assert sum(first.classes.values()) == pytest.approx(1)
    record = json.loads(json.dumps(first.to_dict()))
    assert record["image"].endswith("ü 1.png")
    assert (record["height"], record["width"], record["error"]) == (20, 30, None)
    assert 0 < record["confidence"] <= 1
    assert record["seconds"] > 0


def test_a_broken_image_among_others_is_reported_with_its_name(predictor, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo(tmp_path / "a.png").read_bytes()[:100])
    paths = [tmp_path / "a.png", broken, photo(tmp_path / "c.png")]
    results = list(predict_files(predictor, paths, tmp_path / "out"))
    assert [result.error is None for result in results] == [True, False, True]
    assert "broken.png" in str(results[1].error)
    assert results[1].to_dict()["mask"] is None
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_images_of_one_stem_keep_their_folders(predictor, tmp_path):
    paths = [photo(tmp_path / "a/x.png"), photo(tmp_path / "b/x.jpg"), photo(tmp_path / "b/y.png")]
    results = list(predict_files(predictor, paths, tmp_path / "out"))
    masks = [result.mask.relative_to(tmp_path / "out").as_posix() for result in results]
    assert masks == ["a/x_mask.png", "b/x_mask.png", "y_mask.png"]


def test_an_image_is_never_overwritten_by_a_result(predictor, tmp_path):
    paths = [photo(tmp_path / "x.png"), photo(tmp_path / "x_mask.png")]
    before = paths[1].read_bytes()
    with pytest.raises(DataError, match=r"x_mask.png is one of the images"):
        list(predict_files(predictor, paths, tmp_path))
    assert paths[1].read_bytes() == before
    assert not (tmp_path / "x_overlay.png").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(predictor, tmp_path):
    with pytest.raises(DataError, match="is a file; results need a folder"):
        list(predict_files(predictor, [photo(tmp_path / "x.png")], tmp_path / "x.png"))


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(predictor, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    paths = [photo(tmp_path / "x.png"), photo(tmp_path / "y.png")]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"Cannot write .*x_mask.png: No space left"):
        list(predict_files(predictor, paths, tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_image_too_large_for_memory_is_reported_like_a_broken_one(
    predictor, tmp_path, monkeypatch
):
    def exhausted(self: Predictor, images: list, names: list) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(Predictor, "batch", exhausted)
    (result,) = predict_files(predictor, [photo(tmp_path / "x.png")], tmp_path / "out")
    assert "x.png needs more memory than there is" in str(result.error)


def test_bugs_keep_their_traceback(predictor, tmp_path, monkeypatch):
    def bug(self: Predictor, images: list, names: list) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Predictor, "batch", bug)
    with pytest.raises(RuntimeError, match="mat1"):
        list(predict_files(predictor, [photo(tmp_path / "x.png")], tmp_path / "out"))


def test_the_line_shows_the_largest_classes():
    shares = {"road": 0.5, "sky": 0.2, "tree": 0.15, "car": 0.1, "pole": 0.05}
    result = FileResult(Path("a b.png"), {"overlay": Path("o/a b_overlay.png")}, classes=shares)
    expected = (
        "a b.png: road 50.0 %, sky 20.0 %, tree 15.0 %, car 10.0 %, 1 more  -> o/a b_overlay.png"
    )
    assert result.line() == expected


def test_a_released_model_opens_and_predicts(tiny_network, tmp_path):
    labels = LabelSet("own", tuple(Label(10 * i, i, f"c{i}", (i, i, i)) for i in range(3)))
    card = {
        "network": tiny_network.spec,
        "labels": labels.to_dict(),
        "mean": [0.5] * 3,
        "std": [1] * 3,
    }
    write_release(tmp_path / "m.safetensors", tiny_network.state_dict(), card)
    predictor = open_predictor(
        tmp_path / "m.safetensors", device="cpu", precision="fp32", window=(32, 64), overlap=0.25
    )
    (result,) = predict_files(predictor, [photo(tmp_path / "x.png", (70, 80))], tmp_path / "out")
    assert set(np.unique(read_mask(result.mask))) <= {0, 10, 20}
    assert predictor.protocol.window == (32, 64)
    assert predictor.mean == (0.5, 0.5, 0.5)
