"""A limit of memory is kept or refused; it never changes a label."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.config.schema import EvaluationConfig
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import to_tensor
from hrseg.inference.large import parse_size, segment_large
from hrseg.inference.large.memory import network_bytes, window_bytes
from hrseg.inference.predict_files import predict_files
from hrseg.inference.predictor import Predictor
from hrseg.inference.protocols import choose_protocol
from hrseg.inference.windows import plan_windows
from hrseg.models import create_model
from hrseg.training.task import SegmentationTask

from .files import BUILT_FOR, Tiny, picture, tiny
from .test_segment import write

pytest.importorskip("tifffile")


def test_sizes_are_read():
    assert parse_size("2g") == 2**31
    with pytest.raises(ConfigError, match=r"such as 1.5G"):
        parse_size("many")
    with pytest.raises(ConfigError, match="Give at least 512M"):
        parse_size("10M")


def least(run):
    """Return the limit that a refusal names."""
    with pytest.raises(DataError, match="--max-memory") as refused:
        run(1)
    return int(float(re.search(r"--max-memory ([\d.]+)G", str(refused.value))[1]) * 2**30)


def cut(**options):
    """A protocol that cuts images of more than 96 x 96 pixels."""
    return replace(choose_protocol(options.pop("protocol", "whole"), **options), whole_pixels=96**2)


OPTIONS = {
    "plain": {},
    "windows": {"window": (64, 64)},
    "views": {"scales": (0.5, 1), "flip": True},
}


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "options"), [*(("torch", name) for name in OPTIONS), ("openvino", "plain")])
def test_labels_are_the_same_under_every_limit_in_memory_and_in_bands(tmp_path, engine, options):
    network = Tiny(classes=5)
    if engine == "openvino":
        pytest.importorskip("openvino")
        network = create_model("hrnet_w18_small_v1", num_classes=5).eval()
    row = cut(**OPTIONS[options])
    predictor = Predictor(network, device="cpu", engine=engine, protocol=row)
    image = write(tmp_path / "a.tif", picture(110, 150))
    expected = predictor(picture(110, 150)).ids()
    assert not predictor.inference.plan(expected.shape).whole

    def in_bands(limit):
        target = tmp_path / "large"
        found = segment_large(predictor, image, target, max_memory=limit, kinds=["mask"])
        return np.array(Image.open(found.files["mask"]))

    def in_memory(limit):
        (found,) = predict_files(predictor, [image], tmp_path / "small", max_memory=limit)
        if found.error is not None:
            raise found.error
        return np.array(Image.open(found.files["mask"]))

    for run in (in_bands, in_memory):
        for limit in (None, least(run), BUILT_FOR):
            assert np.array_equal(run(limit), expected), (run, limit)


def test_validation_has_the_labels_that_predict_writes(monkeypatch):
    network = Tiny()
    predictor = Predictor(network, device="cpu", precision="fp32", protocol=cut())
    monkeypatch.setattr(SegmentationTask, "protocol", predictor.protocol)
    task = SegmentationTask(network, predictor.labels, evaluation=EvaluationConfig(precision="fp32"))
    task.on_test_epoch_start()
    pixels = picture(110, 150)
    image = to_tensor(pixels, predictor.mean, predictor.std)[None]
    pred = task.test_step({"image": image, "mask": torch.zeros(1, 110, 150, dtype=torch.long)}, 0)
    assert np.array_equal(pred[0], predictor(pixels).mask)


@pytest.mark.slow
def test_a_refusal_names_windows_that_fit(tmp_path):
    predictor = Predictor(create_model("hrnet_w18_small_v1", num_classes=3).eval(), device="cpu")
    image = write(tmp_path / "a.tif", picture(2200, 2200))
    limit = least(lambda limit: segment_large(predictor, image, tmp_path / "out", max_memory=limit))
    with pytest.raises(DataError, match="in windows of 1440 x 1440") as refused:
        segment_large(predictor, image, tmp_path / "out", max_memory=limit - 2**28)
    side = int(re.search(r"--window (\d+) (\d+)", str(refused.value))[1])
    smaller = Predictor(predictor.network, device="cpu", window=(side, side))

    def accepted(done, total):  # told of before the first window
        raise KeyboardInterrupt

    options = {"max_memory": limit - 2**28, "progress": accepted}
    with pytest.raises(KeyboardInterrupt):
        segment_large(smaller, image, tmp_path / "out", **options)


@pytest.mark.slow
def test_what_a_network_takes_follows_from_its_form():
    def taken(name, **options):
        with torch.device("meta"):
            return network_bytes(create_model(name, num_classes=3, **options), 3)

    small = taken("hrnet_w18_small_v1")
    assert taken("hrnet_w18_small_v1") == small > 100
    assert taken("hrnet_w48") > 2 * small
    assert taken("hrnet_w18_small_v1", input_scale=2.0) > 3.5 * small
    # one convolution at stride 4 and logits at the image's size: 5 x 4 / 16 + 5 x 4 bytes a pixel, and the image
    assert network_bytes(Tiny(), 3) == int(5 * 4 / 16 + 5 * 4 + 3 * 4)


def test_windows_take_as_much_however_high_the_image_is():
    predictor = tiny()
    needs = [window_bytes(predictor, plan_windows((height, 5000), (512, 512))) for height in (2000, 90_000)]
    assert needs[0] == pytest.approx(needs[1], rel=0.1)
    smaller = window_bytes(predictor, plan_windows((2000, 5000), (256, 256)))
    assert smaller < needs[0]
