"""A network computes in the process that opened it. Another one is told so here, where it would wait for ever.

The threads of torch and of OpenVINO do not survive a fork, and the child does not notice: it hands them work that
nobody does. Only a child with a single thread has nothing to hand over. On CUDA nothing survives at all.
"""

import os

import torch

from hrseg.errors import ConfigError

_first: int | None = None
"""The process that first opened a network, as its forked children remember it."""


class Home:
    """The process in which a network is opened.

    Args:
        device: Where it computes.

    Raises:
        ConfigError: This process was forked from one that had opened a network, and several threads compute.
    """

    def __init__(self, device: torch.device) -> None:
        global _first
        self._device, self._threads = device, torch.get_num_threads()
        self._process = os.getpid()
        if _first is None:
            _first = self._process
        elif _first != self._process:
            self._refuse(torch.get_num_threads())

    def check(self, engine: str) -> None:
        """Refuse to compute elsewhere.

        Args:
            engine: OpenVINO keeps the number of threads that it was opened with.

        Raises:
            ConfigError: This process was forked from the one that opened the network, and would wait for ever.
        """
        if os.getpid() != self._process:
            here = torch.get_num_threads()
            self._refuse(max(here, self._threads) if engine == "openvino" else here)

    def _refuse(self, threads: int) -> None:
        if threads > 1 or self._device.type == "cuda":
            raise ConfigError(
                f"Process {os.getpid()} was forked from one that had opened a predictor, and what computes does not "
                "survive a fork: it would wait for ever. Open the predictor after the fork, in a parent that has not "
                "computed yet (gunicorn without --preload), or start processes by 'spawn', such as "
                "multiprocessing.get_context('spawn')."
            )
