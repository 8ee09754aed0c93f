"""Memory of a training step, estimated without allocating it.

The forward pass runs on fake tensors, which have shapes and types but no storage, and the storages that autograd
saves for the backward pass are added up.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hrseg.models.checkpointing import parts_of, watching
from hrseg.ops.loss import BUDGET, upsampled_nll

IGNORED = 255


@dataclass(frozen=True)
class Memory:
    """Bytes on one device for one training step.

    Attributes:
        weights: Parameters and their gradients, float32.
        optimizer: Momentum or moments, and the moving average of the weights.
        activations: What autograd saves between forward and backward.
        transient: What is alive at the peak besides: gradients of the largest map, or a part computed again.
    """

    weights: int
    optimizer: int
    activations: int
    transient: int

    @property
    def total(self) -> int:
        """The sum, without the libraries' own workspace (cuDNN, CUDA context: about 1 GiB)."""
        return self.weights + self.optimizer + self.activations + self.transient


def training_memory(
    network: nn.Module,
    batch: tuple[int, int, int],
    *,
    bf16: bool,
    slots: int = 1,
    blocked: bool = False,
) -> Memory:
    """Estimate the memory of a training step with cross-entropy at image size, on main and auxiliary logits.

    weights = 2 x 4 bytes a parameter; optimizer = slots x 4 bytes a parameter; activations = storages
    saved for backward, each counted once; transient = twice the float32 logits, since softmax and
    its gradient exist together, or the largest part that is computed again, see `models.recompute`.

    Args:
        network: Follows the network contract.
        batch: (N, H, W) of the images.
        bf16: Whether the forward pass runs under bf16 (or fp16) autocast.
        slots: Numbers stored for each parameter: 1 for SGD's momentum, 2 for AdamW, one more for a
            moving average.
        blocked: Whether the loss goes through the image in blocks of rows, see `ops.loss`.
    """
    count, height, width = batch
    bands = getattr(network, "spec", {}).get("in_channels", 3)
    saved: _Saved = {}
    fake = FakeTensorMode()  # shapes and storages without memory
    state: dict[str, torch.Tensor] = {
        f"network.{key}": fake.from_tensor(value) for key, value in network.state_dict().items()
    }
    step = _Step(network, blocked)
    with fake:
        own = {value.untyped_storage()._cdata for value in state.values()}
        for name, parameter in step.named_parameters():
            state[name].requires_grad_(parameter.requires_grad)
        image = torch.empty(count, bands, height, width)
        mask = torch.empty(count, height, width, dtype=torch.int64)
        training = network.training
        network.train()
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16), _saving(saved):
                logits = torch.func.functional_call(step, state, (image, mask))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                recomputed = _largest_part(step, state, (image, mask), own)
        finally:
            network.train(training)
    whole = min(4 * logits.numel(), BUDGET["cpu"]) if blocked else 4 * logits.numel()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Memory(
        weights=8 * parameters,  # float32 values and their gradients
        optimizer=4 * slots * parameters,
        activations=sum(s.nbytes() for key, s in saved.items() if key not in own),
        transient=max(2 * whole, recomputed),
    )


_Saved = dict[int, torch.UntypedStorage]


def _saving(saved: _Saved) -> contextlib.AbstractContextManager[object]:
    """Collect the storages that autograd saves for the backward pass."""

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage  # held, so that no later storage takes its number
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)


def _largest_part(step: nn.Module, state: Any, inputs: Any, own: set[int]) -> int:
    """Return the bytes that the largest part saves when it is computed again; 0 where there is none."""
    parts = parts_of(step)
    if not parts:
        return 0
    sizes = [0]

    def measure(run: Callable[[], Any]) -> Any:
        saved: _Saved = {}
        with _saving(saved):
            result = run()
        sizes.append(sum(s.nbytes() for key, s in saved.items() if key not in own))
        return result

    with watching(measure):
        torch.func.functional_call(step, state, inputs)
    return max(sizes)


class _Step(nn.Module):
    """A training step: each output at label size, with its loss; returns the last logits."""

    def __init__(self, network: nn.Module, blocked: bool) -> None:
        super().__init__()
        self.network: Any = network
        self.blocked = blocked

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        size = (mask.shape[-2], mask.shape[-1])
        for output in self.network.forward_all(image).values():
            if self.blocked:
                (upsampled_nll(output, mask) * (mask != IGNORED)).sum()
                logits = output.new_empty(*output.shape[:2], *size)
            else:
                logits = self.network.upsample(output, size)
                F.cross_entropy(logits, mask)
        return logits
