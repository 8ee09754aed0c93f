import math

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.errors import ConfigError, DataError
from hrseg.metrics.confusion import ConfusionMatrix, scores, table

# rows the mask, columns the prediction: class 0 hits 3 of 4, class 1 hits 4 of 6, class 2 hits 1 of 2
HAND = torch.tensor([[3, 1, 0], [1, 4, 1], [0, 1, 1]])


def maps_of(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, P) prediction and mask whose confusion matrix this is."""
    truth, found = torch.meshgrid(*map(torch.arange, matrix.shape), indexing="ij")
    counts = matrix.flatten()
    return (
        found.flatten().repeat_interleave(counts).reshape(1, -1),
        truth.flatten().repeat_interleave(counts).reshape(1, -1),
    )


def random_maps(classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and masks (5, 17, 23), a fifth of the mask pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randint(0, classes, (5, 17, 23), generator=generator)
    target = torch.randint(0, classes, (5, 17, 23), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return pred, target


def test_scores_of_three_classes_by_hand():
    metric = ConfusionMatrix(num_classes=3)
    metric.update(*maps_of(HAND))
    result = metric.compute()
    assert torch.equal(result["matrix"], HAND)
    assert result["iou"].tolist() == [3 / 5, 4 / 8, 1 / 3]
    assert result["miou"] == pytest.approx((3 / 5 + 4 / 8 + 1 / 3) / 3)
    assert result["precision"].tolist() == [3 / 4, 4 / 6, 1 / 2]
    assert result["recall"].tolist() == [3 / 4, 4 / 6, 1 / 2]
    assert result["f1"].tolist() == [6 / 8, 8 / 12, 2 / 4]
    assert result["share"].tolist() == [4 / 12, 6 / 12, 2 / 12]
    assert result["pixel_accuracy"] == 8 / 12
    assert result["mean_accuracy"] == pytest.approx((3 / 4 + 4 / 6 + 1 / 2) / 3)
    weighted = 4 / 12 * 3 / 5 + 6 / 12 * 4 / 8 + 2 / 12 * 1 / 3
    assert result["frequency_weighted_iou"] == pytest.approx(weighted)
    assert result["absent"] == []


def test_rows_are_the_mask_and_columns_the_prediction():
    metric = ConfusionMatrix(num_classes=2)
    metric.update(pred=torch.tensor([[1, 1]]), target=torch.tensor([[0, 1]]))
    assert metric.compute()["matrix"].tolist() == [[0, 1], [0, 1]]


def test_ignored_pixels_are_not_counted_whatever_is_predicted_there():
    metric = ConfusionMatrix(num_classes=2)
    metric.update(pred=torch.tensor([[1, 99, 255]]), target=torch.tensor([[1, 255, 255]]))
    assert metric.compute()["matrix"].tolist() == [[0, 0], [0, 1]]


def test_another_ignore_index_is_obeyed():
    metric = ConfusionMatrix(num_classes=2, ignore_index=-1)
    metric.update(pred=torch.tensor([[1, 1]]), target=torch.tensor([[1, -1]]))
    assert metric.compute()["matrix"].sum() == 1


def test_two_uneven_batches_equal_one_pass():
    pred, target = random_maps(4)
    whole, parts = ConfusionMatrix(4), ConfusionMatrix(4)
    whole.update(pred, target)
    parts.update(pred[0], target[0])
    parts.update(pred[1:], target[1:])
    assert torch.equal(whole.compute()["matrix"], parts.compute()["matrix"])
    assert whole.compute()["miou"] == parts.compute()["miou"]


def test_two_devices_equal_one_pass():
    pred, target = random_maps(4)
    whole, here, there = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    whole.update(pred, target)
    here.update(pred[:3], target[:3])
    there.update(pred[3:], target[3:])
    here.distributed_available_fn = lambda: True
    here.dist_sync_fn = lambda value, group: [value, there.matrix]
    assert torch.equal(here.compute()["matrix"], whole.compute()["matrix"])
    assert here.compute()["miou"] == whole.compute()["miou"]


def test_merged_metrics_equal_one_pass():
    pred, target = random_maps(4)
    whole, first, second = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    whole.update(pred, target)
    first.update(pred[:3], target[:3])
    second.update(pred[3:], target[3:])
    first.merge_state(second)
    assert torch.equal(first.compute()["matrix"], whole.compute()["matrix"])


def test_reset_forgets_everything():
    metric = ConfusionMatrix(3)
    metric.update(*maps_of(HAND))
    metric.reset()
    metric.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert metric.compute()["matrix"].sum() == 1


def test_counts_beyond_float_precision_stay_exact():
    metric = ConfusionMatrix(2)
    metric.matrix += 2**55  # one more is lost in float64 already, and 2**24 + 1 in float32
    metric.update(torch.tensor([[0]]), torch.tensor([[0]]))
    result = metric.compute()
    assert result["matrix"].dtype == torch.int64
    assert result["matrix"][0, 0].item() == 2**55 + 1


def test_byte_maps_of_many_classes_do_not_overflow():
    pred, target = random_maps(150)
    wide, narrow = ConfusionMatrix(150), ConfusionMatrix(150)
    wide.update(pred, target)
    narrow.update(pred.byte(), target.byte())
    assert torch.equal(wide.compute()["matrix"], narrow.compute()["matrix"])


def test_one_class_has_scores_of_its_own():
    metric = ConfusionMatrix(1)
    metric.update(torch.zeros(2, 2, dtype=torch.long), torch.tensor([[0, 0], [0, 255]]))
    result = metric.compute()
    assert result["miou"] == 1
    assert table(result, ["road"]).splitlines()[1].split() == ["road", *["100.00"] * 5]


def test_counts_stay_out_of_checkpoints():
    assert not ConfusionMatrix(3).state_dict()


# Classes that are not there


@pytest.mark.parametrize(
    ("rule", "miou", "iou", "accuracy"),
    [
        ("skip", 0.75, math.nan, 0.875),
        ("zero", 0.5, 0.0, 1.75 / 3),
        ("one", 2.5 / 3, 1.0, 2.75 / 3),
    ],
)
def test_absent_class_follows_the_rule(rule, miou, iou, accuracy):
    metric = ConfusionMatrix(3, absent=rule)
    metric.update(*maps_of(torch.tensor([[3, 1, 0], [0, 3, 0], [0, 0, 0]])))
    result = metric.compute()
    assert result["absent"] == [2]
    assert result["absent_rule"] == rule
    assert result["iou"][2].item() == pytest.approx(iou, nan_ok=True)
    assert result["miou"] == pytest.approx(miou)
    assert result["mean_accuracy"] == pytest.approx(accuracy)
    assert result["frequency_weighted_iou"] == pytest.approx(0.75)


def test_class_only_predicted_is_present_and_scores_zero():
    result = scores(torch.tensor([[3, 1], [0, 0]]))
    assert result["absent"] == []
    assert result["iou"].tolist() == [0.75, 0]
    assert result["miou"] == 0.375
    assert math.isnan(result["recall"][1])
    assert result["mean_accuracy"] == 0.75


def test_class_never_predicted_scores_zero_and_has_no_precision():
    result = scores(torch.tensor([[3, 0], [1, 0]]))
    assert result["iou"].tolist() == [0.75, 0]
    assert math.isnan(result["precision"][1])
    assert result["f1"][1] == 0


@pytest.mark.parametrize("absent", ["skip", "zero", "one"])
def test_only_ignored_pixels_give_no_score_and_no_crash(absent):
    metric = ConfusionMatrix(2, absent=absent)
    metric.update(torch.tensor([[0, 1]]), torch.tensor([[255, 255]]))
    result = metric.compute()
    for values in result.values():  # every number, whatever its name
        if isinstance(values, float) or (torch.is_tensor(values) and values.is_floating_point()):
            assert torch.as_tensor(values).isnan().all()
    assert table(result, ["road", "sky"]).startswith("Not scored: not one pixel")


# What is refused


def test_values_that_are_no_class_are_named():
    metric = ConfusionMatrix(2)
    with pytest.raises(DataError, match="The mask holds -1, 40; trainIds are 0 to 1"):
        metric.update(torch.tensor([[0, 0, 1]]), torch.tensor([[40, -1, 1]]))
    with pytest.raises(DataError, match="The prediction holds 255; trainIds are 0 to 1"):
        metric.update(torch.tensor([[255]]), torch.tensor([[1]]))
    assert metric.matrix.sum() == 0


def test_logits_instead_of_classes_are_refused():
    with pytest.raises(DataError, match=r"differ in shape.*argmax"):
        ConfusionMatrix(2).update(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
    with pytest.raises(DataError, match=r"prediction is torch.float32.*argmax"):
        ConfusionMatrix(2).update(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4).long())


def test_unknown_rule_and_no_class_are_refused():
    with pytest.raises(ConfigError, match=r"Unknown absent-class rule 'skipp'.*Did you mean 'skip'"):
        ConfusionMatrix(2, absent="skipp")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 classes cannot be scored"):
        ConfusionMatrix(0)


# The table


def test_table_is_aligned_and_in_per_cent():
    lines = table(scores(HAND), ["road", "sky", "traffic sign"]).splitlines()
    assert lines[0].split() == ["class", "IoU", "precision", "recall", "F1", "share"]
    assert lines[1].split() == ["road", "60.00", "75.00", "75.00", "75.00", "33.33"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[5] == "mIoU 47.78 % over 3 of 3 classes, pixel accuracy 66.67 %, mean accuracy 63.89 %"
    assert len(lines) == 6


@pytest.mark.parametrize(("rule", "words"), [("skip", "left out of the mean"), ("zero", "counted as zero")])
def test_table_names_the_absent_classes(rule, words):
    result = scores(torch.tensor([[2, 0, 0], [0, 0, 0], [0, 0, 0]]), rule)
    last = table(result, ["road", "sky", "train"]).splitlines()[-1]
    assert last == f"In neither mask nor prediction, {words}: sky, train"


def test_table_needs_one_name_per_class():
    with pytest.raises(DataError, match="2 class names for 3 classes"):
        table(scores(HAND), ["road", "sky"])


# The benchmark's own evaluator


def test_scores_equal_the_cityscapes_evaluator(tmp_path, monkeypatch):
    pytest.importorskip("cityscapesscripts", reason="the benchmark's evaluator: pip install cityscapesscripts")
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
    from cityscapesscripts.helpers.labels import labels

    train_ids = np.full(256, 255)
    for label in labels:
        if label.id >= 0:
            train_ids[label.id] = label.trainId
    scored = [label for label in labels if label.trainId not in (-1, 255)]
    random = np.random.default_rng(0)
    metric = ConfusionMatrix(len(scored))
    files: dict[str, list[str]] = {"pred": [], "mask": []}
    for image in range(3):
        # every id of the table in blocks of 8x8; the class "train" in neither, "bus" predicted only
        mask = random.choice([i for i in range(34) if i not in (28, 31)], size=(16, 32)).repeat(8, 0).repeat(8, 1)
        guess = random.choice([label.id for label in scored if label.id != 31], size=mask.shape)
        right = (random.random(mask.shape) < 0.7) & (train_ids[mask] != 255)
        pred = np.where(right, mask, guess)
        for name, ids in (("pred", pred), ("mask", mask)):
            files[name].append(str(tmp_path / f"{name}_{image}.png"))
            Image.fromarray(ids.astype(np.uint8)).save(files[name][-1])
        metric.update(torch.from_numpy(train_ids[pred]), torch.from_numpy(train_ids[mask]))
    monkeypatch.setattr(official.args, "evalInstLevelScore", False)
    monkeypatch.setattr(official.args, "evalPixelAccuracy", False)
    monkeypatch.setattr(official.args, "quiet", True)
    monkeypatch.setattr(official.args, "JSONOutput", False)
    theirs = official.evaluateImgLists(files["pred"], files["mask"], official.args)
    ours = metric.compute()
    assert ours["absent"] == [16]
    for label in scored:
        expected = theirs["classScores"][label.name]
        assert ours["iou"][label.trainId].item() == pytest.approx(expected, abs=0, rel=0, nan_ok=True), label.name
    assert ours["miou"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-15)
