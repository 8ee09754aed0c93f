"""Compare exported files with the masks of `hrseg predict`, without hrseg: only numpy, Pillow and the runtimes.

hrseg predict IMAGES --precision fp32 --out FOLDER
python tools/compare_exported.py IMAGES… --masks FOLDER --onnx FILE.onnx --openvino FILE.xml
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
from PIL import Image

LIMIT = 0.01  # per cent of pixels
Labels = Callable[[np.ndarray], np.ndarray]


def main() -> int:
    """Print one line for each runtime; exit with 1 where too many pixels differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--masks", type=Path, required=True, help="what hrseg predict wrote")
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--openvino", type=Path, required=True)
    words = parser.parse_args()
    runtimes = {"onnxruntime": _onnx(words.onnx), "openvino": _openvino(words.openvino)}
    worst = 0.0
    for name, (labels, card) in runtimes.items():
        ids = np.full(256, 255, np.uint8)
        for row in card["labels"]["labels"]:  # (id, trainId, name, …): predict writes ids
            if row[1] < len(card["classes"]):
                ids[row[1]] = row[0]
        changed = pixels = 0
        for path in words.images:
            ours = np.asarray(Image.open(words.masks / f"{path.stem}_mask.png"))
            theirs = ids[labels(np.asarray(Image.open(path).convert("RGB"))[None])[0]]
            changed += int((ours != theirs).sum())
            pixels += ours.size
        percent = 100 * changed / pixels
        worst = max(worst, percent)
        print(f"{name}: {changed} of {pixels:,} pixels differ on {len(words.images)} images, {percent:.6f} %")
    assert not {"hrseg", "torch"} & set(sys.modules)
    return int(worst > LIMIT)


def _onnx(path: Path) -> tuple[Labels, dict]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["hrseg"])
    return lambda image: session.run(["labels"], {"image": image})[0], card


def _openvino(path: Path) -> tuple[Labels, dict]:
    core = openvino.Core()
    model = core.read_model(str(path))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    card = json.loads(model.get_rt_info(["hrseg"]).value)
    return lambda image: compiled(image)["labels"], card


if __name__ == "__main__":
    sys.exit(main())
