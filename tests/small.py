"""The smallest run there is: W18-small-v1 on four drawn scenes of 32x64, float32, on one CPU."""

from pathlib import Path

from hrseg.config import Config, load_config

WORDS = (
    *("data.layout=synthetic", "data.scenes=4", "data.scene_size=[32,64]", "data.crop=[32,64]"),
    *("data.batch_size=2", "data.workers=0", "model.backbone=hrnet_w18_small_v1"),
    *("trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.precision=fp32"),
    *("trainer.loggers=[csv]", "trainer.picture_every_epochs=0", "evaluation.precision=fp32"),
    "run.name=small",
)
FINISHED = ("optim.ema_decay=0.9", "data.scenes=8", "data.batch_size=4")  # two images validate


def small(folder: Path, *words: str) -> Config:
    """Two epochs of two steps; words change it."""
    return load_config(None, [*WORDS, f"run.dir={folder}", *words])
