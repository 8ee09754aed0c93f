import errno

import pytest
import torch

from hrseg.config import OPTIONS
from hrseg.errors import TrainingError
from hrseg.training.callbacks import ProgressBar, ProgressLines
from hrseg.training.checkpoints import AtomicCheckpointIO, BestAndLastCheckpoints, mode_of
from hrseg.training.task import SCORES


class Full:
    """A tensor-less object whose pickling fails as on a full disk."""

    def __reduce__(self):
        raise OSError(errno.ENOSPC, "No space left on device")


class FakeTrainer:
    sanity_checking = False
    is_global_zero = False
    global_step = 5
    current_epoch = 1
    state = type("State", (), {"fn": "fit"})

    def __init__(self):
        self.saved = []
        self.callback_metrics = {}

    def save_checkpoint(self, path):
        self.saved.append(path.name)


def test_written_checkpoint_opens_with_plain_types_only(tmp_path):
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2), "b": [1, "x", None]}, path)
    assert torch.load(path, weights_only=True)["b"] == [1, "x", None]
    assert AtomicCheckpointIO().load_checkpoint(path)["a"].tolist() == [1, 1]


def test_full_disk_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    with pytest.raises(TrainingError, match=r"No space left on device\. The one from before is whole"):
        AtomicCheckpointIO().save_checkpoint({"a": Full()}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_full_disk_at_the_first_write_leaves_nothing(tmp_path):
    with pytest.raises(TrainingError, match="Nothing was kept"):
        AtomicCheckpointIO().save_checkpoint({"a": Full()}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_best_is_written_only_for_a_better_score(tmp_path):
    checkpoints, trainer = BestAndLastCheckpoints(tmp_path), FakeTrainer()
    for score in (0.5, 0.4, float("nan"), 0.5, 0.6):
        trainer.callback_metrics["val/miou"] = torch.tensor(score)
        checkpoints.on_validation_end(trainer, None)
    assert trainer.saved == ["best.ckpt", "best.ckpt"]
    assert checkpoints.best == pytest.approx(0.6)


def test_resumed_run_remembers_the_best_score(tmp_path):
    old, new, trainer = (
        BestAndLastCheckpoints(tmp_path),
        BestAndLastCheckpoints(tmp_path),
        FakeTrainer(),
    )
    trainer.callback_metrics["val/miou"] = torch.tensor(0.7)
    old.on_validation_end(trainer, None)
    new.load_state_dict(old.state_dict())
    trainer.callback_metrics["val/miou"] = torch.tensor(0.6)
    new.on_validation_end(trainer, None)
    assert trainer.saved == ["best.ckpt"]
    assert new.scored_step == 5


def test_only_a_stopped_run_saves_on_its_way_out(tmp_path):
    checkpoints, trainer = BestAndLastCheckpoints(tmp_path), FakeTrainer()
    checkpoints.on_exception(trainer, None, TrainingError("nan"))
    assert trainer.saved == []
    checkpoints.on_exception(trainer, None, KeyboardInterrupt())
    assert trainer.saved == ["last.ckpt"]


def test_state_keys_are_those_of_older_checkpoints(tmp_path):
    assert BestAndLastCheckpoints(tmp_path).state_key == "KeepBestAndLast"
    assert ProgressLines().state_key == ProgressBar().state_key == "ProgressLines"


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("val/mean_accuracy", (0.5, 0.4, 0.6), 0.6),
        ("train/epoch_loss", (0.5, 0.4, 0.6), 0.4),
    ],
)
def test_another_number_chooses_the_best(tmp_path, name, values, best):
    checkpoints, trainer = BestAndLastCheckpoints(tmp_path, best_by=name), FakeTrainer()
    for value in values:
        trainer.callback_metrics["val/miou"] = torch.tensor(1 - value)
        trainer.callback_metrics[name] = torch.tensor(value)
        checkpoints.on_validation_end(trainer, None)
        checkpoints.on_train_epoch_end(trainer, None)
    assert trainer.saved.count("best.ckpt") == 2
    assert checkpoints.best == pytest.approx(best)
    resumed = BestAndLastCheckpoints(tmp_path, best_by="val/miou")
    resumed.load_state_dict(checkpoints.state_dict())
    assert resumed.best is None  # another kind of number cannot be compared


def test_every_score_that_can_choose_is_logged():
    logged = {f"val/{name}" for name in SCORES} | {"train/epoch_loss"}
    assert set(OPTIONS["trainer.best_by"].choices) == logged
    assert {mode_of(name) for name in logged if name.startswith("val/")} == {"max"}
