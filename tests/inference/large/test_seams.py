"""Windows beside one another against the image in one piece, with the model that ships."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrseg.imaging import read_image
from hrseg.inference.large import segment_large
from hrseg.inference.predictor import Predictor
from hrseg.inference.protocols import choose_protocol
from hrseg.inference.windows import WINDOW_PIXELS
from tools.bench_large import borders

from .files import BUILT_FOR
from .test_segment import read, write

STREET = Path(__file__).parents[3] / "docs/images/street.jpg"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What differs in two windows of 1024 x 1024, and where their borders are."""
    folder = tmp_path_factory.mktemp("seams")
    street = cv2.resize(read_image(STREET), (1280, 1024), interpolation=cv2.INTER_CUBIC)
    row = replace(choose_protocol("whole"), whole_pixels=WINDOW_PIXELS)
    predictor = Predictor(device="cpu", protocol=row)
    image = write(folder / "a.tif", street)
    found = segment_large(predictor, image, folder / "out", max_memory=BUILT_FOR, kinds=["mask"])
    whole = Predictor(device="cpu")(street)
    grid = predictor.inference.plan((1024, 1280))
    assert len(grid.columns) == 2
    return read(found.files["mask"]) != whole.ids(), borders(grid), whole.margin < 0.1


@pytest.mark.slow
def test_an_image_that_fits_gets_the_mask_it_gets_in_one_piece(compared):
    wrong, _, _ = compared
    assert wrong.mean() < 0.005


@pytest.mark.slow
def test_there_is_no_more_error_at_the_seams_than_elsewhere(compared):
    wrong, near, unsure = compared
    # where the network is unsure differs from image to image; pixels in one patch are wrong together
    sizes = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    patch = (sizes**2).sum() / sizes.sum()
    usual, there = wrong[~near].sum() / unsure[~near].sum(), wrong[near].sum() / unsure[near].sum()
    assert there <= usual + 3 * np.sqrt(usual * patch / unsure[near].sum())
