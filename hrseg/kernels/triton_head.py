"""HRNet's head as Triton kernels: from four branch maps to logits, the wide map only in registers.

Written for CUDA and checked in Triton's interpreter on a CPU; not yet run on a GPU. Imported only where Triton is.
"""

# Kernels have no Python types.
# mypy: disallow-untyped-defs=False

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

PIXELS = 64
WIDE = 32
"""Pixels and channels of a tile."""
SPLITS = 32
"""Programs that share the pixels of one block of channels, when statistics are summed."""


@triton.jit
def _sampled(maps, image, y, x, height, width, down, right, channel, mask, wide, ALIGNED: tl.constexpr):  # fmt: skip
    """Read a map channels last between its pixels. Shape: → (pixels, channels), float32."""
    fy = y.to(tl.float32) * down if ALIGNED else tl.maximum((y + 0.5) * down - 0.5, 0.0)
    fx = x.to(tl.float32) * right if ALIGNED else tl.maximum((x + 0.5) * right - 0.5, 0.0)
    y0 = tl.minimum(fy.to(tl.int32), height - 1)
    x0 = tl.minimum(fx.to(tl.int32), width - 1)
    y1 = tl.minimum(y0 + 1, height - 1)
    x1 = tl.minimum(x0 + 1, width - 1)
    wy = (fy - y0.to(tl.float32))[:, None]
    wx = (fx - x0.to(tl.float32))[:, None]
    top = (image * height + y0) * width
    low = (image * height + y1) * width
    c = channel[None, :]
    a = tl.load(maps + (top + x0)[:, None] * wide + c, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(maps + (top + x1)[:, None] * wide + c, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(maps + (low + x0)[:, None] * wide + c, mask=mask, other=0.0).to(tl.float32)
    e = tl.load(maps + (low + x1)[:, None] * wide + c, mask=mask, other=0.0).to(tl.float32)
    return (1 - wy) * ((1 - wx) * a + wx * b) + wy * ((1 - wx) * d + wx * e)


@triton.jit
def _wide_tile(
    fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
    d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Return the sum of all branches' convolutions. Shape: → (pixels, channels), float32."""
    inner = tl.arange(0, CHANNELS)
    there, asked = pixel < pixels, channel < wide
    x = tl.load(
        fine + pixel[:, None] * channels + inner[None, :],
        mask=there[:, None] & (inner < channels)[None, :],
        other=0.0,
    )
    weight = tl.load(
        own + channel[None, :] * channels + inner[:, None],
        mask=asked[None, :] & (inner < channels)[:, None],
        other=0.0,
    )
    total = tl.dot(x, weight, input_precision="ieee")
    image = pixel // (height * width)
    y = pixel // width % height
    column = pixel % width
    mask = there[:, None] & asked[None, :]
    total += _sampled(z1, image, y, column, h1, w1, d1, r1, channel, mask, wide, ALIGNED)
    total += _sampled(z2, image, y, column, h2, w2, d2, r2, channel, mask, wide, ALIGNED)
    total += _sampled(z3, image, y, column, h3, w3, d3, r3, channel, mask, wide, ALIGNED)
    return total


@triton.jit
def _logits_kernel(
    fine, own, z1, z2, z3, scale, shift, last, bias, out, pixels, height, width, h1, w1, h2, w2,
    h3, w3, d1, r1, d2, r2, d3, r3, channels, wide, classes, CHANNELS: tl.constexpr,
    CLASSES: tl.constexpr, PIXELS: tl.constexpr, WIDE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Write logits of PIXELS pixels."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    group = tl.arange(0, CLASSES)
    total = tl.zeros((PIXELS, CLASSES), dtype=tl.float32)
    for begin in range(0, wide, WIDE):
        channel = begin + tl.arange(0, WIDE)
        asked = channel < wide
        tile = _wide_tile(
            fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
            d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS, ALIGNED,
        )  # fmt: skip
        a = tl.load(scale + channel, mask=asked, other=0.0)
        b = tl.load(shift + channel, mask=asked, other=0.0)
        tile = tl.maximum(tile * a[None, :] + b[None, :], 0.0)
        weight = tl.load(
            last + group[None, :] * wide + channel[:, None],
            mask=(group < classes)[None, :] & asked[:, None],
            other=0.0,
        )
        total += tl.dot(tile.to(weight.dtype), weight, input_precision="ieee")
    total += tl.load(bias + group, mask=group < classes, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + pixel[:, None] * classes + group[None, :],
        total,
        mask=(pixel < pixels)[:, None] & (group < classes)[None, :],
    )


@triton.jit
def _moments_kernel(
    fine, own, z1, z2, z3, centre, sums, pixels, height, width, h1, w1, h2, w2,
    h3, w3, d1, r1, d2, r2, d3, r3, channels, wide, splits, CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr, WIDE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Write sums and squares of WIDE channels about a centre, over every splits-th tile of pixels."""
    channel = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    part = tl.program_id(1)
    asked = channel < wide
    middle = tl.load(centre + channel, mask=asked, other=0.0)
    first = tl.zeros((WIDE,), dtype=tl.float32)
    second = tl.zeros((WIDE,), dtype=tl.float32)
    for begin in range(part * PIXELS, pixels, splits * PIXELS):
        pixel = begin + tl.arange(0, PIXELS)
        tile = _wide_tile(
            fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
            d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS, ALIGNED,
        )  # fmt: skip
        tile = tl.where((pixel < pixels)[:, None], tile - middle[None, :], 0.0)
        first += tl.sum(tile, axis=0)
        second += tl.sum(tile * tile, axis=0)
    tl.store(sums + part * 2 * wide + channel, first, mask=asked)
    tl.store(sums + (part * 2 + 1) * wide + channel, second, mask=asked)


def moments(
    fine: torch.Tensor,
    own: torch.Tensor,
    coarse: Sequence[torch.Tensor],
    centre: torch.Tensor,
    aligned: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of each channel of the wide map over all pixels.

    Args:
        fine: The finest branch, channels last.
        own: Its weights.
        coarse: The three other branches' convolutions, channels last.
        centre: Where the means are about; the nearer, the more digits of the variance.
        aligned: Whether resizing keeps corner pixels in place.

    Shape:
        fine (N, C, h, w), own (M, C), coarse i (N, M, h_i, w_i) → (M,), (M,)
    """
    pixels = fine.numel() // fine.shape[1]
    splits = min(SPLITS, triton.cdiv(pixels, PIXELS))
    sums = torch.empty(splits, 2, len(own), device=fine.device)
    _moments_kernel[(triton.cdiv(len(own), WIDE), splits)](
        fine, own, *coarse, centre, sums, pixels, *_geometry(fine, coarse, aligned),
        fine.shape[1], len(own), splits,
        CHANNELS=_room(fine.shape[1]), PIXELS=PIXELS, WIDE=WIDE, ALIGNED=aligned,
    )  # fmt: skip
    first, second = sums.sum(dim=0) / pixels
    return centre + first, (second - first * first).clamp_min(0)


def logits(
    fine: torch.Tensor,
    own: torch.Tensor,
    coarse: Sequence[torch.Tensor],
    scale: torch.Tensor,
    shift: torch.Tensor,
    last: torch.Tensor,
    bias: torch.Tensor,
    aligned: bool,
) -> torch.Tensor:
    """Return last(relu(scale * wide + shift)) without writing the wide map.

    Args:
        fine: The finest branch, channels last.
        own: Its weights.
        coarse: The three other branches' convolutions, channels last.
        scale: Of each wide channel, float32.
        shift: Of each wide channel, float32.
        last: Weights of the classifier.
        bias: Of the classifier.
        aligned: Whether resizing keeps corner pixels in place.

    Shape:
        fine (N, C, h, w), own (M, C), coarse i (N, M, h_i, w_i), last (K, M) → (N, K, h, w), channels last
    """
    pixels, classes = fine.numel() // fine.shape[1], len(last)
    shape = (len(fine), classes, *fine.shape[-2:])
    out = torch.empty(
        shape, dtype=fine.dtype, device=fine.device, memory_format=torch.channels_last
    )
    _logits_kernel[(triton.cdiv(pixels, PIXELS),)](
        fine, own, *coarse, scale, shift, last, bias, out, pixels,
        *_geometry(fine, coarse, aligned), fine.shape[1], len(own), classes,
        CHANNELS=_room(fine.shape[1]), CLASSES=_room(classes), PIXELS=PIXELS, WIDE=WIDE,
        ALIGNED=aligned,
    )  # fmt: skip
    return out


def _geometry(fine: torch.Tensor, coarse: Sequence[torch.Tensor], aligned: bool) -> list[float]:
    """List sizes, and the steps in each coarse map for one step in the finest."""
    height, width = fine.shape[-2:]
    sizes = [side for part in coarse for side in part.shape[-2:]]
    pairs = zip(sizes, [height, width] * len(coarse), strict=True)
    steps = [(a - 1) / max(1, b - 1) if aligned else a / b for a, b in pairs]
    return [height, width, *sizes, *steps]


def _room(count: int) -> int:
    """Tiles of a matrix product are powers of two, 16 and more."""
    return max(16, triton.next_power_of_2(count))
