"""OpenVINO files: an ONNX model as FILE.xml and FILE.bin, with the card in the xml.

Needs the extra "openvino".
"""

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


def to_openvino(onnx_file: Path, out: Path, half: bool, card: dict[str, Any] | None = None) -> Path:
    """Write an ONNX file as OpenVINO's pair of files.

    Args:
        onnx_file: Of any precision.
        out: FILE.xml; FILE.bin goes beside it.
        half: Keep the weights as fp16.
        card: Goes into the xml.
    """
    openvino = load_openvino()
    model = openvino.Core().read_model(str(onnx_file))
    if card is not None:
        model.set_rt_info(json.dumps(card, ensure_ascii=False), [KEY])
    openvino.save_model(model, str(out), compress_to_fp16=half)
    return out
