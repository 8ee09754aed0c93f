"""Labels that are copied where neighbors agree, against labels of enlarged logits."""

import pytest
import torch
import torch.nn.functional as F

from hrseg.models.blocks import resize_logits
from hrseg.ops import argmax
from hrseg.ops import argmax as module
from hrseg.ops.argmax import labels_between_agreements, labels_from_logits, reduce_logits


def smooth(count=2, classes=7, size=(25, 33)):
    """Logits with regions, as a trained network gives them."""
    seeds = torch.randn(count, classes, 2, 3) * 4
    return F.interpolate(seeds, size, mode="bicubic") + 0.001 * torch.randn(count, classes, *size)


@pytest.mark.parametrize("policy", ["bilinear", "bilinear_aligned", "nearest"])
@pytest.mark.parametrize("size", [(100, 132), (97, 131), (25, 33), (67, 88), (26, 200), (13, 20)])
def test_labels_are_those_of_the_enlarged_logits(monkeypatch, policy, size):
    monkeypatch.setattr(argmax, "CROWDED", 1.0)
    logits = smooth()
    labels = labels_between_agreements(logits, size, policy)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), resize_logits(logits, size, policy).argmax(dim=1))


def test_one_row_one_column_and_one_pixel(monkeypatch):
    monkeypatch.setattr(argmax, "CROWDED", 1.0)
    for small, large in (((1, 6), (1, 24)), ((6, 1), (24, 1)), ((1, 1), (4, 4))):
        logits = smooth(1, 3, small)
        logits[..., :-1] += torch.tensor([9.0, 0, 0]).view(3, 1, 1)
        labels = labels_between_agreements(logits, large)
        whole = resize_logits(logits, large, "bilinear").argmax(dim=1)
        assert torch.equal(labels.long(), whole)


def test_where_all_disagree_it_stands_back():
    noise = torch.randn(1, 9, 20, 20)
    assert labels_between_agreements(noise, (80, 80)) is None
    assert labels_between_agreements(smooth(1, 300, (9, 9)), (36, 36)) is None


def test_bands_and_copies_say_the_same(monkeypatch):
    monkeypatch.setattr(argmax, "CROWDED", 1.0)
    logits, size = smooth(), (97, 131)
    (band,) = labels_from_logits(logits, size, want=("samples",))
    monkeypatch.setattr(module, "labels_between_agreements", lambda *rest: None)
    monkeypatch.setitem(module.BUDGET, "cpu", 2**14)
    bands = list(labels_from_logits(logits, size, want=("samples",)))
    assert len(bands) > 3
    assert torch.equal(band.labels, torch.cat([one.labels for one in bands], dim=1))
    samples = torch.cat([one.samples for one in bands], dim=1)
    assert torch.allclose(band.samples, samples, atol=1e-5)
    whole = resize_logits(logits, size, "bilinear").softmax(dim=1).amax(dim=1)
    assert torch.allclose(samples, whole[:, ::4, ::4], atol=1e-5)


def test_samples_start_at_the_rows_of_the_image_whatever_the_band():
    logits = torch.randn(1, 3, 7, 5)
    band = reduce_logits(6, logits, ("samples",))
    expected = logits.softmax(dim=1).amax(dim=1)[:, 2::4, ::4]  # rows 8 and 12 of the image
    assert torch.allclose(band.samples, expected)
