"""The cluster: joining it, and what its machines have room for."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hrseg.errors import ConfigError, MissingExtraError

_PATIENCE = 5.0
"""Seconds for a machine to say that it is there."""


@dataclass(frozen=True)
class Room:
    """Workers that a cluster has room for.

    Attributes:
        workers: How many.
        cpus: Of each.
        gpus: Of each.
    """

    workers: int
    cpus: int
    gpus: int = 0


def need_ray() -> Any:
    """Return Ray, with Ray Data.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"A job on a cluster needs Ray ({error}): pip install 'hrseg[ray]', on every machine of the cluster."
        ) from error
    return ray


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Join a cluster, give Ray, and leave it again; where this process has joined one already, that is the one.

    Args:
        address: "auto" for the cluster that this machine belongs to, HOST:PORT for that of another head,
            "local" for one of this machine alone, which ends with the job.

    Raises:
        ConfigError: There is no cluster, or the address is none.
        MissingExtraError: Ray is not installed.
    """
    _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of clusters that begin here
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the job tells what became of it
    ray = need_ray()
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0].rstrip(".")
        raise _no_cluster(address, first) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See whether somebody listens: Ray itself would wait for ten minutes and more."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"'{address}' is not the address of a Ray cluster's head, such as 10.0.0.1:6379. On a machine of the "
            "cluster --ray auto will do; from elsewhere: ray job submit -- hrseg predict ... --ray auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"No Ray cluster at '{address}': {reason}. Start one with 'ray start --head' on the first machine and "
        "'ray start --address FIRST:6379' on the others, or use --ray local."
    )


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a logger from telling what the job tells itself, such as each errand of a worker that died."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def room(
    nodes: Sequence[Mapping[str, Any]], device: str = "auto", workers: int | None = None
) -> Room:
    """Divide the machines among workers: one for each GPU, else one for as many CPUs as the smallest machine has.

    Args:
        nodes: As `ray.nodes()` tells them.
        device: "auto" takes GPUs where there are any.
        workers: How many are wanted; None is as many as there is room for.

    Raises:
        ConfigError: There is too little room.

    Example:
        >>> node = lambda **has: {"Alive": True, "Resources": has}
        >>> room([node(CPU=16.0), node(CPU=8.0)]), room([node(CPU=16.0), node(CPU=8.0)], workers=6)
        (Room(workers=3, cpus=8, gpus=0), Room(workers=6, cpus=4, gpus=0))
        >>> room([node(CPU=16.0, GPU=4.0), node(CPU=8.0)])
        Room(workers=4, cpus=4, gpus=1)
    """
    has = [node["Resources"] for node in nodes if node["Alive"]]
    cards = [(int(one.get("GPU", 0)), int(one.get("CPU", 0))) for one in has]
    gpus = sum(count for count, _ in cards)
    cores = [cpus for _, cpus in cards if cpus]
    if device == "cuda" and not gpus:
        raise ConfigError(
            f"The Ray cluster has no GPU on its {len(has)} machines. Use --device cpu, or join machines with GPUs."
        )
    if not cores:
        raise ConfigError("The Ray cluster has no CPU to give. Let more machines join it.")
    if gpus and device != "cpu":
        most, each = gpus, 1
        cpus = max(1, min(owned // count for count, owned in cards if count))
    else:
        each = 0
        fits = lambda size: sum(owned // size for owned in cores)  # noqa: E731
        sizes = range(min(cores) if workers is None else max(cores), 0, -1)
        cpus = next((size for size in sizes if fits(size) >= (workers or 1)), 1)
        most = fits(cpus)
    if workers is not None and workers > most:
        what = "GPUs" if each else "CPUs"
        raise ConfigError(
            f"{workers} workers do not fit: the Ray cluster has {most} {what}. Take fewer, or let more machines join."
        )
    return Room(workers or most, cpus, each)
