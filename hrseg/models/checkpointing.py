"""Activation checkpointing of parts of an HRNet: less memory for more time.

Loss, gradients and the running statistics of the norms are those of the plain network: the second forward pass of a
part runs its norms with temporary buffers, so that a batch is counted once.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hrseg.errors import ConfigError, unknown_choice
from hrseg.models.blocks import BasicBlock, Bottleneck
from hrseg.models.hrnet import HRNet, Module

Checkpointing = Literal["none", "blocks", "modules"]


_measure: ContextVar[Callable[[Callable[[], Any]], Any] | None] = ContextVar("measure", default=None)


class Part(NamedTuple):
    """A recomputed part: a method of a class, and the children whose norms it runs (empty: all)."""

    kind: type[nn.Module]
    method: str = "forward"
    children: tuple[str, ...] = ()


_STEM = Part(HRNet, "stem", ("bn1", "bn2"))
PARTS: dict[str, tuple[Part, ...]] = {
    "none": (),
    "blocks": (
        _STEM,
        Part(Bottleneck),
        Part(BasicBlock),
        Part(Module, "fuse", ("fuse_layers",)),
    ),
    # Stage 1 has four times the channels at full size: its blocks are as large as whole modules.
    "modules": (_STEM, Part(Bottleneck), Part(Module)),
}
"""Modules recomputed at each level, besides the head."""


def recompute(network: nn.Module, level: Checkpointing) -> None:
    """Checkpoint parts of a network in place; parameters and their names stay.

    Evaluation is as before. Copies made later, by `copy.deepcopy`, do the same on their own parts.

    Args:
        network: A Segmenter with an HRNet backbone.
        level: "blocks" stores the maps between residual blocks, "modules" those between HRNet's modules; "none"
            changes nothing.

    Raises:
        ConfigError: An unknown level, or a network without HRNet backbone.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
    """
    if level not in PARTS:
        raise ConfigError(unknown_choice("level of checkpointing", level, get_args(Checkpointing)))
    if level == "none":
        return
    backbone, head = getattr(network, "backbone", None), getattr(network, "head", None)
    if not isinstance(backbone, HRNet) or not isinstance(head, nn.Module):
        raise ConfigError(
            f"trainer.checkpointing={level} is for networks with an HRNet backbone, and this one has another. "
            "Set trainer.checkpointing=none; a smaller data.batch_size with trainer.accumulate also saves memory."
        )
    Recomputed(head, "forward", ()).attach()
    for module in backbone.modules():
        for part in PARTS[level]:
            if isinstance(module, part.kind):
                Recomputed(module, part.method, part.children).attach()


def parts_of(network: nn.Module) -> list["Recomputed"]:
    """Return the parts of a network that are computed again, in the order of its modules."""
    found = []
    for module in network.modules():
        found += [value for value in vars(module).values() if isinstance(value, Recomputed)]
    return found


class Recomputed:
    """A method of a module that saves its arguments for the backward pass and recomputes the rest.

    Args:
        owner: The module.
        method: Name of the method, whose last argument is a tensor or a list of tensors.
        children: Children of the owner whose norms it runs; empty means all norms of the owner.
    """

    def __init__(self, owner: nn.Module, method: str, children: tuple[str, ...]) -> None:
        self.owner = owner
        self.method = method
        self.children = children

    def attach(self) -> None:
        """Replace the method on this one module."""
        setattr(self.owner, self.method, self)

    def __call__(self, maps: Any) -> Any:
        """Run the method."""
        function: Callable[..., Any] = getattr(type(self.owner), self.method)
        if not (self.owner.training and torch.is_grad_enabled()):
            return function(self.owner, maps)
        measure = _measure.get()
        if measure is not None:
            return measure(lambda: function(self.owner, maps))  # counts what it would save
        many = isinstance(maps, list)

        def run(*tensors: torch.Tensor) -> Any:
            return function(self.owner, list(tensors) if many else tensors[0])

        tensors = maps if many else [maps]
        if torch.compiler.is_compiling():  # what is traced counts a batch once by itself
            return checkpoint(run, *tensors, use_reentrant=False)
        return checkpoint(
            run,
            *tensors,
            use_reentrant=False,
            preserve_rng_state=self._is_random,  # else recomputed dropout would differ
            context_fn=lambda: (contextlib.nullcontext(), unchanged_buffers(self._norms)),
        )

    # found at the first step: the trainer may replace norms by synchronized ones before it

    @property
    def _inside(self) -> Iterator[nn.Module]:
        roots = [getattr(self.owner, name) for name in self.children] or [self.owner]
        return (module for root in roots for module in root.modules())

    @cached_property
    def _norms(self) -> list[nn.Module]:
        kind = nn.modules.batchnorm._BatchNorm
        return [module for module in self._inside if isinstance(module, kind)]

    @cached_property
    def _is_random(self) -> bool:
        """Whether the random generator is used, whose state is then saved too."""
        return any(isinstance(module, nn.modules.dropout._DropoutNd) for module in self._inside)


@contextlib.contextmanager
def watching(measure: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    """Pass each part's plain computation to a function that runs it, for estimates.

    Args:
        measure: Gets a function without arguments and returns its result.
    """
    token = _measure.set(measure)
    try:
        yield
    finally:
        _measure.reset(token)


@contextlib.contextmanager
def unchanged_buffers(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Run batch norms in training mode without changing their buffers.

    In training mode a norm writes its running statistics and never reads them, so others of the same kind
    serve in their place.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> with unchanged_buffers([norm]):
        ...     _ = norm(torch.ones(2, 1, 1, 1))
        >>> norm.running_mean, norm.num_batches_tracked
        (tensor([0.]), tensor(0))
    """
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in buffers:
        setattr(norm, name, torch.zeros_like(buffer))
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
