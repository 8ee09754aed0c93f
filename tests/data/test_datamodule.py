"""Splits, loaders, and the epoch that Lightning passes along."""

import contextlib
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from hrseg.data.datamodule import (
    MAX_WORKERS,
    SegmentationData,
    default_workers,
    retain_memory,
)
from hrseg.data.synthetic import write_scenes
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import write_image


def synthetic(**options: Any) -> SegmentationData:
    defaults = {
        "scenes": 8,
        "scene_size": (32, 48),
        "crop": (16, 24),
        "batch_size": 2,
        "workers": 0,
    }
    return SegmentationData(layout="synthetic", **{**defaults, **options})


def on_device(data: SegmentationData, rank: int, world: int) -> SegmentationData:
    root = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world,
        num_devices=world,
        strategy=root,
        fit_loop=pl.Trainer(accelerator="cpu", logger=False).fit_loop,
    )
    return data


def test_training_batches_are_crops():
    data = synthetic()
    batches = list(data.train_dataloader())
    assert len(batches) == 4
    assert batches[0]["image"].shape == (2, 3, 16, 24)
    assert batches[0]["mask"].shape == (2, 16, 24)
    assert len({name for batch in batches for name in batch["name"]}) == 8


def test_an_epoch_ends_with_the_last_full_batch():
    sizes = [len(batch["name"]) for batch in synthetic(scenes=9).train_dataloader()]
    assert sizes == [2, 2, 2, 2]


def test_evaluation_is_whole_and_one_at_a_time():
    data = synthetic()
    batches = list(data.val_dataloader())
    assert [tuple(batch["image"].shape) for batch in batches] == [(1, 3, 32, 48)] * 2
    assert batches[0]["name"] == ["val/scene_00000"]
    assert len(data.test_dataloader()) == len(data.predict_dataloader()) == 2


def test_synthetic_splits_differ():
    data = synthetic()
    images = [
        loader.dataset[0]["image"]
        for loader in (data.val_dataloader(), data.test_dataloader(), data.train_dataloader())
    ]
    assert not torch.equal(images[0], images[1])
    with pytest.raises(DataError, match="Unknown synthetic split 'vall'"):
        _ = synthetic(val_split="vall").val_pairs


@pytest.mark.slow
def test_long_synthetic_runs_never_repeat_a_scene():
    dataset = synthetic(scenes=100_001).train_dataloader().dataset
    dataset.recipe = None
    assert not torch.equal(dataset[10_000]["image"], dataset[100_000]["image"])


@pytest.mark.parametrize("world", [2, 3])
def test_shards_of_the_loaders(world):
    names, valid = [], []
    for rank in range(world):
        data = on_device(synthetic(scenes=20, batch_size=1), rank, world)
        names += [batch["name"][0] for batch in data.train_dataloader()]
        valid += [batch["name"][0] for batch in data.val_dataloader() if (batch["mask"] != 255).any()]
        assert len(data.val_dataloader()) == -(-5 // world)
    assert len(set(names)) == len(names) == 20 // world * world
    assert sorted(valid) == [f"val/scene_{i:05d}" for i in range(5)]


def test_too_few_images_for_a_batch():
    with pytest.raises(DataError, match=r"3 training images do not fill one step: 1 x 4 \(devices"):
        synthetic(scenes=3, batch_size=4).sample_batch()
    with pytest.raises(DataError, match="batch_size=2 or less"):
        on_device(synthetic(scenes=4, batch_size=3), 0, 2).setup("fit")
    with pytest.raises(DataError, match="Use at most 3 devices with"):
        on_device(synthetic(scenes=3, batch_size=2), 0, 4).setup("fit")


def test_counts_of_classes():
    data = synthetic(crop=(32, 48))
    counts = data.count_classes()
    assert counts.dtype == np.int64
    assert counts.shape == (data.labels.num_classes,)
    valid = sum((batch["mask"] != 255).sum() for batch in whole(data))
    assert counts.sum() == valid


def whole(data: SegmentationData) -> list[dict[str, torch.Tensor]]:
    dataset = data.train_dataloader().dataset
    dataset.recipe = None
    return list(dataset)


def test_rare_crops_hold_rare_classes():
    seen = {}
    for sampling in ("uniform", "rare"):
        data = synthetic(scenes=40, sampling=sampling)
        rarest = int(np.argmin(data.count_classes()))
        masks = torch.cat([batch["mask"] for batch in data.train_dataloader()])
        seen[sampling] = int((masks == rarest).flatten(1).any(dim=1).sum())
    assert seen["rare"] > seen["uniform"]


@pytest.mark.parametrize("layout", ["camvid", "cityscapes", "ade20k"])
def test_trees_on_disk(tmp_path: Path, layout: str):
    write_scenes(tmp_path, layout, {"train": 2, "val": 1}, (32, 48))
    data = SegmentationData(layout=layout, root=tmp_path, crop=(16, 16), batch_size=2, workers=0)
    data.setup("fit")
    assert (len(data.train_pairs), len(data.val_pairs)) == (2, 1)
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (1, 3, 32, 48)
    assert batch["mask"].unique().numel() > 2


@pytest.mark.parametrize(("train", "both"), [("train", 0), ("trainval", 2)])
def test_validation_images_that_are_learned_are_told(tmp_path: Path, caplog, train: str, both: int):
    write_scenes(tmp_path, "camvid", {"train": 3, "val": 2}, (32, 64))
    data = SegmentationData(layout="camvid", root=tmp_path, train_split=train, crop=(32, 64), batch_size=1)
    with caplog.at_level("WARNING"):
        data.setup("fit")
        data.setup("validate")
    assert [f"{both} of 2 images of the split are training images" in text for text in caplog.messages] == [True] * (
        both > 0
    )


def test_own_folder_with_own_classes(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.labels is not set. Layout 'folder' .*PATH"):
        SegmentationData(layout="folder", root=tmp_path)
    write_scenes(tmp_path, "folder", {"train": 2, "val": 1}, (32, 48))
    data = SegmentationData(
        layout="folder", root=tmp_path, labels=tmp_path / "labels.yaml", crop=(16, 16), batch_size=2
    )
    assert data.sample_batch()["mask"].max() < data.labels.num_classes


def test_images_without_masks_only_serve_the_test(tmp_path: Path):
    write_scenes(tmp_path, "cityscapes", {"train": 2, "val": 1}, (32, 48))
    write_image(
        tmp_path / "leftImg8bit/test/berlin/berlin_000000_000019_leftImg8bit.png",
        np.zeros((32, 48, 3), np.uint8),
    )
    data = SegmentationData(layout="cityscapes", root=tmp_path, val_split="test", workers=0)
    assert (next(iter(data.test_dataloader()))["mask"] == 255).all()
    with pytest.raises(DataError, match=r"1 images of split 'test' .* Set data\.val_split"):
        data.setup("validate")


def test_unknown_layout():
    with pytest.raises(ConfigError, match=r"Unknown layout 'citiscapes'.*synthetic.*'cityscapes'"):
        SegmentationData(layout="citiscapes")


class Watcher(pl.LightningModule):
    """Learns nothing and notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, list[str], float]] = []

    def training_step(self, batch: dict[str, Any], batch_index: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch["name"], float(batch["image"].sum())))
        return self.weight.sum()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Saver(pl.Callback):
    """Writes a checkpoint at one moment of the second epoch, and stops there."""

    def __init__(self, moment: str, path: Path) -> None:
        self.moment = moment
        self.path = path

    def _save(self, moment: str, trainer: pl.Trainer) -> None:
        if moment == self.moment and trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):  # type: ignore
        self._save(f"batch {batch_idx}", trainer)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):  # type: ignore
        self._save(f"before {batch_idx}", trainer)

    def on_validation_end(self, trainer, pl_module):  # type: ignore
        self._save("validation", trainer)

    def on_train_epoch_end(self, trainer, pl_module):  # type: ignore
        self._save("epoch", trainer)


def train(workers: int, callbacks: list, resume: Path | None = None, **options: Any) -> list[Any]:
    watcher = Watcher()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **options,
    )
    with contextlib.suppress(SystemExit, KeyboardInterrupt), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning has something to say about every small run
        trainer.fit(watcher, datamodule=synthetic(workers=workers), ckpt_path=resume)
    return watcher.seen


@pytest.fixture(scope="module")
def straight() -> list[Any]:
    """What three epochs of four batches show, without a stop."""
    return train(0, [], max_epochs=3)


def test_lightning_passes_the_epoch_along(straight):
    assert len(straight) == 12
    assert [row[1] for row in straight[:4]] != [row[1] for row in straight[4:8]]
    assert train(2, [], max_epochs=3) == straight


BY_EPOCHS, BY_STEPS = {"max_epochs": 3}, {"max_steps": 12, "max_epochs": -1}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("limit", "moment", "seen"),
    [
        (BY_EPOCHS, "before 2", 6),
        (BY_EPOCHS, "batch 1", 6),
        (BY_EPOCHS, "batch 3", 8),
        (BY_EPOCHS, "validation", 8),
        (BY_EPOCHS, "epoch", 8),
        (BY_STEPS, "before 2", 6),
        (BY_STEPS, "validation", 8),
    ],
)
def test_resumed_run_goes_on_with_the_next_image(straight, tmp_path, limit, moment, seen, workers):
    file = tmp_path / "stopped.ckpt"
    assert train(workers, [Saver(moment, file)], **limit) == straight[:seen]
    assert train(workers, [], file, **limit) == straight[seen:]


def test_resumed_at_the_end_of_an_epoch_by_steps(straight, tmp_path):
    # Lightning counts one empty epoch here, so the order is a later epoch's: new, and complete.
    file = tmp_path / "stopped.ckpt"
    train(0, [Saver("epoch", file)], **BY_STEPS)
    resumed = train(0, [], file, **BY_STEPS)
    assert len({name for _, names, _ in resumed for name in names}) == 8
    assert not {row[2] for row in resumed} & {row[2] for row in straight[:8]}


def test_workers_by_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert default_workers(4) == MAX_WORKERS
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert (default_workers(1), default_workers(2), default_workers(8)) == (7, 3, 0)


def test_other_systems_manage_their_memory_themselves(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", None)  # would fail if it were called
    retain_memory()


def test_options_are_checked_as_those_of_a_recipe(tmp_path: Path):
    for options, message in (
        ({"bath_size": 3}, "data.bath_size is not an option. Did you mean 'data.batch_size'?"),
        ({"flip": 2}, "data.flip is 2.0. It must be at least 0, at most 1"),
        ({"crop": 5}, "data.crop is 5. It must be a list of 2 whole numbers"),
        ({"bands": []}, "data.bands is empty"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            synthetic(**options)
    with pytest.raises(ConfigError, match=r"data\.root is not set. Layout 'camvid' reads files"):
        SegmentationData(layout="camvid")
    with pytest.raises(ConfigError, match=r"data\.layout is not set"):
        SegmentationData(root=tmp_path)


def test_options_replace_those_of_a_section():
    section = synthetic(sampling="rare").config
    data = SegmentationData(section, batch_size=3)
    assert (data.config.batch_size, data.config.sampling, section.batch_size) == (3, "rare", 2)
    assert SegmentationData(section).config is section
