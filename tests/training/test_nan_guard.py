import logging

import pytest
import torch
from torch import nn

from hrseg.data.dataset import SegmentationDataset
from hrseg.errors import TrainingError
from hrseg.training.fit import fit
from hrseg.training.nan_guard import MAX_SKIPPED_IN_A_ROW, NonFiniteGuard
from tests.small import small

NAN, FINE = torch.tensor(float("nan")), torch.tensor(1.0)


def test_a_finite_loss_passes():
    assert NonFiniteGuard(nn.BatchNorm2d(1)).passes(FINE, ["a"], 0, 0.1)


def test_a_lost_number_stops_the_run_with_the_names():
    with pytest.raises(TrainingError, match=r"nan at step 7, on a, b\..*now 0\.1"):
        NonFiniteGuard(nn.BatchNorm2d(1)).passes(NAN, ["a", "b"], 7, 0.1)


def test_a_skipped_batch_leaves_no_trace_in_the_batch_statistics(caplog):
    norm = nn.BatchNorm2d(2)
    guard = NonFiniteGuard(norm, "skip")
    guard.before_step(torch.zeros(1, 4, 4))
    norm(torch.full((1, 2, 4, 4), float("nan")))
    assert norm.running_mean.isnan().all()
    assert not guard.passes(NAN, ["bad.png"], 3, 0.1)
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert int(norm.num_batches_tracked) == 0
    assert "Skipped step 3: loss nan on bad.png" in caplog.text
    assert guard.epoch_notes() == ["1 batches skipped so far, their loss was no finite number."]


def test_statistics_on_another_device_than_at_the_start_are_put_back():
    norm = nn.BatchNorm2d(1)
    guard = NonFiniteGuard(norm, "skip")
    norm.to(torch.float64)  # replaces the buffers, as moving to a GPU does
    guard.before_step(torch.zeros(1, 4, 4))
    norm(torch.full((1, 1, 4, 4), float("nan"), dtype=torch.float64))
    assert not guard.passes(NAN, ["a"], 0, 0.1)
    assert torch.equal(norm.running_mean, torch.zeros(1, dtype=torch.float64))


def test_a_loss_that_is_read_late_is_told_with_its_own_step(monkeypatch):
    monkeypatch.setattr(NonFiniteGuard, "is_asynchronous", lambda self, loss: True)
    guard = NonFiniteGuard(nn.Identity())
    assert guard.passes(FINE, ["a"], 0, 0.1)
    assert guard.passes(NAN, ["b"], 1, 0.1)
    with pytest.raises(TrainingError, match=r"nan at step 1, on b\."):
        guard.passes(FINE, ["c"], 2, 0.1)
    guard.check_pending()  # told once


def test_nothing_is_saved_before_the_last_loss_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(NonFiniteGuard, "is_asynchronous", lambda self, loss: True)
    broken_image(monkeypatch, lambda sample: sample["image"].fill_(float("nan")))
    with pytest.raises(TrainingError, match="scene_00001"):
        fit(small(tmp_path, "trainer.max_epochs=1"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_skipping_without_end_stops():
    guard = NonFiniteGuard(nn.Identity(), "skip")
    for _ in range(MAX_SKIPPED_IN_A_ROW):
        assert not guard.passes(NAN, ["a"], 0, 0.1)
    with pytest.raises(TrainingError, match="20 batches in a row were skipped"):
        guard.passes(NAN, ["a"], 0, 0.1)


def test_a_good_batch_between_begins_the_row_anew():
    guard = NonFiniteGuard(nn.Identity(), "skip")
    for _ in range(3):
        for _ in range(MAX_SKIPPED_IN_A_ROW - 1):
            guard.passes(NAN, ["a"], 0, 0.1)
        assert guard.passes(FINE, ["a"], 0, 0.1)


def test_crops_without_labels_are_counted_anew_each_epoch():
    guard = NonFiniteGuard(nn.Identity())
    mask = torch.zeros(3, 2, 2, dtype=torch.long)
    mask[1] = 255
    guard.before_step(mask)
    guard.before_step(mask)
    assert guard.epoch_notes()[0].startswith("2 of 6 crops held only ignored pixels")
    assert guard.epoch_notes() == []


def broken_image(monkeypatch, change):
    """Change the sample scene_00001 of every training set."""
    original = SegmentationDataset.__getitem__

    def changed(self, draw):
        sample = original(self, draw)
        if self.recipe is not None and sample["name"].endswith("1"):
            change(sample)
        return sample

    monkeypatch.setattr(SegmentationDataset, "__getitem__", changed)


def test_a_run_goes_on_without_the_bad_image(tmp_path, monkeypatch, caplog):
    broken_image(monkeypatch, lambda sample: sample["image"].fill_(float("inf")))
    result = fit(small(tmp_path, "trainer.non_finite=skip"))
    state = torch.load(result.run_dir / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
    assert "Skipped step" in caplog.text
    assert "2 batches skipped so far" in caplog.text


def test_a_run_reports_crops_that_teach_nothing(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "hrseg")
    broken_image(monkeypatch, lambda sample: sample["mask"].fill_(255))
    fit(small(tmp_path, "trainer.max_epochs=1"))
    assert "1 of 4 crops held only ignored pixels" in caplog.text
