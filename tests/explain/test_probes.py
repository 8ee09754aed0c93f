import numpy as np
import pytest
import torch

from hrseg.errors import DataError
from hrseg.explain.probes import Features, _sample_at, fit_probe, gather_features, probe_branches
from tests.explain.test_ablation import Toy


def test_a_probe_separates_what_a_line_separates():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(600, 3, generator=draw) * torch.tensor([1.0, 50.0, 1.0]) + 7
    truth = (features[:, 1] > 7).long()
    weight, bias = fit_probe(features, truth, 2)
    guess = (features @ weight.T + bias).argmax(dim=1)
    assert (guess == truth).float().mean() > 0.99


def test_a_probe_on_noise_finds_the_larger_class():
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(2000, 2, generator=draw)
    truth = (torch.rand(2000, generator=draw) < 0.25).long()
    weight, bias = fit_probe(features, truth, 2)
    assert ((features @ weight.T + bias).argmax(dim=1) == 0).float().mean() > 0.98
    # with weights near zero the bias is the logarithm of the odds
    assert float(bias[0] - bias[1]) == pytest.approx(np.log(3), abs=0.15)


def test_a_probe_equals_newtons_method_on_one_feature():
    # one feature, two classes: the stationary point of the loss, found by hand-written Newton steps
    draw = np.random.default_rng(0)
    x = draw.standard_normal(400)
    y = (x + draw.standard_normal(400) > 0).astype(float)
    w = b = 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-(w * x + b)))
        gradient = np.array([((p - y) * x).mean(), (p - y).mean()])
        s = p * (1 - p)
        hessian = np.array([[(s * x * x).mean(), (s * x).mean()], [(s * x).mean(), s.mean()]])
        w, b = np.array([w, b]) - np.linalg.solve(hessian, gradient)
    weight, _ = fit_probe(torch.from_numpy(x)[:, None].float(), torch.from_numpy(y).long(), 2)
    assert float(weight[1] - weight[0]) == pytest.approx(w, rel=0.03)


def test_the_branch_that_knows_is_found():
    draw = torch.Generator().manual_seed(2)

    def features(count):
        truth = torch.randint(0, 3, (count,), generator=draw)
        knows = torch.nn.functional.one_hot(truth, 3).float() + 0.1 * torch.randn(count, 3, generator=draw)
        return Features([knows, torch.randn(count, 4, generator=draw)], truth, truth)

    probes = probe_branches(features(500), features(400), 3)
    assert [probe.name for probe in probes] == [
        "branch 0",
        "branch 1",
        "all branches",
        "the network",
    ]
    assert [probe.channels for probe in probes] == [3, 4, 7, 0]
    assert probes[0].miou > 0.98 > 0.4 > probes[1].miou
    assert probes[2].miou > 0.95
    assert probes[3].miou == 1


def test_features_are_those_of_the_enlarged_map():
    maps = torch.randn(1, 3, 5, 6)
    size = (20, 24)
    enlarged = torch.nn.functional.interpolate(maps, size, mode="bilinear")[0]
    picked = torch.tensor([[0, 0], [19, 23], [7, 11], [3, 20]])
    expected = torch.stack([enlarged[:, y, x] for y, x in picked.tolist()])
    assert torch.allclose(_sample_at(maps, picked, size), expected, atol=1e-5)


def test_unlabelled_pixels_are_never_drawn():
    image, mask = torch.randn(1, 6, 8), torch.full((6, 8), 255)
    mask[2, 3], mask[4, 4] = 0, 1
    features = gather_features(Toy(), [(image, mask), (image, torch.full((6, 8), 255))], 10)
    assert sorted(features.truth.tolist()) == [0, 1]
    assert {float(v) for v in features.branches[0]} == {
        float(image[0, 2, 3]),
        float(image[0, 4, 4]),
    }
    with pytest.raises(DataError, match="No pixel"):
        gather_features(Toy(), [(image, torch.full((6, 8), 255))])
