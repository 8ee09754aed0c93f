"""Dry run: builds everything that a run needs and reports its sizes, steps and memory."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.config import Config
from hrseg.errors import format_duration
from hrseg.labels import LabelSet
from hrseg.losses.terms import LOSSES
from hrseg.models.cost import Memory, training_memory
from hrseg.models.summary import Summary, summary
from hrseg.training.build import build_data, build_task
from hrseg.training.interrupts import convert_errors
from hrseg.training.run_dir import new_run_folder
from hrseg.training.trainer import (
    build_callbacks,
    build_loggers,
    build_trainer,
    choose_devices,
    choose_precision,
    quiet_lightning,
)


@dataclass(frozen=True)
class Plan:
    """Sizes and costs of a run.

    Attributes:
        config: The run.
        labels: The classes.
        images: Training and validation images.
        shapes: Name → shape of one batch.
        cost: Parameters and multiply-adds of one crop.
        trained: Parameters that are not frozen.
        memory: Of one training step on one device.
        device: Kind of device.
        devices: How many in all.
        precision: Arithmetic of the forward pass.
        steps: Optimizer steps of an epoch and of the run.
        seconds: Of one step, estimated.
    """

    config: Config
    labels: LabelSet
    images: tuple[int, int]
    shapes: Mapping[str, tuple[int, ...]]
    cost: Summary
    trained: int
    memory: Memory
    device: str
    devices: int
    precision: str
    steps: tuple[int, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values: bytes, seconds, counts."""
        names = ("total", "weights", "optimizer", "activations", "transient")
        return {
            "network": {**vars(self.cost), "trained": self.trained, "classes": self.labels.num_classes},
            "images": dict(zip(("train", "val"), self.images, strict=True)),
            "batch": self.shapes,
            "devices": {"kind": self.device, "count": self.devices, "precision": self.precision},
            "steps": dict(zip(("epoch", "all"), self.steps, strict=True)),
            "seconds": {"step": self.seconds, "all": self.seconds * self.steps[1]},
            "memory": {name: getattr(self.memory, name) for name in names},
        }

    def text(self) -> str:
        """Return the report as text."""
        config, memory = self.config, self.memory
        batch = config.data.batch_size
        total = self.devices * batch * config.trainer.accumulate
        shapes = ", ".join(f"{name} {tuple(shape)}" for name, shape in self.shapes.items())
        height, width = config.data.crop
        gib = {
            name: getattr(memory, name) / 2**30
            for name in ("total", "weights", "optimizer", "activations", "transient")
        }
        rows = {
            "network": f"{config.model.backbone}, head {config.model.head}, "
            f"resize {config.model.resize}, {self.labels.num_classes} classes",
            "weights": config.model.weights or "none, trained from scratch",
            "parameters": f"{self.cost.parameters:,}"
            + f", {self.trained:,} of them trained" * (self.trained < self.cost.parameters),
            "multiply-adds": f"{self.cost.multiply_adds / 1e9:.2f} G for one {height}x{width} crop",
            "data": f"{self.images[0]:,} training images ({config.data.train_split}), "
            f"{self.images[1]:,} for validation ({config.data.val_split})",
            "one batch": shapes,
            "device": f"{self.devices} x {self.device}, {self.precision}",
            "images a step": f"{total} = {self.devices} devices x {batch} x {config.trainer.accumulate} accumulated",
            "steps": f"{self.steps[0]:,} an epoch, {self.steps[1]:,} in all",
            "time": f"about {format_duration(self.seconds * self.steps[1])} on this machine, {self.seconds:.2g} s a "
            "step of the network; a small crop was timed, and loading and validation come on top",
            "memory": f"about {gib['total']:.2f} GiB on each device: weights and gradients "
            f"{gib['weights']:.2f}, optimizer {gib['optimizer']:.2f}, activations "
            f"{gib['activations']:.2f}, transient {gib['transient']:.2f}; "
            "the libraries add their own",
        }
        return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


def plan(config: Config) -> Plan:
    """Build everything a run needs, without downloads or training, and return its costs.

    Raises:
        HrsegError: Any error that would stop the run at its start.
    """
    quiet_lightning()
    with convert_errors():
        data = build_data(config)
        data.setup("fit")
        task = build_task(config, data, load=False)
        folder = new_run_folder(Path(config.run.dir), config.run.name or config.data.layout)
        build_loggers(config, folder)
        build_trainer(config, None, build_callbacks(config, folder, data.labels))
        kind, number = choose_devices(config)
        devices = number * config.trainer.num_nodes
        data.check_batch(devices)
        precision = choose_precision(config.trainer.precision, kind)
        batch = data.sample_batch()
        images = (len(data.train_pairs), len(data.val_pairs))
    slots = (2 if config.optim.name == "adamw" else 1) + (config.optim.ema_decay is not None)
    count, _, height, width = batch["image"].shape
    batches = images[0] // (devices * config.data.batch_size)
    epoch = math.ceil(batches / config.trainer.accumulate)
    limits = [config.trainer.max_steps or math.inf, epoch * (config.trainer.max_epochs or math.inf)]
    return Plan(
        config=config,
        labels=data.labels,
        images=images,
        shapes={name: tuple(batch[name].shape) for name in ("image", "mask")},
        cost=summary(task.network, (height, width)),
        trained=sum(p.numel() for p in task.network.parameters() if p.requires_grad),
        memory=training_memory(
            task.network,
            (count, height, width),
            bf16=precision != "fp32",
            slots=slots,
            blocked=all(LOSSES[name].from_nll for name in task.loss.terms),
        ),
        device=kind,
        devices=devices,
        precision=precision,
        steps=(epoch, int(min(limits))),
        seconds=_seconds_a_step(task.network, kind, precision) * (count * height * width * config.trainer.accumulate),
    )


def _seconds_a_step(network: nn.Module, kind: str, precision: str) -> float:
    """Time forward and backward pass of a small crop, and return seconds for each pixel of a batch."""
    device = torch.device({"gpu": "cuda"}.get(kind, kind))
    bands = next(m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    image = torch.rand(2, bands, 128, 128, device=device).to(memory_format=torch.channels_last)
    network.to(device).train()
    taken = []
    for _ in range(3):  # the first run is slower
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision != "fp32"):
            logits = network(image)
        logits.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    network.zero_grad(set_to_none=True)
    return min(taken) / (image.shape[0] * 128 * 128)
