import numpy as np
import pytest
from pycocotools import mask as oracle

from hrseg.imaging.rle import (
    coco_counts,
    coco_string,
    from_coco,
    from_label_studio,
    pixels,
    runs,
    to_coco,
    to_label_studio,
    unpack,
)


def test_coco_strings_equal_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 0.98, 1):
        for size in ((1, 1), (7, 5), (300, 40), (64, 2000)):
            mask = rng.random(size) < share
            text = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
            assert to_coco(mask) == text
            assert (from_coco(text, size) == mask).all()
            assert (from_coco(coco_counts(text), size) == mask).all()


def test_coco_counts_go_down_the_columns():
    assert from_coco([1, 2, 3], (3, 2)).astype(int).tolist() == [[0, 0], [1, 0], [1, 0]]
    assert coco_string([1, 2, 3]) == "123"
    assert coco_counts(coco_string([0, 5, 100000, 3, 2**33])) == [0, 5, 100000, 3, 2**33]


def test_runs_begin_with_what_is_off():
    assert runs(np.array([0, 0, 1, 0], bool)) == [2, 1, 1]
    assert runs(np.zeros(3, bool)) == [3]
    assert pixels([0, 1, 2], 3).tolist() == [True, False, False]


@pytest.mark.parametrize("counts", [[1, 2], [3, -1, 4], "12", "~", "P"])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match=r"run lengths|letter|middle"):
        from_coco(counts, (3, 2))


# What label-studio-converter 0.0.59 makes of a mask of 255 at rows 1 and 2: mask2rle
BRUSH = [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 132, 192, 35, 255, 0]


def test_a_brush_of_label_studio():
    found = from_label_studio(BRUSH, (3, 5))
    assert found.astype(int).tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def bits(*fields):
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


HEAD = [(7, 5), (2, 4), (3, 4), (7, 4), (15, 4)]


def test_literal_blocks_as_the_browser_writes_them():
    # two RGBA pixels of which one is transparent: five words one by one, then three times 0
    words = [(9, 8), (8, 8), (7, 8), (255, 8), (0, 8)]
    data = bits((8, 32), *HEAD, (0, 1), (1, 2), (4, 4), *words, (1, 1), (0, 2), (2, 3), (0, 8))
    assert unpack(data, 8).tolist() == [9, 8, 7, 255, 0, 0, 0, 0]
    assert from_label_studio(data, (1, 2)).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (BRUSH[:8], "ends after"),
        (BRUSH, "holds 60 values instead of 64"),
        ([1, 300], "list of bytes"),
        (["a"], "list of bytes"),
        ([], "list of bytes"),
        (bits((64, 32), *HEAD, (1, 1), (3, 2), (999, 16), (0, 8)), "runs beyond"),
    ],
)
def test_damaged_brushes_are_refused(data, words):
    size = (3, 5) if data is not BRUSH and len(data) == 8 else (4, 4)
    with pytest.raises(ValueError, match=words):
        from_label_studio(data, size)


def test_label_studio_brushes_of_every_length_of_run():
    rng = np.random.default_rng(4)
    for lengths in (
        [1, 2, 3, 4, 5],
        [70_000, 3, 16_384, 16_385],
        rng.integers(1, 300, 60).tolist(),
    ):
        mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[None]
        assert (from_label_studio(to_label_studio(mask), mask.shape) == mask).all()
    one = np.array([[False, True]])  # the length, 8 bits a word, the sizes of counts; two runs of four
    expected = f"{8:032b}00111" + "0010001101111111" + "10001100000000" + "10001111111111"
    assert "".join(f"{byte:08b}" for byte in to_label_studio(one)).startswith(expected)
