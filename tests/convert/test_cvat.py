import numpy as np

from hrseg.convert.convert import convert
from hrseg.convert.formats import recognize
from hrseg.imaging import write_image
from tests.convert import sources as s
from tests.convert.sources import converted


def test_cvat_takes_colors_and_order_of_its_labels(tmp_path):
    _, labels, _ = converted(s.cvat_xml(tmp_path / "source"), tmp_path)
    assert labels.names == ["background", "road", "car"]
    assert labels.palette[1:].tolist() == [[0x80, 0x40, 0x80], [0, 0, 0x8E]]


def test_cvat_masks_run_along_the_rows_of_their_box(tmp_path):
    shape = '<mask label="car" source="manual" rle="1, 3, 2" left="2" top="1" width="3" height="2" z_order="0"/>'
    mask, _, _ = converted(s.cvat_xml(tmp_path / "source", shape), tmp_path)
    assert np.argwhere(mask == 2).tolist() == [[1, 3], [1, 4], [2, 2]]


def test_cvat_turned_boxes_and_ellipses(tmp_path):
    shapes = (
        '<box label="road" xtl="1.00" ytl="2.00" xbr="7.00" ybr="4.00" rotation="90.00" z_order="0"/>'
        '<ellipse label="car" cx="1.00" cy="1.00" rx="1.00" ry="1.00" z_order="1"/>'
    )
    mask, _, _ = converted(s.cvat_xml(tmp_path / "source", shapes), tmp_path)
    assert np.argwhere(mask == 1).min(axis=0).tolist() == [0, 3]
    assert (mask == 1).sum() == 12
    assert np.argwhere(mask == 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_cvat_segmentation_masks_by_their_labelmap(tmp_path):
    root = tmp_path / "export"
    s.photo(root / "JPEGImages" / "a.jpg")
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)
    write_image(root / "SegmentationClass" / "a.png", colors[s.SCENE])
    s.save(root / "ImageSets/Segmentation/default.txt", "a\n")
    s.save(
        root / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,0,142::\nroad:128,64,128::\n",
    )
    assert recognize(root) == "cvat"
    mask, labels, _ = converted(root, tmp_path)
    assert labels.names == ["background", "car", "road"]
    assert (mask == np.array([0, 2, 1])[s.SCENE]).all()


def test_cvat_files_have_any_name(tmp_path):
    path = s.cvat_xml(tmp_path / "source")
    path.rename(path.with_name("val.xml"))
    assert recognize(tmp_path / "source") == "cvat"
    assert convert(tmp_path / "source", tmp_path / "out").splits == {"val": 1}
