import numpy as np
import pytest
import torch

from hrseg.errors import ConfigError, DataError
from hrseg.evaluation.callbacks import WorstImages, worst_of
from hrseg.metrics.boundary import boundary_iou
from hrseg.metrics.calibration import calibration_error, reliability
from hrseg.metrics.confusion import ConfusionMatrix
from hrseg.metrics.records import read_records
from hrseg.metrics.scores import results
from hrseg.metrics.statistics import (
    EvaluationSettings,
    collect,
    measure,
    pixels_per_image,
    read_statistics,
)
from tests.metrics.test_boundary import formulation, scene

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
NAMES = ("road", "sky", "tree", "car")


def image(seed):
    """Logits that mostly choose a shifted mask."""
    truth, found = scene(seed)
    draw = np.random.default_rng(seed)
    logits = draw.standard_normal((4, *truth.shape)) + 3 * np.eye(4)[found].transpose(2, 0, 1)
    return torch.from_numpy(logits).float(), torch.from_numpy(truth).long()


def statistics(count=4, pixels=500):
    rows = {f"{i}": measure(*image(i), f"{i}", EvaluationSettings(), pixels) for i in range(count)}
    return collect(rows, NAMES, COLORS, EvaluationSettings(), "m", "whole image", {"split": "split val"})


def test_the_sums_are_those_of_all_pixels():
    metric, maps = ConfusionMatrix(4), [image(i) for i in range(4)]
    for logits, mask in maps:
        metric.update(logits.argmax(dim=0), mask)
    found = results(statistics())
    assert found.scores["miou"] == pytest.approx(metric.compute()["miou"])
    valid = [mask != 255 for _, mask in maps]
    logits = torch.cat([z[:, v].T for (z, _), v in zip(maps, valid, strict=True)])
    truth = torch.cat([m[v] for (_, m), v in zip(maps, valid, strict=True)])
    bins = reliability(logits.numpy(), truth.numpy(), 1, 15)
    assert found.ece == pytest.approx(calibration_error(bins), abs=1e-6)
    loss = torch.nn.functional.cross_entropy(logits.double(), truth)
    assert found.nll == pytest.approx(float(loss), rel=1e-5)


def test_boundary_iou_of_one_image_is_that_of_its_masks():
    logits, mask = image(0)
    width = round(0.02 * np.hypot(*mask.shape))
    row = measure(logits, mask, "0", EvaluationSettings(), 10)
    expected = formulation(mask.numpy(), logits.argmax(dim=0).numpy(), 4, width)
    np.testing.assert_allclose(boundary_iou(row["boundary"])[0], expected)


def test_confidence_is_summed_by_chosen_class():
    logits, mask = image(1)
    row = measure(logits, mask, "1", EvaluationSettings(), 10)
    confidence, chosen = logits.softmax(dim=0).max(dim=0)
    expected = [float(confidence[(chosen == k) & (mask != 255)].sum()) for k in range(4)]
    assert row["confidence"].tolist() == pytest.approx(expected, rel=1e-5)


def test_all_pixels_or_a_few_are_stored_and_the_same_ones_each_time():
    logits, mask = image(0)
    one, again = (measure(logits, mask, "a", EvaluationSettings(), 50) for _ in range(2))
    other = measure(logits, mask, "b", EvaluationSettings(), 50)
    assert np.array_equal(one["logits"], again["logits"])
    assert not np.array_equal(one["logits"], other["logits"])
    every = measure(logits, mask, "a", EvaluationSettings(), 10**6)
    assert len(every["truth"]) == int((mask != 255).sum())
    assert (every["logits"].max(axis=1) == 0).all()
    assert np.array_equal(np.bincount(every["truth"], minlength=4), every["matrices"].sum(axis=1))


def test_the_stored_logits_stay_few():
    assert pixels_per_image(100, 11) == 2000
    assert pixels_per_image(2000, 150) * 2000 * 150 <= 8_000_000
    assert pixels_per_image(10**9, 150) == 1


def test_everything_comes_back_from_the_file_and_it_is_a_ledger(tmp_path):
    stored = statistics()
    stored.save(tmp_path / "l.npz")
    assert read_records(tmp_path / "l.npz").names == ("0", "1", "2", "3")
    back = read_statistics(tmp_path / "l.npz")
    assert results(back).to_dict() == results(stored).to_dict()
    assert (back.protocol, back.metadata, back.settings) == (
        stored.protocol,
        stored.metadata,
        stored.settings,
    )


def test_some_images_are_evaluated_as_if_they_were_all():
    two = results(statistics().take(["0", "1"])).to_dict()
    assert two == results(statistics(2)).to_dict()


def test_a_plain_ledger_has_no_statistics(tmp_path):
    statistics().records.save(tmp_path / "l.npz")
    with pytest.raises(DataError, match="hrseg evaluate"):
        read_statistics(tmp_path / "l.npz")


def test_no_mask_no_evaluation():
    with pytest.raises(DataError, match="split with labeled masks"):
        collect({}, NAMES, COLORS, EvaluationSettings())


@pytest.mark.parametrize("wrong", [{"ratio": 0}, {"bins": 7}, {"bands": (4, 2)}, {"distances": ()}])
def test_settings_that_measure_nothing_are_refused(wrong):
    with pytest.raises(ConfigError):
        EvaluationSettings(**wrong)


def test_the_worst_images_are_sorted():
    photo, mask = np.zeros((4, 8, 3), np.uint8), np.zeros((4, 8), np.uint8)
    worst = WorstImages(2)
    for hits in (5, 1, 9, 3):
        matrix = np.array([[hits, 10 - hits], [0, 0]])
        if worst.admits(matrix):
            worst.add(f"{hits}", matrix, photo, mask, mask)
    assert [one.name for one in worst.sorted()] == ["1", "3"]
    assert [one.name for one in worst_of([worst.sorted(), worst.sorted()[:1]], 2)] == ["1", "1"]
    assert not WorstImages(0).admits(matrix)
