"""A written recipe runs, whatever the tree: one image, broken pairs, no val, folders, images without a mask."""

import os
import sys

import numpy as np
import pytest

from hrseg.config import load_config
from hrseg.data.check import check, write_recipe
from hrseg.data.check.recipe import suggest_crop
from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.errors import ConfigError, DataError
from hrseg.training.build import build_data
from tests.data.check.trees import SIZE, TWO, kinds, look_at, picture, put, squares, tree


def splits(result, tmp_path):
    """Write the recipe, load what it trains on, and return the names in train and val."""
    write_recipe(result.recipe, tmp_path / "mine.yaml")
    data = build_data(load_config(tmp_path / "mine.yaml", []))
    data.sample_batch()
    assert next(iter(data.val_dataloader()))["mask"].min() < 255
    return [{pair.image.stem for pair in pairs} for pairs in (data.train_pairs, data.val_pairs)]


def flights(root, count=4, mask=TWO):
    for number in range(3 * count):
        place = f"flight_{number % count}"
        put(root / place / "images" / f"{number}.png", picture(number))
        put(root / place / "masks" / f"{number}.png", mask)
    return root


def test_one_image_is_learned_and_validated_and_this_is_told(tmp_path):
    result = look_at(tree(tmp_path / "set", [TWO]))
    assert "score does not hold" in kinds(result)["one_image"]
    assert result.errors == 0
    assert splits(result, tmp_path) == [{"p00"}, {"p00"}]


def test_copies_of_one_image_are_one_image(tmp_path):
    root = tree(tmp_path / "set", [TWO])
    for name in ("b", "c"):
        put(root / f"images/{name}.png", picture(0))
        put(root / f"masks/{name}.png", TWO)
    result = look_at(root)
    assert "one_image" in kinds(result)
    train, val = splits(result, tmp_path)
    assert (len(train), len(val)) == (3, 1)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_all_but_one_broken_gives_an_error_and_a_recipe_that_runs(tmp_path, kind):
    root = tree(tmp_path / "set", [TWO] * 5)
    for number in range(1, 5):
        (root / kind / f"p{number:02d}.png").write_bytes(b"junk")
    result = look_at(root)
    assert result.errors
    assert splits(result, tmp_path) == [{"p00"}, {"p00"}]


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_no_recipe_comes_with_an_error_that_says_why(tmp_path, kind):
    root = tree(tmp_path / "set", [TWO] * 3)
    for path in (root / kind).iterdir():
        path.write_bytes(b"junk")
    result = look_at(root)
    assert result.recipe is None
    assert result.errors


def test_a_split_that_is_broken_or_missing_is_made_of_the_other(tmp_path):
    root = tmp_path / "set"
    for split in ("train", "val"):
        tree(root, [TWO] * 4, f"{split}/images/{split}{{}}.png", f"{split}/masks/{split}{{}}.png")
    for path in (root / "val/masks").iterdir():
        path.write_bytes(b"junk")
    train, val = splits(look_at(root), tmp_path)
    assert (len(train), len(val)) == (3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["cityscapes", "camvid", "ade20k", "voc2012"])
def test_a_known_dataset_without_val_gets_lists(tmp_path, layout):
    root = tmp_path / layout
    write_scenes(root, layout, {"train": 5, "val": 2}, size=(48, 64))
    result = look_at(root)
    for pair in [entry.pair for entry in result.scanned if entry.split == "val"]:
        pair.image.unlink()
        pair.mask.unlink()
    result = look_at(root, layout=layout)
    train, val = splits(result, tmp_path)
    assert (len(train), len(val)) == (4, 1)
    assert len(build_data(load_config(tmp_path / "mine.yaml", [])).labels.names) > 10


def test_a_test_is_never_learned_even_if_there_is_nothing_else(tmp_path):
    root = tree(tmp_path / "set", [TWO] * 4, "test_data/images/{}.png", "test_data/masks/{}.png")
    result = look_at(root)
    assert result.recipe is None
    assert "--from test" in kinds(result)["only_test"]
    tree(root, [TWO] * 4, "train_data/images/t{}.png", "train_data/masks/t{}.png")
    train, val = splits(look_at(root), tmp_path)
    assert {name[:2] for name in train | val} == {"tp"}


@pytest.mark.parametrize("values", [[0], [255], [1], [3, 255]])
@pytest.mark.parametrize("table", [False, True])
def test_masks_of_one_class_are_an_error_with_a_table_and_without(tmp_path, values, table):
    root = tree(tmp_path / "set", [squares(values)] * 3)
    if table:
        rows = "classes: [background, road, car, tree]\nignore: [255]\n"
        (root / "labels.yaml").write_text(rows)
    result = look_at(root)
    assert result.errors
    assert {"one_class", "no_table", "no_recipe"} & set(kinds(result))


@pytest.mark.parametrize("values", [[0, 1], [0, 1, 2], [1, 2, 255], [*range(6)]])
def test_own_classes_in_the_names_of_cityscapes_are_not_cityscapes(tmp_path, values):
    for split in ("train", "val"):
        place = f"{split}/here/{split}_{{}}"
        tree(
            tmp_path / "set",
            [squares(values)] * 3,
            f"leftImg8bit/{place}_leftImg8bit.png",
            f"gtFine/{place}_gtFine_labelIds.png",
        )
    result = look_at(tmp_path / "set")
    assert result.layout == "folder"
    assert len([row for row in result.classes if row.role == "class"]) >= 2
    assert "--layout cityscapes" in kinds(result)["similar_layout"]
    train, val = splits(result, tmp_path)
    assert {name[:3] for name in train} == {"tra"}
    assert {name[:3] for name in val} == {"val"}


# Folders of patients, flights, films


@pytest.mark.parametrize("inner", ["flight_{0}/images", "images/flight_{0}", "flight_{0}"])
def test_folders_stay_whole_and_this_is_told(tmp_path, inner):
    root = tmp_path / "set"
    for number in range(12):
        place = inner.format(number % 4)
        put(root / place / f"{number}.jpg", picture(number))
        put(root / place.replace("images", "masks") / f"{number}.png", TWO)
    result = look_at(root)
    assert "--by none" in kinds(result)["folders"]
    train, val = splits(result, tmp_path)
    assert not {int(name) % 4 for name in train} & {int(name) % 4 for name in val}
    assert train | val == {str(number) for number in range(12)}


def test_how_images_stay_together_can_be_said(tmp_path):
    root = flights(tmp_path / "set")
    assert "folders" not in kinds(look_at(root, by="none"))
    _, val = splits(look_at(root, by=r"flight_([0-1])|flight"), tmp_path)
    assert {int(name) % 4 in (2, 3) for name in val} in ({True}, {False})
    with pytest.raises(DataError, match="makes 1 group of 12 images"):
        look_at(root, by="flight")
    with pytest.raises(DataError, match="matches 0 of 12 images"):
        look_at(root, by="patient")
    with pytest.raises(ConfigError, match="regular expression"):
        look_at(root, by="(")


def test_folders_that_are_classes_are_not_kept_whole(tmp_path):
    root = tmp_path / "set"
    for number in range(12):
        place = "abcd"[number % 4]
        put(root / place / "images" / f"{number}.png", picture(number))
        put(root / place / "masks" / f"{number}.png", squares([0, 1 + number % 4]))
    result = look_at(root)
    assert "would leave the training without" in kinds(result)["folders"]
    assert len(look_at(root, by="folder").recipe.lists["val"].splitlines()) == 3


# Options that the recipe keeps


def test_a_pattern_is_written_and_honored(tmp_path):
    root = tmp_path / "set"
    for split, count in (("train", 4), ("val", 2)):
        names = f"images/{split}/{split}{{}}.jpg", f"masks/{split}{{}}.jpg.png"
        tree(root, [TWO] * count, *names)
    result = look_at(root, masks="masks/{name}.png")
    assert not result.recipe.lists
    assert "masks: 'masks/{name}.png'" in result.recipe.text("mine")
    train, val = splits(result, tmp_path)
    assert (len(train), len(val)) == (4, 2)
    next((root / "masks").iterdir()).unlink()
    data = build_data(load_config(tmp_path / "mine.yaml", []))
    with pytest.raises(DataError, match=r"has no mask.*Correct data\.masks"):
        _ = data.train_pairs


def test_a_pattern_is_for_own_files(tmp_path):
    root = tmp_path / "camvid"
    write_scenes(root, "camvid", {"train": 2, "val": 1}, size=SIZE)
    (tmp_path / "c.yaml").write_text(
        f"model:\n  backbone: hrnet_w18\ndata:\n  layout: camvid\n  root: {root}\n  masks: 'x/{{stem}}.png'\n"
        "trainer:\n  max_epochs: 1\n"
    )
    with pytest.raises(ConfigError, match=r"layout 'camvid' defines the places of its masks"):
        _ = build_data(load_config(tmp_path / "c.yaml", [])).train_pairs


@pytest.mark.parametrize("image", ["images/{}.png", "images/train/{}.png"])
def test_images_without_a_mask_are_background_if_this_is_said(tmp_path, image):
    root = tree(tmp_path / "set", [TWO] * 6, image, image.replace("images", "masks"))
    if "train" in image:
        tree(
            root,
            [TWO] * 2,
            image.replace("train", "val"),
            image.replace("train", "val").replace("images", "masks"),
        )
    for number in (20, 21):
        put(root / image.format(number), picture(number))
    assert "--unmasked" in kinds(look_at(root))["image_without_mask"]
    result = look_at(root, unmasked="background")
    assert "taken as background" in kinds(result)["unmasked"]
    assert "image_without_mask" not in kinds(result)
    train, val = splits(result, tmp_path)
    assert {"20", "21"} <= train | val
    data = build_data(load_config(tmp_path / "mine.yaml", []))
    bare = [pair for pair in (*data.train_pairs, *data.val_pairs) if pair.mask is None]
    assert len(bare) == 2
    assert np.unique(data.train_set.read_trainids(bare[0])[1]).tolist() == [0]
    masked = next(pair for pair in data.train_pairs if pair.mask)
    assert np.unique(data.train_set.read_trainids(masked)[1]).tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"Unknown class 'backgruond'.*Did you mean 'background'"):
        look_at(root, unmasked="backgruond")


def test_two_columns_that_fit_takes_are_taken_by_check(tmp_path):
    root = tmp_path / "set"
    for number in range(6):
        put(root / f"a/{number}.png", picture(number))
        put(root / f"b/x{9 - number}.png", TWO)
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        lines = [f"a/{number}.png b/x{9 - number}.png\n" for number in numbers]
        (root / f"{split}.txt").write_text("".join(lines))
    result = look_at(root)
    assert not result.recipe.lists
    assert splits(result, tmp_path) == [{"0", "1", "2", "3"}, {"4", "5"}]


def test_crops_fit_the_images():
    assert suggest_crop([(1024, 2048)]) == (512, 1024)
    assert suggest_crop([(5000, 5000)]) == (704, 704)
    assert suggest_crop([(375, 500), (500, 375)] * 5) == (352, 352)
    assert suggest_crop([(512, 512)]) == (512, 512)


def test_options_are_checked_before_files_are(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        check(tmp_path / "gone", masks="masks/{stem}.png")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_the_lists_of_a_recipe_hold_names_that_are_no_utf8(tmp_path):
    root = tree(tmp_path / "d", [squares([0, 1])] * 6)
    for kind in ("images", "masks"):
        (root / kind / "p00.png").rename(root / kind / os.fsdecode(b"caf\xe9.png"))
    files = write_recipe(look_at(root).recipe, tmp_path / "mine.yaml")
    lists = [file for file in files if file.suffix == ".txt"]
    read = [p for file in lists for p in find_pairs("folder", root, str(file.with_suffix("")))]
    assert len(read) == 6
    assert all(pair.mask.stem == pair.image.stem for pair in read)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_recipe_in_a_folder_that_is_no_utf8_is_refused(tmp_path):
    root = tree(tmp_path / os.fsdecode(b"caf\xe9"), [squares([0, 1])] * 6)
    with pytest.raises(DataError, match=r"caf\\xe9.*no YAML can hold"):
        write_recipe(look_at(root).recipe, tmp_path / "mine.yaml")
    assert [file.name for file in tmp_path.iterdir()] == [root.name]
