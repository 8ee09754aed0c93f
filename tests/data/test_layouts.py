from pathlib import Path

import pytest

from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.errors import DataError

SIZE = (16, 24)


@pytest.fixture
def tree(tmp_path):
    def write(layout, **splits):
        write_scenes(tmp_path, layout, splits or {"train": 3, "val": 2}, SIZE)
        return tmp_path

    return write


@pytest.mark.parametrize("layout", ["camvid", "cityscapes", "ade20k", "folder"])
def test_images_meet_their_masks_in_name_order(tree, layout):
    root = tree(layout)
    for split, count in (("train", 3), ("val", 2)):
        pairs = find_pairs(layout, root, split)
        assert len(pairs) == count
        assert [p.name for p in pairs] == sorted(p.name for p in pairs)
        assert all(p.image.is_file() and p.mask.is_file() for p in pairs)


def test_cityscapes_knows_trainval_test_train_ids_and_coarse(tree):
    root = tree("cityscapes", train=2, val=1, test=1)
    assert len(find_pairs("cityscapes", root, "trainval")) == 3
    assert find_pairs("cityscapes", root, "test")[0].mask is None
    for path in list(root.glob("gtFine/val/*/*_labelIds.png")):
        path.rename(str(path).replace("labelIds", "labelTrainIds"))
    assert find_pairs("cityscapes", root, "val")[0].table == "cityscapes_trainids"
    (root / "leftImg8bit/train").rename(root / "leftImg8bit/train_extra")
    fine = next((root / "gtFine/train").glob("*/*_000000_*"))
    for path in list((root / "gtFine/train").glob("*/*.png")):
        new = Path(str(path).replace("gtFine", "gtCoarse").replace("/train/", "/train_extra/"))
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    assert len(find_pairs("cityscapes", root, "train_extra")) == 2
    assert not fine.exists()


def test_folder_takes_both_orders_subfolders_and_list_files(tree, tmp_path):
    root = tree("folder")
    (root / "train").mkdir()
    (root / "images/train").rename(root / "train/images")
    (root / "masks/train").rename(root / "train/masks")
    (root / "train/images/deep").mkdir()
    (root / "train/masks/deep").mkdir()
    (root / "train/images/scene_00000.png").rename(root / "train/images/deep/x.png")
    (root / "train/masks/scene_00000.png").rename(root / "train/masks/deep/x.png")
    assert find_pairs("folder", root, "train")[0].name == "deep/x"
    (root / "some.txt").write_text(
        "images/val/scene_00001.png masks/val/scene_00001.png\n# comment\n"
    )
    assert len(find_pairs("folder", root, "some")) == 1


def test_an_image_without_mask_and_a_mask_without_image_are_named(tree):
    root = tree("camvid")
    (root / "trainannot/scene_00001.png").unlink()
    with pytest.raises(DataError, match=r"1 image in .* has no mask, such as scene_00001\.png"):
        find_pairs("camvid", root, "train")
    write_scenes(root, "camvid", {"train": 3}, SIZE)
    (root / "train/scene_00001.png").unlink()
    (root / "train/scene_00002.png").unlink()
    with pytest.raises(
        DataError, match=r"2 masks in .* have no image, such as scene_00001, scene_00002"
    ):
        find_pairs("camvid", root, "train")


def test_missing_and_empty_places_say_what_is_there(tree, tmp_path):
    root = tree("cityscapes")
    with pytest.raises(DataError, match=r"does not exist .*nearest existing parent"):
        find_pairs("cityscapes", root / "no", "train")
    with pytest.raises(
        DataError, match=r"No images in .*leftImg8bit/test, which does not exist; .* gtFine/"
    ):
        find_pairs("cityscapes", root, "test")
    with pytest.raises(DataError, match="has no split 'vall'"):
        find_pairs("cityscapes", root, "vall")
    with pytest.raises(DataError, match=r"data\.root is not set"):
        find_pairs("camvid", None, "train")
    with pytest.raises(DataError, match="Did you mean 'camvid'"):
        find_pairs("camvd", root, "train")
    with pytest.raises(DataError, match=r"neither images/train/.* set data\.train_split\."):
        find_pairs("folder", root, "train")
    with pytest.raises(DataError, match=r"set data\.train_split or data\.val_split\."):
        find_pairs("folder", root, "mine")
    with pytest.raises(DataError, match=r"The list .*gone\.txt does not exist.* --write"):
        find_pairs("folder", root, str(root / "gone"))


def test_bad_list_files_name_the_line(tmp_path):
    (tmp_path / "train.txt").write_text("a.png b.png\n")
    with pytest.raises(DataError, match=r"line 1: no such file .*a\.png"):
        find_pairs("folder", tmp_path, "train")
    (tmp_path / "train.txt").write_text("a b c\n")
    with pytest.raises(DataError, match="line 1 has 3 words"):
        find_pairs("folder", tmp_path, "train")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no image"):
        find_pairs("folder", tmp_path, "train")


def test_cityscapes_masks_without_an_image_are_named(tree):
    root = tree("cityscapes")
    next(root.glob("leftImg8bit/val/*/*000001*")).unlink()
    with pytest.raises(DataError, match=r"1 mask in .*gtFine has no image, such as synthville/"):
        find_pairs("cityscapes", root, "val")


def test_coarse_is_train_and_train_extra_and_never_val(tree):
    root = tree("cityscapes", train=2, train_extra=3, val=1)
    for mask in sorted(root.glob("gtFine/*/*/*.png")):
        coarse = Path(str(mask).replace("gtFine", "gtCoarse"))
        coarse.parent.mkdir(parents=True, exist_ok=True)
        mask.rename(coarse)
    pairs = find_pairs("cityscapes", root, "coarse")
    assert len(pairs) == 5
    assert all("gtCoarse" in str(p.mask) and "/val/" not in str(p.image) for p in pairs)
    assert len(find_pairs("cityscapes", root, "coarse_val")) == 1


@pytest.mark.parametrize("place", ["images/testing", "release_test/testing"])
def test_ade20k_test_images_have_no_masks(tree, place):
    root = tree("ade20k")
    (root / place).parent.mkdir(exist_ok=True)
    (root / "images/validation").rename(root / place)
    pairs = find_pairs("ade20k", root, "test")
    assert [pair.mask for pair in pairs] == [None, None]


def test_hidden_files_and_folders_are_no_data(tree):
    root = tree("folder")
    for place in ("images/train", "masks/train"):
        hidden = root / place / ".ipynb_checkpoints"
        hidden.mkdir()
        (root / place / "scene_00000.png").rename(hidden / "scene_00000-checkpoint.png")
    (root / "images/train/notes.txt").write_text("not an image")
    assert [p.name for p in find_pairs("folder", root, "train")] == ["scene_00001", "scene_00002"]


def test_folder_test_split_needs_no_masks(tree):
    root = tree("folder")
    (root / "images/val").rename(root / "images/test")
    assert find_pairs("folder", root, "test")[0].mask is None


def test_two_files_that_would_share_a_name_are_refused(tree):
    root = tree("folder")
    (root / "masks/train/scene_00000.bmp").write_bytes(b"")
    with pytest.raises(DataError, match="Two masks for one image"):
        find_pairs("folder", root, "train")
    (root / "masks/train/scene_00000.bmp").unlink()
    (root / "images/train/scene_00000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="scene_00000"):
        find_pairs("folder", root, "train")


def test_list_files_take_spaces_after_tabs_and_names_stay_below_the_output(tree):
    root = tree("folder")
    odd = root / "été 1.png"
    (root / "images/val/scene_00000.png").rename(odd)
    mask, other = root / "masks/val/scene_00000.png", root / "images/val/scene_00001.png"
    (root / "sub").mkdir()
    (root / "sub/train.txt").write_text(f"../{odd.name}\t{mask}\n{other}\n", encoding="utf-8-sig")
    first, second = sorted(find_pairs("folder", root / "sub", "train"), key=lambda p: not p.mask)
    assert (first.name, first.mask) == ("été 1", mask)
    assert second.mask is None
    assert not second.name.startswith("/")


def test_list_files_that_repeat_or_are_no_text_are_refused(tree):
    root = tree("folder")
    (root / "twice.txt").write_text("images/val/scene_00001.png\n" * 2)
    with pytest.raises(DataError, match="line 2: 'images/val/scene_00001' was listed before"):
        find_pairs("folder", root, "twice")
    (root / "latin.txt").write_bytes("été.png\n".encode("latin-1"))
    with pytest.raises(DataError, match="Save it as UTF-8"):
        find_pairs("folder", root, "latin")


NEW = ["pascal_context", "lip", "coco_stuff", "voc2012", "loveda", "potsdam", "vaihingen", "isaid"]


@pytest.mark.parametrize("layout", NEW)
def test_an_image_without_its_mask_is_named_in_every_layout(tree, layout):
    root = tree(layout)
    assert [len(find_pairs(layout, root, split)) for split in ("train", "val")] == [3, 2]
    pair = find_pairs(layout, root, "train")[1]
    pair.mask.unlink()
    with pytest.raises(DataError, match=rf"1 image in .*has no mask, such as {pair.image.stem}"):
        find_pairs(layout, root, "train")


def test_lip_lies_side_by_side_or_in_its_own_folders(tree):
    root = tree("lip")
    for folder, inner in (("train_images", "TrainVal_images"),):
        (root / inner).mkdir()
        (root / folder).rename(root / inner / folder)
    (root / "TrainVal_parsing_annotations").mkdir()
    (root / "train_segmentations").rename(root / "TrainVal_parsing_annotations/train_segmentations")
    assert len(find_pairs("lip", root, "train")) == 3


def test_voc_augmentation_joins_both_folders_of_masks(tree):
    root = tree("voc2012", train=2, val=1)
    lists = root / "ImageSets/Segmentation"
    with pytest.raises(
        DataError, match=r"needs .*aug\.txt or trainaug\.txt; there is train\.txt, val"
    ):
        find_pairs("voc2012", root, "trainaug")
    (root / "SegmentationClassAug").mkdir()
    train = find_pairs("voc2012", root, "train")
    more = root / "JPEGImages/2010_000001.jpg"
    more.write_bytes(train[0].image.read_bytes())
    extra = root / "SegmentationClassAug/2010_000001.png"
    extra.write_bytes(train[0].mask.read_bytes())
    (lists / "aug.txt").write_text("2010_000001\n")
    pairs = find_pairs("voc2012", root.parent / root.name, "trainaug")
    assert [pair.mask for pair in pairs] == [train[0].mask, train[1].mask, extra]
    (lists / "test.txt").write_text("2010_000001\n")
    assert find_pairs("voc2012", root, "test")[0].mask is None


def test_a_devkit_may_be_given_from_outside(tree, tmp_path):
    root = tree("pascal_context")
    inner = root.with_name("VOCdevkit") / "VOC2010"
    inner.parent.mkdir()
    root.rename(inner)
    assert len(find_pairs("pascal_context", inner.parent, "trainval")) == 5
    (inner / "ImageSets/SegmentationContext").rename(inner / "ImageSets/Main")
    assert len(find_pairs("pascal_context", inner, "val")) == 2
    (inner / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DataError, match=r"The list .*val\.txt cannot be read.*mmsegmentation's"):
        find_pairs("pascal_context", inner, "val")
