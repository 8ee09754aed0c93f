import numpy as np
import pytest

from hrseg.convert.convert import convert
from hrseg.convert.kaggle import decode
from hrseg.errors import DataError
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted

CAR = s.SCENE == 2
RUNS = x.runs_of(CAR)
FORMS = {
    "airbus": ([{"ImageId": "a.png", "EncodedPixels": RUNS}], "object"),
    "severstal": ([{"ImageId_ClassId": "a.png_3", "EncodedPixels": RUNS}], "class 3"),
    "clouds": ([{"Image_Label": "a.png_Fish", "EncodedPixels": RUNS}], "Fish"),
    "carvana": ([{"img": "a.png", "rle_mask": RUNS}], "object"),
    "salt": ([{"id": "a", "rle_mask": RUNS}], "object"),
    "hubmap": ([{"id": "a", "encoding": RUNS}], "object"),
    "own": ([{"image_id": "a", "class_name": "no", "mask_rle": RUNS}], "no"),
    "fashion": (
        [{"ImageId": "a", "EncodedPixels": RUNS, "Height": 6, "Width": 8, "ClassId": "31_5_12"}],
        "class 31",
    ),
    "tract": ([{"id": "a", "class": "bowel", "segmentation": x.runs_of(CAR, "C")}], "bowel"),
    "cells": (
        [{"id": "a", "annotation": x.runs_of(CAR, "C"), "width": 8, "height": 6, "cell_type": "n"}],
        "n",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_contest(form, tmp_path):
    rows, label = FORMS[form]
    mask, labels, report = converted(x.kaggle(tmp_path / "source", rows).parent, tmp_path)
    assert labels.names == ["background", label]
    assert (mask == CAR).all()
    assert ("along the rows" in report.text()) == (form in ("tract", "cells"))


@pytest.mark.parametrize("nothing", ["", "-1", "nan"])
def test_images_of_no_runs_are_background(nothing, tmp_path):
    rows = [{"ImageId": n, "EncodedPixels": r} for n, r in (("a.png", RUNS), ("b.png", nothing))]
    path = x.kaggle(tmp_path / "source", rows)
    s.photo(path.parent / "train_images/b.png")
    x.table(path.parent / "sample_submission.csv", rows[:1])
    report = convert(path.parent, tmp_path / "out")
    assert report.splits == {"train": 2}
    assert report.tally.images == {"object": 1}


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("1 2 3", "3 numbers"),
        ("1 x", "no whole numbers"),
        ("47 3", "outside the 6x8 pixels"),
        ("0 3", "outside the 6x8 pixels"),
        ("1 -2", "outside the 6x8 pixels"),
        ("1 99999999999999999999", "no whole numbers"),
        ("1 9223372036854775807", "outside the 6x8 pixels"),
        ("10 5 3 2", "overlap or go backwards"),
    ],
)
def test_what_is_no_run_is_said(runs, words, tmp_path):
    rows = [{"ImageId": "a.png", "EncodedPixels": runs}]
    with pytest.raises(DataError, match=words) as error:
        convert(x.kaggle(tmp_path / "source", rows), tmp_path / "out")
    assert "train.csv, image 'a.png', line 2" in str(error.value)


def test_runs_undo_themselves_in_both_directions():
    rng = np.random.default_rng(1)
    for order in ("F", "C"):
        mask = rng.random((7, 9)) < 0.4
        assert (decode(x.runs_of(mask, order), order, mask.shape) == mask).all()


def test_several_tables_are_not_guessed(tmp_path):
    path = x.kaggle(tmp_path / "source")
    (path.parent / "train2.csv").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"several CSV files of run lengths: train\.csv, train2"):
        convert(path.parent, tmp_path / "out")
