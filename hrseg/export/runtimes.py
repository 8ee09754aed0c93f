"""Exported files run: one class per runtime, all called alike: uint8 images in, a dict of answers out.

Nothing here knows networks; `network` makes a logits function of one.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from hrseg.errors import DataError, MissingExtraError, WeightsError
from hrseg.export.card import KEY
from hrseg.export.graph import INPUT, SMALLEST, quiet
from hrseg.export.openvino import openvino_core
from hrseg.export.programs import check_program


class Runner(Protocol):
    """An exported file, opened. `card` is its JSON text, or None where it has none."""

    card: str | None

    def __call__(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Answer images. Shape: uint8 (N, H, W, 3) → outputs by name."""


class OnnxRunner:
    """An ONNX file under ONNX Runtime, on the GPU where that runtime was built for one.

    Args:
        path: FILE.onnx.
        cpu: Stay on the CPU.
    """

    def __init__(self, path: Path, cpu: bool = False) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                "ONNX files need onnxruntime, which is not installed. Run: pip install 'hrseg[export]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # it warns of each unused weight
        there = onnxruntime.get_available_providers()
        wanted = ("CPUExecutionProvider",) if cpu else _PROVIDERS
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=[name for name in wanted if name in there]
        )
        self.names = [output.name for output in self.session.get_outputs()]
        self.card: str | None = self.session.get_modelmeta().custom_metadata_map.get(KEY)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Answer images. Shape: uint8 (N, H, W, 3) → outputs by name."""
        answers = self.session.run(self.names, {INPUT: images})
        return dict(zip(self.names, answers, strict=True))


_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OpenVinoRunner:
    """An OpenVINO or ONNX file under OpenVINO, on the CPU, without its default rounding to bf16.

    Args:
        path: FILE.xml or FILE.onnx.
        cpu: It stays there either way.
    """

    def __init__(self, path: Path, cpu: bool = True) -> None:
        core = openvino_core()
        model = core.read_model(str(path))
        told = model.has_rt_info([KEY])
        self.card: str | None = str(model.get_rt_info([KEY]).value) if told else None
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self.compiled = core.compile_model(model, "CPU", options)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Answer images. Shape: uint8 (N, H, W, 3) → outputs by name."""
        answers = self.compiled(images)
        return {output.get_any_name(): np.array(answers[output]) for output in answers}


class TorchRunner:
    """A torch.export file; it takes images from 33 x 33 pixels up.

    Args:
        path: FILE.pt2.
        cpu: It stays there either way.
    """

    def __init__(self, path: Path, cpu: bool = True) -> None:
        check_program(path)
        extra = {f"{KEY}.json": ""}
        with quiet():
            self.program: Any = torch.export.load(str(path), extra_files=extra)
        self.card: str | None = extra[f"{KEY}.json"] or None
        self.module = self.program.module()
        names = json.loads(self.card)["outputs"] if self.card else ("labels",)
        self.names = tuple(names)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Answer images. Shape: uint8 (N, H, W, 3) → outputs by name."""
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
"""Suffix of an exported file → what opens it."""


def is_exported(path: str | Path) -> bool:
    """Tell exported files by their suffix.

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
        raise WeightsError(f"{path} does not exist. Write it with: hrseg export --out {path}")
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise WeightsError(
            f"{path} lies alone; its weights, {path.with_suffix('.bin').name}, belong beside it. Copy both."
        )
    try:
        return RUNTIMES[path.suffix](path)
    except (MissingExtraError, WeightsError):
        raise
    except Exception as error:  # each runtime has kinds of its own
        reason = str(error).splitlines()[0][:160].rstrip(".") if str(error) else type(error)
        raise WeightsError(
            f"{path} cannot be opened: {reason}. It is damaged or was cut short; copy or export it again."
        ) from error
