import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from hrseg.convert.convert import convert
from hrseg.errors import DataError
from hrseg.imaging import read_mask
from tests.convert import sources as s
from tests.convert.sources import converted


def test_labelme_circles_masks_ignored_and_background(tmp_path):
    data = io.BytesIO()
    Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8)).save(data, "PNG")
    png = base64.b64encode(data.getvalue()).decode()
    shapes = [
        s.labelme_shape("road", [[0, 0], [8, 6]], "rectangle"),
        s.labelme_shape("ball", [[2, 2], [2, 4]], "circle"),
        s.labelme_shape("_background_", [[0, 5], [8, 6]], "rectangle"),
        s.labelme_shape("__ignore__", [[6, 0], [7, 1]], "mask", png),
    ]
    mask, labels, _ = converted(s.labelme(tmp_path / "source", shapes).parent, tmp_path)
    assert labels.names == ["background", "ball", "road"]
    assert mask[:, 6:].tolist() == [[2, 255], [255, 255], [2, 2], [2, 2], [2, 2], [0, 0]]
    assert (mask[:4, :4] == 1).sum() == 12  # a circle of radius 2 holds twelve centers
    assert (mask[5] == 0).all()


def test_labelme_files_may_hold_their_image(tmp_path):
    path = s.labelme(tmp_path / "source")
    content = json.loads(path.read_text())
    image = (path.parent / "a.png").read_bytes()
    (path.parent / "a.png").unlink()
    s.save(path, content | {"imageData": base64.b64encode(image).decode(), "imagePath": "..\\x\\a.jpg"})
    mask, _, report = converted(path, tmp_path)
    assert (mask > 0).sum() == 36
    assert next((report.out / "images/train").iterdir()).read_bytes() == image


def test_labelme_takes_its_own_image_where_image_path_names_none(tmp_path):
    path = s.labelme(tmp_path / "source")
    content = json.loads(path.read_text())
    data = (path.parent / "a.png").read_bytes()
    for wrong in ("a.json", "note.png"):
        s.save(path.parent / "note.png", "version https://git-lfs.github.com/spec/v1")
        inside = {"imagePath": wrong, "imageData": base64.b64encode(data).decode()}
        s.save(path, content | inside)
        convert(path, tmp_path / wrong)
        assert (tmp_path / wrong / "images/train/a.png").read_bytes() == data
    s.save(path, content | {"imagePath": "a.json", "imageData": base64.b64encode(b"no").decode()})
    with pytest.raises(DataError, match=r"a\.json: the image inside") as error:
        convert(path, tmp_path / "out")
    assert "/.out-" not in str(error.value)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral", "oriented_rectangle"])
def test_labelme_rectangles_may_have_four_corners(kind, tmp_path):
    path = s.labelme(tmp_path / "source", [s.labelme_shape("car", s.corners(s.CAR_BOX), kind)])
    convert(path, tmp_path / "out")
    assert ((read_mask(tmp_path / "out/masks/train/a.png") == 1) == (s.SCENE == 2)).all()
