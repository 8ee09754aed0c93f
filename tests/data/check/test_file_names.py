"""Names of other people's datasets: affixes, folders of several words, kinds of masks, splits, lists and patterns."""

import numpy as np
import pytest

from hrseg.data.check.file_names import constant_affixes, folder_words
from hrseg.data.check.layout import recognize
from hrseg.data.check.pairing import pair_any
from hrseg.errors import ConfigError, DataError
from tests.data.check.trees import picture, put, squares

MASK = squares([0, 1])
STEMS = ("apple", "apricot", "pear", "plum")


def write(root, image, mask, stems=STEMS):
    """Write one pair for each stem; {} is the stem."""
    for number, stem in enumerate(stems):
        put(root / image.format(stem), picture(number))
        put(root / mask.format(stem), MASK)


def met(root, **options):
    """Return image → mask, both below the root."""
    splits = pair_any(root, **options).splits
    return {
        pair.image.relative_to(root).as_posix(): pair.mask.relative_to(root).as_posix()
        for pairs in splits.values()
        for pair in pairs
        if pair.mask
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.jpg", "masks/{}.jpg.png"),
        ("images/{}.jpg", "masks/{}.jpg_mask.png"),
        ("images/{}.jpg", "masks/{}_gtFine.png"),
        ("images/{}.jpg", "masks/{}_segmap.png"),
        ("images/{}.jpg", "masks/{}_semantic.png"),
        ("images/{}.jpg", "masks/{}_mask_0.png"),
        ("images/{}.jpg", "masks/{}_whatever7.png"),
        ("image_RGB/{}.tif", "label_15/{}_15label.tif"),
        ("img/img({}).tif", "target/target({}).tif"),
        ("images/{}.png", "labels/seen_{}_UA2012.png"),
        ("images/tile_{}_v2.png", "labels/truth-{}.png"),
        ("images/{}_0000.png", "labels/{}.png"),
        ("3_Ortho_IRRG/top_potsdam_{}_IRRG.tif", "5_Labels_all/top_potsdam_{}_label.tif"),
        ("4_Ortho_RGBIR/top_potsdam_{}_RGBIR.tif", "5_Labels_all/top_potsdam_{}_label.tif"),
        ("{}.jpg", "{}_segmap.png"),
        ("{}.png", "{}_mask_0.png"),
        ("{}.png", "{}_qq.png"),
        ("images/{}.jpg", "masks/{}.jpg___fuse.png"),
        ("{}.jpg", "{}.jpg___fuse.png"),
        ("images_png/{}.png", "masks_png/{}.png"),
        ("cam_rgb/{}.png", "cam_gt/{}.png"),
        ("flight 7 photos/{}.png", "flight 7 ground truth/{}.png"),
    ],
)
@pytest.mark.parametrize("stems", [STEMS, ("1", "2", "10", "11"), ("a1", "a2", "a10")])
def test_a_constant_around_the_name_is_no_hindrance(tmp_path, image, mask, stems):
    write(tmp_path, image, mask, stems)
    assert met(tmp_path) == {image.format(stem): mask.format(stem) for stem in stems}
    found = pair_any(tmp_path)
    assert not found.images_alone + found.masks_alone


def test_an_affix_never_pairs_what_does_not_belong_together(tmp_path):
    write(tmp_path, "images/img_{}.png", "elsewhere/masks/mask_{}.png", ["1", "2", "3"])
    for path in sorted((tmp_path / "elsewhere/masks").iterdir()):
        path.rename(path.with_name(path.name.replace("mask_", "mask_7")))
    with pytest.raises(DataError, match=r"no name of one fits"):
        recognize(tmp_path)
    assert constant_affixes(["p01", "p03"], ["p77", "p99"]) is None
    assert constant_affixes(["north_2019", "south_2019"], ["north_2020", "south_2020"]) is None


def test_what_lacks_the_affix_stays_alone(tmp_path):
    write(tmp_path, "images/{}.png", "labels/{}_UA2012.png")
    put(tmp_path / "images/fig.png", picture(9))
    put(tmp_path / "labels/nut_UA2012.png", MASK)
    found = pair_any(tmp_path)
    assert len(found.splits["all"]) == 4
    assert [path.name for path in found.images_alone + found.masks_alone] == [
        "fig.png",
        "nut_UA2012.png",
    ]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}/rgb_tiles/0.png", "{}/masks/0.png"),
        ("{}/images/0.png", "{}/semantic_labels/0.png"),
        ("{}_rgb/0.png", "{}_gt/0.png"),
        ("images/cam_{}/0.png", "masks/truth_{}/0.png"),
        ("Train/{}/images_png/0.png", "Train/{}/masks_png/0.png"),
        ("{}/BDORTHO/0.png", "{}/UrbanAtlas/0.png"),
    ],
)
def test_groups_are_compared_by_what_both_sides_have(tmp_path, image, mask):
    places = ("north", "south", "west")
    write(tmp_path, image, mask, places)
    assert met(tmp_path) == {image.format(place): mask.format(place) for place in places}


def test_a_folder_of_masks_holds_several_kinds(tmp_path):
    for kind, values in (("labelIds", [7, 8]), ("instanceIds", [1, 2]), ("color", [9, 3])):
        write(tmp_path, "photos/{}_leftImg8bit.png", f"gtFine/{{}}_gtFine_{kind}.png")
        for stem in STEMS:
            put(tmp_path / f"gtFine/{stem}_gtFine_{kind}.png", squares(values))
    found = pair_any(tmp_path)
    assert {mask.rpartition("_")[2] for mask in met(tmp_path).values()} == {"labelIds.png"}
    assert any("instanceIds" in note for note in found.notes)
    assert any("color" in note for note in found.notes)
    assert not found.masks_alone


def test_instances_alone_are_never_classes(tmp_path):
    write(
        tmp_path,
        "leftImg8bit/train/a/{}_leftImg8bit.png",
        "gtFine/train/a/{}_gtFine_instanceIds.png",
    )
    with pytest.raises(DataError, match=r"no mask.*4 files such as .*instanceIds\.png with instances"):
        recognize(tmp_path)


def test_cityscapes_unpacked_into_a_folder_for_each_archive(tmp_path):
    inner = "{0}/train/aachen/{{}}_000000_{0}"
    write(
        tmp_path,
        "leftImg8bit_trainvaltest/" + inner.format("leftImg8bit") + ".png",
        "gtFine_trainvaltest/" + inner.format("gtFine") + "_labelIds.png",
    )
    found = recognize(tmp_path)
    assert found.layout == "cityscapes"
    assert len(found.splits["train"]) == 4


def test_the_kind_nearest_to_the_file_decides_and_ids_beat_colors(tmp_path):
    write(tmp_path, "images/10k/train/{}.jpg", "labels/sem_seg/colormaps/train/{}.png")
    for number in range(10):  # the larger set holds some of the same images
        put(tmp_path / f"images/100k/train/{(*STEMS, *range(9))[number]}.jpg", picture(number))
    for kind in ("sem_seg/masks", "pan_seg/bitmasks", "drivable/masks"):
        write(tmp_path, "images/10k/train/{}.jpg", f"labels/{kind}/train/{{}}.png")
    assert {mask.rpartition("/")[0] for mask in met(tmp_path).values()} == {"labels/sem_seg/masks/train"}
    assert {image.rpartition("/")[0] for image in met(tmp_path)} == {"images/10k/train"}


def test_versions_of_masks_are_kinds_and_panoptic_is_none(tmp_path):
    for kind in ("v1.2/labels", "v1.2/instances", "v2.0/labels", "v2.0/panoptic"):
        write(tmp_path, "training/images/{}.jpg", f"training/{kind}/{{}}.png")
    found = pair_any(tmp_path)
    assert len({mask.rpartition("/")[0] for mask in met(tmp_path).values()}) == 1
    assert all("/labels/" in mask for mask in met(tmp_path).values())
    assert sum("v2.0" in note or "v1.2" in note for note in found.notes) >= 1
    assert not found.masks_alone + found.images_alone


def test_of_several_bands_rgb_is_the_image(tmp_path):
    for folder, band in (("2_Ortho_RGB", "RGB"), ("3_Ortho_IRRG", "IRRG")):
        write(tmp_path, f"{folder}/top_{{}}_{band}.tif", "5_Labels_all/top_{}_label.tif")
    assert {image.split("/")[0] for image in met(tmp_path)} == {"2_Ortho_RGB"}
    assert any("IRRG" in note for note in pair_any(tmp_path).notes)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_data", "test_data"),
        ("training_data", "testing_data"),
        ("TrainingSet", "TestSet"),
        ("data-train", "data-test"),
        ("train_1", "test_1"),
        ("fire_train", "fire_test"),
        ("drone 2020 train", "drone 2020 test"),
        ("train", "holdout"),
        ("traindata", "testdata"),
        ("Training_Images_v2", "Test_Images_v2"),
    ],
)
@pytest.mark.parametrize("inner", ["{}/images/{{}}.png", "images/{}/{{}}.png"])
def test_a_test_is_never_learned(tmp_path, train, test, inner):
    for split in (train, test):
        place = inner.format(split)
        write(tmp_path, place, place.replace("images", "masks"), [f"{split}{n}" for n in "1234"])
    splits = pair_any(tmp_path).splits
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 4, "test": 4}


def test_files_tell_splits_where_folders_do_not(tmp_path):
    write(tmp_path, "images/{}.png", "masks/{}_mask.png", ["train_1", "train_2", "test_1", "test_2"])
    splits = pair_any(tmp_path).splits
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 2, "test": 2}
    one = tmp_path / "one"
    write(one, "images/{}.png", "masks/{}.png", ["test_1", "test_2"])  # a test of something else
    assert list(pair_any(one).splits) == ["all"]


def test_folders_of_one_image_and_one_mask_each(tmp_path):
    write(tmp_path, "{}/image.png", "{}/mask.png")
    assert met(tmp_path) == {f"{stem}/image.png": f"{stem}/mask.png" for stem in STEMS}
    assert pair_any(tmp_path).where


def test_nnunet_folders_tell_splits():
    assert [folder_words(name) for name in ("imagesTr", "labelsTr", "labelsTs")] == [
        ("image", "train"),
        ("mask", "train"),
        ("mask", "test"),
    ]
    assert folder_words("ts") == folder_words("val_thorens") == ("", "")


def test_arrays_are_masks_too(tmp_path):
    write(tmp_path, "images/{}.png", "scratch/{}.png")
    (tmp_path / "masks").mkdir()
    for path in sorted((tmp_path / "scratch").iterdir()):
        np.save(tmp_path / "masks" / f"{path.stem}.npy", MASK)
        path.unlink()
    assert met(tmp_path) == {f"images/{stem}.png": f"masks/{stem}.npy" for stem in STEMS}


# Lists of two columns


@pytest.mark.parametrize("line", ["{}\t{}", "{} {}", "{},{}", "/{} /{}", "./{}\t./{}", "/set/{} /set/{}"])
def test_lists_of_two_columns_pair_what_names_do_not(tmp_path, line):
    pairs = [(f"images/{stem}.png", f"masks/{n}.png") for n, stem in enumerate(STEMS)]
    for number, (image, mask) in enumerate(pairs):
        put(tmp_path / image, picture(number))
        put(tmp_path / mask, MASK)
    for split, part in (("train", pairs[:3]), ("val", pairs[3:])):
        text = "# image and mask\n" + "".join(f"{line.format(*pair)}\n" for pair in part)
        (tmp_path / f"{split}.txt").write_text(text)
    assert met(tmp_path) == dict(pairs)
    assert [len(found) for found in pair_any(tmp_path).splits.values()] == [3, 1]


def test_an_image_in_two_lists_is_told_and_stays_in_one(tmp_path):
    write(tmp_path, "images/{}.png", "masks/{}.png")
    (tmp_path / "train.txt").write_text("apple\npear\nplum\n")
    (tmp_path / "val.txt").write_text("apricot\npear\n")
    found = pair_any(tmp_path)
    names = [pair.name for pairs in found.splits.values() for pair in pairs]
    assert sorted(names) == sorted(STEMS)
    assert any("two splits" in note and "pear.png" in note for note in found.notes)


def test_lines_of_a_list_without_a_file_are_told(tmp_path):
    write(tmp_path, "images/{}.png", "masks/{}.png", [str(n) for n in range(10)])
    (tmp_path / "train.txt").write_text("".join(f"{n}\n" for n in [*range(9), "gone"]))
    found = pair_any(tmp_path)
    assert len(found.splits["train"]) == 9
    assert any("train.txt names 1 file not" in note for note in found.notes)


# A pattern


@pytest.mark.parametrize(
    ("image", "mask", "pattern"),
    [
        ("images/{}.jpg", "masks/{}.jpg.png", "masks/{name}.png"),
        ("images/{}.jpg", "of masks/x{}y.png", "of masks/x{stem}y.png"),
        ("{}.png", "{}_q.png", "{stem}_q.png"),
        ("a/photos/{}.png", "a/photos/deep/{}.png", "{folder}/deep/{name}"),
        ("train/images/{}.png", "train/z/{}.png", "{1}/z/{name}"),
        ("images/labels/{}.png", "truth/{}.png", "truth/{name}"),
    ],
)
def test_a_pattern_says_where_masks_lie(tmp_path, image, mask, pattern):
    write(tmp_path, image, mask)
    assert met(tmp_path, masks=pattern) == {image.format(s): mask.format(s) for s in STEMS}


def test_a_pattern_that_cannot_work_is_explained(tmp_path):
    write(tmp_path, "images/a/{}.png", "masks/{}.png")
    with pytest.raises(DataError, match=r"for images/a/apple\.png it gives gone/apple\.png"):
        pair_any(tmp_path, "gone/{stem}.png")
    for wrong in ("masks/{stam}.png", "masks/{", "masks/{}{1}", "masks/{stem.x}"):
        with pytest.raises(ConfigError, match=r"It may hold \{stem\}"):
            pair_any(tmp_path, wrong)
    put(tmp_path / "images/b/apple.png", picture(9))
    with pytest.raises(DataError, match=r"images/a/apple\.png and images/b/apple\.png the same"):
        pair_any(tmp_path, "masks/{stem}.png")
