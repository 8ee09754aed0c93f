"""Optimizers, the polynomial learning-rate schedule, and the moving average of weights.

A step is always a step of the optimizer: with gradient accumulation one step is several batches.
"""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hrseg.errors import ConfigError, TrainingError, unknown_choice

FSDP_PREFIX = "_fsdp_wrapped_module."
"""Prefix that FSDP adds to parameter names inside the modules that it wraps."""

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def parameter_groups(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    head_lr_factor: float = 1.0,
    no_decay: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Assign every parameter of a network to exactly one optimizer group.

    Args:
        network: A Segmenter; `head_parameters()` yields the parameters of the head.
        lr: Learning rate of the backbone.
        weight_decay: Decay of all parameters, as in the official recipes, but those of `no_decay`.
        head_lr_factor: Factor of the head's rate; the official PASCAL-Context and COCO-Stuff recipes
            use 10.
        no_decay: Names of the parameters without decay, from `norms_and_biases`.

    Returns:
        One to four groups with keys name, params, lr and weight_decay. Frozen parameters are in none.

    Raises:
        ConfigError: A rate, decay or factor out of range.
    """
    if not 0 < lr < float("inf"):
        raise ConfigError(f"optim.lr is {lr}. Right would be a number above 0, such as 0.01.")
    if not 0 <= weight_decay < float("inf"):
        raise ConfigError(f"optim.weight_decay is {weight_decay}. Right would be 0 or more.")
    if not 0 < head_lr_factor < float("inf"):
        raise ConfigError(
            f"optim.head_lr_factor is {head_lr_factor}. Right would be a number above 0; 1 changes nothing."
        )
    head: set[int] = set()
    if head_lr_factor != 1:
        head = {id(parameter) for parameter in network.head_parameters()}  # type: ignore[operator]
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        in_head = id(parameter) in head
        part = "head" if in_head else "backbone" if head else "network"
        plain = name.replace(FSDP_PREFIX, "") in no_decay
        group = groups.setdefault(
            f"{part}_no_decay" if plain else part,
            {
                "params": [],
                "lr": lr * head_lr_factor if in_head else lr,
                "weight_decay": 0.0 if plain else weight_decay,
            },
        )
        group["params"].append(parameter)
    return [{"name": name, **group} for name, group in groups.items()]


def freeze_backbone(network: nn.Module, part: Literal["none", "backbone", "norms"]) -> None:
    """Freeze the weights of the backbone, or those of its norms, in place; see `set_frozen_to_eval`.

    Args:
        network: A Segmenter; what `head_parameters()` does not yield is the backbone.
        part: What to freeze.
    """
    if part == "none":
        return
    head = {id(parameter) for parameter in network.head_parameters()}  # type: ignore[operator]
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    for module in network.modules():
        if part == "backbone" or isinstance(module, norms):
            for parameter in module.parameters(recurse=False):
                if id(parameter) not in head:
                    parameter.requires_grad_(False)


def set_frozen_to_eval(network: nn.Module) -> None:
    """Put every module whose weights are all frozen into evaluation mode: its norms' statistics stay as they are."""
    for module in network.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def norms_and_biases(network: nn.Module) -> frozenset[str]:
    """Return the names of the parameters with one dimension; of a network that is not sharded yet.

    Sharded parameters have one dimension all.
    """
    return frozenset(name for name, value in network.named_parameters() if value.ndim <= 1)


def can_fuse(groups: Iterable[Mapping[str, Any]]) -> bool | None:
    """Return True where all parameters can use the fused kernel, None to let torch choose.

    Example:
        >>> can_fuse([{"params": [nn.Parameter(torch.ones(1))]}])
        True
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    kinds = {parameter.device.type for parameter in parameters}
    known = kinds in ({"cpu"}, {"cuda"})
    return True if known and all(p.is_floating_point() for p in parameters) else None


def build_optimizer(
    name: str,
    groups: Iterable[dict[str, Any]],
    *,
    lr: float,
    momentum: float = 0.9,
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    """Build SGD or AdamW on parameter groups.

    Args:
        name: "sgd" or "adamw".
        groups: From `parameter_groups`.
        lr: Rate of groups that name none.
        momentum: Momentum of SGD (never Nesterov's), first beta of AdamW.
        fused: See `can_fuse`; None lets torch choose.

    Raises:
        ConfigError: An unknown name or a momentum outside 0 to 1.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(unknown_choice("optimizer", name, OPTIMIZERS))
    if not 0 <= momentum < 1:
        raise ConfigError(f"optim.momentum is {momentum}. Right would be from 0 to below 1.")
    if name == "adamw":
        return torch.optim.AdamW(list(groups), lr=lr, betas=(momentum, 0.999), fused=fused)
    return torch.optim.SGD(list(groups), lr=lr, momentum=momentum, fused=fused)


WARMUP_START = 0.001
"""Factor of the first warm-up step."""


def poly_factor(
    step: int,
    max_steps: int,
    power: float = 0.9,
    warmup_steps: int = 0,
    min_factor: float = 0.0,
    lag_steps: int = 0,
) -> float:
    """Return the factor of the base learning rate: linear warm-up, then polynomial decay.

    Args:
        step: Optimizer steps done so far; the first step is 0 and uses the full rate without
            warm-up.
        max_steps: Steps of the whole run, warm-up included.
        power: 0.9 in the official recipes; 1 is a straight line.
        warmup_steps: Steps of the linear rise from WARMUP_START to 1.
        min_factor: Reached at `max_steps` and kept afterwards.
        lag_steps: Delay of the schedule in steps; the first value repeats.

    Source: the official code, which adjusts the rate after a step: lag_steps=1. The floor is as in
    mmengine's PolyLR.

    Example:
        >>> [round(poly_factor(step, max_steps=4, power=1.0), 2) for step in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
        >>> [round(poly_factor(step, 4, power=1.0, lag_steps=1), 2) for step in range(4)]
        [1.0, 1.0, 0.75, 0.5]
    """
    step = max(0, step - lag_steps)
    if step < warmup_steps:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    return min_factor + (1 - min_factor) * float(1 - progress) ** power


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    *,
    max_steps: int,
    power: float = 0.9,
    warmup_steps: int = 0,
    min_lr: float = 0.0,
    lag_steps: int = 0,
) -> LambdaLR:
    """Build the poly schedule; call its `step()` once after each optimizer step.

    Args:
        optimizer: Each group decays from its own rate.
        max_steps: Optimizer steps of the whole run.
        power, warmup_steps, lag_steps: See `poly_factor`.
        min_lr: Rate at the end, the same for all groups.

    Raises:
        ConfigError: A warm-up as long as the run, or a final rate above the initial one.
    """
    if max_steps < 1:
        raise ConfigError(f"The run has {max_steps} optimizer steps. Raise trainer.max_epochs or trainer.max_steps.")
    if not 0 <= warmup_steps < max_steps:
        raise ConfigError(
            f"optim.warmup_steps is {warmup_steps}, the run has {max_steps} optimizer steps. "
            "Right would be fewer than those; set it lower or train longer."
        )
    if not 0 <= power < float("inf"):
        raise ConfigError(f"optim.poly_power is {power}. Right would be 0 or more; recipes use 0.9.")
    rates = [group["lr"] for group in optimizer.param_groups]
    factors = poly_factors(
        rates,
        max_steps=max_steps,
        power=power,
        warmup_steps=warmup_steps,
        min_lr=min_lr,
        lag_steps=lag_steps,
    )
    if not 0 <= min_lr <= min(rates):
        raise ConfigError(
            f"optim.min_lr is {min_lr}, the lowest learning rate {min(rates)}. Right would be from 0 to that rate."
        )
    return LambdaLR(optimizer, factors)


def poly_factors(rates: Iterable[float], *, min_lr: float, **options: Any) -> list[Callable[[int], float]]:
    """Return `poly_factor` as a function of the step for each base rate; `min_lr` is the same for all."""
    return [
        partial(lambda step, floor: poly_factor(step, min_factor=floor, **options), floor=min_lr / r) for r in rates
    ]


class Ema(nn.Module):
    """Exponential moving average of a network's weights; `module` predicts with it.

    Floating-point parameters and buffers (running means too) are averaged; counters are copied. The
    decay is small at first: update t uses min(decay, (1 + t) / (10 + t)). torch's
    AveragedModel either leaves out the running means or averages the counters as well.

    Args:
        network: What to average; the start of the average is a copy of it.
        decay: Share of the old average that stays with each update, such as 0.999.

    Raises:
        ConfigError: A decay outside 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError(f"optim.ema_decay is {decay}. Right would be from 0 to below 1: 0.999.")
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(network).eval().requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the averaged network's logits. Shape: (N, bands, H, W) → (N, K, H, W)."""
        logits: torch.Tensor = self.module(image)
        return logits

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average after an optimizer step.

        Raises:
            TrainingError: A network of another shape, such as one whose weights are sharded over
                devices.
        """
        averages = [*self.module.parameters(), *self.module.buffers()]
        values = [*network.parameters(), *network.buffers()]
        if [value.shape for value in values] != [average.shape for average in averages]:
            raise TrainingError(
                "The network's weights no longer have the shapes of their moving average; sharded "
                "training (fsdp) does that. Set optim.ema_decay=null, or trainer.strategy=ddp."
            )
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = list(zip(averages, values, strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([pair[0] for pair in floats], [pair[1] for pair in floats], 1 - decay)
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counters:
            torch._foreach_copy_([pair[0] for pair in counters], [pair[1] for pair in counters])
        self.updates += 1

    def train(self, mode: bool = True) -> "Ema":
        """Stay in evaluation mode: the average is never trained itself."""
        return super().train(False)

    def get_extra_state(self) -> torch.Tensor:
        """Return the number of updates, which sets the decay after a resume."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore the number of updates from a checkpoint."""
        self.updates = int(state)
