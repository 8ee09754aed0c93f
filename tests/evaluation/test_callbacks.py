import numpy as np
import pytest
import torch

from hrseg.evaluation.callbacks import RecordImages, WritePredictions
from hrseg.imaging import read_mask
from hrseg.training.build import build_data, build_task
from hrseg.training.trainer import build_trainer, quiet_lightning
from tests.small import small


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


def data(folder):
    scenes = build_data(small(folder))
    scenes.setup("test")
    return scenes


def test_predictions_are_written_in_dataset_ids(tmp_path):
    scenes = data(tmp_path)
    task = build_task(small(tmp_path), scenes)
    writer = WritePredictions(tmp_path / "out", scenes.labels)
    build_trainer(small(tmp_path), None, [writer]).test(task, datamodule=scenes, verbose=False)
    (file,) = (tmp_path / "out").rglob("*.png")
    batch = next(iter(scenes.test_dataloader()))
    pred = task.eval()(batch["image"]).argmax(1)[0].to(torch.uint8).numpy()
    assert np.array_equal(read_mask(file), scenes.labels.decode(pred))


def test_the_records_sums_to_the_score(tmp_path):
    config = small(tmp_path, "data.scenes=12")
    scenes = build_data(config)
    task, recorder = build_task(config, scenes), RecordImages(scenes.labels)
    build_trainer(config, None, [recorder]).validate(task, datamodule=scenes, verbose=False)
    records = recorder.records("m")
    assert len(records.names) == len(scenes.val_pairs)
    assert np.array_equal(records.matrices.sum(axis=0), task.result["matrix"].numpy())
    assert records.scores()["miou"] == pytest.approx(task.result["miou"])
