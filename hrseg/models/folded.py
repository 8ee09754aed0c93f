"""Inference form of an HRNet: norms folded into convolutions, additions and ReLUs fused with them.

The rewritten network cannot be trained and is never saved.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from hrseg.models.blocks import BasicBlock, Bottleneck, enlarge
from hrseg.models.heads import HeadV2
from hrseg.models.hrnet import HRNet, Module

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def rewrite(network: nn.Module, dtype: torch.dtype = torch.float32, pack: bool = True) -> bool:
    """Rewrite a network with an HRNet backbone in place, if all its pieces are the published ones.

    Args:
        network: A copy in evaluation mode, on its device.
        dtype: Of the convolutions.
        pack: Whether weights are reordered for this processor; not for a graph that leaves it.

    Returns:
        Whether it was rewritten; otherwise nothing has changed.
    """
    backbone: Any = getattr(network, "backbone", None)
    if not isinstance(backbone, HRNet) or not _published(network):
        return False
    head = getattr(network, "head", None)
    last_layer = None
    if isinstance(head, HeadV2):
        last_layer = head.last_layer
        _fold_in_place(last_layer)
        last_layer.to(dtype)
    for name, stem in (("1", backbone.conv1), ("2", backbone.conv2)):
        norm = getattr(backbone, f"bn{name}")
        setattr(backbone, f"conv{name}", FusedConv(stem, norm, relu=True))
        setattr(backbone, f"bn{name}", nn.Identity())
    backbone.relu = nn.Identity()
    _replace(network, (BasicBlock, Bottleneck), FoldedBlock)
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and module is not last_layer:
            _fuse_sequence(module)
    _replace(network, (Module,), FoldedModule)
    for module in network.modules():
        if isinstance(module, FusedConv):
            module.to(dtype)
            if pack:
                module.pack()
        elif isinstance(module, nn.Conv2d):
            module.to(dtype)
    return True


class FoldedBlock(nn.Module):
    """A residual block as its convolutions; the last one adds the shortcut. Shape: as the block."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        pieces: Any = block
        count = 2 if isinstance(block, BasicBlock) else 3
        self.steps = nn.ModuleList(
            FusedConv(getattr(pieces, f"conv{i}"), getattr(pieces, f"bn{i}"), relu=True) for i in range(1, count + 1)
        )
        self.shortcut = getattr(pieces, "downsample", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block. Shape: see the class."""
        *first, last = self.steps
        y = x
        for step in first:
            y = step(y)
        return cast(torch.Tensor, last(y, x if self.shortcut is None else self.shortcut(x)))


class FoldedModule(nn.Module):
    """Branches and fusion, where finer branches are added inside their convolutions.

    Args:
        module: Its parts are already rewritten.

    Shape:
        branch i: (N, C * 2**i, H / 2**i, W / 2**i) → the same
    """

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.resize_policy = module.resize_policy
        self.branches = module.branches
        self.paths = nn.ModuleList()
        for target, layers in enumerate(list(module.fuse_layers)[: module.receivers]):
            paths = nn.ModuleList(nn.Sequential(*_steps(layer)) for layer in layers.children())
            if target:
                paths[target - 1][-1].relu = True  # type: ignore[index]
            self.paths.append(paths)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run the branches, then the fusion. Shape: see the class."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = [self.receive(target, maps) for target in range(len(self.paths))]
        return [*fused, *maps[len(fused) :]]

    def receive(self, target: int, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return what one branch receives. Shape: all maps → (N, C * 2**target, …)."""
        paths: Any = self.paths[target]
        own = maps[target]  # (N, C * 2**target, h, w)
        size = (own.shape[-2], own.shape[-1])
        total = own
        for source in range(target + 1, len(maps)):
            part = enlarge(paths[source](maps[source]), size, source - target, self.resize_policy)
            total = total + part if total is own else total.add_(part)  # other branches read own
        for source in range(target):
            *before, last = paths[source]
            x = maps[source]
            for step in before:
                x = step(x)
            total = last(x, total)  # adds inside the convolution
        if target:
            return total  # its last convolution ended with the ReLU
        return F.relu(total) if total is own else F.relu_(total)


def _published(network: nn.Module) -> bool:
    """Return whether all layers are torch's own, as in the published networks."""
    plain = (nn.Conv2d, nn.ReLU, nn.Identity, nn.Dropout2d, *_NORMS)
    for module in network.modules():
        if not any(True for _ in module.children()) and not isinstance(module, plain):
            if isinstance(module, nn.Sequential | nn.ModuleList):
                continue  # an empty one
            return False
        if isinstance(module, nn.Conv2d) and (type(module) is not nn.Conv2d or isinstance(module.padding, str)):
            return False
    return True


def _fold_in_place(layers: nn.Sequential) -> None:
    """Fold the head's norm but keep its layers, whose forms `ops.fused_head` chooses among."""
    conv = cast(nn.Conv2d, layers[0])
    weight, bias = fold(conv, layers[1])  # (M, 15C, 1, 1), (M,)
    conv.weight.data = weight.contiguous(memory_format=torch.channels_last)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    layers[1] = nn.Identity()


def _fuse_sequence(layers: nn.Sequential) -> None:
    """Replace convolution, norm and ReLU that follow one another, in place."""
    for i, conv in enumerate(list(layers)):
        if type(conv) is not nn.Conv2d:
            continue
        rest = [*layers[i + 1 : i + 3], None, None]
        norm = rest[0] if isinstance(rest[0], _NORMS) else None
        after = rest[1] if norm is not None else rest[0]
        relu = isinstance(after, nn.ReLU)
        layers[i] = FusedConv(conv, norm, relu)
        for folded in range(i + 1, i + 1 + (norm is not None) + relu):
            layers[folded] = nn.Identity()


def _replace(network: nn.Module, kinds: tuple[type, ...], form: Callable[..., nn.Module]) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
                setattr(parent, name, form(child))


def _steps(layer: nn.Module) -> list[nn.Module]:
    return [module for module in layer.modules() if isinstance(module, FusedConv)]


_TYPICAL_SIZE = (64, 64)
"""Map size that float32 weights are packed for; other sizes give the same numbers. In bfloat16, on AMX, 384 channels
are sixty times slower at any other size than the one named, and none is slower where no size is."""


def fold(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a convolution and the batch norm after it, by its running statistics.

    Shape:
        → (D, C, k, k), (D,), float32
    """
    weight = conv.weight.detach().double()  # rounded once, at the end
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
    if norm is None or isinstance(norm, nn.Identity):
        return weight.float(), bias.float()
    values: Any = norm
    scale = values.weight.double() / (values.running_var.double() + values.eps).sqrt()  # (D,)
    bias = (bias - values.running_mean.double()) * scale + values.bias.double()
    return (weight * scale[:, None, None, None]).float(), bias.float()


class FusedConv(nn.Module):
    """Convolution, norm, and where asked for addition and ReLU, as one step without gradients.

    Args:
        conv: Any plain convolution.
        norm: The batch norm after it, in evaluation mode, or None.
        relu: Whether a ReLU comes last.

    Shape:
        x (N, C, H, W), other (N, D, H', W') or None → (N, D, H', W')
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None = None, relu: bool = False) -> None:
        super().__init__()
        weight, bias = fold(conv, norm)  # (D, C, k, k), (D,)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.relu = relu
        self.options: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.packed: Any = None

    def pack(self) -> None:
        """Reorder the weights for oneDNN, after type and device are final."""
        if self.weight.device.type != "cpu" or not fused_operators():
            return
        stride, padding, dilation, groups = self.options
        size = [[1, self.weight.shape[1] * groups, *_TYPICAL_SIZE]] if self.weight.dtype == torch.float32 else []
        try:
            pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            self.packed = pack(self.weight.to_mkldnn(), padding, stride, dilation, groups, *size)
        except (AttributeError, RuntimeError, TypeError):  # another release of torch
            self.packed = None

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve, add, ReLU. Shape: see the class."""
        stride, padding, dilation, groups = self.options
        if self.packed is None or x.dtype != self.bias.dtype:
            y = F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
            if other is not None:
                y += other
            return F.relu_(y) if self.relu else y
        run: Any = torch.ops.mkldnn._convolution_pointwise
        last = "relu" if self.relu else None
        shared = (list(padding), list(stride), list(dilation), groups)
        y = (
            run(x, self.packed, self.bias, *shared, last or "none", [], "")
            if other is None
            else run.binary(x, other, self.packed, self.bias, *shared, "add", 1.0, last, [], "")
        )
        return y


def fused_operators() -> bool:
    """Return whether this torch has oneDNN's fused convolutions."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    found = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    return hasattr(found, "binary") and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
