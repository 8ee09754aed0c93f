import json

import numpy as np

from tests.convert import sources as s
from tests.convert.sources import converted
from tests.imaging.test_rle import BRUSH


def test_label_studio_brushes_boxes_and_ellipses(tmp_path):
    root = tmp_path / "source"
    value = {"x": 0, "y": 50, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["box"]}
    round_value = {"x": 75, "y": 25, "radiusX": 12.5, "radiusY": 25, "rotation": 0}
    path = s.label_studio(
        root,
        [
            {"id": "r", "type": "rectanglelabels", "value": value},
            {
                "id": "e",
                "type": "ellipselabels",
                "value": round_value | {"ellipselabels": ["ball"]},
            },
            {
                "id": "k",
                "type": "keypointlabels",
                "value": {"x": 1, "y": 1, "keypointlabels": ["p"]},
            },
        ],
    )
    mask, labels, report = converted(path, tmp_path)
    assert labels.names == ["background", "ball", "box"]
    assert (mask[3:, :4] == 2).all()
    assert (mask == 2).sum() == 12
    assert np.argwhere(mask == 1).tolist() == [[0, 5], [0, 6], [1, 5], [1, 6], [2, 5], [2, 6]]
    assert +report.source.skipped == {"keypointlabels regions": 1}


def test_label_studio_brush_is_a_mask_of_the_whole_image(tmp_path):
    root = tmp_path / "source"
    s.photo(root / "a.png", (3, 5))
    task = {
        "image": "http://studio:8080/data/local-files/?d=folder%2Fa.png",
        "id": 5,
        "tag": [
            {
                "format": "rle",
                "rle": BRUSH,
                "brushlabels": ["crack"],
                "original_width": 5,
                "original_height": 3,
            }
        ],
    }
    mask, _, _ = converted(s.save(root / "min.json", [task]), tmp_path)
    assert mask.tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_label_studio_takes_the_last_annotation_that_counts(tmp_path):
    path = s.label_studio(tmp_path / "source", [s.studio_polygon(s.CAR, s.CAR_BOX)])
    tasks = json.loads(path.read_text())
    first = tasks[0]["annotations"][0]
    empty = first | {"result": []}
    tasks[0]["annotations"] = [empty, first, empty | {"was_cancelled": True}]
    tasks.append(tasks[0] | {"id": 2, "annotations": []})
    s.save(path, tasks)
    mask, _, report = converted(path, tmp_path)
    assert (mask == 1).sum() == 8
    assert report.source.skipped["older annotations of one image"] == 1
    assert report.source.skipped["tasks without annotations"] == 1


def test_label_studio_predictions_count_where_nobody_annotated(tmp_path):
    path = s.label_studio(tmp_path / "source", [s.studio_polygon(s.CAR, s.CAR_BOX)])
    tasks = json.loads(path.read_text())
    tasks[0]["predictions"] = tasks[0].pop("annotations")
    s.save(path, tasks[:1])
    tasks[0]["annotations"] = []
    mask, _, report = converted(s.save(path, tasks), tmp_path)
    assert (mask == 1).sum() == 8
    assert "Of 1 image without annotations the predictions were taken." in report.text()
