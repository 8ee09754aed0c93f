"""Classes, and predictions beside their photographs, for tests of what is written."""

import numpy as np
import pytest

from hrseg.imaging import write_image, write_mask
from hrseg.labels import load_labels


@pytest.fixture
def with_background(tmp_path):
    path = tmp_path / "with.yaml"
    path.write_text("classes: [background, road, car, tree]\n")
    return load_labels(path)


@pytest.fixture
def without(tmp_path):
    path = tmp_path / "without.yaml"
    path.write_text("classes: [road, car, tree]\n")
    return load_labels(path)


def predicted(root, given):
    for name, mask in given.items():
        write_image(root / "photos" / f"{name}.png", np.zeros((*mask.shape, 3), np.uint8))
        write_mask(root / "predicted" / f"{name}_mask.png", mask)
        write_image(root / "predicted" / f"{name}_overlay.png", np.zeros((*mask.shape, 3), np.uint8))
