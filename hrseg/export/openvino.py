"""OpenVINO files: an ONNX model as FILE.xml and FILE.bin, with the card in the xml.

Needs the extra "openvino".
"""

import functools
import json
from pathlib import Path
from typing import Any

from hrseg.errors import MissingExtraError
from hrseg.export.card import KEY
from hrseg.export.graph import quiet


def load_openvino() -> Any:
    """Import openvino, or say how to get it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with quiet():
            import openvino
    except ImportError as error:
        raise MissingExtraError(
            "OpenVINO files need openvino, which is not installed. Run: pip install 'hrseg[openvino]'"
        ) from error
    return openvino


@functools.cache
def openvino_core() -> Any:
    """Return the one OpenVINO runtime of this process, which lives as long as the process.

    Its CPU plugin puts a signal stack of its own under the thread that creates it, and takes the memory away when the
    last runtime is gone. Where that happens in another thread, the first thread's next signal, such as Ctrl-C, would
    kill the process.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    return load_openvino().Core()


def to_openvino(onnx_file: Path, out: Path, half: bool, card: dict[str, Any] | None = None) -> Path:
    """Write an ONNX file as OpenVINO's pair of files.

    Args:
        onnx_file: Of any precision.
        out: FILE.xml; FILE.bin goes beside it.
        half: Keep the weights as fp16.
        card: Goes into the xml.
    """
    openvino = load_openvino()
    model = openvino_core().read_model(str(onnx_file))
    if card is not None:
        model.set_rt_info(json.dumps(card, ensure_ascii=False), [KEY])
    openvino.save_model(model, str(out), compress_to_fp16=half)
    return out
