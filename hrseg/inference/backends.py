"""Inference backends: torch, torch.compile and OpenVINO, each as a logits function; fork guard and thread counts.

On a CPU the default is OpenVINO if it is installed, can run the network without conversion and has more to do than a
small image, else torch; see docs/decisions/0011-engines.md. A requested engine that cannot run is reported:
torch.compile falls back to torch with one warning, OpenVINO raises where it does not apply.
"""

import contextlib
import importlib.util
import json
import logging
import math
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.errors import ConfigError, unknown_choice
from hrseg.imaging import temporary_folder
from hrseg.inference.model_card import quiet
from hrseg.inference.openvino import can_write, load_openvino, openvino_core, write_graph
from hrseg.inference.prepare import LogitsFunction, Prepared, precision_of, prepare
from hrseg.weights.checkpoint_io import weights_digest
from hrseg.weights.download import cache_dir

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino", "compile")
_CACHE_VERSION = 1
"""Of the cached files; another number invalidates older ones."""
_MAX_CACHED_PIXELS = 2**21
"""Above this OpenVINO's memory of maps is freed after each image: it would be a third of a gigabyte."""

_LITTLE_WORK = 5e12
"""Pixels times parameters up to which torch is done before OpenVINO has been loaded and has compiled: 0.6 megapixels of
the model that ships, as measured (it enlarges them 1.5 times), 3 of small v1, 0.08 of W48."""


class Engine:
    """A logits function from one that gives logits at stride 4.

    Args:
        name: Of ENGINES.
        coarse: (n, bands, h, w) → (n, K, h / 4, w / 4), float32.
        network: Its `upsample` brings them to image size.
        release: Frees memory that is cached between images outside of torch; None where there is none.

    Shape:
        (n, bands, h, w) → (n, K, h, w), float32
    """

    def __init__(
        self,
        name: str,
        coarse: LogitsFunction,
        network: nn.Module,
        release: Callable[[], None] | None = None,
    ) -> None:
        self.name, self.coarse, self.release = name, coarse, release
        self.upsample: Callable[..., torch.Tensor] = network.upsample  # type: ignore[assignment]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits. Shape: see the class."""
        return self.upsample(self.coarse(image), (int(image.shape[-2]), int(image.shape[-1])))


def open_engine(
    network: nn.Module,
    device: torch.device | str,
    precision: str = "auto",
    engine: str = "auto",
    pixels: float | None = None,
) -> LogitsFunction:
    """Return a network as a logits function of an engine.

    Args:
        network: Follows the network contract; it is not changed.
        device: Where to run.
        precision: See `prepare`.
        engine: "torch" (`prepare`), "openvino" (on a CPU; networks that `openvino.write_graph` does not support are
            converted once and cached), "compile" (torch.compile; the first image of each size takes long; on CUDA it
            records CUDA graphs; "graph" is an alias), or "auto": OpenVINO where it is installed, need not convert and
            has more than _LITTLE_WORK, else torch.
        pixels: All that the network will see, where that is known and little; None: any number.

    Raises:
        ConfigError: Unknown engine, or one that cannot run this network there.
        MissingExtraError: OpenVINO is not installed.
    """
    if engine == "graph":  # the name of an earlier version
        engine = "compile"
    if engine not in ENGINES:
        raise ConfigError(unknown_choice("engine", engine, ENGINES))
    device = torch.device(device)
    if engine == "auto":
        return _auto(network, device, precision, pixels)
    if engine == "torch":
        return prepare(network, device, precision)
    if not hasattr(network, "forward_coarse"):
        raise ConfigError(
            f"Engine '{engine}' runs HRNets, and this {type(network).__name__} is none. Leave the engine out: exported "
            "files and baselines run as they are."
        )
    build = _compile if engine == "compile" else _openvino
    return build(network, device, precision_of(network, precision, device))


def _auto(network: nn.Module, device: torch.device, precision: str, pixels: float | None) -> LogitsFunction:
    work = math.inf if pixels is None else pixels * sum(weight.numel() for weight in network.parameters())
    much = work > _LITTLE_WORK
    if much and device.type == "cpu" and can_write(network) and importlib.util.find_spec("openvino"):
        found = precision_of(network, precision, device)
        try:
            return _openvino(network, device, found)
        # an incomplete install, or one for another machine, fails in many ways
        except Exception as error:
            log.warning("OpenVINO failed (%s); the torch engine runs instead.", _reason(error))
    return prepare(network, device, precision)


def _compile(network: nn.Module, device: torch.device, precision: str) -> LogitsFunction:
    if reason := no_compiler(device):
        log.warning("torch.compile needs %s; the torch engine runs instead.", reason)
        return prepare(network, device, precision)
    plain = prepare(network, device, precision, rewrite=False)  # the compiler folds norms itself
    # CUDA graphs: kernels are launched once for each size of image
    mode = "reduce-overhead" if device.type == "cuda" else None
    return Engine("compile", _compiled(plain, prepare(network, device, precision), mode), network)


def _compiled(plain: Prepared, fallback: Prepared, mode: str | None) -> LogitsFunction:
    """Run the compiled network, or permanently the fallback once the compiler has failed."""
    compiled = torch.compile(plain.network.forward_coarse, dynamic=False, mode=mode)
    failed = False

    def coarse(image: torch.Tensor) -> torch.Tensor:
        nonlocal failed
        if not failed:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    logits: torch.Tensor = plain.run(compiled, image)
                    # a CUDA graph writes its next result into the same memory
                    return logits if mode is None else logits.clone()
            except Exception as error:  # inductor raises errors of any type
                if "out of memory" in str(error):
                    raise
                failed = True
                log.warning("torch.compile failed (%s); the torch engine runs instead.", _reason(error))
        assert fallback.coarse is not None
        return fallback.coarse(image)

    return coarse


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def no_compiler(device: torch.device) -> str:
    """Return the compiler that torch.compile lacks on this machine, or an empty string."""
    if device.type == "cuda":
        return "" if shutil.which(os.environ.get("CC", "cc")) else "a C compiler (cc), not found"
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    if any(shutil.which(name) for name in names):
        return ""
    return f"a C++ compiler ({', '.join(names)}), and none was found"


def _openvino(network: nn.Module, device: torch.device, precision: str) -> LogitsFunction:
    if device.type != "cpu":
        raise ConfigError(
            f"Engine 'openvino' runs on the CPU, and device '{device}' was asked for. Use device 'cpu', or engine "
            "'torch'."
        )
    core = openvino_core()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "CPU_RUNTIME_CACHE_CAPACITY": 0,  # it would grow with every new size of image
        "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
    }
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, so that one that cannot run fails here
    model = write_graph(network) if can_write(network) else _converted(network, core)
    compiled = _OpenVINO(model, lambda model: core.compile_model(model, "CPU", options))
    return Engine("openvino", compiled, network, compiled.release)


class _OpenVINO:
    """A model that is compiled for the size of its first images, and for all sizes when others come.

    For one size OpenVINO plans the memory of all maps together, which takes a third to a half less; results are equal
    to the bit.

    Args:
        model: With open sizes.
        build: Compiles it.

    Shape:
        (n, bands, h, w) → (n, K, h / 4, w / 4), float32
    """

    def __init__(self, model: Any, build: Callable[[Any], Any]) -> None:
        self.model, self.build = model, build
        self.open = model.input(0).get_partial_shape()
        self.compiled: Any = None
        self.size: tuple[int, ...] | None = None  # that it is compiled for; None: for all
        self.lock = threading.Lock()  # a compiled model raises on concurrent calls

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at stride 4. Shape: see the class."""
        pixels = image.detach().float().cpu().contiguous()
        with self.lock:
            self._compile(tuple(pixels.shape))
            logits = torch.from_numpy(self.compiled(pixels.numpy(), share_inputs=True)[0])
            if pixels.numel() // pixels.shape[1] > _MAX_CACHED_PIXELS:
                self.compiled.release_memory()
        return logits.float()

    def _compile(self, size: tuple[int, ...]) -> None:
        if self.compiled is not None and self.size in (None, size):
            return
        self.size = size if self.compiled is None else None
        self.compiled = None  # its memory is freed first
        self.model.reshape(self.open if self.size is None else list(size))
        self.compiled = self.build(self.model)

    def release(self) -> None:
        """Free the memory of maps."""
        with self.lock:
            if self.compiled is not None:
                self.compiled.release_memory()


def _converted(network: nn.Module, core: Any) -> Any:
    """Read the converted network from the cache, or convert and cache it."""
    path = cache_dir() / "engines" / f"{digest(network)}.xml"
    if path.is_file():
        try:
            return core.read_model(str(path))
        except RuntimeError as error:  # damaged: it is written again
            log.info("%s is damaged and is written again: %s", path, str(error).splitlines()[0])
    openvino = load_openvino()
    bands = getattr(network, "spec", {}).get("in_channels", 3)
    # sizes that no stride divides, so that no shape is traced as a constant
    image = torch.zeros(1, bands, 97, 134)
    with quiet(), torch.no_grad():
        model = openvino.convert_model(
            _Stride4(network).eval(),
            example_input=image,
            input=[openvino.PartialShape([-1, bands, -1, -1])],
        )
    _cache(openvino, model, path)
    return model


def _cache(openvino: Any, model: Any, path: Path) -> None:
    """Write the pair of files atomically; a cache that cannot be written is no error."""
    try:
        with temporary_folder(".engine", path.parent) as folder:
            draft = folder / path.name
            openvino.save_model(model, str(draft), compress_to_fp16=False)
            os.replace(draft.with_suffix(".bin"), path.with_suffix(".bin"))  # before its .xml
            os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        log.info("%s could not be cached: %s", path, error)


def digest(network: nn.Module) -> str:
    """Return a digest of the weights, the spec and OpenVINO's version."""
    spec = json.dumps(getattr(network, "spec", {}), sort_keys=True, default=str)
    spec = f"{_CACHE_VERSION} {load_openvino().__version__} {spec}"
    return weights_digest(network.state_dict(), spec)[:32]


class _Stride4(nn.Module):
    """The network up to its stride-4 logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network.forward_coarse(image)
        return logits


_first_process: int | None = None
"""Process that first opened a network; forked children inherit the value."""


class ForkGuard:
    """Raise in forked children: thread pools of torch and OpenVINO do not survive fork(), and would hang.

    Args:
        device: Of the network.

    Raises:
        ConfigError: This process was forked from one that had opened a network, and several threads compute.
    """

    def __init__(self, device: torch.device) -> None:
        global _first_process
        self._device, self._threads = device, torch.get_num_threads()
        self._process = os.getpid()
        if _first_process is None:
            _first_process = self._process
        elif _first_process != self._process:
            self._refuse(torch.get_num_threads())

    def check(self, engine: str) -> None:
        """Raise in a process forked from the one that opened the network.

        Args:
            engine: OpenVINO has the number of threads that it was opened with.

        Raises:
            ConfigError: Computing would hang here.
        """
        if os.getpid() != self._process:
            here = torch.get_num_threads()
            self._refuse(max(here, self._threads) if engine == "openvino" else here)

    def _refuse(self, threads: int) -> None:
        if threads > 1 or self._device.type == "cuda":
            raise ConfigError(
                f"Process {os.getpid()} was forked from one that had opened a predictor, and thread pools do not "
                "survive a fork: it would hang. Open the predictor after the fork, in a parent that has not "
                "computed yet (gunicorn without --preload), or start processes by 'spawn', such as "
                "multiprocessing.get_context('spawn')."
            )


_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def set_threads(threads: int | None = None) -> int:
    """Set torch's threads: the argument, else OMP_NUM_THREADS, else the physical cores; return the number.

    Two threads on one core share its arithmetic units and slow each other down; a container's quota is respected.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif not os.environ.get("OMP_NUM_THREADS"):
        wanted = usable_cores()
        if wanted < torch.get_num_threads():
            torch.set_num_threads(wanted)
    return torch.get_num_threads()


def usable_cores(cpus: Path = _CPUS, quota: Path = _QUOTA) -> int:
    """Return the physical cores of this process's affinity, at most its container's quota.

    Args:
        cpus: Linux's folder of processors.
        quota: Linux's file of the quota.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    numbers = os.sched_getaffinity(0)
    cores = set()
    for number in numbers:
        try:
            siblings = cpus / f"cpu{number}" / "topology" / "thread_siblings_list"
            cores.add(siblings.read_text().strip())  # equal for the threads of one core
        except OSError:
            cores.add(str(number))
    allowed = len(numbers)
    with contextlib.suppress(OSError, ValueError):  # also for "max", which is no number
        limit, period = map(int, quota.read_text().split())
        allowed = -(-limit // period)  # rounded up: half a core still runs one thread
    return max(1, min(len(cores), allowed))
