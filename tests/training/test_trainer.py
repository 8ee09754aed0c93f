import warnings

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy

from hrseg.errors import ConfigError, MissingExtraError
from hrseg.training.build import build_data
from hrseg.training.callbacks import ProgressLines, ValidationImages
from hrseg.training.trainer import (
    build_callbacks,
    build_loggers,
    build_progress,
    build_strategy,
    build_trainer,
    choose_devices,
    choose_precision,
    quiet_lightning,
)
from tests.small import small


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_devices_of_this_machine(tmp_path, monkeypatch):
    gpus(monkeypatch, 0)
    words = ("trainer.accelerator=auto",)
    assert choose_devices(small(tmp_path, *words)) == ("cpu", 1)
    assert choose_devices(small(tmp_path, *words, "trainer.devices=3")) == ("cpu", 3)
    gpus(monkeypatch, 2)
    assert choose_devices(small(tmp_path, *words)) == ("cuda", 2)
    assert choose_devices(small(tmp_path, "trainer.accelerator=gpu", "trainer.devices=1")) == (
        "cuda",
        1,
    )


def test_devices_that_are_not_there(tmp_path, monkeypatch):
    gpus(monkeypatch, 0)
    with pytest.raises(ConfigError, match=r"trainer.accelerator is cuda, but torch"):
        choose_devices(small(tmp_path, "trainer.accelerator=cuda"))
    gpus(monkeypatch, 2)
    with pytest.raises(ConfigError, match=r"trainer.devices is 4, this machine has 2"):
        choose_devices(small(tmp_path, "trainer.accelerator=cuda", "trainer.devices=4"))


def test_precision_follows_the_device(monkeypatch):
    monkeypatch.setattr("hrseg.inference.prepare.has_fast_bf16", lambda device: device.type == "cuda")
    assert choose_precision("auto", "cuda") == "bf16"
    assert choose_precision("auto", "cpu") == "fp32"
    assert choose_precision("fp16", "cpu") == "fp16"


def test_one_device_needs_no_strategy(tmp_path):
    assert build_strategy(small(tmp_path), "cpu", many=False) == "auto"
    with pytest.raises(ConfigError, match="one device needs no strategy"):
        build_strategy(small(tmp_path, "trainer.strategy_options={a: 1}"), "cpu", many=False)


def test_several_devices_are_ddp_with_its_options(tmp_path):
    options = "trainer.strategy_options={find_unused_parameters: true}"
    made = build_strategy(small(tmp_path, options), "cpu", many=True)
    assert isinstance(made, DDPStrategy)
    assert made._ddp_kwargs == {"find_unused_parameters": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trainer.strategy=dpp",), "Unknown strategy 'dpp'.*Did you mean 'ddp'"),
        (
            ("trainer.strategy=ddp", "trainer.strategy_options={find_unused_parameter: true}"),
            "find_unused_parameter is not an argument of DDPStrategy. Did you mean 'find_unused_parameters'",
        ),
        (("trainer.strategy=fsdp",), "needs CUDA devices; this run is on cpu"),
    ],
)
def test_strategies_that_cannot_work(tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        build_strategy(small(tmp_path, *words), "cpu", many=True)


def test_average_and_sharded_weights_exclude_each_other(tmp_path, monkeypatch):
    gpus(monkeypatch, 1)
    words = ("trainer.accelerator=cuda", "trainer.strategy=fsdp", "optim.ema_decay=0.9")
    with pytest.raises(ConfigError, match=r"optim.ema_decay needs whole weights"):
        build_trainer(small(tmp_path, *words), None, [])


def test_unknown_trainer_option(tmp_path):
    config = small(tmp_path, "trainer.options={limit_train_batch: 2}")
    with pytest.raises(ConfigError, match="Did you mean 'limit_train_batches'"):
        build_trainer(config, None, [])


def test_trainer_options_reach_lightning(tmp_path):
    trainer = build_trainer(small(tmp_path, "trainer.options={limit_train_batches: 2}"), None, [])
    assert trainer.limit_train_batches == 2
    assert trainer.max_epochs == 2


def test_early_stopping_and_pictures_only_when_asked(tmp_path):
    labels = build_data(small(tmp_path)).labels
    plain = build_callbacks(small(tmp_path), tmp_path, labels)
    words = ("trainer.early_stop_patience=3", "trainer.picture_every_epochs=1")
    full = build_callbacks(small(tmp_path, *words), tmp_path, labels)
    assert [type(callback) for callback in plain] == [ProgressLines]
    assert [type(callback) for callback in full] == [ProgressLines, ValidationImages, EarlyStopping]
    assert full[2].patience == 3


def test_no_bar_where_nobody_looks():
    assert type(build_progress()) is ProgressLines


def test_unknown_logger(tmp_path):
    with pytest.raises(ConfigError, match=r"Unknown logger 'wandbb'.*Did you mean 'wandb'"):
        build_loggers(small(tmp_path, "trainer.loggers=[wandbb]"), tmp_path)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_logger_names_its_extra(tmp_path, name, monkeypatch):
    monkeypatch.setattr(f"lightning.pytorch.loggers.{name}._{name.upper()}_AVAILABLE", False)
    with pytest.raises(MissingExtraError, match=rf"pip install '.*\[{name}\]'"):
        build_loggers(small(tmp_path, f"trainer.loggers=[{name}]"), tmp_path)


def test_quiet_hides_only_what_is_on_purpose():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet_lightning()
        warnings.warn("The 'train_dataloader' does not have many workers", UserWarning, 1)
        warnings.warn("something else", UserWarning, 1)
    assert [str(warning.message) for warning in seen] == ["something else"]
