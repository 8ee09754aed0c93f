"""Make tests/reference/official.npz from the official implementation.

    python -m tools.reference_logits PATH_OF_A_CHECKOUT_OF_HRNet-Semantic-Segmentation (branch HRNet-OCR)

The official code is imported as it is; `np.int`, which numpy dropped, is set for it, and its configuration is
built from our table of variants. One .npz of small logits comes out, with the checkout's commit.
"""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from hrseg.models import create_model
from hrseg.models.blocks import ResizePolicy
from hrseg.models.hrnet import VARIANTS, Variant
from tests.reference.seeded import CASES, NUM_CLASSES, SIZES, seeded_image, seeded_state

TARGET = Path("tests/reference/official.npz")


def official_config(variant: Variant, policy: ResizePolicy) -> Any:
    """Write a row of our table the way the official yaml files do."""

    def stage(modules: int, branches: int) -> dict[str, Any]:
        return {
            "NUM_MODULES": modules,
            "NUM_BRANCHES": branches,
            "BLOCK": "BASIC",
            "NUM_BLOCKS": [variant.blocks] * branches,
            "NUM_CHANNELS": variant.channels(branches),
            "FUSE_METHOD": "SUM",
        }

    first = {
        "NUM_MODULES": 1,
        "BLOCK": "BOTTLENECK",
        "NUM_BLOCKS": [variant.stem_blocks],
        "NUM_CHANNELS": [variant.stem_channels],
        "FUSE_METHOD": "SUM",
    }
    stages = {f"STAGE{i}": stage(m, i) for i, m in enumerate(variant.modules, start=2)}
    extra = {"FINAL_CONV_KERNEL": 1, "STAGE1": first, **stages}
    model = {"ALIGN_CORNERS": policy == "bilinear_aligned", "EXTRA": extra}
    return OmegaConf.create({"MODEL": model, "DATASET": {"NUM_CLASSES": NUM_CLASSES}})


def main() -> None:
    """Run every case through the official network and save its logits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    checkout = parser.parse_args().checkout
    np.int = int  # type: ignore[attr-defined]
    sys.path.insert(0, str(checkout / "lib"))
    official = importlib.import_module("models.seg_hrnet")
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    arrays: dict[str, Any] = {"commit": np.array(commit)}
    for backbone, policy in CASES:
        ours = create_model(backbone, num_classes=NUM_CLASSES, resize=policy).eval()
        state = {k.split(".", 1)[1]: v for k, v in seeded_state(ours).items()}
        network = official.HighResolutionNet(official_config(VARIANTS[backbone], policy)).eval()
        network.load_state_dict(state)
        for size in SIZES:
            with torch.no_grad():
                logits = network(seeded_image(size)).numpy()
            arrays[f"{backbone}/{policy}/{size[0]}x{size[1]}"] = logits
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {len(arrays) - 1} cases from {commit}")


if __name__ == "__main__":
    main()
