import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2labelImg import createLabelImage

from hrseg.convert.formats import recognize
from hrseg.labels import load_labels
from tests.convert import sources as s
from tests.convert.sources import converted


def test_cityscapes_polygons_equal_the_official_masks(tmp_path):
    root = s.cityscapes(tmp_path / "cs")
    assert recognize(root) == "cityscapes"
    mask, labels, report = converted(root, tmp_path)
    official = Annotation()
    official.fromJsonFile(str(next(root.glob("gtFine/*/*/*_polygons.json"))))
    assert (mask == np.array(createLabelImage(official, "trainIds"))).all()
    assert labels.names == load_labels("cityscapes").names
    assert {0, 13, 11, 255} == set(np.unique(mask).tolist())
    assert report.source.skipped == {"'license plate' polygons, which are never drawn": 1}


def test_random_cityscapes_polygons_equal_the_official_masks(tmp_path):
    rng = np.random.default_rng(5)
    names = ["road", "car", "cargroup", "sky", "person", "static", "license plate"]
    objects = [
        {
            "label": names[rng.integers(len(names))],
            "polygon": (rng.random((k, 2)) * 40 - 8).astype(int).tolist(),
        }
        for k in rng.integers(2, 9, 30)
    ]
    root = s.cityscapes(tmp_path / "cs", objects)
    mask, _, _ = converted(root, tmp_path)
    official = Annotation()
    official.fromJsonFile(str(next(root.glob("gtFine/*/*/*_polygons.json"))))
    assert (mask == np.array(createLabelImage(official, "trainIds"))).all()
