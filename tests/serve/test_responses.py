"""Answers over real HTTP, compared with those of the library."""

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.inference.predictor import Predictor
from hrseg.ops.upsample import STEP
from tests.serve.conftest import Served, file_of, opened, picture


@pytest.fixture(scope="module")
def prediction(predictor: Predictor):
    return predictor(picture())


def test_the_mask_is_the_file_that_predict_writes(served: Served, prediction, tmp_path) -> None:
    answer = served.predict(file_of(picture()))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    written, _ = prediction.save(tmp_path)
    ours, theirs = Image.open(io.BytesIO(answer.content)), Image.open(written)
    assert ours.mode == theirs.mode == "P"
    assert ours.getpalette() == theirs.getpalette()
    assert np.array_equal(np.array(ours), np.array(theirs))


def test_a_form_and_a_raw_body_are_the_same(served: Served) -> None:
    raw = served.predict(file_of(picture())).content
    form = served.client.post(
        "/predict",
        files={"note": b"something else", "image": ("street.png", file_of(picture()), "image/png")},
    )
    assert form.content == raw


def test_a_photograph_that_lies_on_its_side_is_turned(served: Served, predictor: Predictor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = file_of(picture(), "JPEG", exif=exif)
    mask = opened(served.predict(content).content)
    upright = np.rot90(opened(content), -1)
    assert mask.shape == (96, 64)
    assert np.array_equal(mask, predictor(np.ascontiguousarray(upright)).ids())


@pytest.mark.parametrize("legend", [True, False])
def test_the_overlay_is_the_librarys(served: Served, prediction, legend: bool) -> None:
    answer = served.predict(file_of(picture()), output="overlay", alpha=0.3, legend=legend)
    assert np.array_equal(opened(answer.content), prediction.overlay(0.3, legend))


def test_json_says_classes_shares_and_size(served: Served, prediction) -> None:
    answer = served.predict(file_of(picture()), output="json").json()
    shares = {one["name"]: one["share"] for one in answer["classes"]}
    assert shares == pytest.approx(prediction.shares(), abs=1e-6)
    assert list(shares) == list(prediction.shares())
    assert (answer["model"], answer["height"], answer["width"]) == ("small", 64, 96)
    assert answer["confidence"] == pytest.approx(float(prediction.confidence[::STEP, ::STEP].mean()), abs=1e-5)
    assert "maps" not in answer


def test_maps_come_with_json_on_request(served: Served, prediction) -> None:
    answer = served.predict(file_of(picture()), output="json", maps=True).json()
    maps = {name: opened(base64.b64decode(text)) for name, text in answer["maps"].items()}
    assert np.array_equal(maps["train_ids"], prediction.mask)
    assert np.array_equal(maps["mask"], prediction.ids())
    assert np.abs(maps["confidence"] / 255 - prediction.confidence).max() <= 0.5 / 255 + 1e-6


def test_features_show_four_branches(served: Served) -> None:
    answer = served.client.post("/features", files={"image": file_of(picture())}).json()
    found = [(b["index"], b["stride"], b["height"], b["width"]) for b in answer["branches"]]
    assert found == [(0, 4, 16, 24), (1, 8, 8, 12), (2, 16, 4, 6), (3, 32, 2, 3)]
    for branch in answer["branches"]:
        shown = [branch["mean"], branch["pca"], *(one["image"] for one in branch["strongest"])]
        for text in shown:
            size = opened(base64.b64decode(text)).shape
            assert size == (branch["height"], branch["width"], 3)


class Plain(torch.nn.Module):
    """Three classes by the three colors, and no branches, as in an exported file."""

    num_classes = 3

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_a_network_without_branches_says_so(start: Callable[..., Served]) -> None:
    one = start(predictor=Predictor(Plain(), mean=(0, 0, 0), std=(1, 1, 1)))
    assert one.client.get("/labels").json()["branches"] is False
    answer = one.client.post("/features", files={"image": file_of(picture())})
    assert answer.status_code == 409
    assert "shows no branches" in answer.json()["detail"]
    mask = opened(one.predict(file_of(picture())).content)
    assert np.array_equal(mask, picture().argmax(axis=2))
