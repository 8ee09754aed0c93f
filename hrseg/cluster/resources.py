"""Connection to a Ray cluster, and division of its machines among workers."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hrseg.errors import ConfigError, MissingExtraError, install_command

_CONNECT_TIMEOUT = 5.0


class ClusterResources(NamedTuple):
    """Number of workers that fit, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: int = 0


def import_ray() -> Any:
    """Return Ray, with Ray Data.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"A job on a cluster needs Ray ({error}): {install_command('ray')}, on every machine of the cluster."
        ) from error
    return ray


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, yield Ray, and disconnect; a connection that the process has already is used and stays.

    Args:
        address: "auto" for the cluster of this machine, HOST:PORT of another head, or "local" for a cluster of this
            machine alone, which ends with the job.

    Raises:
        ConfigError: There is no cluster, or the address is malformed.
        MissingExtraError: Ray is not installed.
    """
    _check_listening(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of clusters that this process starts
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the job reports errors itself
    ray = import_ray()
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


def _check_listening(address: str) -> None:
    """Fail at once where nothing listens: Ray itself would retry for ten minutes and more."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"'{address}' is not the address of a Ray cluster's head, such as 10.0.0.1:6379. On a machine of the "
            "cluster --ray auto will do; from elsewhere: ray job submit -- hrseg predict ... --ray auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _no_cluster(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"No Ray cluster at '{address}': {reason}. Start one with 'ray start --head' on the first machine and "
        "'ray start --address FIRST:6379' on the others, or use --ray local."
    )


def divide(nodes: Sequence[Mapping[str, Any]], device: str = "auto", workers: int | None = None) -> ClusterResources:
    """Divide machines among workers: one for each GPU, else one for as many CPUs as the smallest machine has.

    Args:
        nodes: From `ray.nodes()`.
        device: "auto" takes GPUs where there are any.
        workers: Number wanted; None is as many as fit.

    Raises:
        ConfigError: The cluster is too small.

    Example:
        >>> node = lambda **has: {"Alive": True, "Resources": has}
        >>> divide([node(CPU=16.0), node(CPU=8.0)])
        ClusterResources(workers=3, cpus=8, gpus=0)
        >>> divide([node(CPU=16.0, GPU=4.0), node(CPU=8.0)])
        ClusterResources(workers=4, cpus=4, gpus=1)
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    machines = [(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in alive]
    gpus = sum(count for _, count in machines)
    cores = [cpus for cpus, _ in machines if cpus]
    if device == "cuda" and not gpus:
        raise ConfigError(
            f"The Ray cluster has no GPU on its {len(alive)} machines. Use --device cpu, or join machines with GPUs."
        )
    if not cores:
        raise ConfigError("The Ray cluster has no CPU to give. Let more machines join it.")
    if gpus and device != "cpu":
        gpus_each, fitting = 1, gpus
        cpus = max(1, min(owned // count for owned, count in machines if count))
    else:
        gpus_each = 0
        # The largest size that gives enough workers; by default the smallest machine is one worker.
        largest = min(cores) if workers is None else max(cores)
        fits = {size: sum(owned // size for owned in cores) for size in range(largest, 0, -1)}
        cpus = next((size for size in fits if fits[size] >= (workers or 1)), 1)
        fitting = fits[cpus]
    if workers is not None and workers > fitting:
        kind = "GPUs" if gpus_each else "CPUs"
        raise ConfigError(
            f"{workers} workers do not fit: the Ray cluster has {fitting} {kind}. Take fewer, or let more machines "
            "join."
        )
    return ClusterResources(workers or fitting, cpus, gpus_each)
