import pytest

from hrseg.convert.attributes import class_attribute, class_of, hex_color, read_rows
from hrseg.convert.classes import read_source_classes
from hrseg.errors import DataError


@pytest.mark.parametrize(
    ("rows", "key"),
    [
        ([{"fid": 1, "Label": "a"}, {"fid": 2, "Label": "b"}], "Label"),
        ([{"type": "x", "class_name": "car"}], "class_name"),
        ([{"crayfish": "crayfish", "size": 3.5}], "crayfish"),
        ([{"area": 3.0, "fid": 1}], None),
        ([{"DN": 3, "area": 7}], "DN"),
        ([{}], None),
        ([{"name": ""}, {"kind": "a"}], "kind"),
    ],
)
def test_the_attribute_that_holds_the_class(rows, key):
    assert class_attribute(rows, "a.csv") == key


def test_several_attributes_are_not_guessed():
    with pytest.raises(DataError, match=r"'crop', 'soil'.*Rename the one that is to 'class'"):
        class_attribute([{"crop": "maize", "soil": "clay"}], "a.csv")


def test_numbers_are_classes_of_the_table(tmp_path):
    (tmp_path / "names.txt").write_text("road\ncar\n")
    table = read_source_classes(tmp_path / "names.txt")
    assert class_of("1", table) == class_of(1.0, table) == "car"
    assert class_of("no", None) == "no"
    assert class_of("", None) is None
    with pytest.raises(ValueError, match=r"class 7 is not in .*names\.txt"):
        class_of(7, table)


def test_names_of_qupath():
    assert class_of({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, None) == "Tumor: Positive"
    assert hex_color("#80ff00") == (128, 255, 0)
    assert hex_color(None) is None


def test_long_cells_and_open_quotation_marks(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id,rle\na," + "1 2 " * 100_000)
    assert len(read_rows(file)[0]["rle"]) == 400_000
    file.write_text('id,rle\na,"1 2\nb,3 4\n')
    with pytest.raises(DataError, match=r"a\.csv cannot be read as CSV.*quotation mark"):
        read_rows(file)
