"""What runs a network for inference: torch as it is, torch.compile, or OpenVINO. Each gives a logits function.

On a CPU the default is OpenVINO where it is installed and the network one that `openvino_graph` writes, else torch;
docs/decisions/0011-engines.md says why. An engine that is asked for and cannot run says so: torch.compile falls back
with one sentence, OpenVINO is refused where it does not apply.
"""

import importlib.util
import json
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.errors import ConfigError, unknown_choice
from hrseg.inference.model_card import quiet
from hrseg.inference.openvino import can_write, load_openvino, openvino_core, write_graph
from hrseg.inference.prepare import LogitsFunction, Prepared, precision_of, prepare
from hrseg.weights.checkpoint_io import weights_digest
from hrseg.weights.download import cache_dir

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino", "compile")
_LAYOUT = 1
"""Of the cached files; another number makes older ones forgotten."""
_KEPT_PIXELS = 2**21
"""Up to so many OpenVINO keeps its maps' memory for the next images; above, that would be a third of a gigabyte."""


class Engine:
    """A logits function made of one that gives logits at the head's own resolution.

    Args:
        name: Of ENGINES.
        coarse: (n, bands, h, w) → (n, K, h / 4, w / 4), float32.
        network: Whose logits they are; its way to image size is followed.
        release: Gives back the memory that is kept between images where torch does not see it; None where there is
            none.

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
        pieces: Any = network
        self.name = name
        self.coarse = coarse
        self.upsample: Callable[..., torch.Tensor] = pieces.upsample
        self.release = release

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits. Shape: as the class says."""
        return self.upsample(self.coarse(image), (int(image.shape[-2]), int(image.shape[-1])))


def open_engine(
    network: nn.Module, device: torch.device | str, precision: str = "auto", engine: str = "auto"
) -> LogitsFunction:
    """Make a network ready to run.

    Args:
        network: Follows the network contract; it is left as it is.
        device: Where to run.
        precision: See `prepare`.
        engine: "torch" (`prepare`), "openvino" (on a CPU; networks that `openvino_graph` cannot write are converted
            once and kept in the cache), "compile" (torch.compile; the first image of each size takes long; on CUDA it
            records CUDA graphs, and "graph" is another word for it), or "auto": OpenVINO where it is installed and
            need not convert, else torch.

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
        return _auto(network, device, precision)
    if engine == "torch":
        return prepare(network, device, precision)
    if not hasattr(network, "forward_coarse"):
        raise ConfigError(
            f"Engine '{engine}' runs HRNets, and this {type(network).__name__} is none. Leave the engine out: exported "
            "files and baselines run as they are."
        )
    return _ROWS[engine](network, device, precision_of(network, precision, device))


def _auto(network: nn.Module, device: torch.device, precision: str) -> LogitsFunction:
    if device.type == "cpu" and can_write(network) and importlib.util.find_spec("openvino"):
        found = precision_of(network, precision, device)
        try:
            return _openvino(network, device, found)
        # A library half installed, or for another machine, fails in many ways.
        except Exception as error:
            log.warning("OpenVINO failed (%s); the torch engine runs instead.", _reason(error))
    return prepare(network, device, precision)


def _compile(network: nn.Module, device: torch.device, precision: str) -> LogitsFunction:
    if reason := no_compiler(device):
        log.warning("torch.compile needs %s; the torch engine runs instead.", reason)
        return prepare(network, device, precision)
    plain = prepare(network, device, precision, rewrite=False)
    # CUDA graphs: what launching kernels costs is paid once for each size of image
    mode = "reduce-overhead" if device.type == "cuda" else None
    return Engine("compile", _tried(plain, prepare(network, device, precision), mode), network)


def _tried(plain: Prepared, spare: Prepared, mode: str | None) -> LogitsFunction:
    """Run the compiled network, and for good the spare one after the compiler has failed."""
    compiled = torch.compile(plain.network.forward_coarse, dynamic=False, mode=mode)
    failed = False

    def coarse(image: torch.Tensor) -> torch.Tensor:
        nonlocal failed
        if not failed:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    logits: torch.Tensor = plain.run(compiled, image)
                    # a CUDA graph writes its next answer into the same memory
                    return logits if mode is None else logits.clone()
            except Exception as error:  # inductor passes on whatever its compilers raise
                if "out of memory" in str(error):
                    raise
                failed = True
                log.warning(
                    "torch.compile failed (%s); the torch engine runs instead.", _reason(error)
                )
        assert spare.coarse is not None
        return spare.coarse(image)

    return coarse


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def no_compiler(device: torch.device) -> str:
    """Return what torch.compile lacks on this machine, or an empty string."""
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
        "CPU_RUNTIME_CACHE_CAPACITY": 0,
        "ENABLE_CPU_PINNING": False,  # several processes would be tied to the same cores
    }
    model = write_graph(network) if can_write(network) else _converted(network, core)
    compiled = core.compile_model(model, "CPU", options)
    # It works on one call at a time, and refuses others instead of having them wait.
    alone = threading.Lock()

    def coarse(image: torch.Tensor) -> torch.Tensor:
        pixels = image.detach().float().cpu().contiguous()
        with alone:
            logits = torch.from_numpy(compiled(pixels.numpy(), share_inputs=True)[0])
            if pixels.numel() // pixels.shape[1] > _KEPT_PIXELS:
                compiled.release_memory()
        return logits.float()

    def release() -> None:
        with alone:
            compiled.release_memory()

    return Engine("openvino", coarse, network, release)


_ROWS: dict[str, Callable[..., LogitsFunction]] = {
    "compile": _compile,
    "openvino": _openvino,
}


def _converted(network: nn.Module, core: Any) -> Any:
    """Read the network's OpenVINO form from the cache, or convert it and put it there."""
    path = cache_dir() / "engines" / f"{digest(network)}.xml"
    if path.is_file():
        try:
            return core.read_model(str(path))
        except RuntimeError as error:  # damaged; what follows writes it anew
            log.info("%s is damaged and is made anew: %s", path, str(error).splitlines()[0])
    openvino = load_openvino()
    bands = getattr(network, "spec", {}).get("in_channels", 3)
    # Sizes that no branch divides, so that nothing looks constant by chance.
    image = torch.zeros(1, bands, 97, 134)
    with quiet(), torch.no_grad():
        model = openvino.convert_model(
            _Stride4(network).eval(),
            example_input=image,
            input=[openvino.PartialShape([-1, bands, -1, -1])],
        )
    _keep(openvino, model, path)
    return model


def _keep(openvino: Any, model: Any, path: Path) -> None:
    """Write the pair of files whole or not at all; a cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / path.name
            openvino.save_model(model, str(draft), compress_to_fp16=False)
            os.replace(draft.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        log.info("%s could not be kept: %s", path, error)


def digest(network: nn.Module) -> str:
    """Return digits that change with the weights, the network's form and OpenVINO's version."""
    spec = json.dumps(getattr(network, "spec", {}), sort_keys=True, default=str)
    spec = f"{_LAYOUT} {load_openvino().__version__} {spec}"
    return weights_digest(network.state_dict(), spec)[:32]


class _Stride4(nn.Module):
    """The network up to the logits at the head's own resolution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network.forward_coarse(image)
        return logits


_first: int | None = None
"""The process that first opened a network, as its forked children remember it."""


class ForkGuard:
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


_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def settle_threads(threads: int | None = None) -> int:
    """Let torch use so many threads, else as OMP_NUM_THREADS says, else the physical cores; return the number.

    Two threads on one core share its arithmetic and get in each other's way; a container's quota is kept.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif not os.environ.get("OMP_NUM_THREADS"):
        wanted = usable_cores()
        if wanted < torch.get_num_threads():
            torch.set_num_threads(wanted)
    return torch.get_num_threads()


def usable_cores(cpus: Path = _CPUS, quota: Path = _QUOTA) -> int:
    """Return the physical cores of this process's affinity, at most what its container may use.

    Args:
        cpus: Where Linux describes processors.
        quota: Where Linux says what a container may use.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    numbers = os.sched_getaffinity(0)
    cores = set()
    for number in numbers:
        try:
            siblings = cpus / f"cpu{number}" / "topology" / "thread_siblings_list"
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(number))
    return max(1, min(len(cores), _allowed(quota)))


def _allowed(quota: Path) -> int:
    try:
        most, period = quota.read_text().split()
        return len(os.sched_getaffinity(0)) if most == "max" else -(-int(most) // int(period))
    except (OSError, ValueError):
        return len(os.sched_getaffinity(0))
