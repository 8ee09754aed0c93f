"""A file for Deepness, opened by the plugin's own class where its source is at hand."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hrseg.data.street import scene
from hrseg.inference.predictor import Predictor
from hrseg.integrations.deepness import export_for_deepness

SOURCE = os.environ.get("HRSEG_DEEPNESS_SOURCE", "")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="exporting needs the extra 'export'")
    pytest.importorskip("onnxscript", reason="exporting needs the extra 'export'")
    out = tmp_path_factory.mktemp("deepness") / "map.onnx"
    return export_for_deepness(release, out, tile=64, resolution=12.5, max_images=1).files[0]


def test_metadata_and_shapes_are_those_that_the_plugin_reads(file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,), (out,) = session.get_inputs(), session.get_outputs()
    assert (given.type, given.shape) == ("tensor(float)", ["batch", 3, 64, 64])
    assert (out.type, out.shape) == ("tensor(float)", ["batch", 11, 64, 64])
    found = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items() if k != "hrseg"}
    assert found.pop("class_names")["3"] == "road"
    assert found == {
        "model_type": "Segmentor",
        "resolution": 12.5,
        "tile_size": 64,
        "tiles_size": 64,
        "tiles_overlap": 20,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    told = json.loads(file.with_name("map.onnx.certificate.json").read_text())
    assert told["runtimes"]["onnxruntime"]["max_probability_difference"] < 1e-4
    assert told["sizes"] == [[64, 64]]


def test_predict_opens_it_for_images_of_any_size(file: Path, release: Path) -> None:
    ours, theirs = Predictor(release, precision="fp32"), Predictor(file)
    tile = scene(1, (64, 64))[0]
    assert (ours(tile).mask == theirs(tile).mask).mean() >= 0.999
    assert np.allclose(ours(tile).confidence, theirs(tile).confidence, atol=1e-4)
    for size in ((40, 50), (100, 70), (64, 130)):
        assert theirs(scene(2, size)[0]).mask.shape == size


@pytest.mark.skipif(not Path(SOURCE, "deepness").is_dir() or not SOURCE, reason="HRSEG_DEEPNESS_SOURCE is not set")
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_the_class_of_the_plugin_gives_our_labels(file: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, SOURCE])
    from deepness.processing.models.segmentor import Segmentor

    opened = Segmentor(str(file))
    assert opened.get_input_size_in_pixels() == [64, 64]
    assert opened.get_number_of_output_channels() == [11]
    assert opened.get_channel_name(0, 3) == "road"
    assert opened.get_model_type_from_metadata(str(file)) == "Segmentor"
    assert (opened.get_metadata_resolution(), opened.get_metadata_tile_size()) == (12.5, 64)
    assert opened.get_metadata_segmentation_threshold() == 0
    tiles = np.stack([scene(i, (64, 64))[0] for i in range(3)])
    (probabilities,) = opened.process(tiles)
    network = Predictor(release, precision="fp32")
    right = np.stack([network(tile).mask for tile in tiles])
    assert (probabilities.argmax(axis=1) == right).mean() >= 0.999
