"""Our protocols beside the originals' own test code, whose answers tools/reference_protocols.py keeps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hrseg.errors import ConfigError
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, to_tensor
from hrseg.inference.protocols import PROTOCOLS, Protocol, choose_protocol
from hrseg.inference.tta import SlidingWindowInference
from hrseg.metrics.confusion import ConfusionMatrix
from tests.reference.toy import MMSEG, OFFICIAL, toy_images, toy_logits

FOLDER = Path(__file__).parents[1] / "reference"
LIP_ORDER = [*range(14), 15, 14, 17, 16, 19, 18]
CASES = [("official", case) for case in OFFICIAL] + [("mmseg", case) for case in MMSEG]


def scorer(case):
    row = replace(PROTOCOLS[case.row], **case.changes)
    order = LIP_ORDER if case.row == "lip" else None
    logits = toy_logits(case.classes, case.aligned)
    return SlidingWindowInference(logits, row, flip_order=order, aligned=case.aligned)


@pytest.mark.parametrize(("source", "case"), CASES, ids=lambda value: getattr(value, "name", value))
def test_label_maps_and_scores_are_the_originals(source, case):
    kept = np.load(FOLDER / f"protocols_{source}.npz")
    run = scorer(case)
    for index, (image, _) in enumerate(toy_images(case)):
        logits = run(to_tensor(image, IMAGENET_MEAN, IMAGENET_STD)[None])
        assert logits.shape == (1, case.classes, *image.shape[:2])
        theirs = torch.from_numpy(kept[f"{case.name}.{index}.scores"])
        ours = logits[0, :, ::8, ::8].exp()
        if source == "mmseg" and run.protocol.views == 1:  # it gives logits, not what they were averaged as
            ours, theirs = logits.softmax(dim=1)[0, :, ::8, ::8], theirs.softmax(dim=0)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.max()))
        labels = logits[0].argmax(dim=0).numpy()
        np.testing.assert_array_equal(labels, kept[f"{case.name}.{index}.labels"])


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda case: case.name)
def test_miou_is_the_official_one_with_its_absent_class(case):
    run = scorer(case)
    matrix = ConfusionMatrix(case.classes, absent=run.protocol.absent)
    for image, mask in toy_images(case):
        pred = run(to_tensor(image, IMAGENET_MEAN, IMAGENET_STD)[None]).argmax(dim=1)
        matrix.update(pred[0], torch.from_numpy(mask).long())
    result = matrix.compute()
    assert case.classes - 1 in result["absent"]
    theirs = float(np.load(FOLDER / "protocols_official.npz")[f"{case.name}.miou"])
    assert result["miou"] == pytest.approx(theirs, abs=1e-12)


def test_rows_have_the_published_numbers():
    scales = (0.5, 0.75, 1, 1.25, 1.5, 1.75)
    city, crop = PROTOCOLS["official_cityscapes_ms"], PROTOCOLS["official_ade20k_ms"]
    assert (city.scales, city.flip, city.merge, city.base_size) == (scales, True, "exp", 2048)
    assert (city.window, city.stride_of(city.window)) == ((1024, 2048), (1024, 2048))
    assert (crop.scales, crop.flip, crop.merge, crop.base_size) == ((*scales, 2), True, "exp", 520)
    assert (crop.window, crop.stride_of(crop.window)) == ((520, 520), (346, 346))
    assert crop.keep_border
    assert not PROTOCOLS["official_crop"].keep_border
    assert PROTOCOLS["mmseg_slide"].stride_of((480, 480)) == (320, 320)
    assert PROTOCOLS["mmseg_tta"].scales == scales
    absent = {name: row.absent for name, row in PROTOCOLS.items()}
    assert {n for n, rule in absent.items() if rule == "zero"} == {
        n for n in PROTOCOLS if n.startswith("official") or n == "lip"
    }


def test_names_are_those_of_the_rows_and_say_something():
    for name, row in PROTOCOLS.items():
        assert row.name == name
        assert row.title
        assert row.describe()
    assert PROTOCOLS["whole"].plain
    assert not PROTOCOLS["tta"].plain


def test_changes_leave_the_rest_of_a_row():
    row = choose_protocol("official_crop", window=(480, 480), flip=True)
    assert (row.stride_of(row.window), row.merge, row.base_size) == ((320, 320), "exp", 520)
    assert choose_protocol("official_crop", overlap=0.25).stride is None
    assert choose_protocol(row) == row
    assert choose_protocol("tta", flip=False).flip is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "ofical_crop"}, "Did you mean 'official_crop'?"),
        ({"merge": "mean"}, "Unknown merge 'mean'. Merges: exp, logits, softmax."),
        ({"scales": [1, 0]}, "Scale 0 cannot be used"),
        ({"scales": [float("nan")]}, "Scale nan cannot be used"),
        ({"scales": [20]}, "up to 8"),
        ({"window": (500, 1000)}, "Next larger: (512, 1024)"),
        ({"window": (64, 64), "stride": (65, 10)}, "would leave gaps"),
        ({"window": (64, 64), "overlap": 1.0}, "outside 0 to 0.9"),
    ],
)
def test_what_cannot_work_is_refused(options, words):
    with pytest.raises(ConfigError) as error:
        choose_protocol(**options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("row", "size", "expected"),
    [
        (Protocol("", "", base_size=2048), (1024, 2048), (1024, 2048)),
        (Protocol("", "", base_size=520), (683, 512), (520, 390)),
        (Protocol("", "", base_short_side=520), (683, 512), (694, 520)),
        (Protocol("", "", base_size=520, base_short_side=520), (375, 500), (390, 520)),
        (Protocol("", ""), (1, 1), (1, 1)),
    ],
)
def test_size_at_scale_one(row, size, expected):
    assert row.size_at(1.0, *size) == expected
    assert min(row.size_at(0.01, *size)) >= 1


def test_the_page_tells_every_row_as_it_is():
    page = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
    for name, row in PROTOCOLS.items():
        absent = "0" if row.absent == "zero" else "left out"
        assert f"| `{name}` | {row.title} | {row.describe()} | {absent} |" in page
