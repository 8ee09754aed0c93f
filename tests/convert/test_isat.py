import pytest

from hrseg.convert.convert import convert
from hrseg.errors import DataError
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted

WHOLE = s.corners((0, 0, 8, 6))


def polygon(category, box, layer):
    return {"category": category, "segmentation": s.corners(box), "layer": layer}


def test_layers_holes_and_classes_in_the_order_of_the_table(tmp_path):
    objects = [
        polygon("__background__", (1, 1, 3, 3), 3.0),
        polygon("cup", (0, 0, 4, 4), 2.0),
        polygon("table", (0, 0, 8, 6), 1.0),
    ]
    path = x.isat(tmp_path / "source", objects)
    rows = "label:\n- {color: '#000000', name: __background__}\n- {color: '#ef2929', name: table}\n"
    s.save(path.parent / "isat.yaml", rows + "- {color: '#00ff00', name: cup}\n- {name: no}\n")
    mask, labels, _ = converted(path.parent, tmp_path)
    assert labels.names == ["background", "table", "cup", "no"]
    assert labels.palette[1].tolist() == [0xEF, 0x29, 0x29]
    assert (mask == 0).sum() == 4
    assert (mask == 2).sum() == 12
    assert (mask == 1).sum() == 32


def test_a_broken_file_is_named_and_the_others_are_done(tmp_path):
    x.isat(tmp_path / "source")
    s.photo(tmp_path / "source/b.png")
    info = {"description": "ISAT", "name": "b.png", "width": 8, "height": 6}
    rows = [{"category": "car", "segmentation": [[0, 0], [1, "x"], [2, 2]], "layer": 1}]
    s.save(tmp_path / "source/b.json", {"info": info, "objects": rows})
    s.save(tmp_path / "source/c.json", "")
    _, _, report = converted(tmp_path / "source", tmp_path)
    assert report.splits == {"train": 1}
    assert "c.json cannot be read as JSON" in report.text()
    assert "b.json, object 1 ('car'): its points are not pairs of numbers" in report.text()


def test_a_table_that_is_none_is_said(tmp_path):
    path = x.isat(tmp_path / "source")
    s.save(path.parent / "isat.yaml", "label: 3\n")
    with pytest.raises(DataError, match=r"isat\.yaml: it is no list of ISAT's classes"):
        convert(path, tmp_path / "out")
