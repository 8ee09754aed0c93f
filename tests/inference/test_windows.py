from itertools import pairwise

import numpy as np
import pytest
import torch

from hrseg.errors import ConfigError, DataError
from hrseg.imaging import to_tensor
from hrseg.inference.windows import (
    OVERLAP,
    WINDOW_PIXELS,
    PixelSource,
    TensorSource,
    assemble,
    default_window,
    in_windows,
    plan_windows,
    window_blocks,
)


def sliding_window(logits_fn, image, window, overlap=OVERLAP, batch=None, **options):
    source = TensorSource(image)
    grid = plan_windows(source.size, window, overlap, batch=batch, **options)
    return assemble(window_blocks(logits_fn, source, grid), source.size)


def identity(image):
    return image


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [(64, 64), (97, 131), (64, 200)])
def test_identity_function_gives_the_image_back(size, overlap):
    image = torch.rand(2, 3, *size)
    out = sliding_window(identity, image, (64, 64), overlap)
    assert torch.allclose(out, image, atol=1e-6)


def test_constant_function_shows_no_seam():
    out = sliding_window(lambda x: torch.ones(len(x), 4, *x.shape[-2:]), torch.rand(1, 3, 150, 170), (64, 96))
    assert torch.allclose(out, torch.ones(1, 4, 150, 170), atol=1e-6)


def test_window_larger_than_image_is_one_plain_call():
    calls = []

    def spy(x):
        calls.append(x.shape)
        return x

    image = torch.rand(1, 3, 50, 60)
    assert sliding_window(spy, image, (64, 96)) is image
    assert calls == [(1, 3, 50, 60)]


def test_windows_are_run_in_batches_of_the_asked_size():
    sizes = []

    def spy(x):
        sizes.append(x.shape[0])
        return x

    sliding_window(spy, torch.rand(1, 3, 64, 256), (64, 64), 0.0, batch=3)
    assert sizes == [3, 1]


def test_small_windows_share_a_call_and_large_ones_run_alone():
    sizes = []

    def spy(x):
        sizes.append(len(x))
        return x

    for side in (512, 1024, 1472):
        sliding_window(spy, torch.rand(1, 1, side, 3 * side), (side, side), 0.0)
    assert sizes == [3, 2, 1, 1, 1, 1]


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DataError, match="0 x 5"):
        sliding_window(identity, torch.rand(1, 3, 0, 5), (64, 64))


@pytest.mark.parametrize("window", [(64, 64), (64, 512), (512, 64), (512, 512)])
def test_pixels_in_memory_are_normalized_window_by_window(window):
    images = [np.random.default_rng(i).integers(0, 256, (97, 131, 3), np.uint8) for i in (0, 1)]
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    source = PixelSource(images, mean, std)
    grid = plan_windows(source.size, window, batch=2)
    tensor = torch.stack([to_tensor(image, mean, std) for image in images])
    assert torch.allclose(assemble(window_blocks(identity, source, grid), source.size), tensor)


def test_neighbors_fade_into_one_another():
    # window values 0 and 1: with the ramp the blend rises steadily inside the overlap
    values = iter([0.0, 1.0])
    out = sliding_window(
        lambda x: torch.full_like(x, next(values)),
        torch.rand(1, 1, 64, 96),
        (64, 64),
        0.5,
        batch=1,
        blend="ramp",
    )
    middle = out[0, 0, 0, 32:64]
    assert (middle.diff() > 0).all()
    assert out[0, 0, 0, 31] == 0
    assert out[0, 0, 0, 64] == 1


def test_windows_off_the_grid_are_refused_with_the_next_larger():
    with pytest.raises(ConfigError, match=r"\(500, 1000\) is not a multiple of 32. Next larger: \(512, 1024\)"):
        sliding_window(identity, torch.rand(1, 3, 8, 8), (500, 1000))
    with pytest.raises(ConfigError, match=r"Overlap 0.95"):
        sliding_window(identity, torch.rand(1, 3, 8, 8), (64, 64), 0.95)


def test_equal_blending_is_the_plain_mean():
    # window values 0, 1, 2 over 128 columns, 32 apart: the means of those that cover a column
    values = iter([0.0, 1.0, 2.0])
    out = sliding_window(
        lambda x: torch.full_like(x, next(values)),
        torch.rand(1, 1, 64, 128),
        (64, 64),
        batch=1,
        stride=(64, 32),
        blend="equal",
    )
    expected = [0.0] * 32 + [0.5] * 32 + [1.5] * 32 + [2.0] * 32
    assert out[0, 0, 0].tolist() == expected


def test_equal_windows_may_lie_off_the_grid():
    image = torch.rand(1, 3, 100, 140)
    out = sliding_window(identity, image, (52, 47), stride=(34, 31), blend="equal")
    assert torch.allclose(out, image, atol=1e-6)


@pytest.mark.parametrize("stride", [(0, 32), (65, 32)])
def test_strides_that_leave_gaps_are_refused(stride):
    with pytest.raises(ConfigError, match="leave gaps"):
        sliding_window(identity, torch.rand(1, 3, 99, 99), (64, 64), stride=stride)


def test_a_stride_sets_the_windows_of_a_ramp_too():
    image = torch.rand(1, 3, 97, 131)
    by_stride = sliding_window(identity, image, (64, 64), stride=(32, 32))
    assert torch.equal(by_stride, sliding_window(identity, image, (64, 64), 0.5))


@pytest.mark.parametrize("blend", ["cosine", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_other_blends_give_the_image_back_too(blend, overlap):
    image = torch.rand(2, 3, 97, 131)
    out = sliding_window(identity, image, (64, 64), overlap, blend=blend)
    assert torch.allclose(out, image, atol=1e-5)


def test_a_cosine_rises_slowly_at_both_ends_and_a_bell_counts_middles_most():
    # window values 0 and 1, side by side: the share of the second one over what they share
    def share(blend):
        values = iter([0.0, 1.0])
        fill = lambda x: torch.full_like(x, next(values))  # noqa: E731
        image = torch.rand(1, 1, 64, 96)
        return sliding_window(fill, image, (64, 64), 0.5, batch=1, blend=blend)[0, 0, 0, 32:64]

    ramp, cosine, bell = share("ramp"), share("cosine"), share("gaussian")
    for one in (ramp, cosine, bell):
        assert torch.allclose(one + one.flip(0), torch.ones(32), atol=1e-5)  # fair to both
    assert cosine[4] < ramp[4]
    assert bell[4] < 0.02 < ramp[4]
    # by hand: pixel 8 of the overlap is 8.5 from one middle and 23.5 from the other; deviations are 8
    left, right = torch.exp(torch.tensor([-0.5 * (8.5 / 8) ** 2, -0.5 * (23.5 / 8) ** 2]))
    assert bell[8] == pytest.approx(float(right / (left + right)), abs=1e-5)


def test_an_unknown_blend_is_named():
    with pytest.raises(ConfigError, match=r"Unknown blend 'gausian'.*Did you mean 'gaussian'"):
        sliding_window(identity, torch.rand(1, 3, 140, 70), (64, 64), blend="gausian")


def test_windows_that_begin_below_give_the_same_bits():
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    image = torch.rand(1, 3, 300, 170)
    grid = plan_windows((300, 170), (64, 64), 0.5, batch=2)

    def run(begin):
        out = torch.full((1, 4, 300, 170), torch.nan)
        for top, left, block in window_blocks(convolution, TensorSource(image), grid, begin):
            out[..., top : top + block.shape[-2], left : left + block.shape[-1]] = block
        return out

    whole = run(0)
    assert not whole.isnan().any()
    for below in grid.bottoms[:-1]:
        assert torch.equal(run(below)[..., below:, :], whole[..., below:, :])


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_windows_on_the_grid_cover_every_pixel_and_share_as_much_as_was_asked(overlap):
    for length in range(20, 400, 13):
        grid = plan_windows((length, 96), (96, 96), overlap)
        spans, step = grid.rows, 96 - grid.shared[0]
        assert spans[0][0] == 0
        assert sum(spans[-1]) == length
        assert all(start % 32 == 0 for start, _ in spans)
        assert all(b - a <= step <= max(32, 96 * (1 - overlap)) for (a, _), (b, _) in pairwise(spans))
        assert all(n == 96 for _, n in spans[:-1])
        assert spans[-1][1] <= 96
        assert len(spans) == 1 or spans[-1][1] > 96 - 32
        assert grid.size == (length, 96)


def test_windows_that_count_equally_lie_as_published_protocols_have_them():
    # start = stride * i, and the last is shifted so that it ends with the image
    grid = plan_windows((600, 520), (520, 520), stride=(346, 346), blend="equal")
    assert (grid.rows, grid.columns) == (((0, 520), (80, 520)), ((0, 520),))
    for length in range(520, 1400, 7):
        spans = plan_windows((length, 520), (520, 520), stride=(346, 346), blend="equal").rows
        count = -(-(length - 520) // 346) + 1
        assert [start for start, _ in spans] == [min(346 * i, length - 520) for i in range(count)]
        assert {n for _, n in spans} == {520}


def test_the_default_window_has_no_more_pixels_than_asked_whatever_the_scale():
    for scale in (1.0, 1.25, 1.5, 2.0, 4.0):
        side = default_window(WINDOW_PIXELS / scale**2)[0]
        assert side % 32 == 0
        assert (side * scale) ** 2 <= WINDOW_PIXELS < ((side + 32) * scale) ** 2


def test_a_function_of_one_size_answers_images_of_any_size():
    def one_size(image: torch.Tensor) -> torch.Tensor:
        assert image.shape[-2:] == (64, 96)
        return image[:, :2] * 2

    for size in ((64, 96), (20, 30), (150, 96), (65, 400), (30, 200)):
        image = torch.rand(2, 3, *size)
        assert torch.allclose(in_windows(one_size, image, (64, 96)), image[:, :2] * 2, atol=1e-6)
