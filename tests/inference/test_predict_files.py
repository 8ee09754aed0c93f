import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging import image_size, read_mask
from hrseg.inference import predict_files as module
from hrseg.inference.predict_files import FileResult, Pipeline, open_predictor, predict_files
from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import Picture, open_sources
from hrseg.labels import Label, LabelSet
from hrseg.weights import write_release
from tests.inference.conftest import frames


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


def test_an_image_too_large_for_memory_is_reported_like_a_broken_one(predictor, tmp_path, monkeypatch):
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
    expected = "a b.png: road 50.0 %, sky 20.0 %, tree 15.0 %, car 10.0 %, 1 more  -> o/a b_overlay.png"
    assert str(result) == expected


@pytest.mark.slow
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


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_results_are_those_of_one_image_at_a_time(predictor, photos, tmp_path, batch):
    results = list(predict_files(predictor, photos, tmp_path / "out", batch=batch))
    assert [result.image for result in results] == photos
    for path, result in zip(photos, results, strict=True):
        alone = predictor(path)
        np.testing.assert_array_equal(read_mask(result.mask), alone.ids())
        assert result.confidence == pytest.approx(float(alone.confidence.mean()), abs=1e-5)
        assert result.classes == alone.shares()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"scales": (0.5, 1.0), "flip": True},
        {"window": (32, 32), "overlap": 0.25},
        {"protocol": "official_crop"},
    ],
)
def test_every_way_to_look_works_for_several_images_at_once(tiny_network, options):
    predictor = Predictor(tiny_network, device="cpu", precision="fp32", **options)
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (40, 70, 3), dtype=np.uint8) for _ in range(3)]
    for image, together in zip(images, predictor.batch(images), strict=True):
        alone = predictor(image)
        assert (together.mask == alone.mask).mean() > 0.999
        np.testing.assert_allclose(together.confidence, alone.confidence, atol=1e-4)


def test_no_thread_is_left_where_all_was_read(predictor, photos, tmp_path):
    assert len(list(Pipeline(predictor, tmp_path / "out", ["mask"]).run(open_sources(photos)))) == 7
    assert not [one.name for one in threading.enumerate() if one.name.startswith("hrseg-")]


def test_pictures_of_one_size_share_a_pass_by_order_and_size_alone(predictor, photos, tmp_path, monkeypatch):
    passes: list[list[str]] = []
    batch = Predictor.batch

    def counted(self: Predictor, images: list, names: list) -> list:
        passes.append(list(names))
        return batch(self, images, names)

    monkeypatch.setattr(Predictor, "batch", counted)
    for _ in range(2):
        list(predict_files(predictor, photos, tmp_path / "out", batch=4))
    assert passes[:4] == [["0", "2", "3"], ["1"], ["4"], ["5"]]
    assert passes[:5] == passes[5:]


def test_large_pictures_are_not_put_together(predictor, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_PIXELS", 2 * 32 * 48)
    monkeypatch.setitem(module.DEFAULT_BATCH, "cpu", 8)
    seen = []
    batch = Predictor.batch
    monkeypatch.setattr(Predictor, "batch", lambda self, *words: seen.append(len(words[0])) or batch(self, *words))
    list(predict_files(predictor, photos, tmp_path / "out"))
    assert max(seen) == 2


def test_a_batch_too_large_for_memory_is_done_one_by_one(predictor, photos, tmp_path, monkeypatch):
    batch = Predictor.batch

    def small(self: Predictor, images: list, names: list) -> list:
        if len(images) > 1 or images[0].pixels.shape[0] == 1:
            raise torch.OutOfMemoryError
        return batch(self, images, names)

    monkeypatch.setattr(Predictor, "batch", small)
    results = list(predict_files(predictor, photos, tmp_path / "out", batch=4))
    assert [result.error is None for result in results] == [True] * 5 + [False, True]
    assert "5.png needs more memory than there is" in str(results[5].error)


def test_few_pictures_are_read_before_their_turn(predictor, tmp_path):
    made: list[int] = []

    def endless() -> Iterator[Picture]:
        for number in count():
            made.append(number)
            yield Picture(f"{number}", f"{number}", pixels=np.zeros((32, 32, 3), np.uint8))

    run = predict_files(predictor, endless(), tmp_path / "out", ["mask"])
    assert len(list(islice(run, 6))) == 6
    run.close()
    assert len(made) < 30
    assert threads() == []


def test_little_is_held_in_memory_at_once(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS_IN_FLIGHT", 3 * 33 * 47)
    pictures = frames(12)
    results = list(predict_files(predictor, pictures, tmp_path / "out", ["mask"], batch=5))
    assert [result.name for result in results] == [picture.name for picture in pictures]


def test_a_live_camera_waits_for_no_other_frame(predictor, tmp_path):
    first, second = frames(2, live=True)
    came = threading.Event()

    def slow() -> Iterator[Picture]:
        yield first
        came.wait(60)
        yield second

    run = Pipeline(predictor, tmp_path / "out", ["mask"], batch=8)
    blocks = []
    segment = run._segment_block
    run._segment_block = lambda block: (came.set(), blocks.append(len(block)), segment(block))[2]
    assert len(list(run.run(slow()))) == 2
    assert blocks[:2] == [1, 1]


def test_pictures_without_a_file_are_fetched_and_broken_ones_told(predictor, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photos[0], "in/x.png")
        archive.writestr("in/broken.png", photos[1].read_bytes()[:70])
    good, broken = predict_files(predictor, open_sources([tmp_path / "a.zip"]), tmp_path / "out")
    assert good.mask == tmp_path / "out/a/in/x_mask.png"
    np.testing.assert_array_equal(read_mask(good.mask), predictor(photos[0]).ids())
    assert "a.zip/in/broken.png cannot be read" in str(broken.error)


def test_an_image_is_never_overwritten_whatever_named_it(predictor, photos, tmp_path):
    (tmp_path / "0_mask.png").write_bytes(photos[0].read_bytes())
    with pytest.raises(DataError, match=r"0_mask.png is one of the images"):
        list(predict_files(predictor, open_sources([tmp_path]), tmp_path))


def test_an_error_of_the_source_comes_after_the_results_before_it(predictor, photos, tmp_path):
    def failing() -> Iterator[Picture]:
        yield Picture("0", "0", photos[0])
        yield Picture("1", "1", photos[1])
        raise ValueError("a bug")

    run = predict_files(predictor, failing(), tmp_path / "out", batch=1)
    got = []
    with pytest.raises(ValueError, match="a bug"):
        got.extend(run)
    assert (tmp_path / "out/1_mask.png").exists()
    assert threads() == []


# The whole command


CODE = """
import sys, time
from hrseg.cli import main
code = main(sys.argv[1:])
heavy = ("lightning", "torchmetrics", "albumentations", "segmentation_models_pytorch", "pandas", "scipy", "timm",
         "matplotlib", "onnx", "onnxruntime", "omegaconf", "rich", "av", "fsspec", "tensorboard",
         "torchvision", "huggingface_hub", "tifffile", "rasterio", "fastapi", "torch._dynamo",
         "torch._inductor", "triton")
print("heavy:", [name for name in heavy if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.slow
def test_predict_imports_nothing_that_it_does_not_need(photos, tmp_path):
    words = ["predict", str(photos[0]), "--device", "cpu", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_ctrl_c_stops_at_once_and_leaves_whole_files(photos, tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from hrseg.cli import main\n"
        "from hrseg.inference import sources\n"
        "def endless(self):\n"
        "    i = 0\n"
        "    while True:\n"
        "        yield sources.Picture(str(i), str(i), pixels=np.zeros((64, 64, 3), np.uint8))\n"
        "        i += 1\n"
        "sources.Sources.__iter__ = endless\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["predict", str(photos[0]), "--device", "cpu", "--out", str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout.readline().startswith(b"0: ")
        asked = time.monotonic()
        run.send_signal(signal.SIGINT)
        try:
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert said.splitlines()[1:] == [b"hrseg: interrupted"]  # after the line on the model
    assert time.monotonic() - asked < 60
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert not [name for name in left if name.startswith(".")]
    for name in left:
        Image.open(tmp_path / "out" / name).load()


def threads() -> list[str]:
    """Return our threads that still run, after giving them a moment to end."""
    for _ in range(100):
        ours = [t.name for t in threading.enumerate() if t.name.startswith("hrseg-")]
        if not ours:
            break
        time.sleep(0.05)
    return ours
