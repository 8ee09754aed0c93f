"""Segment images with an exported OpenVINO (or ONNX) file. Needs: pip install openvino pillow.

python segment_openvino.py street.xml photo.jpg another.jpg --out masks
"""

import argparse
import json
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps


def main() -> None:
    """Read the words, segment each image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("masks"))
    words = parser.parse_args()

    core = openvino.Core()
    model = core.read_model(words.model)
    # Without the hint, CPUs that know bf16 round to it.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    card = json.loads(model.get_rt_info(["hrseg"]).value)
    words.out.mkdir(parents=True, exist_ok=True)
    for path in words.images:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        labels = compiled(np.asarray(image)[None])["labels"]  # uint8 (1, H, W)
        mask = Image.fromarray(labels[0])
        mask.putpalette(bytes(np.asarray(card["palette"], np.uint8)))
        mask.save(words.out / f"{path.stem}_mask.png")
        shares = np.bincount(labels.ravel(), minlength=len(card["classes"])) / labels.size
        largest = np.argsort(-shares)[:3]
        print(path, ", ".join(f"{card['classes'][i]} {100 * shares[i]:.1f} %" for i in largest))


if __name__ == "__main__":
    main()
