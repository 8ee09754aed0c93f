from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from hrseg.errors import ConfigError, DataError
from hrseg.imaging import read_image, read_mask
from hrseg.inference.predictor import Predictor
from hrseg.inference.protocols import choose_protocol
from hrseg.labels import Label, LabelSet, load_labels
from hrseg.models import create_model
from hrseg.ops.upsample import STEP

RNG = np.random.default_rng(0)
LABELS = LabelSet("three", tuple(Label(i + 5, i, f"c{i}", (9 * i, 0, 50)) for i in range(3)))


class Brightest(nn.Module):
    """Logits are the image's own bands: the class of a pixel is its brightest color."""

    num_classes = 3

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.float()


def pixels(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def predictor(**options: object) -> Predictor:
    plain = {"device": "cpu", "precision": "fp32", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Predictor(Brightest(), LABELS, **{**plain, **options})


@pytest.mark.parametrize("window", [None, (32, 32), (64, 320)])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (97, 131), (300, 40)])
def test_every_pixel_gets_its_brightest_color(size, window):
    image = pixels(*size)
    result = predictor(window=window)(image)
    assert result.mask.dtype == np.uint8
    assert result.mask.shape == size
    winner = np.take_along_axis(image, result.mask[..., None].astype(int), axis=2)[..., 0]
    assert (image.max(axis=2) - winner).max() <= (0 if window is None else 1)


def test_confidence_is_the_softmax_of_the_winner():
    image = pixels(300, 5)
    result = predictor()(image)
    expected = torch.softmax(torch.from_numpy(image / 255.0), dim=2).amax(dim=2)
    assert result.confidence.dtype == np.float32
    np.testing.assert_allclose(result.confidence, expected, atol=1e-6)


def test_path_pil_image_and_array_give_the_same(tmp_path):
    image = pixels(20, 30)
    path = tmp_path / "straße 1.png"
    Image.fromarray(image).save(path)
    run = predictor()
    results = [run(path), run(str(path)), run(Image.fromarray(image)), run(image)]
    assert all((result.mask == results[0].mask).all() for result in results)
    assert [result.name for result in results] == ["straße 1", "straße 1", "image", "image"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_image_is_read(mode, tmp_path):
    gray = Image.fromarray(pixels(20, 30)[..., 0])
    image = gray.convert("I").convert(mode) if mode == "I;16" else gray.convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    assert predictor()(path).mask.shape == (20, 30)


def test_an_image_turned_by_exif_is_segmented_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(20, 30)).save(tmp_path / "x.jpg", exif=exif)
    assert predictor()(tmp_path / "x.jpg").mask.shape == (30, 20)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)) - 1, np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(DataError, match=r"Pass uint8 RGB of shape \(H, W, 3\)"):
        predictor()(array)


def test_gray_and_rgba_arrays_are_images():
    gray = pixels(20, 30)[..., 0]
    rgb = np.repeat(gray[..., None], 3, axis=2)
    expected = predictor()(rgb).mask
    opaque = np.dstack([rgb, np.full(gray.shape, 255, np.uint8)])
    for array in (gray, gray[..., None], opaque):
        np.testing.assert_array_equal(predictor()(array).mask, expected)
    clear = np.dstack([rgb, np.zeros(gray.shape, np.uint8)])  # laid on white
    assert (predictor()(clear).image == 255).all()


RGB = pixels(20, 30)
CHW = torch.from_numpy(RGB).permute(2, 0, 1)


@pytest.mark.parametrize(
    "array",
    [
        *(RGB / 255, RGB.transpose(2, 0, 1), RGB.astype(np.int64), RGB[None], RGB.astype(float)),
        *(RGB.astype(np.uint16) * 257, torch.from_numpy(RGB), CHW, CHW / 255, CHW[None] / 255),
        RGB.transpose(2, 0, 1)[None] / 255,
    ],
)
def test_the_message_on_an_array_holds_the_expression_that_makes_an_image_of_it(array):
    with pytest.raises(DataError) as caught:
        predictor()(array)
    expression = str(caught.value).partition("a PIL image: ")[2].rstrip(".")
    np.testing.assert_array_equal(eval(expression, {"image": array}), RGB)


def test_normalized_arrays_have_no_way_back():
    with pytest.raises(DataError, match="before normalization"):
        predictor()((RGB / 255 - 0.5) * 4)


def test_a_prediction_shows_itself():
    result = predictor()(RGB)
    assert "30 x 20 pixels" in repr(result)
    page = result._repr_html_()
    largest = max(result.shares(), key=result.shares().get)
    assert page.count("<img ") == 1
    assert largest in page
    axes = result.plot(Figure().add_subplot())
    assert axes.get_legend().get_texts()[0].get_text().split()[0] == largest
    assert repr(predictor()).startswith("Predictor(Brightest: 3 classes of")


def test_a_prediction_is_a_table():
    pytest.importorskip("pandas")
    result = predictor()(RGB)
    table = result.to_pandas()
    assert dict(zip(table["name"], table["share"], strict=True)) == pytest.approx(result.shares())
    assert table["pixels"].sum() == RGB.shape[0] * RGB.shape[1]


def test_saved_files_hold_dataset_ids_and_the_legend(tmp_path):
    result = predictor()(pixels(20, 30))
    mask, overlay = result.save(tmp_path, "x")
    assert (mask.name, overlay.name) == ("x_mask.png", "x_overlay.png")
    np.testing.assert_array_equal(read_mask(mask), result.mask + 5)
    with Image.open(mask) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image.convert("RGB")), LABELS.palette[result.mask])
    assert read_image(overlay).shape[0] > 20


def test_shares_add_up_and_leave_out_absent_classes():
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 1] = 9
    image[0, 0] = (200, 0, 0)
    assert predictor()(image).shares() == {"c1": 0.75, "c0": 0.25}


def test_a_very_large_image_is_cut_into_windows():
    image, row = pixels(80, 90), replace(choose_protocol("whole"), whole_pixels=50 * 50)
    cut = predictor(protocol=row)(image)
    np.testing.assert_allclose(cut.confidence, predictor()(image).confidence, atol=1e-5)
    assert not predictor(protocol=row).inference.plan((80, 90)).whole


def test_the_fast_form_is_the_default_and_agrees_with_the_exact_one(tiny_network, monkeypatch):
    monkeypatch.setattr("hrseg.inference.prepare.has_fast_bf16", lambda device: True)
    fast = Predictor(tiny_network, device="cpu")
    exact = Predictor(tiny_network, device="cpu", precision="fp32")
    assert (fast.precision, exact.precision) == ("bf16", "fp32")
    image = pixels(64, 64)
    difference = np.abs(fast(image).confidence - exact(image).confidence)
    assert difference.max() < 0.05


def test_a_network_without_labels_gets_numbered_classes(tiny_network):
    assert Predictor(tiny_network, device="cpu").labels.names == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        (nn.Identity(), {}, "has no attribute num_classes"),
        (
            Brightest(),
            {"labels": load_labels("camvid")},
            "has 3 classes, the labels 'camvid' name 11",
        ),
        (Brightest(), {"device": "tpu"}, "Unknown device 'tpu'"),
        (Brightest(), {"precision": "fp16"}, "Unknown precision 'fp16'"),
        (Brightest(), {"window": (50, 64)}, "Next larger: (64, 64)"),
        (Brightest(), {"overlap": 2, "window": (64, 64)}, "Overlap 2"),
        (create_model("hrnet_w18_small_v1", in_channels=4), {}, "sees 4 bands; mean has 3 numbers"),
    ],
)
def test_what_cannot_work_is_refused_at_once(network, options, words):
    with pytest.raises(ConfigError) as error:
        Predictor(network, **options)
    assert words in str(error.value)


def test_an_option_that_is_none_is_named():
    with pytest.raises(TypeError, match="unexpected keyword argument 'windows'"):
        Predictor(Brightest(), windows=(64, 64))


def test_scales_and_mirror_keep_the_brightest_color_of_a_plain_image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30, 0], image[:, 30:, 2] = 200, 200
    for options in ({"protocol": "tta"}, {"scales": (0.5, 1.0), "flip": True, "merge": "exp"}):
        result = predictor(**options)(image)
        assert (result.mask[:, :26] == 0).all()
        assert (result.mask[:, 34:] == 2).all()
        assert result.confidence.max() <= 1 + 1e-6


def test_left_and_right_of_the_labels_change_places_in_a_mirror():
    rows = (
        Label(0, 0, "ground", (0, 0, 0)),
        Label(1, 1, "left arm", (9, 0, 0), mirror=2),
        Label(2, 2, "right arm", (0, 9, 0), mirror=1),
    )

    class Sides(nn.Module):
        num_classes = 3

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(len(image), 3, *image.shape[-2:])
            half = image.shape[-1] // 2
            out[:, 1, :, :half] = 5
            out[:, 2, :, half:] = 5
            return out

    run = Predictor(Sides(), LabelSet("arms", rows), device="cpu", precision="fp32", flip=True)
    mask = run(pixels(6, 8)).mask
    assert (mask[:, :4] == 1).all()
    assert (mask[:, 4:] == 2).all()


# Several at once, and more maps


def test_a_batch_of_several_sizes_is_each_image_alone():
    images = [pixels(9, 12), pixels(20, 30), pixels(9, 12)]
    run = predictor(keep=("confidence", "entropy", "margin", "probabilities"), classes=["C2", "c0"])
    together = run.batch(images, names=["a", "b", "c"])
    assert [one.name for one in together] == ["a", "b", "c"]
    for image, one in zip(images, together, strict=True):
        alone = run(image)
        assert (one.image == image).all()
        for name in ("mask", "confidence", "entropy", "margin", "probabilities"):
            assert (getattr(one, name) == getattr(alone, name)).all(), name
        softmax = torch.softmax(torch.from_numpy(image / 255.0), dim=2).numpy()
        np.testing.assert_allclose(one.probabilities[0], softmax[..., 2], atol=1e-3)
        np.testing.assert_allclose(one.probabilities[1], softmax[..., 0], atol=1e-3)
    assert predictor(keep=())(images[0]).entropy is None


def test_labels_alone_are_those_beside_a_map():
    image = pixels(20, 30)
    with_map, without = predictor()(image), predictor(keep=())(image)
    assert without.confidence is None
    assert (without.mask == with_map.mask).all()
    assert without.mean_confidence == pytest.approx(with_map.mean_confidence, abs=1e-6)
    assert with_map.mean_confidence == pytest.approx(with_map.confidence[::STEP, ::STEP].mean(), abs=1e-6)
    with pytest.raises(ConfigError, match="confidence of 'image' was not kept"):
        without.require_map("confidence")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": ["entrpy"]}, "Did you mean 'entropy'"),
        ({"keep": ["probabilities"], "classes": ["c9"]}, "has no class 'c9'"),
    ],
)
def test_maps_and_classes_that_are_none(options, words):
    with pytest.raises(ConfigError, match=words):
        predictor(**options)


@pytest.mark.slow
def test_facts_tell_models_and_ways_to_look_apart(tiny_network):
    one, same = (Predictor(tiny_network, device="cpu", precision="fp32").settings() for _ in range(2))
    assert one == same
    with torch.no_grad():
        next(tiny_network.parameters())[0, 0, 0, 0] += 1e-3
    other = Predictor(tiny_network, device="cpu", precision="fp32", protocol="tta").settings()
    assert other["model"] != one["model"]
    assert other["protocol"] != one["protocol"]


@pytest.mark.parametrize("thing", [[1, 2], None, 5])
def test_what_is_no_image_at_all_is_called_by_its_type(thing):
    with pytest.raises(DataError, match=f"type {type(thing).__name__} is not an image"):
        predictor()(thing)
