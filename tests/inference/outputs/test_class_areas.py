import csv

import numpy as np

from hrseg.inference.outputs.class_areas import read_table, total, write_table
from tests.inference.outputs.made import prediction
from tests.inference.outputs.test_outputs import write


def test_areas_by_hand(tmp_path):
    made = prediction(np.array([[0, 0, 0], [1, 255, 0]]))
    table = read_table(write("areas", tmp_path, made, pixel_size=0.5))
    assert table["classes"] == [
        {"class": "road", "id": 7, "pixels": 4, "percent": 66.666667, "square_meters": 1.0},
        {"class": "car", "id": 26, "pixels": 1, "percent": 16.666667, "square_meters": 0.25},
        {"class": "sky & air", "id": 23, "pixels": 0, "percent": 0.0, "square_meters": 0.0},
        {"class": "no class", "id": None, "pixels": 1, "percent": 16.666667, "square_meters": 0.25},
    ]
    assert (table["pixels"], table["square_meters"]) == (6, 1.5)
    with write("areas_csv", tmp_path, made).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["pixels"] for row in rows] == ["4", "1", "0", "1"]
    assert {row["square_meters"] for row in rows} == {""}


def test_a_total_gives_square_meters_only_where_all_are_known(tmp_path):
    first = read_table(write("areas", tmp_path, prediction(np.zeros((2, 2))), pixel_size=2))
    second = read_table(write("areas", tmp_path, prediction(np.ones((2, 3)))))
    both = total([first, first])
    assert both["classes"][0]["square_meters"] == both["square_meters"] == 32.0
    mixed = total([first, second])
    assert (mixed["images"], mixed["pixels"], mixed["square_meters"]) == (2, 10, None)
    assert [row["percent"] for row in mixed["classes"]] == [40.0, 60.0, 0.0]
    assert {row["square_meters"] for row in mixed["classes"]} == {None}


NAMES = ["=cmd|' /C calc'!A0", "+1", "-2", "@SUM(A1)", "\t=1", "'=x", "''=x", "'quoted'", "sky", ""]


def test_no_class_name_is_a_formula_in_a_table(tmp_path):
    row = {"id": 1, "pixels": 2, "percent": 50.0, "square_meters": None}
    table = {"pixels": 4, "square_meters": None, "classes": [{"class": n, **row} for n in NAMES]}
    write_table(tmp_path / "areas.csv", table)
    with (tmp_path / "areas.csv").open(newline="", encoding="utf-8") as file:
        cells = [cells[0] for cells in csv.reader(file)]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    assert [entry["class"] for entry in read_table(tmp_path / "areas.csv")["classes"]] == NAMES
