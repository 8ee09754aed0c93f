"""Shapes for CVAT, in the types of its own SDK, against the masks of the predictor."""

import json
import logging
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.errors import ConfigError, MissingExtraError
from hrseg.inference.predictor import Predictor
from hrseg.integrations import cvat
from hrseg.labels import Label, LabelSet, load_labels


class Painted(torch.nn.Module):
    """A network whose classes are the red values of an image."""

    num_classes = 3

    def forward(self, image):
        return -((image[:, :1] * 255 - torch.arange(3.0)[:, None, None]) ** 2)


LABELS = LabelSet(
    "t", (Label(0, 0, "background", (0, 0, 0)), Label(1, 1, "car", (1, 2, 255)), Label(2, 2, "sky", (9, 9, 9)))
)


def painted(mask, labels=LABELS):
    predictor = Predictor(Painted(), labels, device="cpu", precision="fp32", mean=(0, 0, 0), std=(1, 1, 1))
    image = Image.fromarray(np.dstack([mask, mask, mask]).astype(np.uint8))
    return predictor, image


def context(**changes):
    return SimpleNamespace(**{"frame_name": "a.png", "conf_threshold": None, "conv_mask_to_poly": False} | changes)


def test_a_program_without_the_sdk_is_told_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[cvat\]"):
        cvat.create()


def test_labels_of_a_task_are_those_of_the_model(release):
    rows = json.loads(cvat.raw_labels(str(release)))
    assert rows[0] == {"name": "sky", "color": "#808080", "type": "any"}
    assert [row["name"] for row in rows] == load_labels("camvid").names


@pytest.mark.slow
def test_hrseg_and_its_commands_do_not_import_integrations():
    code = (
        "import sys, hrseg; from hrseg.cli import main; main(['--help']); main(['predict', '--help']); "
        "import hrseg.inference.predict_files; "
        "sys.exit([name for name in sys.modules if 'integrations' in name or 'cvat_sdk' in name] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


class TestShapes:
    @pytest.fixture(autouse=True)
    def _sdk(self):
        self.sdk = pytest.importorskip("cvat_sdk", reason="needs the extra 'cvat'")
        from cvat_sdk import auto_annotation, masks

        self.cvataa, self.masks = auto_annotation, masks

    def decoded(self, shapes, size):
        mask = np.zeros(size, np.uint8)  # background
        for shape in shapes:
            assert (shape.type.value, shape.frame) == ("mask", 0)
            pixels = self.masks.decode_mask(shape.points, image_width=size[1], image_height=size[0])
            assert not mask[pixels].any()  # none covers another
            mask[pixels] = shape.label_id
        return mask

    def test_masks_round_trip_exactly(self):
        mask = np.random.default_rng(0).integers(0, 3, (37, 53))
        predictor, image = painted(mask)
        function = cvat.CvatFunction(predictor)
        assert (predictor(image).mask == mask).all()
        assert isinstance(function.spec, self.cvataa.DetectionFunctionSpec)
        assert [(label.name, label.id, label.color) for label in function.spec.labels] == [
            ("car", 1, "#0102ff"),
            ("sky", 2, "#090909"),
        ]
        shapes = function.detect(context(), image)
        assert len(shapes) == 2
        assert (self.decoded(shapes, mask.shape) == mask).all()

    def test_a_trained_form_is_opened_by_its_name(self, release, tmp_path):
        function = cvat.create(model=str(release), device="cpu")
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8))
        shapes = function.detect(context(), image)
        assert [label.name for label in function.spec.labels] == load_labels("camvid").names
        written = np.full((40, 64), 255, np.uint8)
        for shape in shapes:
            written[self.masks.decode_mask(shape.points, image_width=64, image_height=40)] = shape.label_id
        assert (written == function.predictor(image).mask).all()

    def test_parts_are_masks_of_their_own_and_small_ones_are_left_out(self):
        mask = np.zeros((9, 9), int)
        mask[0:2, 0:2], mask[5:8, 5:8], mask[0, 8] = 1, 1, 2
        predictor, image = painted(mask)
        shapes = cvat.CvatFunction(predictor, parts=True).detect(context(), image)
        assert [shape.label_id for shape in shapes] == [1, 1, 2]
        assert (self.decoded(shapes, mask.shape) == mask).all()
        left = np.where((np.indices(mask.shape)[0] >= 5), mask, 0)
        for parts in (True, False):
            shapes = cvat.CvatFunction(predictor, parts, smallest=5).detect(context(), image)
            assert (self.decoded(shapes, mask.shape) == left).all()
        with pytest.raises(ConfigError, match="smallest is 0"):
            cvat.create(smallest=0)

    def test_unsure_pixels_are_left_out(self):
        mask = np.array([[1, 2]])
        predictor, image = painted(mask)
        sure = predictor(image).require_map("confidence")
        function = cvat.CvatFunction(predictor)
        assert (self.decoded(function.detect(context(conf_threshold=float(sure.min())), image), (1, 2)) == mask).all()
        assert function.detect(context(conf_threshold=1.0), image) == []

    def test_polygons_are_painted_in_order(self, caplog):
        mask = np.zeros((8, 8), int)
        mask[1:7, 1:7], mask[2:4, 2:4] = 1, 2  # the sky inside the car
        predictor, image = painted(mask)
        shapes = cvat.CvatFunction(predictor).detect(context(conv_mask_to_poly=True), image)
        assert [(shape.label_id, shape.z_order) for shape in shapes] == [(1, 0), (2, 1)]
        assert shapes[0].points == [1, 1, 7, 1, 7, 7, 1, 7]
        mask[2:4, 2:4] = 0
        predictor, image = painted(mask)
        with caplog.at_level(logging.WARNING):
            shapes = cvat.CvatFunction(predictor).detect(context(conv_mask_to_poly=True), image)
        assert len(shapes) == 1
        assert "a.png: CVAT's polygons have no holes, and 1 holes" in caplog.text
