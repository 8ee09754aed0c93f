import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from hrseg.viz.pages import jpeg, render, thumbnails

HOSTILE = '<script>alert("x")</script>&\''
CHECK = {"path": HOSTILE, "verdict": ("good", HOSTILE), "findings": [], "classes": [], "splits": []}


def check_page(**values):
    result = {"root": HOSTILE, "seconds": 0.1}
    tiles, blocks = [(HOSTILE, HOSTILE, HOSTILE)], [(HOSTILE, HOSTILE)]
    values = {"title": HOSTILE, "result": result, "tiles": tiles, "blocks": blocks} | values
    return render("check.html", **CHECK, sheet=[], largest=1, pairs="1 pair", **values)


def decoded(picture):
    return np.array(Image.open(io.BytesIO(base64.b64decode(picture.src.partition(",")[2]))))


def test_every_value_of_a_page_is_escaped():
    page = check_page()
    assert page.count("<script>") == 1  # the page's own
    assert "alert(&#34;x&#34;)" in page
    assert "<title>&lt;script&gt;" in page
    assert page.count("&lt;script&gt;") == 9


def test_a_missing_value_is_an_error_and_no_empty_page():
    with pytest.raises(jinja2.UndefinedError):
        render("check.html", title="a")


def test_a_page_follows_dark_mode_and_the_width_of_a_phone():
    page = check_page()
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_thumbnails_have_one_size_and_unmixed_ids():
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (30, 60, 3), dtype=np.uint8)
    mask = draw.choice(np.array([0, 7, 255], np.uint8), (30, 60))
    photo, ids = thumbnails(image, mask, 40)
    assert photo[1:] == ids[1:] == (40, 20)
    assert set(np.unique(decoded(ids))) == {0, 7, 255}
    assert photo.src.startswith("data:image/jpeg;base64,/9j/")


def test_small_images_are_not_enlarged_and_transparent_masks_stay_so():
    colors = np.zeros((4, 6, 4), np.uint8)
    colors[0] = (255, 0, 0, 255)
    photo, mask = thumbnails(np.zeros((8, 12, 3), np.uint8), colors, 100)
    assert photo[1:] == mask[1:] == (12, 8)
    assert mask.src.startswith("data:image/png;base64,iVBOR")
    rgba = np.array(Image.open(io.BytesIO(base64.b64decode(mask.src.partition(",")[2]))).convert("RGBA"))
    assert rgba[0, 0].tolist() == [255, 0, 0, 255]
    assert rgba[-1, 0, 3] == 0


def test_a_photograph_knows_its_size():
    assert jpeg(np.zeros((4, 5, 3), np.uint8))[1:] == (5, 4)
