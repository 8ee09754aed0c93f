"""Lightning without its advertisements, and without comments on what hrseg does on purpose."""

import logging
import warnings

_ON_PURPOSE = (
    r".*does not have many workers",  # data.workers decides, and null looks at the machine
    r"The number of training batches .* is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # the moving average stays in eval mode
    r"GPU available but not used",  # trainer.accelerator=cpu said so
    r"You're resuming from a checkpoint that ended before the epoch",  # the sampler goes on there
    r"`training_step` returned `None`",  # the guard skipped a batch, and told so
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own, with newer torch
)


def quiet_lightning() -> None:
    """Silence Lightning where it advertises or comments on what hrseg does on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in _ON_PURPOSE:
        warnings.filterwarnings("ignore", message=text)
