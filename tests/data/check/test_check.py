"""What the check says about files and sets: each finding, and its silence where all is well."""

import pytest

from hrseg.data.check import check, write_recipe
from hrseg.data.layouts import find_pairs
from hrseg.errors import DataError
from tests.data.check.trees import TWO, look_at, picture, put, split_tree, tree


def test_a_good_set_has_no_error_and_no_warning(tmp_path):
    result = look_at(split_tree(tmp_path, 18, 4))
    assert [finding for finding in result.findings if finding.level != "note"] == []


def test_the_division_is_the_same_each_time_and_a_new_image_moves_few(tmp_path):
    root = tree(tmp_path, [TWO] * 20)
    first = look_at(root).recipe.lists["val"]
    assert look_at(root).recipe.lists["val"] == first
    assert look_at(root, seed=1).recipe.lists["val"] != first
    put(root / "images/z.png", picture(99))
    put(root / "masks/z.png", TWO)
    assert len(set(first.split()) - set(look_at(root).recipe.lists["val"].split())) <= 2


def test_the_written_lists_are_read_by_the_folder_layout(tmp_path):
    root = tree(tmp_path / "my set", [TWO] * 5, "photos of May/{}.png", "masks/{}.png")
    write_recipe(look_at(root).recipe, tmp_path / "mine.yaml")
    found = [find_pairs("folder", root, str(tmp_path / "mine_data" / split)) for split in ("train", "val")]
    assert [len(pairs) for pairs in found] == [4, 1]
    assert found[0][0].image.parent.name == "photos of May"


def test_nothing_is_written_over_what_somebody_changed(tmp_path):
    recipe = look_at(tree(tmp_path / "set", [TWO] * 5)).recipe
    table = tmp_path / "mine_data" / "labels.yaml"
    write_recipe(recipe, tmp_path / "mine.yaml")
    write_recipe(recipe, tmp_path / "mine.yaml")  # the same once more
    table.write_text(table.read_text().replace("foreground", "road"))
    (tmp_path / "mine.yaml").unlink()
    with pytest.raises(DataError, match=r"labels\.yaml would be overwritten.*--labels .*labels\.yaml"):
        write_recipe(recipe, tmp_path / "mine.yaml")
    assert "road" in table.read_text()
    assert not (tmp_path / "mine.yaml").exists()


def test_progress_counts_every_pair(tmp_path):
    seen: list[int] = []

    def start(total):
        seen.append(-total)
        return seen.append

    check(tree(tmp_path, [TWO] * 5), workers=1, progress=start)
    assert seen == [-5, 1, 1, 1, 1, 1]
