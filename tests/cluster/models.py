"""A tiny model and small photos on disk, for jobs on clusters that are there or only played."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hrseg.labels import Label, LabelSet
from hrseg.weights import write_release

LABELS = LabelSet("own", tuple(Label(10 * i, i, f"c{i}", (i, 9 * i, i)) for i in range(3)))
PLAIN = {"device": "cpu", "precision": "fp32"}


def write_model(network: torch.nn.Module, path: Path, shift: float = 0.0) -> Path:
    state = {key: value.clone() for key, value in network.state_dict().items()}
    first = next(key for key, value in state.items() if value.is_floating_point())
    state[first] += shift
    card = {
        "network": network.spec,
        "labels": LABELS.to_dict(),
        "mean": [0.5] * 3,
        "std": [1] * 3,
    }
    write_release(path, state, card)
    return path


def write_photos(folder: Path, count: int) -> Path:
    """Every third lies in a folder of its own, so that names have parts."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / ("a", "b", "")[i % 3] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Place → bytes of all files, hidden ones too, but manifests."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        place: path.read_bytes() for place, path in files.items() if path.is_file() and not place.startswith("manifest")
    }
