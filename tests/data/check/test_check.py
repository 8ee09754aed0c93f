"""What the check says about files and sets: each finding, and its silence where all is well."""

import json

import numpy as np
import pytest
from PIL import Image

from hrseg.data.check import check, write_recipe
from hrseg.data.check.grouping import component_roots
from hrseg.data.check.page import page
from hrseg.data.check.report import report
from hrseg.data.check.scan import _count, scan
from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError
from tests.data.check.trees import SIZE, kinds, look_at, picture, put, squares, tree

TWO = squares([0, 1])


def split_tree(root, train=4, val=2):
    for number in range(train + val):
        split = "train" if number < train else "val"
        put(root / "images" / split / f"{number}.png", picture(number))
        put(root / "masks" / split / f"{number}.png", TWO)
    return root


def test_a_good_set_has_no_error_and_no_warning(tmp_path):
    result = look_at(split_tree(tmp_path, 18, 4))
    assert [finding for finding in result.findings if finding.level != "note"] == []


def test_unmatched_files_are_named_and_left_out(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    (root / "masks" / "p01.png").unlink()
    (root / "images" / "p02.png").unlink()
    result = look_at(root)
    assert "images/p01.png" in kinds(result)["image_without_mask"]
    assert "masks/p02.png" in kinds(result)["mask_without_image"]
    assert "p01" not in "".join(result.recipe.lists.values())


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_truncated_files_are_named_and_left_out(tmp_path, kind):
    root = tree(tmp_path, [TWO] * 4)
    path = root / f"{kind}s" / "p01.png"
    path.write_bytes(path.read_bytes()[:60])
    result = look_at(root)
    assert f"{kind}s/p01.png" in kinds(result)[f"unreadable_{kind}"]
    assert "p01" not in "".join(result.recipe.lists.values())
    assert result.errors == 1


def test_sizes_that_differ_are_named_with_both_sizes(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    put(root / "masks" / "p02.png", squares([0, 1], (20, 24)))
    result = look_at(root)
    assert "has 40x48 pixels (height x width), its mask 20x24" in kinds(result)["size_mismatch"]
    assert "p02" not in "".join(result.recipe.lists.values())


def test_an_image_turned_by_exif_explains_the_sizes(tmp_path):
    root = tree(tmp_path, [TWO] * 4, image="images/{}.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    put(root / "images" / "p00.jpg", picture(0), exif=exif)
    assert "turned by EXIF and their masks are not" in kinds(look_at(root))["size_mismatch"]
    put(root / "masks" / "p00.png", np.ascontiguousarray(np.rot90(TWO)))
    assert "They are read upright" in kinds(look_at(root))["exif"]


def test_ids_outside_the_table_are_named_with_their_first_file(tmp_path):
    root = tmp_path / "camvid"
    write_scenes(root, "camvid", {"train": 3, "val": 2}, size=SIZE)
    path = sorted((root / "trainannot").iterdir())[1]
    ids = np.array(Image.open(path))
    ids[0, :3] = 40
    put(path, ids)
    result = look_at(root)
    assert f"40 (trainannot/{path.name}, 3 pixels)" in kinds(result)["unknown_id"]
    assert result.layout == "camvid"
    assert [row.role for row in result.classes if row.value == "40"] == ["unknown"]


def test_masks_that_count_from_1_under_a_table_that_counts_from_0(tmp_path):
    root = tree(tmp_path / "set", [squares([0, 1, 2, 3])] * 3)
    table = tmp_path / "t.yaml"
    table.write_text("classes: [road, car, tree]\n")
    assert "reduce zero" in kinds(look_at(root, labels=table))["reduce_zero"]


def test_absent_and_rare_classes(tmp_path):
    root = split_tree(tmp_path / "set")
    rare = np.zeros((400, 400), np.uint8)
    rare[0, :20] = 2
    put(root / "images/train/9.png", picture(9, (400, 400)))
    put(root / "masks/train/9.png", rare)
    table = tmp_path / "t.yaml"
    table.write_text("classes: [road, car, tree, moon]\n")
    told = kinds(look_at(root, labels=table))
    assert "moon" in told["absent_class"]
    assert "tree (0.0" in told["rare_class"]
    assert "No pixel in val of tree" in told["absent_in_split"]


def test_the_same_picture_in_two_splits_is_a_leak_whatever_its_name_and_format(tmp_path):
    root = split_tree(tmp_path)
    put(root / "images/val/other.bmp", picture(2))
    put(root / "masks/val/other.png", TWO)
    result = look_at(root)
    assert "images/train/2.png = images/val/other.bmp" in kinds(result)["leak"]
    assert result.errors == 1


def test_a_copy_saved_as_jpeg_is_a_near_leak(tmp_path):
    root = split_tree(tmp_path)
    put(root / "images/val/copy.jpg", picture(3), quality=80)
    put(root / "masks/val/copy.png", TWO)
    result = look_at(root)
    assert "images/train/3.png = images/val/copy.jpg" in kinds(result)["near_leak"]
    assert "leak" not in kinds(result)


def test_different_pictures_are_no_copies(tmp_path):
    assert not {"leak", "near_leak", "near_duplicate"} & set(
        kinds(look_at(split_tree(tmp_path, 40, 20)))
    )


def test_copies_stay_in_one_split_when_divided(tmp_path):
    root = tree(tmp_path, [TWO] * 20)
    for number in range(20):
        put(root / "images" / f"q{number:02d}.png", picture(number))
        put(root / "masks" / f"q{number:02d}.png", TWO)
    lists = look_at(root).recipe.lists
    val = {line.split()[0].split("/")[1][1:3] for line in lists["val"].splitlines()}
    train = {line.split()[0].split("/")[1][1:3] for line in lists["train"].splitlines()}
    assert not val & train
    assert len(lists["val"].splitlines()) == 8


def test_the_division_is_the_same_each_time_and_a_new_image_moves_few(tmp_path):
    root = tree(tmp_path, [TWO] * 20)
    first = look_at(root).recipe.lists["val"]
    assert look_at(root).recipe.lists["val"] == first
    assert look_at(root, seed=1).recipe.lists["val"] != first
    put(root / "images/z.png", picture(99))
    put(root / "masks/z.png", TWO)
    assert len(set(first.split()) - set(look_at(root).recipe.lists["val"].split())) <= 2


def test_mean_and_std_are_those_of_all_pixels(tmp_path):
    root = tree(tmp_path, [TWO] * 3)
    put(root / "images/p00.png", picture(0, (80, 96)))
    put(root / "masks/p00.png", squares([0, 1], (80, 96)))
    pixels = np.concatenate(
        [np.array(Image.open(path)).reshape(-1, 3) for path in (root / "images").iterdir()]
    )
    result = look_at(root)
    assert result.images["mean"] == pytest.approx((pixels / 255).mean(axis=0).tolist(), abs=1e-4)
    assert result.images["std"] == pytest.approx((pixels / 255).std(axis=0).tolist(), abs=1e-4)


def test_several_processes_see_what_one_sees(tmp_path):
    root = split_tree(tmp_path, 50, 12)
    jobs = [
        (split, pair) for split in ("train", "val") for pair in find_pairs("folder", root, split)
    ]
    done: list[int] = []
    many = list(scan(jobs, 2, done.append))
    assert [look.pair for look in many] == [pair for _, pair in jobs]
    for one, other in zip(scan(jobs, 1), many, strict=True):
        assert (one.values, one.digest, one.thumb, one.sums) == (
            other.values,
            other.digest,
            other.thumb,
            other.sums,
        )
    assert sum(done) == len(jobs)


def test_counting_by_runs_is_counting(tmp_path):
    values = np.random.default_rng(0).integers(0, 5, (31, 17)).astype(np.int32) * 1000
    want = dict(
        zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True)
    )
    assert _count(values) == want
    assert _count((values // 1000).astype(np.uint8)) == {key // 1000: n for key, n in want.items()}


def test_chains_hang_together():
    assert component_roots(5, [(3, 4), (0, 1), (1, 4)]) == [0, 0, 2, 0, 0]


def test_json_is_plain_and_whole(tmp_path):
    result = look_at(tree(tmp_path, [TWO] * 3))
    content = json.loads(json.dumps(result.to_dict()))
    assert content["layout"] == "folder"
    assert {row["value"]: row["share"] for row in content["classes"]} == {"0": 0.5, "1": 0.5}
    assert "backbone" in content["recipe"]


def test_the_report_ends_with_what_to_do(tmp_path):
    result = look_at(tree(tmp_path / "my set", [TWO] * 3))
    lines = report(result).splitlines()
    assert lines[-2:] == [
        f"  hrseg data check '{tmp_path / 'my set'}' --write mine.yaml",
        "  hrseg fit --config mine.yaml",
    ]
    written = report(result, tmp_path / "a b.yaml").splitlines()
    assert written[-1] == f"  hrseg fit --config '{tmp_path / 'a b.yaml'}'"


def test_the_page_needs_no_other_file(tmp_path):
    root = tree(tmp_path / "a <b>", [TWO, squares([0, 1, 255])])
    text = page(look_at(root))
    assert "a &lt;b&gt;" in text
    assert "a <b>" not in text
    assert text.count("data:image/jpeg;base64,") == text.count("data:image/png;base64,") == 2
    assert 'src="http' not in text
    assert f"hrseg data check &#39;{tmp_path}/a &lt;b&gt;&#39; --write" in text
    assert "prefers-color-scheme: dark" in text


def test_nothing_is_written_into_the_dataset(tmp_path):
    root = tree(tmp_path / "set", [TWO] * 5)
    before = sorted(root.rglob("*"))
    files = write_recipe(look_at(root).recipe, tmp_path / "out" / "mine.yaml")
    assert sorted(root.rglob("*")) == before
    assert [path.name for path in files] == ["train.txt", "val.txt", "labels.yaml", "mine.yaml"]


def test_the_written_lists_are_read_by_the_folder_layout(tmp_path):
    root = tree(tmp_path / "my set", [TWO] * 5, "photos of May/{}.png", "masks/{}.png")
    write_recipe(look_at(root).recipe, tmp_path / "mine.yaml")
    found = [
        find_pairs("folder", root, str(tmp_path / "mine_data" / split))
        for split in ("train", "val")
    ]
    assert [len(pairs) for pairs in found] == [4, 1]
    assert found[0][0].image.parent.name == "photos of May"


def test_nothing_is_written_over_what_somebody_changed(tmp_path):
    recipe = look_at(tree(tmp_path / "set", [TWO] * 5)).recipe
    table = tmp_path / "mine_data" / "labels.yaml"
    write_recipe(recipe, tmp_path / "mine.yaml")
    write_recipe(recipe, tmp_path / "mine.yaml")  # the same once more
    table.write_text(table.read_text().replace("foreground", "road"))
    (tmp_path / "mine.yaml").unlink()
    with pytest.raises(
        DataError, match=r"labels\.yaml would be overwritten.*--labels .*labels\.yaml"
    ):
        write_recipe(recipe, tmp_path / "mine.yaml")
    assert "road" in table.read_text()
    assert not (tmp_path / "mine.yaml").exists()


def test_a_recipe_with_lists_is_not_offered_for_pasting(tmp_path):
    divided = report(look_at(tree(tmp_path / "one", [TWO] * 5)))
    assert "The recipe, as --write saves it with its lists" in divided
    assert "The recipe to paste" in report(look_at(split_tree(tmp_path / "two")))


def test_masks_of_two_kinds_are_an_error(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    put(root / "masks" / "p03.png", squares([(0, 0, 0), (255, 0, 0)]))
    assert "masks/p03.png" in kinds(look_at(root))["mixed_masks"]


def test_a_photo_is_no_mask(tmp_path):
    root = tree(tmp_path, [TWO] * 4)
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    put(root / "masks" / "p03.png", noise)
    assert "masks/p03.png" in kinds(look_at(root))["mask_is_photo"]


def test_progress_counts_every_pair(tmp_path):
    seen: list[int] = []

    def start(total):
        seen.append(-total)
        return seen.append

    check(tree(tmp_path, [TWO] * 5), workers=1, progress=start)
    assert seen == [-5, 1, 1, 1, 1, 1]
