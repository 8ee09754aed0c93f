"""LightningModule of semantic segmentation: training step, evaluation, optimizer and checkpoint content."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hrseg.config import EvaluationConfig, OptimConfig
from hrseg.data.datamodule import resume_point
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD
from hrseg.inference.backends import open_engine
from hrseg.inference.protocols import Protocol, choose_protocol
from hrseg.inference.tta import SlidingWindowInference, aligns, input_scale
from hrseg.labels import LabelSet
from hrseg.losses import WeightedSum
from hrseg.metrics.confusion import NOT_SCORED, ConfusionMatrix, Scores
from hrseg.models.checkpointing import Checkpointing, recompute
from hrseg.training.nan_guard import NonFinite, NonFiniteGuard
from hrseg.training.optim import (
    Ema,
    build_optimizer,
    build_scheduler,
    can_fuse,
    norms_and_biases,
    parameter_groups,
    poly_factors,
    set_frozen_to_eval,
)

log = logging.getLogger(__name__)

SCORES = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")


class SegmentationTask(pl.LightningModule):
    """A network with its loss, metrics and optimizer.

    Args:
        network: Follows the network contract; what is frozen in it stays in evaluation mode.
        labels: The classes, in trainId order.
        loss: A `WeightedSum`; None is plain cross-entropy.
        optim: Optimizer, schedule and moving average; None takes the defaults.
        evaluation: Protocol and precision of validation and test; None evaluates whole images.
        card: Plain values stored in checkpoints under "hrseg" besides the labels: version, config, mean, std.
        max_steps: Optimizer steps of the run, where it is not given in epochs.
        channels_last: Memory format of the training images.
        non_finite: Policy for a loss that is not finite, see `nan_guard`.
        compiled: Run the training forward pass through torch.compile.
        autotune: Use cuDNN benchmark mode for the training crops, which all have one size, unlike validation images.
        checkpointing: Activation checkpointing, see `models.checkpointing`.

    Example:
        >>> from hrseg.labels import load_labels
        >>> from hrseg.models import create_model
        >>> labels = load_labels("camvid")
        >>> task = SegmentationTask(create_model("hrnet_w18_small_v1", num_classes=11), labels)
        >>> task.ema is None
        True
    """

    def __init__(
        self,
        network: nn.Module,
        labels: LabelSet,
        loss: WeightedSum | None = None,
        *,
        optim: OptimConfig | None = None,
        evaluation: EvaluationConfig | None = None,
        card: Mapping[str, Any] | None = None,
        max_steps: int | None = None,
        channels_last: bool = True,
        non_finite: NonFinite = "stop",
        compiled: bool = False,
        checkpointing: Checkpointing = "none",
        autotune: bool = False,
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.labels = labels
        self.loss = loss or WeightedSum({"cross_entropy": 1.0})
        self.optim = optim or OptimConfig()
        self.evaluation = evaluation or EvaluationConfig()
        absent = self.protocol.absent
        self.card = dict(card or {})
        self.max_steps = max_steps
        self._resumed_steps: float | None = None
        self.channels_last = channels_last
        decay = self.optim.ema_decay
        self.ema = Ema(network, decay) if decay is not None else None
        recompute(network, checkpointing)
        self.guard = NonFiniteGuard(network, non_finite)
        self._no_decay = norms_and_biases(network)
        self.autotune = autotune
        self.confusion = ConfusionMatrix(labels.num_classes, absent=absent)
        self.result: Scores | None = None
        self.observe: Callable[[dict[str, Any], torch.Tensor], None] | None = None
        """Called with each evaluated batch and its logits (N, K, H, W), for metrics that need more than the argmax."""
        self._scorer: SlidingWindowInference | None = None
        # A bound method, not the module: state-dict keys stay free of "_orig_mod".
        forward_all = cast(Any, network).forward_all
        self._forward_all = torch.compile(forward_all) if compiled else forward_all
        self.train()

    def train(self, mode: bool = True) -> "SegmentationTask":
        """Set the mode of all modules; frozen ones stay in evaluation mode."""
        super().train(mode)
        set_frozen_to_eval(self.network)
        return self

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run; for a resumed one, steps done plus steps remaining."""
        planned = self.trainer.estimated_stepping_batches
        return int(min(self._resumed_steps or planned, self.max_steps or math.inf))

    def _count_resumed_steps(self) -> float | None:
        """Return steps done plus remaining: batch size, accumulation, devices or images may have changed."""
        trainer: Any = self.trainer
        if not trainer.global_step:
            return None
        if not trainer.max_epochs or trainer.max_epochs < 0:
            return math.inf
        epoch, batches = resume_point(trainer)
        accumulate = trainer.accumulate_grad_batches
        steps = math.ceil(trainer.num_training_batches / accumulate)  # of an epoch
        remaining = (trainer.max_epochs - epoch) * steps - batches // accumulate
        return float(trainer.global_step + max(0, remaining))

    @property
    def protocol(self) -> Protocol:
        """Inference protocol of validation and test."""
        options = {key: value for key, value in vars(self.evaluation).items() if key != "precision"}
        return choose_protocol(**options)

    @property
    def evaluated(self) -> Any:
        """The network that is evaluated: the moving average where there is one."""
        return self.network if self.ema is None else self.ema.module

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of the evaluated network. Shape: (N, 3, H, W) → (N, K, H, W)."""
        logits: torch.Tensor = self.evaluated(image)
        return logits

    # Training

    def training_step(self, batch: dict[str, Any], batch_index: int) -> torch.Tensor | None:
        """Return the loss of one batch, or None where the batch is skipped.

        Raises:
            TrainingError: The loss is not a finite number; names the images.
        """
        image, mask = batch["image"], batch["mask"]
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        self.guard.before_step(mask)
        outputs = self._forward_all(image)
        loss = self.loss.total(outputs, mask, self.network.resize)
        if not self.guard.passes(loss, batch["name"], self.global_step, self.optim.lr):
            return None
        self.log("train/loss", loss, batch_size=len(image))
        # A tensor on the host: Lightning would copy a float to the device and synchronize.
        rate = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("train/lr", rate, batch_size=1)
        return loss * self._accumulation_factor(batch_index)

    def _accumulation_factor(self, batch_index: int) -> float:
        """Correct the loss of an epoch's last step, which may accumulate fewer batches than Lightning divides by."""
        batches, accumulate = (
            self.trainer.num_training_batches,
            self.trainer.accumulate_grad_batches,
        )
        rest = batches % accumulate if math.isfinite(batches) else 0
        return accumulate / rest if rest and batch_index >= batches - rest else 1.0

    def on_train_epoch_end(self) -> None:
        """Log the warnings of the guard."""
        self.guard.check_pending()
        for note in self.guard.epoch_notes():
            log.warning("%s", note)

    def configure_optimizers(self) -> Any:
        """Build optimizer and schedule; the schedule counts optimizer steps."""
        optim = self.optim
        groups = parameter_groups(
            self.network,
            lr=optim.lr,
            weight_decay=optim.weight_decay,
            head_lr_factor=optim.head_lr_factor,
            no_decay=self._no_decay if optim.no_decay_norms else (),
        )
        optimizer = build_optimizer(
            optim.name,
            groups,
            lr=optim.lr,
            momentum=optim.momentum,
            # Lightning cannot clip gradients that the fused step unscales itself.
            fused=None if self.trainer.precision == "16-mixed" else can_fuse(groups),
        )
        scheduler = build_scheduler(optimizer, **self._schedule_options())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _schedule_options(self) -> dict[str, Any]:
        optim = self.optim
        return {
            "max_steps": self.total_steps,
            "power": optim.poly_power,
            "warmup_steps": optim.warmup_steps,
            "min_lr": optim.min_lr,
            "lag_steps": optim.lag_steps,
        }

    def on_train_start(self) -> None:
        """Apply the schedule to the rates; a resumed run may have another length."""
        self._set_benchmark(True)
        self._resumed_steps = self._count_resumed_steps()
        for config in self.trainer.lr_scheduler_configs:
            if not isinstance(config.scheduler, LambdaLR):
                continue  # the learning-rate finder's own
            schedule: Any = config.scheduler
            schedule.lr_lambdas = poly_factors(schedule.base_lrs, **self._schedule_options())
            for group, base, factor in zip(
                schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
            ):
                group["lr"] = base * factor(schedule.last_epoch)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm over all shards where the weights are sharded; Lightning clips the rest."""
        strategy = self.trainer.strategy
        if isinstance(strategy, FSDPStrategy) and gradient_clip_val is not None:
            cast(Any, strategy.model).clip_grad_norm_(gradient_clip_val)
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimizer, then update the moving average."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.network)

    def on_fit_end(self) -> None:
        """Disable cuDNN benchmark mode."""
        self._set_benchmark(False)

    def _set_benchmark(self, on: bool) -> None:
        if self.autotune:
            torch.backends.cudnn.benchmark = on

    # Evaluation

    def on_validation_start(self) -> None:
        """Disable cuDNN benchmark mode: images may have many sizes."""
        self._set_benchmark(False)

    def on_validation_end(self) -> None:
        """Enable cuDNN benchmark mode again."""
        self._set_benchmark(self.trainer.state.fn == "fit")

    def on_validation_epoch_start(self) -> None:
        """Prepare the network for inference."""
        self._open_evaluation()

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> torch.Tensor:
        """Update the metrics, and return the prediction for callbacks. Shape: → (N, H, W)."""
        return self._evaluate_batch(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole set."""
        self._close_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Prepare the network for inference."""
        self._open_evaluation()

    def test_step(self, batch: dict[str, Any], batch_index: int) -> torch.Tensor:
        """Update the metrics, and return the prediction for callbacks. Shape: → (N, H, W)."""
        return self._evaluate_batch(batch)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the whole set."""
        self._close_evaluation("test")

    def _open_evaluation(self) -> None:
        self.guard.check_pending()
        self.confusion.reset()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Batch norm statistics differ between devices; rank 0's are the ones a checkpoint keeps.
            for buffer in self.evaluated.buffers():
                torch.distributed.broadcast(buffer, src=0)
        if isinstance(self._trainer and self._trainer.strategy, FSDPStrategy):
            logits_fn = self.network  # sharded weights cannot be copied
        else:
            logits_fn = open_engine(self.evaluated, self.device, self.evaluation.precision)
        self._scorer = SlidingWindowInference(
            logits_fn,
            self.protocol,
            flip_order=self.labels.flip_order,
            mean=self.card.get("mean", IMAGENET_MEAN),
            std=self.card.get("std", IMAGENET_STD),
            aligned=aligns(self.network),
            input_scale=input_scale(self.network),
            device=self.device,
            rgb=self.card.get("bands") is None,
        )

    def _evaluate_batch(self, batch: dict[str, Any]) -> torch.Tensor:
        if self._scorer is None:  # the step is called outside a Trainer's loop
            self._open_evaluation()
        assert self._scorer is not None
        # The inference engine sets its own precision; the trainer's autocast would change it.
        with torch.autocast(self.device.type, enabled=False):
            if self.observe is None:
                strips = [strip.labels for strip in self._scorer.label_strips(batch["image"])]
                pred = torch.cat(strips, dim=1).long()  # (N, H, W)
            else:
                logits = self._scorer(batch["image"])
                pred = logits.argmax(dim=1)
        self.confusion.update(pred, batch["mask"])
        if self.observe is not None:
            self.observe(batch, logits)
        return pred

    def _close_evaluation(self, stage: str) -> None:
        self._scorer = None
        self.result = self.confusion.compute()
        if not self.result["matrix"].any():  # no score: neither the loggers nor best.ckpt get a number
            trainer = self.trainer
            if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_global_zero:
                log.warning("%s", NOT_SCORED)
            return
        values: Mapping[str, Any] = self.result
        scores = {f"{stage}/{name}": values[name] for name in SCORES}
        self.log_dict(scores, sync_dist=True, batch_size=1)  # the same on every device

    # Checkpoints

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rescale the batch counts of an unfinished epoch to the current batch size and number of devices."""
        if data := getattr(self.trainer, "datamodule", None):
            rescale_batches(checkpoint, data.config.batch_size, self.trainer.world_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add config, labels and score as plain types; raise TrainingError if the last loss was not finite."""
        self.guard.check_pending()
        checkpoint["hrseg"] = {
            **self.card,
            "network": dict(self.network.spec),
            "labels": self.labels.to_dict(),
            "world": self._trainer.world_size if self._trainer else 1,
            "miou": None if self.result is None or math.isnan(self.result["miou"]) else self.result["miou"],
        }


def rescale_batches(checkpoint: dict[str, Any], batch_size: int, world: int) -> None:
    """Rescale the batch counts of a checkpoint's unfinished epoch, in place and rounded down.

    Args:
        checkpoint: Checkpoint of a run.
        batch_size: Images per device of the resuming run.
        world: Its number of devices.
    """
    card = checkpoint.get("hrseg", {})
    before = card.get("config", {}).get("data", {}).get("batch_size")
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    if not before or "epoch_loop.batch_progress" not in loops:
        return
    old, new = before * card.get("world", world), batch_size * world
    current = loops["epoch_loop.batch_progress"]["current"]
    current.update({name: count * old // new for name, count in current.items()})
