import json

import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError
from hrseg.imaging import write_image
from tests.convert import sources as s
from tests.convert.sources import converted


def test_coco_run_lengths_holes_parts_and_crowds(tmp_path):
    whole = {"size": list(s.SIZE), "counts": [0, 48]}
    ring = np.zeros(s.SIZE, bool)
    ring[1:5, 1:6] = True
    ring[2:4, 2:4] = False
    from pycocotools import mask as oracle

    text = oracle.encode(np.asfortranarray(ring.astype(np.uint8)))["counts"].decode()
    parts = [[0, 0, 1, 0, 1, 1, 0, 1], [7, 5, 8, 5, 8, 6, 7, 6]]
    path = s.coco(
        tmp_path / "source",
        [
            s.coco_object(1, 3, {"size": list(s.SIZE), "counts": text}),
            s.coco_object(2, 3, parts),
            s.coco_object(3, 1, whole, crowd=1),
            s.coco_object(4, 1, []),
        ],
    )
    mask, labels, report = converted(path, tmp_path)
    assert labels.names == ["background", "road", "car"]
    expected = np.where(ring, 2, 1)
    expected[0, 0] = expected[5, 7] = 2
    assert (mask == expected).all()
    assert report.source.skipped == {"objects with a box only": 1}


def test_coco_splits_come_from_the_names_of_the_files(tmp_path):
    s.coco(tmp_path / "source")
    s.coco(tmp_path / "source", file="instances_val2017.json")
    s.coco(tmp_path / "source", file="captions_val2017.json")
    s.photo(tmp_path / "source" / "val2017" / "000000000001.png")
    out = tmp_path / "out"
    report = convert(tmp_path / "source", out)
    assert report.splits == {"train": 1, "val": 1}
    assert find_pairs("folder", out, "val")[0].name == "000000000001"


def test_coco_panoptic(tmp_path):
    root = tmp_path / "source"
    s.photo(root / "train2017" / "1.png")
    numbers = np.array([0, 300, 70000])[s.SCENE]
    colors = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], axis=-1)
    write_image(root / "annotations/panoptic_train2017/1.png", colors.astype(np.uint8))
    s.save(
        root / "annotations/panoptic_train2017.json",
        {
            "images": [{"id": 1, "file_name": "1.png", "height": 6, "width": 8}],
            "annotations": [
                {
                    "image_id": 1,
                    "file_name": "1.png",
                    "segments_info": [
                        {"id": 300, "category_id": 100, "area": 28, "iscrowd": 0},
                        {"id": 70000, "category_id": 3, "area": 8, "iscrowd": 0},
                    ],
                }
            ],
            "categories": [
                {"id": 3, "name": "car", "isthing": 1},
                {"id": 100, "name": "road", "isthing": 0},
            ],
        },
    )
    mask, labels, _ = converted(root, tmp_path)
    assert labels.names == ["car", "road"]
    assert (mask == np.array([255, 1, 0])[s.SCENE]).all()


@pytest.mark.parametrize("place", ["images", "annotations", "categories"])
def test_ids_that_a_stranger_chose_to_collide_are_refused_at_once(tmp_path, place):
    both = {"file_name": "a.png", "image_id": 1}
    rows = [{"id": (2**61 - 1) * 10**3 * n, "name": f"c{n}"} | both for n in range(1, 40_000)]
    lists = {"images": [], "annotations": [], "categories": [], place: rows}
    (tmp_path / "coco.json").write_text(json.dumps(lists))
    with pytest.raises(DataError, match="more than 64 bits"):
        convert(tmp_path / "coco.json", tmp_path / "out")
