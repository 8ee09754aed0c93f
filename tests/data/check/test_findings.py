import json

import yaml

from hrseg.data.check import write_recipe
from hrseg.data.check.findings import Recipe, named, values_text
from hrseg.imaging import NAN_ID
from tests.data.check.trees import TWO, look_at, tree


def test_json_is_plain_and_whole(tmp_path):
    result = look_at(tree(tmp_path, [TWO] * 3))
    content = json.loads(json.dumps(result.to_dict()))
    assert content["layout"] == "folder"
    assert {row["value"]: row["share"] for row in content["classes"]} == {"0": 0.5, "1": 0.5}
    assert "backbone" in content["recipe"]


def test_nothing_is_written_into_the_dataset(tmp_path):
    root = tree(tmp_path / "set", [TWO] * 5)
    before = sorted(root.rglob("*"))
    files = write_recipe(look_at(root).recipe, tmp_path / "out" / "mine.yaml")
    assert sorted(root.rglob("*")) == before
    assert [path.name for path in files] == ["train.txt", "val.txt", "labels.yaml", "mine.yaml"]


def test_a_recipe_names_its_files_where_they_lie_whatever_the_folder_is_called(tmp_path):
    folder = tmp_path / "it's {mine}"
    recipe = Recipe("data: {root: '{beside}', name: {stem}}\n", "classes: [road]\n", {"val": "a\n"})
    files = recipe.files(folder / "x.yaml")
    assert [path.relative_to(folder).as_posix() for path in files] == [
        "x_data/val.txt",
        "x_data/labels.yaml",
        "x.yaml",
    ]
    content = yaml.safe_load(files[folder / "x.yaml"])
    assert content == {"data": {"root": str(folder / "x_data"), "name": "x"}}


def test_values_are_named_as_ids_colors_or_nan_and_the_first_few_only():
    assert values_text([3, NAN_ID, 255]) == "3, NaN, 255"
    assert values_text([0x804080, 0x0000FF], of_colors=True) == "(128, 64, 128), (0, 0, 255)"
    assert values_text(range(7)) == "0, 1, 2, 3, 4, …"
    assert named("abcde") == "a, b, c, d, e"
    assert named(map(str, range(1006))).endswith("4 and 1,001 more")
