import pytest

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.errors import DataError
from hrseg.imaging import read_mask
from tests.convert import sources as s


def test_order_on_top_can_be_chosen(tmp_path):
    path = s.coco(tmp_path / "source")
    for order, seen in (("area", 8), ("file", 4)):
        convert(path, tmp_path / order, ConvertOptions(order=order))
        mask = read_mask(next((tmp_path / order / "masks").rglob("*.png")))
        assert (mask == 2).sum() == seen


def test_nothing_is_overwritten_and_images_can_be_links(tmp_path):
    path = s.labelme(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    convert(path, out, ConvertOptions(link=True, split="val"))
    image = out / "images" / "val" / "a.png"
    assert image.is_symlink()
    assert image.read_bytes() == (tmp_path / "source" / "a.png").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        convert(path, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def test_two_images_of_one_name_are_refused(tmp_path):
    s.labelme(tmp_path / "source")
    s.labelme(tmp_path / "source", name="b")
    (tmp_path / "source" / "a.JSON").write_text((tmp_path / "source" / "b.json").read_text())
    (tmp_path / "source" / "a.JSON").rename(tmp_path / "source" / "a.b.json")
    assert convert(tmp_path / "source", tmp_path / "out").splits == {"train": 3}
    export = s.label_studio(tmp_path / "ls", [s.studio_polygon(s.CAR, s.CAR_BOX)])
    tasks = s.json.loads(export.read_text())
    s.save(export, tasks + tasks)
    with pytest.raises(DataError, match="Two images would be called train/a"):
        convert(export, tmp_path / "out2")
