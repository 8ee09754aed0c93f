"""One CUDA graph for each shape of input: the whole network is launched as one piece.

On a GPU small kernels wait for Python; a graph leaves only their order. Without capture the same code runs the function
on the same fixed buffers, which is how it is tested on a CPU. Not yet run on a GPU.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from hrseg.inference.prepare import LogitsFunction

WARM_UPS = 3
"""Runs before a capture, in which cuDNN finds its fastest algorithms."""


class Graphs:
    """A logits function that is captured once for each shape and then replayed.

    Args:
        function: What is captured; it must not look at values on the CPU.
        capture: Whether to capture at all; without, it is run each time.
        most: Shapes that are kept; the one that was used longest ago goes first.

    Shape:
        as the function
    """

    def __init__(self, function: LogitsFunction, capture: bool, most: int = 4) -> None:
        self.function = function
        self.capture = capture
        self.most = most
        self.kept: OrderedDict[Any, tuple[torch.Tensor, Callable[[], torch.Tensor]]] = OrderedDict()

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the function's answer in a tensor of its own. Shape: as the function."""
        key = (tuple(image.shape), image.dtype, image.device)
        if key not in self.kept:
            while len(self.kept) >= self.most:
                self.kept.popitem(last=False)
            self.kept[key] = self._record(image)
        self.kept.move_to_end(key)
        given, replay = self.kept[key]
        given.copy_(image)
        return replay().clone()

    def _record(self, image: torch.Tensor) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        given = image.clone(memory_format=torch.preserve_format)
        if not self.capture:
            return given, lambda: self.function(given)
        side: Any = torch.cuda.Stream(image.device)
        side.wait_stream(torch.cuda.current_stream(image.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self.function(given)
        torch.cuda.current_stream(image.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = self.function(given)

        def replay() -> torch.Tensor:
            graph.replay()
            return answer

        return given, replay
