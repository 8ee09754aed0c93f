import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hrseg.inference.prediction import Prediction, Reduction
from hrseg.inference.predictor import Predictor
from hrseg.labels import Label, LabelSet
from hrseg.models import create_model
from hrseg.ops.upsample import STEP, CoarseLogits

KEEP = ("confidence", "probabilities", "entropy", "margin")


def test_maps_are_those_of_the_softmax_whatever_the_bands():
    logits = torch.randn(2, 5, 9, 7) * 4
    maps = Reduction(2, (9, 7), KEEP, probability_ids=(4, 1))
    for top in range(0, 9, 4):
        for left in (0, 4):
            maps.add(top, left, logits[..., top : top + 4, left : left + 4])
    p = logits.double().softmax(dim=1)
    first, second = p.topk(2, dim=1).values.unbind(dim=1)
    entropy = -(p * p.log()).sum(dim=1) / np.log(5)
    for n in range(2):
        found = maps.of(n)
        one = found["maps"]
        assert (found["mask"] == p[n].argmax(dim=0).numpy()).all()
        np.testing.assert_allclose(one["confidence"], first[n], atol=1e-6)
        assert abs(found["mean_confidence"] - first[n, ::STEP, ::STEP].mean()) < 1e-6
        np.testing.assert_allclose(one["margin"], (first - second)[n], atol=1e-6)
        np.testing.assert_allclose(one["entropy"], entropy[n], atol=1e-6)
        np.testing.assert_allclose(one["probabilities"], p[n, [4, 1]], atol=1e-3)
        assert one["probabilities"].dtype == np.float16


def test_undecided_is_one_certain_is_nought_and_a_single_class_is_certain():
    maps = Reduction(1, (1, 2), KEEP, probability_ids=(0,))
    maps.add(0, 0, torch.tensor([[[[0.0, 100.0]], [[0.0, -float("inf")]]]]))
    assert maps.of(0)["maps"]["entropy"].tolist() == [[1, 0]]
    assert maps.of(0)["maps"]["margin"].tolist() == [[0, 1]]
    alone = Reduction(1, (1, 1), KEEP, probability_ids=(0,))
    alone.add(0, 0, torch.zeros(1, 1, 1, 1))
    assert [alone.of(0)["maps"][name].item() for name in KEEP] == [1, 1, 0, 1]


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (7, 5)])
@pytest.mark.parametrize("count", [1, 2])
def test_maps_of_a_whole_image_are_those_of_the_softmax_and_are_computed_when_read(size, count):
    network = create_model("hrnet_w18_small_v1", num_classes=5).eval()
    network.head.last_layer[3].weight.data *= 0.05  # to the size of trained ones: rounding grows with logits
    predictor = Predictor(network, engine="torch", precision="fp32")
    images = [np.random.default_rng(n).integers(0, 256, (*size, 3), np.uint8) for n in range(count)]
    for image, one in zip(images, predictor.batch(images), strict=True):
        assert one.maps == {}
        coarse = one.logits.values
        assert coarse.dtype == torch.float32
        assert coarse.shape[2] * coarse.shape[3] < 0.2 * size[0] * size[1] or size == (7, 5)
        p = F.interpolate(coarse.double(), size, mode="bilinear").softmax(dim=1)[0]
        first, second = p.topk(2, dim=0).values
        np.testing.assert_allclose(one.confidence, first, atol=1e-6)
        np.testing.assert_allclose(one.margin, first - second, atol=1e-6)
        np.testing.assert_allclose(one.entropy, -(p * p.log()).sum(dim=0) / np.log(5), atol=1e-6)
        assert one.confidence is one.confidence  # once
        exact = predictor.logits(image).softmax(dim=1).amax(dim=1)[0]
        np.testing.assert_allclose(one.confidence, exact, atol=1e-6)


def test_pixels_without_data_have_no_confidence_when_it_is_read():
    valid = np.ones((4, 8), bool)
    valid[:, 3] = False
    labels = LabelSet("two", (Label(0, 0, "a", (0, 0, 0)), Label(1, 1, "b", (9, 9, 9))))
    coarse = CoarseLogits(torch.randn(1, 2, 1, 2), (4, 8))
    made = Prediction(np.zeros((4, 8), np.uint8), labels, np.zeros((4, 8, 3), np.uint8), logits=coarse, valid=valid)
    np.testing.assert_array_equal(np.isnan(made.confidence), ~valid)
