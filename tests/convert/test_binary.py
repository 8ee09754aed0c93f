import numpy as np
import pytest

from hrseg.convert import binary
from hrseg.convert.convert import ConvertOptions, convert
from hrseg.convert.formats import recognize
from hrseg.errors import DataError
from hrseg.imaging import read_mask, write_image, write_mask
from tests.convert import sources as s
from tests.convert.sources import converted

CAR, ROAD = s.SCENE == 2, s.SCENE == 1


def lay(root, names, value=255, image="images/a.jpg"):
    """Write the car and the road under two names."""
    s.photo(root / (image if "train" not in names[0] else "images/train/a.jpg"))
    for name, mask in zip(names, (CAR, ROAD), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_mask(root / name, mask.astype(np.uint8) * value)
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("masks/car/a.png", "masks/road/a.png"),
        ("masks/a_car.png", "masks/a_road.png"),
        ("masks/a_mask_car.png", "masks/a_mask_road.png"),
        ("masks/a_car_mask.png", "masks/a_road_mask.png"),
        ("masks/a.car.png", "masks/a.road.png"),
        ("masks/a/car.png", "masks/a/road_0.png"),
        ("labels/car/a.png", "labels/road/a.png"),
        ("Masks/car/a_mask.png", "Masks/road/a_mask.png"),
        ("masks/train/car/a.png", "masks/train/road/a.png"),
    ],
)
def test_a_mask_for_each_class(names, tmp_path):
    root = lay(tmp_path / "source", names)
    assert recognize(root) == "binary"
    mask, labels, _ = converted(root, tmp_path)
    assert labels.names == ["background", "car", "road"]
    assert (mask == np.array([0, 2, 1])[s.SCENE]).all()


@pytest.mark.parametrize("names", [("masks/a_0.png", "masks/a_1.png"), ("masks/a/1.png", "masks/a/2.png")])
def test_a_mask_for_each_object(names, tmp_path):
    mask, labels, _ = converted(lay(tmp_path / "source", names, value=1), tmp_path)
    assert labels.names == ["background", "object"]
    assert (mask == (s.SCENE > 0)).all()


def test_masks_beside_the_image(tmp_path):
    root = lay(tmp_path / "source", ("a_car.png", "a_road.png"), image="a.jpg")
    mask, labels, _ = converted(root, tmp_path)
    assert labels.names == ["background", "car", "road"]
    assert (mask == np.array([0, 2, 1])[s.SCENE]).all()


def test_the_bowl_of_2018(tmp_path):
    for name in ("0f3a", "77be"):
        folder = tmp_path / "stage1_train" / name
        s.photo(folder / "images" / f"{name}.png")
        (folder / "masks").mkdir()
        for number, mask in enumerate((CAR, ROAD)):
            write_mask(folder / "masks" / f"c{number}.png", mask.astype(np.uint8) * 255)
    assert recognize(tmp_path / "stage1_train") == recognize(tmp_path) == "binary"
    report = convert(tmp_path / "stage1_train", tmp_path / "out")
    assert report.splits == {"train": 2}
    assert report.tally.objects == {"object": 4}
    assert (read_mask(tmp_path / "out/masks/train/77be.png") == (s.SCENE > 0)).all()


@pytest.mark.parametrize(
    "names",
    [
        ("masks/a.png", "masks/b.png"),
        ("masks/a_mask.png", "masks/b_mask.png"),
        ("masks/train/a.png", "masks/val/a.png"),
    ],
)
def test_pairs_are_no_binary_masks_of_classes(names, tmp_path):
    root = lay(tmp_path / "source", names)
    s.photo(root / "images" / "b.jpg")
    s.photo(root / "images" / "a.jpg")
    assert not binary.recognizes(root)


def test_names_that_begin_alike_and_masks_of_no_image(tmp_path):
    root = lay(tmp_path / "source", ("masks/a_1_car.png", "masks/z_car.png"))
    s.photo(root / "images" / "a_1.jpg")
    report = convert(root, tmp_path / "out", ConvertOptions(tool="binary"))
    assert {r.name: len(r.objects) for r in report.source.records} == {"a": 0, "a_1": 1}
    assert report.source.skipped["masks without an image"] == 1


def test_other_values_and_sizes_are_said(tmp_path):
    root = lay(tmp_path / "source", ("masks/car/a.png", "masks/road/a.png"))
    write_mask(root / "masks/road/a.png", s.SCENE)
    assert not binary.recognizes(root)
    with pytest.raises(DataError, match=r"a\.png \('road'\): it has more values than 0 and one"):
        convert(root, tmp_path / "out", ConvertOptions(tool="binary"))
    write_mask(root / "masks/road/a.png", s.SCENE[:3] // 2)
    with pytest.raises(DataError, match=r"\(3, 8\) pixels"):
        convert(root, tmp_path / "out", ConvertOptions(tool="binary"))


def test_jpeg_masks_are_cut_in_the_middle(tmp_path):
    root = lay(tmp_path / "source", ("masks/car/a.png", "masks/road/a.png"))
    big = np.zeros((32, 32, 3), np.uint8)
    big[8:24, 8:24] = 255
    s.photo(root / "images/a.jpg", (32, 32))
    for name in ("car", "road"):
        (root / f"masks/{name}/a.png").unlink()
        write_image(root / f"masks/{name}/a.jpg", big)
    mask, _, _ = converted(root, tmp_path)
    assert ((mask > 0) == (big[..., 0] > 0)).all()
