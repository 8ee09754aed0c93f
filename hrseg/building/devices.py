"""What a run computes on: devices, precision, and the strategy by which several devices share the work."""

import inspect

import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel

from hrseg.config import Config
from hrseg.errors import ConfigError, did_you_mean, unknown_choice
from hrseg.inference.prepare import resolve_precision

STRATEGIES: dict[str, tuple[type[Strategy], type]] = {
    "ddp": (DDPStrategy, DistributedDataParallel),
    "fsdp": (FSDPStrategy, FullyShardedDataParallel),
}
"""Strategy → Lightning's class, and torch's class that gets the rest of its options."""


def choose_devices(config: Config) -> tuple[str, int]:
    """Turn accelerator and devices into a kind of device and a number on this node.

    Raises:
        ConfigError: The machine lacks them.
    """
    wanted, number = config.trainer.accelerator, config.trainer.devices
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind = {"gpu": "mps" if here["mps"] else "cuda"}.get(wanted, wanted)
    if kind == "auto":
        kind = next((name for name, count in here.items() if count), "cpu")
    if kind in here and not here[kind]:
        raise ConfigError(
            f"trainer.accelerator is {wanted}, but torch {torch.__version__} sees no such device "
            "here. Set trainer.accelerator=cpu, or install a torch build for your GPU."
        )
    if number == "auto":
        return kind, here.get(kind, 1)
    if kind in here and int(number) > here[kind]:
        raise ConfigError(
            f"trainer.devices is {number}, this machine has {here[kind]}. Set "
            f"trainer.devices={here[kind]}; trainer.accumulate makes up for the smaller batch."
        )
    return kind, int(number)


def choose_precision(wanted: str, device: str) -> str:
    """Resolve "auto": bf16 where the device is quick at it, else fp32. Training knows fp16 besides."""
    return wanted if wanted == "fp16" else resolve_precision(wanted, torch.device(device))


def build_strategy(config: Config, device: str, many: bool) -> Strategy | str:
    """Build the Lightning strategy with trainer.strategy_options.

    Args:
        config: The run.
        device: Kind of device.
        many: Whether there is more than one.

    Raises:
        ConfigError: An unknown strategy or option.
    """
    name, options = config.trainer.strategy, config.trainer.strategy_options
    if name != "auto" and name not in STRATEGIES:
        raise ConfigError(unknown_choice("strategy", name, ["auto", *STRATEGIES]))
    if name == "auto" and not many:
        if options:
            raise ConfigError(
                f"trainer.strategy_options has {', '.join(options)}, but one device needs no "
                "strategy. Set trainer.strategy=ddp or fsdp, or remove the options."
            )
        return "auto"
    name = "ddp" if name == "auto" else name
    if name == "fsdp" and device != "cuda":
        raise ConfigError(
            f"trainer.strategy is fsdp, which needs CUDA devices; this run is on {device}. Set "
            "trainer.strategy=ddp."
        )
    made, inner = STRATEGIES[name]
    allowed = _arguments(made) | _arguments(inner)
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f"trainer.strategy_options.{option} is not an argument of {made.__name__}."
                f"{did_you_mean(option, allowed)}"
            )
    return made(**options)


def _arguments(made: type) -> set[str]:
    hidden = {"module", "kwargs", "accelerator", "checkpoint_io", "precision_plugin"}
    return set(inspect.signature(made).parameters) - hidden
