"""Our network on the same weights gives the official implementation's stride-4 logits.

The .npz was made by tools/reference_logits.py from the official code; it holds its commit.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from hrseg.models import create_model
from tests.reference.seeded import CASES, NUM_CLASSES, SIZES, seeded_image, seeded_state

REFERENCE = np.load(Path(__file__).with_name("official.npz"))


@pytest.mark.parametrize(("backbone", "policy"), CASES)
@pytest.mark.parametrize("size", SIZES)
def test_logits_equal_the_official_ones(backbone, policy, size):
    network = create_model(backbone, num_classes=NUM_CLASSES, resize=policy).eval()
    network.load_state_dict(seeded_state(network))
    with torch.no_grad():
        ours = network.forward_all(seeded_image(size))["main"].numpy()
    official = REFERENCE[f"{backbone}/{policy}/{size[0]}x{size[1]}"]
    assert np.abs(ours - official).max() / official.std() < 1e-4


def test_the_policies_differ_by_far_more_than_that():
    first, second = (
        REFERENCE[f"hrnet_w18_small_v2/{p}/61x75"] for p in ("bilinear", "bilinear_aligned")
    )
    assert np.abs(first - second).max() / first.std() > 0.05
