import json

import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.errors import DataError
from hrseg.imaging import write_image, write_mask
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted

COMPOSITE = {"url": "https://api.example/api/v1/tasks/t1/masks/cm7/index/1", "color_rgb": [9, 8, 7]}


def masked(root, objects):
    path = x.labelbox(root, objects)
    (root / "masks").mkdir()
    return path


def test_masks_that_were_downloaded(tmp_path):
    single = x.labelbox_object("road", "ImageSegmentationMask", mask={"url": "https://x.example/cfroad/index/1/mask"})
    composite = x.labelbox_object("car", "ImageSegmentationMask", composite_mask=COMPOSITE)
    path = masked(tmp_path / "source", [single, composite])
    folder = path.parent / "masks"
    write_mask(folder / "cfroad.png", (s.SCENE > 0).astype(np.uint8) * 255)
    colors = np.array([[0, 0, 0], [1, 1, 1], [9, 8, 7]], np.uint8)
    write_image(folder / "cm7.png", colors[s.SCENE])
    mask, labels, _ = converted(path, tmp_path)
    assert labels.names == ["background", "car", "road"]
    assert (mask == np.array([0, 2, 1])[s.SCENE]).all()


def test_a_mask_that_was_not_downloaded_is_asked_for(tmp_path):
    composite = x.labelbox_object("car", "ImageSegmentationMask", composite_mask=COMPOSITE)
    path = x.labelbox(tmp_path / "source", [composite])
    with pytest.raises(DataError, match=r"object cfcar \('car'\).*download it.*masks/cm7\.png"):
        convert(path, tmp_path / "out")


def test_the_newest_label_counts_and_skipped_and_videos_are_left_out(tmp_path):
    path = x.labelbox(tmp_path / "source")
    row = json.loads(path.read_text())
    (project,) = row["projects"].values()
    older = {"label_details": {"created_at": "2020"}, "annotations": {"objects": []}}
    skipped = {"label_details": {"created_at": "2030"}, "performance_details": {"skipped": True}}
    project["labels"] += [older, skipped]
    rows = [row, x.labelbox_row([], annotations={"frames": {}}), x.labelbox_row([])]
    rows[2]["projects"] = {}
    path.write_text("\n".join(map(json.dumps, rows)))
    _, _, report = converted(path, tmp_path)
    assert report.tally.pixels["car"] == 8
    assert report.source.skipped["videos"] == report.source.skipped["data rows without labels"] == 1
    listed = s.save(path.parent / "list.json", rows)
    path.unlink()
    assert converted(listed, tmp_path / "again")[2].tally.pixels["car"] == 8


def test_a_broken_line_is_named(tmp_path):
    path = x.labelbox(tmp_path / "source")
    path.write_text(path.read_text() + '{"data_row": \n')
    with pytest.raises(DataError, match=r"export\.ndjson, line 2: it is no JSON"):
        convert(path, tmp_path / "out")
