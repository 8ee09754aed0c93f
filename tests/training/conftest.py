"""What is in the last checkpoint, and signals in the middle of a run."""

import os

import lightning.pytorch as pl
import torch

import hrseg.training.build


def last(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def stop_at(monkeypatch, step, number, moment="on_train_batch_end"):
    """Send this process a signal after a number of steps, at a moment that Lightning names."""

    def stop(self, trainer, *args):
        if trainer.global_step == step:
            os.kill(os.getpid(), number)

    Stop = type("Stop", (pl.Callback,), {moment: stop})
    original = hrseg.training.build.build_callbacks
    monkeypatch.setattr(hrseg.training.build, "build_callbacks", lambda *a: [*original(*a), Stop()])
