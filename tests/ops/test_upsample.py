"""Labels in bands against the whole tensor, and maps worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from hrseg.errors import ConfigError
from hrseg.models.blocks import resize_logits
from hrseg.ops import upsample as module
from hrseg.ops.upsample import (
    MAPS,
    STEP,
    labels_from_logits,
    labels_of_boundary_cells,
    reduce_logits,
)


@pytest.mark.parametrize("policy", ["bilinear", "bilinear_aligned", "nearest"])
@pytest.mark.parametrize("size", [(96, 128), (97, 101), (25, 33)])
@pytest.mark.parametrize("classes", [2, 19, 150])
def test_bands_are_the_label_map_of_the_whole(monkeypatch, policy, size, classes):
    monkeypatch.setitem(module.BUDGET, "cpu", 2**16)
    logits = torch.randn(2, classes, -(-size[0] // 4), -(-size[1] // 4))
    whole = resize_logits(logits.contiguous(memory_format=torch.channels_last), size, policy)
    bands = list(labels_from_logits(logits, size, policy=policy, want=("confidence",)))
    assert len(bands) > 1 or classes == 2 or size[0] < 90
    assert torch.equal(torch.cat([band.labels for band in bands], dim=1).long(), whole.argmax(1))
    confidence = torch.cat([band.confidence for band in bands], dim=1)
    assert torch.allclose(confidence, whole.softmax(1).amax(1), atol=1e-5)


def test_ties_take_the_first_class_as_argmax_does():
    logits = torch.zeros(1, 5, 3, 3)
    (band,) = labels_from_logits(logits, (12, 12))
    assert band.labels.unique().tolist() == [0]


def test_maps_of_one_pixel_by_hand():
    shares = torch.tensor([0.5, 0.3, 0.2])
    band = reduce_logits(7, shares.log().view(1, 3, 1, 1) + 4, MAPS)
    assert (band.top, band.labels.item()) == (7, 0)
    assert band.confidence.item() == pytest.approx(0.5)
    assert band.margin.item() == pytest.approx(0.2)
    assert band.entropy.item() == pytest.approx(-sum(p * math.log(p) for p in (0.5, 0.3, 0.2)))


def test_a_class_that_cannot_be_adds_no_entropy():
    logits = torch.tensor([0.0, 0.0, float("-inf")]).view(1, 3, 1, 1)
    band = reduce_logits(0, logits, MAPS)
    assert band.entropy.item() == pytest.approx(math.log(2))
    assert band.margin.item() == 0


def test_only_what_is_asked_for_is_computed_and_unknown_maps_are_refused():
    band = reduce_logits(0, torch.randn(1, 3, 2, 2))
    assert (band.confidence, band.entropy, band.margin) == (None, None, None)
    with pytest.raises(ConfigError, match="Did you mean 'entropy'"):
        list(labels_from_logits(torch.zeros(1, 2, 1, 1), (4, 4), want=("entrpy",)))


def test_many_classes_get_wider_labels():
    logits = torch.zeros(1, 300, 1, 1)
    logits[0, 299] = 1
    assert reduce_logits(0, logits).labels.item() == 299


def smooth(count=2, classes=7, size=(25, 33)):
    """Logits with regions, as a trained network gives them."""
    seeds = torch.randn(count, classes, 2, 3) * 4
    return F.interpolate(seeds, size, mode="bicubic") + 0.001 * torch.randn(count, classes, *size)


@pytest.mark.parametrize("policy", ["bilinear", "bilinear_aligned", "nearest"])
@pytest.mark.parametrize("size", [(100, 132), (97, 131), (25, 33), (67, 88), (26, 200), (13, 20)])
def test_labels_are_those_of_the_enlarged_logits(monkeypatch, policy, size):
    monkeypatch.setattr(module, "MAX_BOUNDARY_SHARE", 1.0)
    logits = smooth()
    labels = labels_of_boundary_cells(logits, size, policy)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), resize_logits(logits, size, policy).argmax(dim=1))


def test_one_row_one_column_and_one_pixel(monkeypatch):
    monkeypatch.setattr(module, "MAX_BOUNDARY_SHARE", 1.0)
    for small, large in (((1, 6), (1, 24)), ((6, 1), (24, 1)), ((1, 1), (4, 4))):
        logits = smooth(1, 3, small)
        logits[..., :-1] += torch.tensor([9.0, 0, 0]).view(3, 1, 1)
        labels = labels_of_boundary_cells(logits, large)
        whole = resize_logits(logits, large, "bilinear").argmax(dim=1)
        assert torch.equal(labels.long(), whole)


def test_where_all_disagree_it_stands_back():
    noise = torch.randn(1, 9, 20, 20)
    assert labels_of_boundary_cells(noise, (80, 80)) is None
    assert labels_of_boundary_cells(smooth(1, 300, (9, 9)), (36, 36)) is None


def test_bands_and_copies_say_the_same(monkeypatch):
    monkeypatch.setattr(module, "MAX_BOUNDARY_SHARE", 1.0)
    logits, size = smooth(), (97, 131)
    (band,) = labels_from_logits(logits, size, want=("samples",))
    monkeypatch.setattr(module, "labels_of_boundary_cells", lambda *rest: None)
    monkeypatch.setitem(module.BUDGET, "cpu", 2**14)
    bands = list(labels_from_logits(logits, size, want=("samples",)))
    assert len(bands) > 3
    assert torch.equal(band.labels, torch.cat([one.labels for one in bands], dim=1))
    samples = torch.cat([one.samples for one in bands], dim=1)
    assert torch.allclose(band.samples, samples, atol=1e-5)
    whole = resize_logits(logits, size, "bilinear").softmax(dim=1).amax(dim=1)
    assert torch.allclose(samples, whole[:, ::STEP, ::STEP], atol=1e-5)


def test_samples_start_at_the_rows_of_the_image_whatever_the_band():
    logits = torch.randn(1, 3, 7, 5)
    band = reduce_logits(6, logits, ("samples",))
    expected = logits.softmax(dim=1).amax(dim=1)[:, 2::8, ::8]  # row 8 of the image
    assert torch.allclose(band.samples, expected)
