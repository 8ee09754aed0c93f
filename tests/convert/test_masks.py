import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.convert.formats import recognize
from hrseg.errors import DataError
from hrseg.imaging import write_image, write_mask
from hrseg.labels import load_labels
from tests.convert import sources as s
from tests.convert.sources import converted


@pytest.mark.slow
def test_voc_palette_masks_keep_their_lists(tmp_path):
    root = tmp_path / "VOC2012"
    palette = load_labels("voc2012").id_palette()
    ids = np.array([0, 7, 255], np.uint8)[s.SCENE]
    for name, split in (("2007_000032", "train"), ("2007_000033", "val")):
        s.photo(root / "JPEGImages" / f"{name}.jpg")
        write_mask(root / "SegmentationClass" / f"{name}.png", ids, palette)
        s.save(root / f"ImageSets/Segmentation/{split}.txt", name + "\n")
    s.save(root / "ImageSets/Segmentation/trainval.txt", "2007_000032\n2007_000033\n")
    assert recognize(root) == "voc"
    mask, labels, report = converted(root, tmp_path)
    assert labels.names == load_labels("voc2012").names
    assert (mask == ids).all()
    assert report.splits == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("colors.txt", "128 64 128 road\n0 0 142 car\n0 0 0 nothing\n"),
        ("label_colors.txt", "128 64 128\troad\n0 0 142\tcar\n0 0 0\tnothing\n"),
        ("class_dict.csv", "name,r,g,b\nroad,128,64,128\ncar,0,0,142\nnothing,0,0,0\n"),
        ("labelmap.txt", "road:128,64,128::\ncar:0,0,142::\nnothing:0,0,0::\n"),
        ("given.txt", "road 128 64 128\ncar 0 0 142\nnothing 0 0 0\n"),
    ],
)
def test_color_masks_by_any_usual_table(file, text, tmp_path):
    root = tmp_path / "archive"
    colors = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)
    for split in ("train", "val"):
        s.photo(root / split / "images" / "a.png")
        write_image(root / split / "masks" / "a.png", colors[s.SCENE])
    table = s.save(root / file, text)
    given = {"classes": str(table), "tool": "colors"} if file == "given.txt" else {}
    mask, labels, _ = converted(root, tmp_path, **given)
    assert labels.names == ["road", "car", "nothing"]
    assert (mask == np.array([2, 0, 1])[s.SCENE]).all()
    assert labels.palette[0].tolist() == [128, 64, 128]


def test_an_unknown_color_is_named_with_its_place(tmp_path):
    root = tmp_path / "archive"
    s.photo(root / "images" / "a.png")
    colors = np.array([[0, 0, 0], [128, 64, 128], [1, 2, 3]], np.uint8)
    write_image(root / "masks" / "a.png", colors[s.SCENE])
    s.save(root / "colors.txt", "0 0 0 nothing\n128 64 128 road\n")
    with pytest.raises(DataError, match=r"a\.png holds color \(1, 2, 3\) in 8 pixels.*row 1, column 1") as error:
        convert(root, tmp_path / "out")
    assert "colors.txt" in str(error.value)


def test_voc_lists_may_name_images_without_masks(tmp_path):
    root = tmp_path / "source"
    s.photo(root / "JPEGImages/a.png")
    write_mask(root / "SegmentationClass/a.png", s.SCENE)
    s.save(root / "ImageSets/Segmentation/train.txt", "a\n")
    s.save(root / "ImageSets/Segmentation/test.txt", "b\n")
    report = convert(root, tmp_path / "out")
    assert report.splits == {"train": 1}
    assert "listed images without a mask (1: b)" in report.text()
    s.save(root / "ImageSets/Segmentation/train.txt", "c\n")
    with pytest.raises(DataError, match="none of these masks"):
        convert(root, tmp_path / "other")
