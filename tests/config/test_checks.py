"""Options that exclude each other, and arguments of Lightning's Trainer."""

from pathlib import Path

import pytest

from hrseg.config import check_trainer_options
from hrseg.errors import ConfigError
from tests.config.conftest import refuse


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.max_epochs=null"], "Neither trainer.max_epochs nor trainer.max_steps"),
        (["data.layout=camvid"], "data.root is not set"),
        (["data.scale_min=3"], "larger than data.scale_max"),
        (["optim.min_lr=1"], "larger than optim.lr"),
        (["trainer.max_steps=5", "optim.warmup_steps=5"], "fills the whole run"),
        (["trainer.devices=0"], "whole number above 0, or auto"),
        (["loss.class_weights=enet", "loss.class_weight_values=[1,2]"], "Keep the list"),
    ],
)
def test_options_that_do_not_go_together(here: Path, words: list[str], message: str) -> None:
    assert message in refuse("run.yaml", *words)


def test_trainer_options_are_checked_against_lightning() -> None:
    allowed = ["self", "max_epochs", "devices", "limit_train_batches", "callbacks"]
    check_trainer_options({"limit_train_batches": 3}, allowed)
    for name, message in {
        "limit_train_batchs": "Did you mean 'limit_train_batches'?",
        "devices": "Use trainer.devices instead.",
        "devicess": "Did you mean 'trainer.devices'?",
        "callbacks": "set by hrseg itself. Remove it",
    }.items():
        with pytest.raises(ConfigError) as caught:
            check_trainer_options({name: 1}, allowed)
        assert message in str(caught.value)
