import logging
import shutil
import signal

import pytest
import torch

from hrseg.errors import ConfigError, WeightsError
from hrseg.training.fit import fit
from hrseg.training.run_dir import run_folder
from tests.small import FINISHED, small
from tests.training.conftest import last, stop_at


def same_weights(one, other):
    return all(torch.equal(one["state_dict"][key], other["state_dict"][key]) for key in one["state_dict"])


def test_run_folder_is_complete(finished):
    names = {path.name for path in finished.run_dir.iterdir()}
    assert names == {
        *("config.yaml", "versions.json", "metrics.csv", "per_class.txt", "curves.png"),
        *("best.ckpt", "last.ckpt", "previous.ckpt"),
    }
    assert finished.table.startswith("class")
    assert 0 < finished.best_score < 1
    assert f"mIoU {100 * finished.best_score:.2f}" in finished.table


def test_checkpoint_is_plain_and_complete(finished):
    card = last(finished.run_dir)["hrseg"]
    assert card["config"]["model"]["backbone"] == "hrnet_w18_small_v1"
    assert card["labels"]["name"] == "synthetic"


@pytest.mark.slow
def test_second_run_of_a_name_gets_a_folder_of_its_own(finished, tmp_path):
    again = fit(small(finished.run_dir.parent, *FINISHED))
    assert again.run_dir.name == "small-2"
    assert same_weights(last(finished.run_dir), last(again.run_dir))  # the seed decides


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "moment"),
    [
        (1, "on_train_batch_end"),
        (1, "on_train_batch_start"),  # the last batch of the epoch has been fetched, not learned
        (2, "on_train_batch_end"),
        (2, "on_validation_batch_end"),
        (3, "on_train_batch_end"),
    ],
)
def test_stopped_and_resumed_run_ends_like_an_unbroken_one(finished, tmp_path, monkeypatch, step, moment):
    config = small(tmp_path, *FINISHED)
    with monkeypatch.context() as patch:
        stop_at(patch, step, signal.SIGINT, moment)
        with pytest.raises(KeyboardInterrupt):
            fit(config)
    assert last(tmp_path / "small")["global_step"] == step
    resumed = fit(config, resume="last")
    assert resumed.run_dir == tmp_path / "small"
    assert same_weights(last(finished.run_dir), last(resumed.run_dir))
    assert resumed.best_score == finished.best_score
    metrics = [(f / "metrics.csv").read_text() for f in (finished.run_dir, resumed.run_dir)]
    scores = [[line.split(",")[6:] for line in text.splitlines()] for text in metrics]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_finished_run_resumed_does_nothing(finished):
    before = last(finished.run_dir)
    again = fit(small(finished.run_dir.parent, *FINISHED), resume=str(finished.run_dir))
    assert again.best_score == pytest.approx(finished.best_score)
    assert same_weights(before, last(finished.run_dir))


@pytest.mark.slow
def test_longer_run_goes_on_and_names_what_changed(tmp_path, caplog):
    fit(small(tmp_path, "trainer.max_epochs=1"))
    fit(small(tmp_path, "trainer.max_epochs=2"), resume="last")
    assert "trainer.max_epochs 1 → 2" in caplog.text
    assert last(tmp_path / "small")["global_step"] == 4


def test_frozen_weights_are_not_resumed_as_others_and_older_runs_have_none(finished, tmp_path, caplog):
    weights = f"model.weights={finished.run_dir / 'best.ckpt'}"
    frozen = small(finished.run_dir.parent, *FINISHED, weights, "model.freeze=norms")
    with pytest.raises(ConfigError, match=r"frozen weights \(model.freeze differs\)"):
        fit(frozen, resume="last")
    old = last(finished.run_dir)
    del old["hrseg"]["config"]["model"]["freeze"]
    (tmp_path / "small").mkdir()
    torch.save(old, tmp_path / "small" / "last.ckpt")
    fit(small(tmp_path, *FINISHED), resume="last")
    assert "other settings" not in caplog.text


def test_other_network_is_not_resumed(finished):
    config = small(finished.run_dir.parent, *FINISHED, "model.backbone=hrnet_w18_small_v2")
    with pytest.raises(ConfigError, match=r"another network .*\(model.backbone differs\)"):
        fit(config, resume=str(finished.run_dir))


def test_corrupt_checkpoint_is_not_resumed(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "last.ckpt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        fit(small(tmp_path), resume="last")


@pytest.mark.slow
def test_damaged_last_checkpoint_gives_way_to_the_one_before(finished, tmp_path, monkeypatch, caplog):
    config = small(tmp_path, *FINISHED)
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            fit(config)
    path = tmp_path / "small" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])
    resumed = fit(config, resume="last")
    assert "Going on from" in caplog.text
    assert "previous.ckpt" in caplog.text
    assert same_weights(last(finished.run_dir), last(resumed.run_dir))


@pytest.mark.slow
def test_checkpoints_inside_an_epoch(tmp_path):
    fit(small(tmp_path, "trainer.save_every_steps=3"))
    before = torch.load(tmp_path / "small" / "previous.ckpt", weights_only=True)
    assert before["global_step"] == 3
    assert last(tmp_path / "small")["global_step"] == 4


@pytest.mark.slow
def test_same_seed_same_digest(tmp_path):
    words = ("trainer.deterministic=true", "trainer.max_epochs=1")
    digests = [fit(small(tmp_path, *words, f"run.seed={seed}")).digest for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


def test_steps_end_a_run_and_the_last_weights_are_scored(tmp_path):
    words = ("trainer.max_epochs=null", "trainer.max_steps=3", "trainer.val_every_epochs=5")
    result = fit(small(tmp_path, *words))
    assert last(result.run_dir)["global_step"] == 3
    assert result.best_score > 0
    assert (result.run_dir / "best.ckpt").exists()


FIVE_STEPS = ("trainer.max_epochs=null", "trainer.max_steps=5", "trainer.val_every_epochs=1")


@pytest.fixture(scope="module")
def five_steps(tmp_path_factory):
    return fit(small(tmp_path_factory.mktemp("runs"), *FIVE_STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 3])
def test_run_of_steps_resumes_exactly(five_steps, tmp_path, monkeypatch, caplog, step):
    with monkeypatch.context() as patch:
        stop_at(patch, step, signal.SIGTERM)
        with pytest.raises(SystemExit):
            fit(small(tmp_path, *FIVE_STEPS))
    resumed = fit(small(tmp_path, *FIVE_STEPS), resume="last")
    assert last(resumed.run_dir)["global_step"] == 5
    assert same_weights(last(five_steps.run_dir), last(resumed.run_dir))
    assert resumed.best_score == five_steps.best_score
    assert "nothing is left to train" not in caplog.text


@pytest.mark.slow
def test_a_run_whose_steps_are_done_says_that_nothing_is_left(five_steps, caplog):
    again = fit(small(five_steps.run_dir.parent, *FIVE_STEPS), resume="last")
    assert again.best_score == five_steps.best_score
    assert "nothing is left to train. To train on, raise trainer.max_steps above 5." in caplog.text
    assert last(again.run_dir)["global_step"] == 5


def test_progress_of_a_run_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, "hrseg")
    fit(small(tmp_path, "trainer.max_epochs=1"))
    assert f"training in {tmp_path / 'small'}" in caplog.text
    assert "epoch 1/1" in caplog.text


# The schedule of a run that goes on with other settings

CHANGES = {
    "larger batches": ("data.batch_size=4", 2 + 2),
    "smaller batches": ("data.batch_size=1", 2 + 8),
    "accumulation": ("trainer.accumulate=2", 2 + 2),
    "more images": ("data.scenes=8", 2 + 8),
    "more epochs": ("trainer.max_epochs=5", 2 + 8),
    "fewer epochs": ("trainer.max_epochs=2", 2 + 2),
}


LINE = ("data.scenes=4", "data.batch_size=2", "optim.poly_power=1.0", "trainer.log_every_steps=1")


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    return fit(small(tmp_path_factory.mktemp("runs"), *LINE, "trainer.max_epochs=1")).run_dir


@pytest.mark.slow
@pytest.mark.parametrize(("change", "steps"), CHANGES.values(), ids=CHANGES)
def test_the_rate_of_a_resumed_run_falls_from_where_it_was_to_the_end(two_steps, tmp_path, change, steps):
    """Power 1 is a straight line over the steps done and those that remain; the last is one share above 0."""
    shutil.copytree(two_steps, tmp_path / two_steps.name)
    later = (*LINE, *(() if "max_epochs" in change else ("trainer.max_epochs=3",)), change)
    done = fit(small(tmp_path, *later), resume="last")
    lines = (done.run_dir / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/lr")
    rates = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    rate = small(tmp_path).optim.lr
    assert last(done.run_dir)["global_step"] == steps
    assert sorted(set(rates[2:]), reverse=True)[-1] == pytest.approx(rate / steps)
    assert max(rates[2:]) == pytest.approx(rate * (1 - 2 / steps))


@pytest.mark.slow
def test_an_unfinished_epoch_goes_on_with_other_batches(tmp_path, monkeypatch):
    base = ("data.scenes=8", "optim.poly_power=1.0", "trainer.max_epochs=1")
    with monkeypatch.context() as patch:
        stop_at(patch, 2, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            fit(small(tmp_path, *base, "data.batch_size=2"))
    fit(small(tmp_path, *base, "data.batch_size=1"), resume="last")
    assert last(tmp_path / "small")["global_step"] == 2 + 4  # four images of eight were learned


@pytest.mark.slow
def test_fewer_epochs_than_are_done_are_refused_with_their_number(tmp_path):
    fit(small(tmp_path, "trainer.max_epochs=2"))
    with pytest.raises(ConfigError, match=r"has 2 epochs behind it, and trainer\.max_epochs is 1"):
        fit(small(tmp_path, "trainer.max_epochs=1"), resume="last")


def test_run_in_use_is_not_resumed(finished):
    folder = finished.run_dir
    with (
        run_folder(folder.parent, "small", folder),
        pytest.raises(ConfigError, match="Another process is training"),
    ):
        fit(small(folder.parent, *FINISHED), resume=str(folder))
