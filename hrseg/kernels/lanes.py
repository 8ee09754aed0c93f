"""Independent work side by side: HRNet's branches on CUDA streams of their own while a graph is captured.

Everywhere else the tasks run one after the other, which gives the same results. Not yet run on a GPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch


def side_by_side(tasks: Sequence[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
    """Run tasks that do not read each other's results; fork streams under capture, and join them at the end.

    Tensors made on a side stream are read on the main one only after the join, and a later fork waits for the main
    stream, so memory that the allocator reuses has been read by then.

    Args:
        tasks: Each makes one tensor.

    Example:
        >>> [int(x) for x in side_by_side([lambda: torch.tensor(1), lambda: torch.tensor(2)])]
        [1, 2]
    """
    if not capturing() or len(tasks) < 2:
        return [task() for task in tasks]
    main: Any = torch.cuda.current_stream()
    lanes = _lanes(main.device, len(tasks) - 1)
    results = []
    for lane, task in zip(lanes, tasks[1:], strict=True):
        lane.wait_stream(main)
        with torch.cuda.stream(lane):
            results.append(task())
    results.insert(0, tasks[0]())
    for lane in lanes:
        main.wait_stream(lane)
    return results


def capturing() -> bool:
    """Tell whether CUDA work is being captured into a graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


_kept: dict[Any, list[Any]] = {}


def _lanes(device: Any, count: int) -> list[Any]:
    kept = _kept.setdefault(device, [])
    kept.extend(torch.cuda.Stream(device) for _ in range(count - len(kept)))
    return kept[:count]
