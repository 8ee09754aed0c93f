"""Inference form of a network: a copy on its device, in its precision, with norms folded.

The result is a logits function, any callable that maps images (n, bands, h, w) to float32 logits (n, K, h, w), which
is all that windows, predictor, validation and benchmarks need.
"""

import contextlib
import copy
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hrseg.errors import ConfigError, unknown_choice

LogitsFunction = Callable[[torch.Tensor], torch.Tensor]
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
_DTYPES = {False: torch.float32, True: torch.bfloat16}


def prepare(
    network: nn.Module,
    device: torch.device | str,
    precision: str = "auto",
    *,
    rewrite: bool = True,
) -> "Prepared":
    """Copy a network to a device for inference and return it as a logits function.

    The copy is in evaluation mode and channels last. An HRNet's norms are folded into its convolutions. In bf16 only
    the convolutions change type; other norms keep their float32 statistics, and logits are resized in float32. In
    fp32 nothing is rounded further, not even to TF32.

    Args:
        network: Follows the network contract; it is left as it is.
        device: Where to run.
        precision: "fp32", "bf16", or "auto": bf16 where the device computes in it, else fp32.
        rewrite: Whether norms are folded; compilers do that themselves.

    Raises:
        ConfigError: Unknown precision, or not that of an exported file.

    Shape:
        (n, bands, h, w) → (n, K, h, w), float32, on the device
    """
    device = torch.device(device)
    half = precision_of(network, precision, device) == "bf16" and not hasattr(network, "precision")
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    copied = copied.to(device).to(memory_format=torch.channels_last)
    plain = half and _only_convolutions(copied)
    fold = getattr(copied, "rewrite", None) if rewrite and (plain or not half) else None
    fast = fold is not None and fold(_DTYPES[plain])
    if plain and not fast:
        for module in copied.modules():
            if isinstance(module, nn.Conv2d):
                module.to(torch.bfloat16)
    return Prepared(copied, device, half, plain)


class Prepared:
    """A network in inference form; a logits function.

    Attributes:
        coarse: Logits at stride 4, (n, bands, h, w) → (n, K, h / 4, w / 4); None where the network ends at image
            size.

    Args:
        network: On its device, in evaluation mode.
        device: Of the network.
        half: Whether it computes in bf16.
        stored: Whether its convolutions are stored in bf16; otherwise autocast rounds them.
    """

    def __init__(self, network: nn.Module, device: torch.device, half: bool = False, stored: bool = False) -> None:
        self.network: Any = network
        self.device = device
        self.half = half
        self.stored = stored
        self.coarse: LogitsFunction | None = None
        if hasattr(network, "forward_coarse"):
            self.coarse = lambda image: self.run(self.network.forward_coarse, image)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits. Shape: (n, bands, h, w) → (n, K, h, w), float32."""
        return self.run(self.network, image)

    def run(self, function: Callable[..., Any], image: torch.Tensor) -> torch.Tensor:
        """Run a method of the network on a float32 image of any device, in the network's precision."""
        dtype = torch.bfloat16 if self.stored else torch.float32
        image = image.to(device=self.device, dtype=dtype, memory_format=torch.channels_last)
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and not self.stored),
            contextlib.nullcontext() if self.half else _without_tf32(self.device),
        ):
            scores: torch.Tensor = function(image)  # (n, K, h, w) or at stride 4
        return scores.float()


def resolve_device(name: str | int | torch.device) -> torch.device:
    """Return the device of a name.

    Args:
        name: "auto" (a GPU where there is one), "cpu", "cuda" or "gpu", "cuda:1" or 1, "mps", or a device.

    Raises:
        ConfigError: Unknown name, or no such device here.

    Example:
        >>> resolve_device(torch.device("cpu"))
        device(type='cpu')
    """
    text = str(name).strip().lower()
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = re.sub(r"^(\d+)$", r"cuda:\1", re.sub("^gpu", "cuda", text)).partition(":")
    if isinstance(name, bool) or kind not in ("cpu", "cuda", "mps") or not re.fullmatch(r"\d*", number):
        raise ConfigError(unknown_choice("device", str(name), DEVICES))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"Device '{name}' is Apple's GPU, and torch finds none here. Use device 'cpu' or 'auto'.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"Device '{name}' was asked for, but torch finds no GPU here. Use device 'cpu' or 'auto'.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"Device '{name}' does not exist: torch finds {torch.cuda.device_count()} GPUs, counted from 0."
        )
    return torch.device(f"{kind}:{int(number)}" if number and kind == "cuda" else kind)


def precision_of(network: nn.Module, name: str, device: torch.device) -> str:
    """Return the precision of a network; an exported file has its own.

    Raises:
        ConfigError: Unknown name, or not that of the exported file.
    """
    own: str | None = getattr(network, "precision", None)
    if own is None:
        return resolve_precision(name, device)
    if name not in ("auto", own):
        raise ConfigError(
            f"Precision '{name}' was asked for, and this exported file computes in {own}. Leave the precision out, or "
            f"export the checkpoint with --precision {name}."
        )
    return own


def resolve_precision(name: str, device: torch.device) -> str:
    """Resolve "auto" to "bf16" or "fp32" for a device.

    Raises:
        ConfigError: Unknown name.

    Example:
        >>> resolve_precision("fp32", torch.device("cpu"))
        'fp32'
    """
    if name not in PRECISIONS:
        raise ConfigError(unknown_choice("precision", name, PRECISIONS))
    if name != "auto":
        return name
    return "bf16" if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies in bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # private functions of torch; where a release lacks them, fp32 is safe
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def _without_tf32(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Convolutions on a GPU round their inputs to 10 bits by default."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )


def _only_convolutions(network: nn.Module) -> bool:
    """Return whether every layer with weights is a convolution or a batch norm, as in HRNet."""
    known = (nn.Conv2d, nn.BatchNorm2d, nn.SyncBatchNorm)
    owners = [m for m in network.modules() if next(m.parameters(recurse=False), None) is not None]
    return all(isinstance(module, known) for module in owners)
