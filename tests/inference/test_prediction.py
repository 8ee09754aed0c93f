import numpy as np
import torch

from hrseg.inference.prediction import Reduction

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
        one = maps.of(n)
        assert (one["mask"] == p[n].argmax(dim=0).numpy()).all()
        np.testing.assert_allclose(one["confidence"], first[n], atol=1e-6)
        assert abs(one["mean_confidence"] - first[n, ::4, ::4].mean()) < 1e-6
        np.testing.assert_allclose(one["margin"], (first - second)[n], atol=1e-6)
        np.testing.assert_allclose(one["entropy"], entropy[n], atol=1e-6)
        np.testing.assert_allclose(one["probabilities"], p[n, [4, 1]], atol=1e-3)
        assert one["probabilities"].dtype == np.float16


def test_undecided_is_one_certain_is_nought_and_a_single_class_is_certain():
    maps = Reduction(1, (1, 2), KEEP, probability_ids=(0,))
    maps.add(0, 0, torch.tensor([[[[0.0, 100.0]], [[0.0, -float("inf")]]]]))
    assert maps.of(0)["entropy"].tolist() == [[1, 0]]
    assert maps.of(0)["margin"].tolist() == [[0, 1]]
    alone = Reduction(1, (1, 1), KEEP, probability_ids=(0,))
    alone.add(0, 0, torch.zeros(1, 1, 1, 1))
    assert [alone.of(0)[name].item() for name in KEEP] == [1, 1, 0, 1]
