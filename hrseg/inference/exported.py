"""Exported files as networks: ONNX, OpenVINO and torch.export, behind the contract of checkpoints.

They take normalized images, as every logits function does, and hand pixels to the file, which normalizes itself.
"""

import io
import logging
import math
import re
import shlex
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from hrseg.errors import DataError, HrsegError, MissingExtraError, WeightsError, install_command, parse_json
from hrseg.inference.model_card import (
    INPUT,
    KEY,
    OUTPUTS,
    SMALLEST,
    CardFields,
    quiet,
    read_card,
)
from hrseg.inference.openvino import openvino_core
from hrseg.inference.windows import in_windows


class Runner(Protocol):
    """An open exported file, of any profile; `card` is its JSON text, or None where it has none."""

    card: str | None

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Run the file. Shape: uint8 (N, H, W, 3) → outputs by name."""


def as_plain(images: np.ndarray) -> np.ndarray:
    """Return the input of the plain profile. Shape: uint8 (N, H, W, 3) → float32 (N, 3, H, W), 0 to 1."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


class OnnxRunner:
    """An ONNX file under ONNX Runtime, on the GPU if that runtime was built for one and not `cpu`."""

    def __init__(self, path: Path, cpu: bool = False) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                f"ONNX files need onnxruntime, which is not installed. Run: {install_command('export')}"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised; it warns of each unused weight
        gpu = ["CUDAExecutionProvider"] * (not cpu)
        available = onnxruntime.get_available_providers()
        providers = [name for name in (*gpu, "CPUExecutionProvider") if name in available]
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.plain = self.session.get_inputs()[0].type == "tensor(float)"
        self.names = [output.name for output in self.session.get_outputs()]
        self.card: str | None = self.session.get_modelmeta().custom_metadata_map.get(KEY)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file. Shape: uint8 (N, H, W, 3) → outputs by name."""
        answers = self.session.run(self.names, {INPUT: as_plain(images) if self.plain else images})
        return dict(zip(self.names, answers, strict=True))


class OpenVinoRunner:
    """An OpenVINO or ONNX file under OpenVINO, always on the CPU, without its default rounding to bf16."""

    def __init__(self, path: Path, cpu: bool = True) -> None:
        core = openvino_core()
        model = core.read_model(str(path))
        has_card = model.has_rt_info([KEY])
        self.card: str | None = str(model.get_rt_info([KEY]).value) if has_card else None
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "CPU_RUNTIME_CACHE_CAPACITY": 0,  # it would grow with every new size of image
        }
        self.plain = model.input(0).get_element_type().to_dtype() == np.float32
        self.compiled = core.compile_model(model, "CPU", options)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file. Shape: uint8 (N, H, W, 3) → outputs by name."""
        answers = self.compiled(as_plain(images) if self.plain else images)
        return {output.get_any_name(): np.array(answers[output]) for output in answers}


class TorchRunner:
    """A torch.export file, always on the CPU; it takes images from 33 x 33 pixels up."""

    def __init__(self, path: Path, cpu: bool = True) -> None:
        check_program(path)
        extra = {f"{KEY}.json": ""}
        with quiet():
            self.program: Any = torch.export.load(str(path), extra_files=extra)
        self.card: str | None = extra[f"{KEY}.json"] or None
        self.module = self.program.module()
        names = parse_json(self.card)["outputs"] if self.card else ("labels",)
        self.names = tuple(names)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the file. Shape: uint8 (N, H, W, 3) → outputs by name."""
        if min(images.shape[1:3]) < SMALLEST:
            raise DataError(
                f"An image of {images.shape[1]} x {images.shape[2]} pixels is too small for a torch.export file, "
                f"which takes {SMALLEST} x {SMALLEST} and more. Use the checkpoint, or export it to ONNX."
            )
        with torch.no_grad():
            answers = self.module(torch.from_numpy(images))
        return {name: answer.numpy() for name, answer in zip(self.names, answers, strict=True)}


RUNTIMES: dict[str, Callable[[Path], Runner]] = {
    ".onnx": OnnxRunner,
    ".xml": OpenVinoRunner,
    ".pt2": TorchRunner,
}
"""Suffix of an exported file → its runner."""


def is_exported(path: str | Path) -> bool:
    """Return whether a path has the suffix of an exported file.

    Example:
        >>> is_exported("street.onnx"), is_exported("best.ckpt")
        (True, False)
    """
    return Path(path).suffix in RUNTIMES


def open_runner(path: Path) -> Runner:
    """Open an exported file.

    Raises:
        WeightsError: It does not exist, or is damaged.
        MissingExtraError: Its runtime is not installed.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist. Write it with: hrseg export --out {shlex.quote(str(path))}")
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise WeightsError(
            f"{path} is alone; its weights, {path.with_suffix('.bin').name}, belong beside it. Copy both."
        )
    if path.suffix == ".xml" and any(
        len(number.strip()) > 4 for text in _STEPS.findall(path.read_bytes()) for number in text.split(b",")
    ):
        # OpenVINO's kernels compute with them unchecked, and write outside of their memory
        raise _refused(path, "a padding, stride or kernel of 10,000 pixels or more")
    try:
        return RUNTIMES[path.suffix](path)
    except (MissingExtraError, WeightsError):
        raise
    except Exception as error:  # each runtime has kinds of its own
        raise WeightsError(
            f"{path} cannot be opened: {_reason(error)}. It is damaged or was cut short; copy or export it again."
        ) from error


_STEPS = re.compile(rb'(?:pads_begin|pads_end|strides|dilations|kernel|output_padding)="([^"]*)"')


def _reason(error: Exception) -> str:
    """Return the last line of a message: OpenVINO begins with the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return (last if len(last) <= 160 else f"… {last[-150:]}").rstrip(".")


log = logging.getLogger(__name__)

_TINY = 1e-7


class ExportedNetwork(nn.Module):
    """An exported file under the network contract, for prediction and validation.

    A file without logits gives logits that have the same labels, and the same confidence where it gives
    probabilities. Windows and test-time augmentation then average these. A file of one fixed size runs in windows.

    Args:
        runner: The opened file.
        fields: Those of its card.
        path: The file, for messages.

    Shape:
        normalized image (N, 3, H, W) → logits (N, K, H, W), float32

    Raises:
        WeightsError: The file fails, or its answers are not those that its card names.
        MemoryError: An image needs more memory than there is.
    """

    def __init__(self, runner: Runner, fields: CardFields, path: Path) -> None:
        super().__init__()
        self.runner = runner
        self.path = path
        self.outputs, self.size = fields.outputs, fields.form.size
        self.precision = fields.precision
        self.num_classes = fields.labels.num_classes
        self.mean, self.std = fields.mean, fields.std
        self.spec = dict(fields.network or {})
        self.tried = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExportedNetwork":
        return self  # an open file cannot be copied, and is immutable

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at input size. Shape: see the class."""
        return self._run(image) if self.size is None else in_windows(self._run, image, self.size)

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        pixels = to_pixels(image, self.mean, self.std)
        try:
            answers = self.runner(pixels)
        except (HrsegError, MemoryError):
            raise
        except Exception as error:  # each runtime has kinds of its own
            # the first image, of `open_exported`, is small: there the file itself is the reason
            if self.tried and "alloc" in str(error):
                raise MemoryError(_reason(error)) from error
            raise self._unfit(_reason(error)) from error
        self._check(answers, pixels.shape)
        return as_logits(answers, self.num_classes).to(image.device)

    def _check(self, answers: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
        images, height, width, _ = shape
        if not answers.keys() & {"labels", "logits", "probabilities"}:
            raise self._unfit(f"its outputs are {', '.join(answers)[:160]}")
        for name in answers.keys() & set(OUTPUTS):
            classes = (self.num_classes,) if name in ("logits", "probabilities") else ()
            if answers[name].shape != (images, *classes, height, width):
                raise self._unfit(f"its {name} are of shape {answers[name].shape}")
            if answers[name].dtype.kind not in ("iu" if name == "labels" else "f"):
                raise self._unfit(f"its {name} are of type {answers[name].dtype}")
        labels = answers.get("labels")
        if labels is not None and labels.size:
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise self._unfit(f"its labels go from {low} to {high}")

    def _unfit(self, reason: str) -> WeightsError:
        return WeightsError(
            f"{self.path} gives no labels of the {self.num_classes} classes that its card names: {reason}. It is "
            "damaged, was edited or is of another program; export it again with hrseg export."
        )

    def forward_all(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"main": logits}, at input size. Shape: see the class."""
        return {"main": self(image)}


def open_exported(path: Path) -> tuple[ExportedNetwork, CardFields]:
    """Open an exported file as a network.

    Raises:
        WeightsError: It is damaged, does not run, or was not written by hrseg export.
        MissingExtraError: Its runtime is not installed.
    """
    runner = open_runner(path)
    fields = read_card(runner.card, path)
    if fields.outputs == ("labels",):
        log.info(
            "%s gives labels only, so every confidence is 1. To have it: hrseg export --outputs labels probability",
            path,
        )
    network = ExportedNetwork(runner, fields, path).eval()
    with quiet():
        network(torch.zeros(1, 3, SMALLEST, SMALLEST))  # a file that cannot run is refused before any image
    network.tried = True
    return network, fields


def to_pixels(image: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Undo normalization, exactly for images that were bytes. Shape: (N, 3, H, W) → uint8 (N, H, W, 3)."""
    s, m = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (std, mean))
    values = ((image.detach().float().cpu() * s + m) * 255.0).round().clamp(0, 255)
    return np.ascontiguousarray(values.to(torch.uint8).permute(0, 2, 3, 1).numpy())


def as_logits(answers: Mapping[str, np.ndarray], num_classes: int) -> torch.Tensor:
    """Return a file's logits, or logits equivalent to its labels and probabilities.

    Shape:
        answers (N, …, H, W) → (N, K, H, W)

    Example:
        >>> answers = {"labels": np.array([[[1]]]), "probability": np.array([[[0.8]]])}
        >>> as_logits(answers, 3).softmax(dim=1).flatten().tolist()
        [0.10000000149011612, 0.800000011920929, 0.10000000149011612]
    """
    if "logits" in answers:
        return torch.from_numpy(np.ascontiguousarray(answers["logits"])).float()
    if "probabilities" in answers:  # whose softmax they are again
        return torch.from_numpy(np.ascontiguousarray(answers["probabilities"])).float().clamp(min=1e-30).log()
    labels = torch.from_numpy(answers["labels"].astype(np.int64))[:, None]  # (N, 1, H, W)
    if "probability" in answers:
        chosen = torch.from_numpy(answers["probability"].astype(np.float32))[:, None]
        chosen = chosen.clamp(1 / num_classes, 1 - _TINY)  # the label wins, and its logit is finite
    else:
        chosen = torch.full(labels.shape, 1 - _TINY)
    others = ((1 - chosen) / max(1, num_classes - 1)).log()  # (N, 1, H, W)
    logits = others.expand(-1, num_classes, -1, -1).clone()  # (N, K, H, W)
    # slightly larger, so that the label wins even where all classes are equally likely
    return logits.scatter_(1, labels, torch.maximum(chosen.log(), others + math.ulp(1.0) * 2**32))


_ENTRIES = re.compile(
    r"[\w.-]+/(data/weights/weight_\d+|data/weights/model_weights_config\.json|data/sample_inputs/model\.pt"
    r"|data/constants/model_constants_config\.json|models/model\.json|extra/hrseg\.json|archive_format"
    r"|archive_version|\.data/version|\.data/serialization_id|byteorder)"
)
_FUNCTIONS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem)"
    r"|torch\.sym_(min|max|ite|float|not)|math\.(ceil|floor|trunc)"
)
_FREE_TEXT = {"expr_str", "target", "guards_code", "in_spec", "out_spec", "torch_version"}
_FREE_TEXT |= {"stack_trace", "nn_module_stack", "torch_fn"}  # shown in tracebacks only
_WORD = re.compile(r"[\w.:-]*")
_SYMBOL = re.compile(
    r"Symbol\('\w+'(, (positive|negative|nonnegative|integer|real)=True)*\)|Float\('[\d.e+-]+', precision=\d+\)"
)
_NAMES = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|ModularIndexing|Where|Eq|Ne|Gt|Lt"
    "|Ge|Le|Not|And|Or|IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|FloorToInt|CeilToInt|CleanDiv|int_oo|Identity"
    "|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan|Equality|Unequality|precision|true|false|oo"
)
_GUARD = re.compile(
    r"([\s\d()+*/<>=!-]|\d\.\d|L\['image'\]\.size\(\)|\[\d\]|and|or|not|min|max|Max|Min|Mod|%|,"
    r"|math\.(ceil|floor|trunc)|torch\.sym_(min|max|ite|float|not))*"
)


def check_program(path: Path) -> None:
    """Raise if a torch.export file could run anything but tensor arithmetic.

    Raises:
        WeightsError: Naming the first such entry, or the file is no torch.export archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not _ENTRIES.fullmatch(name):
                    raise _refused(path, f"entry {name[:80]}")
                _check_entry(path, name, archive)
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path} is no file of torch.export ({error}). It is damaged or was cut short; copy or export it again."
        ) from error


def _check_entry(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    if name.endswith("config.json"):
        for row in parse_json(archive.read(name))["config"].values():
            if row["use_pickle"] is not False:
                raise _refused(path, "a pickled tensor")
    elif name.endswith("sample_inputs/model.pt"):
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception as error:  # unpicklers raise errors of any type
            raise _refused(path, "a pickle of objects") from error
    elif name.endswith("models/model.json"):
        _check_graph(path, parse_json(archive.read(name)))


def _check_graph(path: Path, content: dict[str, Any]) -> None:
    for key, text in _texts(content):
        if key == "expr_str" and not _is_size(text):
            raise _refused(path, f"the size {text[:80]}")
        if key == "target" and not _FUNCTIONS.fullmatch(text):
            raise _refused(path, f"the function {text[:80]}")
        if key == "guards_code" and not _GUARD.fullmatch(text):
            raise _refused(path, f"the condition {text[:80]}")
        if key not in _FREE_TEXT and not _WORD.fullmatch(text):
            raise _refused(path, f"the name {text[:80]}")


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, text) of all texts, those in lists under their list's key."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for inner, value in content.items():
            yield "a name", inner  # names become part of the code that torch generates
            yield from _texts(value, inner)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, key)


def _is_size(text: str) -> bool:
    """Return whether text is arithmetic on sizes, and no other Python.

    Example:
        >>> _is_size("Add(FloorDiv(Symbol('s1', integer=True), Integer(2)), Integer(1))")
        True
        >>> _is_size("TruncToInt(Mul(Float('1.5', precision=53), ToFloat(Symbol('s62', positive=True))))")
        True
        >>> _is_size("__import__('os').system('ls')")
        False
    """
    rest = _SYMBOL.sub("1", text)
    arithmetic = re.fullmatch(r"[\w\s(),=+*/<>-]*(\.\d+)?[\w\s(),=+*/<>-]*", rest)
    return bool(arithmetic) and all(map(_NAMES.fullmatch, re.findall(r"[A-Za-z_]\w*", rest)))


def _refused(path: Path, what: str) -> WeightsError:
    return WeightsError(
        f"{path} was refused unread: it holds {what}, which a file of hrseg export does not, and which may run code or "
        "end the process. Use the checkpoint, or an ONNX file."
    )
