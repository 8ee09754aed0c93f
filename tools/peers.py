"""One implementation of HRNet in a process of its own, run whenever `tools.bench_peers` says so.

    python -m tools.peers JSON

It builds its network, fills it with the seeded weights in FOLDER/state.npz, answers FOLDER/images.npy once into
FOLDER/NAME.npz, and says "ready" with what it used. Then it runs once for each line on stdin and answers with the
seconds. Nothing of hrseg is imported but what a peer needs, so that an environment without hrseg's packages serves.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from hrseg.benchmark.timing import peak_memory, release_memory, resident, seconds_of
from tools.paired import serve_turns

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 19
Run = Callable[[], torch.Tensor | np.ndarray]


class Job(NamedTuple):
    """What one process is to do.

    Attributes:
        name: A key of PEERS.
        precision: "fp32", "bf16" or "auto".
        backbone: Ours.
        until: "head" (logits at stride 4) or "labels" (of every pixel).
        device: "cpu" or "cuda".
        folder: With state.npz and images.npy.
        checkout: Of the official code.
        threads: Of the processor.
    """

    name: str
    precision: str
    backbone: str
    until: str
    device: str
    folder: str
    checkout: str | None
    threads: int

    @property
    def title(self) -> str:
        """Name of its files."""
        return f"{self.name}-{self.precision}"


class Peer(NamedTuple):
    """A peer ready to run.

    Attributes:
        run: What is timed.
        version: Of what runs.
        expected: Logits of our plain network where the peer's differs by design, else None.
    """

    run: Run
    version: str
    expected: torch.Tensor | None = None


def images(job: Job) -> torch.Tensor:
    """Return the normalized images on the device. Shape: → (N, 3, H, W)."""
    pixels = torch.from_numpy(np.load(Path(job.folder) / "images.npy")).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (MEAN, STD))
    return ((pixels.float() / 255 - mean) / std).contiguous().to(job.device)


def state_of(job: Job) -> dict[str, np.ndarray]:
    """Return the seeded weights by their official names."""
    with np.load(Path(job.folder) / "state.npz") as file:
        return dict(file)


def tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the same as tensors."""
    return {name: torch.from_numpy(value) for name, value in state.items()}


def eager(job: Job, network: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    """Time a network that gives logits at stride 4 the way its own test program calls it."""
    batch, half = images(job), job.precision == "bf16"

    def run() -> torch.Tensor:
        with torch.no_grad():
            with torch.autocast(job.device, torch.bfloat16, enabled=half):
                logits = network(batch)
            if job.until == "head":
                return logits
            size = (batch.shape[-2], batch.shape[-1])
            whole = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
            return whole.argmax(dim=1)

    return run


def ours(job: Job, resize: str = "bilinear") -> Any:
    """Build our network with the seeded weights; its keys are the official ones under two roofs."""
    from hrseg.models import create_model

    network: Any = create_model(job.backbone, "v2", CLASSES, resize)  # type: ignore[arg-type]
    official = tensors(state_of(job))
    roofs = {name.partition(".")[2]: name for name in network.state_dict()}
    network.load_state_dict({roofs[name]: value for name, value in official.items()})
    return network.eval()


def _official(job: Job) -> Peer:
    from tools.references import official
    from tools.references.cases import Case

    checkout = Path(str(job.checkout))
    network = official.network(Case("official", job.backbone, "v2", "bilinear"), CLASSES, checkout)
    network.load_state_dict(tensors(state_of(job)))
    return Peer(eager(job, network.eval().to(job.device)), official.version(checkout))


def _mmseg(job: Job) -> Peer:
    from tools.references import mmseg
    from tools.references.cases import Case

    case = Case("mmseg", job.backbone, "v2", "bilinear_scaled")
    original, state = mmseg.adopt(case, state_of(job), None)
    original.load(state)
    original.network.to(job.device)
    return Peer(eager(job, lambda image: original.run(image)["main"]), mmseg.version(None))


def _timm(job: Job) -> Peer:
    """Run timm's branches, whose fusions enlarge by repeating pixels, under our head in its plain form."""
    import timm

    from hrseg.ops.fused_head import using
    from tools.references.timm_hub import NAMES

    nearest = ours(job, "nearest").to(job.device)
    backbone: Any = timm.create_model(
        NAMES[job.backbone], features_only=True, feature_location="", out_indices=(1, 2, 3, 4)
    )
    state = tensors(state_of(job))
    backbone.load_state_dict({key: state[key] for key in backbone.state_dict()})
    backbone.eval().to(job.device)

    def network(image: torch.Tensor) -> torch.Tensor:
        with using("plain"):
            logits: torch.Tensor = nearest.head(backbone(image))["main"]
            return logits

    def same(image: torch.Tensor) -> torch.Tensor:
        with using("plain"):
            logits: torch.Tensor = nearest.forward_coarse(image)
            return logits

    expected = eager(job._replace(precision="fp32"), same)()
    return Peer(eager(job, network), timm.__version__, torch.as_tensor(expected))


def _torch() -> str:
    return torch.__version__.partition("+")[0]


def _eager(job: Job) -> Peer:
    from hrseg.ops.fused_head import using

    layout = torch.channels_last if "channels last" in job.name else torch.contiguous_format
    network = ours(job).to(job.device).to(memory_format=layout)

    def plain(image: torch.Tensor) -> torch.Tensor:
        image = image.contiguous(memory_format=layout)
        with using("plain"):
            logits: torch.Tensor = network.forward_coarse(image)
            return logits

    return Peer(eager(job, plain), _torch())


def _compile(job: Job) -> Peer:
    """Compile our plain network, channels last, with its weights as constants on a CPU."""
    import torch._inductor.config as inductor

    network = ours(job).to(job.device).to(memory_format=torch.channels_last)
    inductor.freezing = job.device == "cpu"
    compiled = torch.compile(network.forward_coarse, dynamic=False)

    def channels_last(image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = compiled(image.contiguous(memory_format=torch.channels_last))
        return logits

    return Peer(eager(job, channels_last), _torch())


def _file(job: Job) -> Path:
    """Export our network to ONNX, as hrseg export does, unless it lies there."""
    from hrseg.export.graph import Pipeline, trace
    from hrseg.export.onnx import save, to_onnx

    path = Path(job.folder) / f"{job.until}.onnx"
    if not path.exists():
        pipeline = Pipeline(ours(job), MEAN, STD, ("labels",))
        save(to_onnx(trace(pipeline), ("labels",)), path)
    return path


def _labels_only(job: Job) -> None:
    if job.until == "head":
        raise SystemExit("an exported file ends at labels; leave --until head out")


def _onnxruntime(job: Job) -> Peer:
    import onnxruntime

    from hrseg.inference.exported import OnnxRunner

    _labels_only(job)
    runner = OnnxRunner(_file(job), cpu=job.device == "cpu")
    if job.device == "cuda" and "CUDAExecutionProvider" not in runner.session.get_providers():
        raise SystemExit("this onnxruntime was not built for a GPU")
    pixels = np.load(Path(job.folder) / "images.npy")
    return Peer(lambda: runner(pixels)["labels"], onnxruntime.__version__)


def _openvino(job: Job) -> Peer:
    import openvino

    _labels_only(job)
    if job.device != "cpu":
        raise SystemExit("OpenVINO runs on the CPU here")
    hint = {"fp32": "f32", "bf16": "bf16"}[job.precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": job.threads}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(_file(job))), "CPU", options)
    pixels = np.load(Path(job.folder) / "images.npy")
    return Peer(lambda: compiled(pixels)["labels"], openvino.__version__.partition("-")[0])


def _hrseg(job: Job) -> Peer:
    """Run the way of predict: a Predictor with its defaults, or in the precision asked for."""
    from importlib import metadata

    from hrseg.inference.predictor import Predictor
    from hrseg.ops.upsample import CoarseLogits, labels_from_logits

    engine = job.name.rpartition("--engine ")[2] if "--engine" in job.name else "auto"
    predictor = Predictor(ours(job), device=job.device, precision=job.precision, engine=engine)
    batch = images(job)

    def labels() -> torch.Tensor:
        bands = [band.labels for band in predictor.inference.label_strips(batch)]
        return torch.cat(bands, dim=-2)

    def head() -> torch.Tensor:
        coarse: Any = predictor.logits_fn.coarse  # type: ignore[attr-defined]
        logits: torch.Tensor = coarse(batch)
        return logits

    def with_confidence() -> torch.Tensor:
        logits, policy, size = head(), predictor.inference.policy, (batch.shape[-2], batch.shape[-1])
        CoarseLogits(logits, size, policy).map("confidence")  # of the first image, as `Prediction` computes it
        return torch.cat([band.labels for band in labels_from_logits(logits, size, policy=policy)], dim=-2)

    version = f"{metadata.version('hrseg')}, {predictor.precision}"
    until = with_confidence if job.name.endswith("confidence read") else labels
    return Peer(until if job.until == "labels" else head, version)


PEERS: dict[str, Callable[[Job], Peer]] = {
    "hrseg": _hrseg,
    "hrseg, confidence read": _hrseg,
    **{f"hrseg --engine {engine}": _hrseg for engine in ("torch", "compile")},
    "official": _official,
    "mmsegmentation": _mmseg,
    "timm backbone, same head": _timm,
    "plain torch": _eager,
    "plain torch, channels last": _eager,
    "torch.compile": _compile,
    "ONNX Runtime": _onnxruntime,
    "OpenVINO": _openvino,
}
"""Name → what builds it; the first is ours."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let nothing but our own lines reach stdout."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Build, answer, say ready, then run for each line."""
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    with quiet():
        peer = PEERS[job.name](job)
        release_memory()
        base = resident()
        found = {"answer": torch.as_tensor(peer.run()).float().cpu().numpy()}
        if peer.expected is not None:
            found["expected"] = peer.expected.float().cpu().numpy()
        np.savez(Path(job.folder) / f"{job.title}.npz", allow_pickle=False, **found)
        memory = peak_memory(peer.run, torch.device(job.device), base)
    for _, answer in serve_turns({"version": peer.version, "memory": memory}):
        with quiet():
            seconds = seconds_of(peer.run)
        answer(seconds)


if __name__ == "__main__":
    main()
