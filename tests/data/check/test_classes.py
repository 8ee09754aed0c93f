import numpy as np
import pytest
from PIL import Image

from tests.data.check.trees import TWO, look_at, picture, put, squares, table_of, tree


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "nothing\nroad\ncar\n"),
        ("class_names.txt", "0: nothing\n1: road\n2: car\n"),
        ("_classes.csv", "Pixel Value, Class\n0, nothing\n1, road\n2, car\n"),
        ("data.yaml", "names: [nothing, road, car]\n"),
        ("data.yaml", "names: {0: nothing, 1: road, 2: car}\n"),
    ],
)
def test_names_are_found_in_the_usual_files(tmp_path, file, text):
    root = tree(tmp_path, [squares([0, 1, 2])] * 3)
    (root / file).write_text(text)
    assert [row.name for row in look_at(root).classes] == ["nothing", "road", "car"]


def test_camvids_own_file_of_colors(tmp_path):
    root = tree(tmp_path, [squares([(64, 128, 64), (192, 0, 128)])] * 3)
    (root / "label_colors.txt").write_text("64 128 64\tAnimal\n192 0 128\tArchway\n")
    assert [row.name for row in look_at(root).classes] == ["Animal", "Archway"]


def test_names_that_mean_nothing_are_ignored(tmp_path):
    root = tree(tmp_path / "set", [squares([0, 1, 2])] * 3)
    (root / "classes.txt").write_text("void\nroad\ncar\n")
    table = table_of(look_at(root), tmp_path)
    assert table.names == ["road", "car"]
    assert table.encode(squares([0])).min() == 255


def test_names_with_signs_survive_the_yaml(tmp_path):
    root = tree(tmp_path / "set", [squares([0, 1, 2])] * 3)
    (root / "classes.txt").write_text("it's: a {road}\nno\n# \u00e9t\u00e9 #1\n\u00e9t\u00e9 #1\n", encoding="utf-8")
    assert table_of(look_at(root), tmp_path).names == ["it's: a {road}", "no", "\u00e9t\u00e9 #1"]


def test_mean_and_std_are_those_of_all_pixels(tmp_path):
    root = tree(tmp_path, [TWO] * 3)
    put(root / "images/p00.png", picture(0, (80, 96)))
    put(root / "masks/p00.png", squares([0, 1], (80, 96)))
    pixels = np.concatenate([np.array(Image.open(path)).reshape(-1, 3) for path in (root / "images").iterdir()])
    result = look_at(root)
    assert result.images["mean"] == pytest.approx((pixels / 255).mean(axis=0).tolist(), abs=1e-4)
    assert result.images["std"] == pytest.approx((pixels / 255).std(axis=0).tolist(), abs=1e-4)
