from dataclasses import replace

import pytest
import torch

from hrseg.inference.prepare import prepare
from hrseg.inference.protocols import MERGES, PROTOCOLS, Protocol, choose_protocol
from hrseg.inference.tta import MERGE_RULES, SlidingWindowInference, aligns, mirrored
from hrseg.inference.windows import assemble


def identity(image):
    return image


def lopsided(image):
    """Logits that lean to one side, so that a mirror image gives others."""
    slope = torch.linspace(0, 1, image.shape[-1])
    return torch.stack([image[:, 0] + slope, image[:, 1], image[:, 2]], dim=1)


def run(logits_fn, *, size=(40, 60), image=None, order=None, **options):
    image = torch.rand(1, 3, *size) if image is None else image
    protocol = choose_protocol(options.pop("protocol", "whole"), **options)
    return SlidingWindowInference(logits_fn, protocol, flip_order=order)(image), image


def test_one_plain_look_is_the_function_itself():
    calls = []

    def spy(image):
        calls.append(image)
        return image

    out, image = run(spy)
    assert out is image
    assert len(calls) == 1


@pytest.mark.parametrize("merge", MERGES)
def test_one_scale_and_a_mirror_of_a_symmetric_function_change_no_class(merge):
    out, image = run(identity, flip=True, merge=merge)
    assert torch.allclose(out.softmax(1), image.softmax(1), atol=1e-6)


def test_logits_softmax_and_exp_are_the_textbook_means():
    image = torch.rand(1, 3, 8, 8)
    here, there = lopsided(image), lopsided(image.flip(-1)).flip(-1)
    expected = {
        "logits": (here + there) / 2,
        "softmax": ((here.softmax(1) + there.softmax(1)) / 2).log(),
        "exp": (here + there) / 2,  # mirrors are averaged before exp
    }
    for merge, mean in expected.items():
        out, _ = run(lopsided, image=image, flip=True, merge=merge)
        assert torch.allclose(out, mean, atol=1e-6), merge


def test_exp_weighs_confident_scales_more_than_softmax_does():
    image = torch.zeros(1, 3, 16, 16)

    def sure_when_large(x):
        sure = 20.0 if x.shape[-1] > 16 else 1.0
        classes = (0.0, sure, 0.0) if x.shape[-1] > 16 else (sure, 0.0, 0.0)
        return torch.tensor(classes)[None, :, None, None].expand(len(x), 3, *x.shape[-2:])

    exp, _ = run(sure_when_large, image=image, scales=[1, 2], merge="exp")
    soft, _ = run(sure_when_large, image=image, scales=[1, 2], merge="softmax")
    assert exp[0, :, 0, 0].softmax(0)[1] > 0.9999
    assert soft[0, :, 0, 0].softmax(0)[1] < 0.7


def test_huge_logits_stay_finite_under_exp():
    out, _ = run(lambda x: x * 1000 - 500, merge="exp", flip=True, scales=[1, 0.5])
    assert out.isfinite().all()


def test_a_mirror_exchanges_left_and_right():
    """A network that calls the left half class 1 and the right half class 2 is right in any mirror."""

    def sides(image):
        out = torch.zeros(len(image), 3, *image.shape[-2:])
        half = image.shape[-1] // 2
        out[:, 1, :, :half] = 5
        out[:, 2, :, half:] = 5
        return out

    image = torch.rand(1, 3, 4, 8)
    assert torch.equal(mirrored(sides, (0, 2, 1))(image), sides(image))
    assert not torch.equal(mirrored(sides)(image), sides(image))
    for merge in MERGES:
        out, _ = run(sides, image=image, flip=True, merge=merge, order=(0, 2, 1))
        assert torch.equal(out.argmax(1), sides(image).argmax(1))


def test_scales_are_shown_at_their_sizes():
    sizes = []

    def spy(image):
        sizes.append(tuple(image.shape[-2:]))
        return image

    out, _ = run(spy, scales=[0.5, 1, 1.5], flip=True)
    assert sizes == [(20, 30)] * 2 + [(40, 60)] * 2 + [(60, 90)] * 2
    assert out.shape == (1, 3, 40, 60)


@pytest.mark.slow
def test_a_constant_stays_constant_through_every_protocol():
    logits = torch.tensor([1.0, 3.0, 2.0])[None, :, None, None]
    for row in PROTOCOLS.values():
        image = torch.rand(1, 3, 100, 150)
        order = [0, 1, 2]
        out = SlidingWindowInference(lambda x: logits.expand(len(x), 3, *x.shape[-2:]), row, flip_order=order)(image)
        assert out.shape == (1, 3, 100, 150), row.name
        assert torch.allclose(out.softmax(1), logits.softmax(1).expand_as(out), atol=1e-5), row.name


def test_the_function_never_changes_the_image():
    image = torch.rand(1, 3, 40, 60)
    before = image.clone()
    for merge in MERGES:
        run(identity, image=image, scales=[1], flip=True, merge=merge)
        assert torch.equal(image, before)


def test_windows_lie_on_the_scaled_image():
    sizes = set()

    def spy(image):
        sizes.add(tuple(image.shape[-2:]))
        return image

    run(spy, size=(64, 96), scales=[0.5, 2], window=(64, 64))
    assert sizes == {(32, 48), (64, 64)}


def test_a_short_image_is_padded_with_black():
    seen = []

    def spy(image):
        seen.append(image)
        return image

    row = Protocol(
        "",
        "",
        window=(8, 8),
        stride=(8, 8),
        blend="equal",
        edge="pad",
        merge="logits",
        scales=(2.0,),
    )
    black = SlidingWindowInference(spy, row, mean=(0.5,) * 3, std=(0.25,) * 3)
    out = black(torch.ones(1, 3, 3, 3))
    assert out.shape == (1, 3, 3, 3)
    assert seen[0].shape == (1, 3, 8, 8)
    assert seen[0][0, 0, 0].tolist() == [1.0] * 6 + [-2.0] * 2


def test_several_images_at_once_are_the_same_as_one_by_one():
    images = torch.rand(2, 3, 40, 60)
    for name in ("tta", "official_crop_ms", "mmseg_short512"):
        score = SlidingWindowInference(identity, PROTOCOLS[name])
        both = score(images)
        each = torch.cat([score(one[None]) for one in images])
        assert torch.allclose(both, each, atol=1e-5), name


def test_a_very_large_image_is_looked_at_window_by_window():
    largest = []

    def spy(image):
        largest.append(image.shape[-2] * image.shape[-1])
        return image

    image = torch.rand(1, 3, 150, 170)
    row = choose_protocol("whole", scales=[0.5, 1], flip=True, merge="logits")
    out = SlidingWindowInference(spy, replace(row, whole_pixels=64 * 64))(image)
    assert max(largest) <= (64 + 31) ** 2
    assert out.shape == image.shape


def test_probabilities_come_back_from_the_result():
    image = torch.rand(1, 3, 20, 20)
    views = [lopsided(image), lopsided(image.flip(-1)).flip(-1)]
    mean = torch.stack([view.softmax(1) for view in views]).mean(0)
    out, _ = run(lopsided, image=image, flip=True, merge="softmax")
    assert torch.allclose(out.softmax(1), mean, atol=1e-6)


def test_only_networks_with_aligned_corners_align():
    assert aligns(type("Net", (), {"resize": "bilinear_aligned"})())
    assert not aligns(type("Net", (), {"resize": "bilinear"})())
    assert not aligns(identity)


def test_every_rule_has_a_name_and_every_name_a_rule():
    assert set(MERGE_RULES) == set(MERGES)


@pytest.mark.parametrize("size", [(96, 128), (97, 101)])
@pytest.mark.parametrize("name", ["whole", "tta"])
def test_label_strips_are_the_argmax_of_the_logits(tiny_network, size, name):
    scorer = SlidingWindowInference(prepare(tiny_network, "cpu", "fp32"), choose_protocol(name))
    image = torch.randn(2, 3, *size)
    bands = list(scorer.label_strips(image, ("confidence",)))
    logits = scorer(image)
    rows = assemble(scorer.blocks(image), size)
    assert (rows - logits).abs().max() < 1e-5 * logits.abs().max()
    assert torch.equal(torch.cat([band.labels for band in bands], 1).long(), logits.argmax(1))
    confidence = torch.cat([band.confidence for band in bands], 1)
    assert torch.allclose(confidence, logits.softmax(1).amax(1), atol=1e-5)
