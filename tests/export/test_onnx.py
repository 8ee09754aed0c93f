import json

import numpy as np
import pytest
from PIL import Image

from hrseg.data.street import scene
from hrseg.errors import ConfigError
from hrseg.export import write
from hrseg.inference.predictor import Predictor


def test_images_below_the_coarsest_stride_and_batches_are_answered(exported, release):
    from hrseg.inference.exported import OnnxRunner

    runner = OnnxRunner(exported[".onnx"], cpu=True)
    images = np.stack([scene(i, (17, 20))[0] for i in range(3)])[:, :5, :7]
    answers = runner(np.ascontiguousarray(images))["labels"]
    assert answers.shape == (3, 5, 7)
    assert answers.dtype == np.uint8
    network = Predictor(release, precision="fp32")
    assert (answers[2] == network(np.ascontiguousarray(images[2])).mask).all()


@pytest.mark.slow
def test_a_plain_file_answers_as_its_graph_at_any_size(tmp_path):
    import onnx
    import torch

    from hrseg.export.graph import Pipeline, trace
    from hrseg.export.onnx import save, to_onnx
    from hrseg.inference.exported import OnnxRunner

    pipeline = Pipeline(
        torch.nn.Conv2d(3, 4, 3, padding=1), (0.4,) * 3, (0.2,) * 3, ("probabilities",), profile="plain"
    )
    path = save(to_onnx(trace(pipeline), ("probabilities",)), tmp_path / "plain.onnx")
    value = onnx.load(str(path)).graph.input[0].type.tensor_type
    assert [d.dim_param or d.dim_value for d in value.shape.dim] == ["batch", 3, "height", "width"]
    assert value.elem_type == onnx.TensorProto.FLOAT
    runner = OnnxRunner(path, cpu=True)
    for size in ((17, 20), (64, 33)):
        images = np.stack([scene(i, size)[0] for i in range(2)])
        (right,) = pipeline(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
        assert np.allclose(runner(images)["probabilities"], right.numpy(), atol=1e-5)


@pytest.mark.slow
def test_fp16_halves_the_file_and_keeps_normalization_and_labels(exported, release, tmp_path):
    done = write.export_model(release, "onnx", tmp_path / "h.onnx", precision="fp16", max_images=2)
    assert done.files[0].stat().st_size < 0.6 * exported[".onnx"].stat().st_size
    assert done.parity.runtimes["onnxruntime"].changed_percent < 0.5
    assert Predictor(done.files[0]).precision == "fp16"
    with pytest.raises(ConfigError, match="computes in fp16"):
        Predictor(done.files[0], precision="bf16")


@pytest.mark.slow
def test_int8_is_calibrated_on_some_images_and_judged_by_others(release, exported, tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for folder in (photos, masks):
        folder.mkdir()
    for number in range(6):
        image, mask = scene(number, (64, 96))
        Image.fromarray(image).save(photos / f"{number}.png")
        Image.fromarray(mask).save(masks / f"{number}.png")
    done = write.export_model(
        release,
        "onnx",
        tmp_path / "i.onnx",
        precision="int8",
        calibrate=photos,
        images=photos,
        masks=masks,
        max_images=2,
        tolerance=60,  # random weights separate classes by little
    )
    assert done.files[0].stat().st_size < 0.4 * exported[".onnx"].stat().st_size
    told = json.loads(done.files[-1].read_text())
    assert told["calibration_images"] == 4
    assert {"miou_before", "miou_after"} <= set(told["runtimes"]["onnxruntime"])
    assert len(told["sizes"]) == 4  # two images and a cut of each
