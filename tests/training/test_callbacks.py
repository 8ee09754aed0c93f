import io
import logging
import re

import numpy as np
import pytest
from rich.console import Console

from hrseg.data.datamodule import SegmentationData
from hrseg.imaging import image_size
from hrseg.training.build import build_task
from hrseg.training.callbacks import ProgressBar, ProgressLines, ValidationImages
from hrseg.training.trainer import build_trainer, quiet_lightning
from tests.small import small

LINE = r"epoch {}/2  loss \d+\.\d{{4}}  mIoU \d+\.\d\d \(best \d+\.\d\d\)  lr \S+  \d+\.\d images/s  "


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


def data(**options) -> SegmentationData:
    settings = {"scenes": 4, "scene_size": (32, 64), "crop": (32, 64), "batch_size": 2}
    return SegmentationData(layout="synthetic", workers=0, **{**settings, **options})


def fit(tmp_path, callback, *words):
    config = small(tmp_path, *words)
    scenes = data()
    trainer = build_trainer(config, None, [callback])
    trainer.fit(build_task(config, scenes), datamodule=scenes)
    return trainer


def test_one_line_an_epoch(tmp_path, caplog):
    caplog.set_level(logging.INFO, "hrseg.training.callbacks")
    fit(tmp_path, ProgressLines())
    lines = [record.message for record in caplog.records if record.name == "hrseg.training.callbacks"]
    assert len(lines) == 2
    assert re.fullmatch(LINE.format(1) + r"\d+ s left", lines[0])
    assert re.fullmatch(LINE.format(2) + r"done in \d+ s", lines[1])


def test_epoch_without_validation_shows_no_score(tmp_path, caplog):
    caplog.set_level(logging.INFO, "hrseg.training.callbacks")
    fit(tmp_path, ProgressLines(), "trainer.val_every_epochs=2")
    lines = [record.message for record in caplog.records if record.name == "hrseg.training.callbacks"]
    assert ["mIoU" in line for line in lines] == [False, True]


def test_loss_of_an_epoch_is_the_mean_of_its_batches(tmp_path):
    losses = []

    class Note(ProgressLines):
        def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, task, outputs, batch, batch_idx)
            losses.append(float(trainer.callback_metrics["train/loss"]))

    words = ("trainer.max_epochs=1", "trainer.accumulate=2")
    trainer = fit(tmp_path, Note(), *words)
    assert float(trainer.callback_metrics["train/epoch_loss"]) == pytest.approx(np.mean(losses))


def test_bar_leaves_the_lines_standing(tmp_path):
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=120))
    fit(tmp_path, bar, "trainer.max_epochs=1")
    assert re.search(r"epoch 1/1  loss .*mIoU .*done in", screen.getvalue())
    assert "validating" in screen.getvalue()
    assert bar._bar is None


def test_bar_and_lines_continue_each_other():
    assert ProgressBar().state_key == ProgressLines().state_key


def test_pictures_show_the_same_images_when_due_and_at_the_end(tmp_path):
    scenes = data(scenes=20)
    config = small(tmp_path, "trainer.max_epochs=3", "trainer.options={limit_train_batches: 1}")
    drawn = []

    class Note(ValidationImages):
        def on_validation_end(self, trainer, task):
            drawn.append([name for name, _ in self._rows])
            super().on_validation_end(trainer, task)

    pictures = Note(tmp_path, scenes.labels, every=2, count=2, mean=scenes.config.mean, std=scenes.config.std)
    build_trainer(config, None, [pictures]).fit(build_task(config, scenes), datamodule=scenes)
    chosen = ["val/scene_00000", "val/scene_00002"]
    assert drawn == [[], [], chosen, chosen]  # sanity check, then three epochs
    files = sorted(path.name for path in tmp_path.glob("*.png"))
    assert files == ["epoch_0002.png", "epoch_0003.png"]
    height, width = image_size(tmp_path / files[0])
    assert width >= 3 * 64
    assert height >= 2 * 32
