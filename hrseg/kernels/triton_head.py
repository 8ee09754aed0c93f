"""HRNet's head as Triton kernels: from four branch maps to logits, the wide map only in registers.

Written for CUDA and checked in Triton's interpreter on a CPU; not yet run on a GPU. Imported only where Triton is.
The functions are those of `wide_rows`; the backward pass is in `triton_back`.
"""

# Kernels have no Python types.
# mypy: disallow-untyped-defs=False

import torch
import triton
import triton.language as tl

from hrseg.kernels.wide_rows import Wide

PIXELS = 32
WIDE = 32
"""Pixels and channels of a tile."""
SPLITS = 32
"""Programs that share the pixels of one block of channels, when they are summed up."""
LAUNCH = {"num_warps": 8, "num_stages": 1}
"""With Triton's own 4 and 3 the compiler wants 176 KB of shared memory in single precision, more than an A100 has."""


@triton.jit
def at(matrix, row, column, columns):
    """Point at entries of a matrix, which may have more than 2**31. Shape: (rows,), (columns,) → (rows, columns)."""
    return (matrix + row.to(tl.int64) * columns)[:, None] + column[None, :]


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
    a = tl.load(at(maps, top + x0, channel, wide), mask=mask, other=0.0).to(tl.float32)
    b = tl.load(at(maps, top + x1, channel, wide), mask=mask, other=0.0).to(tl.float32)
    d = tl.load(at(maps, low + x0, channel, wide), mask=mask, other=0.0).to(tl.float32)
    e = tl.load(at(maps, low + x1, channel, wide), mask=mask, other=0.0).to(tl.float32)
    return (1 - wy) * ((1 - wx) * a + wx * b) + wy * ((1 - wx) * d + wx * e)


@triton.jit
def wide_tile(
    fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
    d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Return the sum of all branches' convolutions. Shape: → (pixels, channels), float32."""
    inner = tl.arange(0, CHANNELS)
    there, asked = pixel < pixels, channel < wide
    x = tl.load(
        at(fine, pixel, inner, channels),
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
        tile = wide_tile(
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
        at(out, pixel, group, classes),
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
        tile = wide_tile(
            fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
            d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS, ALIGNED,
        )  # fmt: skip
        tile = tl.where((pixel < pixels)[:, None], tile - middle[None, :], 0.0)
        first += tl.sum(tile, axis=0)
        second += tl.sum(tile * tile, axis=0)
    tl.store(sums + part * 2 * wide + channel, first, mask=asked)
    tl.store(sums + (part * 2 + 1) * wide + channel, second, mask=asked)


def moments(wide: Wide, centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `wide_rows.moments` does, in single precision.

    Args:
        wide: The map, of four branches.
        centre: Where the means are about, float32.

    Shape:
        → (M,), (M,)
    """
    many = len(wide.own)
    splits = min(SPLITS, triton.cdiv(wide.pixels, PIXELS))
    sums = torch.empty(splits, 2, many, device=centre.device)
    _moments_kernel[(triton.cdiv(many, WIDE), splits)](
        wide.fine, wide.own, *wide.coarse, centre, sums, *sizes(wide), splits,
        CHANNELS=room(wide.fine.shape[1]), PIXELS=PIXELS, WIDE=WIDE, ALIGNED=wide.aligned, **LAUNCH,
    )  # fmt: skip
    first, second = sums.sum(dim=0) / wide.pixels
    return centre + first, (second - first * first).clamp_min(0)


def logits(
    wide: Wide, scale: torch.Tensor, shift: torch.Tensor, last: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Do what `wide_rows.logits` does.

    Args:
        wide: The map, of four branches.
        scale: Of each wide channel, float32.
        shift: Of each wide channel, float32.
        last: Weights of the classifier.
        bias: Of the classifier.

    Shape:
        last (K, M) → (N, K, h, w), channels last
    """
    classes = len(last)
    shape = (len(wide.fine), classes, *wide.fine.shape[-2:])
    out = torch.empty(
        shape, dtype=last.dtype, device=last.device, memory_format=torch.channels_last
    )
    _logits_kernel[(triton.cdiv(wide.pixels, PIXELS),)](
        wide.fine, wide.own, *wide.coarse, scale, shift, last.contiguous(), bias, out,
        *sizes(wide), classes, CHANNELS=room(wide.fine.shape[1]), CLASSES=room(classes),
        PIXELS=PIXELS, WIDE=WIDE, ALIGNED=wide.aligned, **LAUNCH,
    )  # fmt: skip
    return out


def sizes(wide: Wide) -> list[float]:
    """List what every kernel must know: pixels, sides, steps in each coarse map for one in the finest, channels."""
    height, width = wide.fine.shape[-2:]
    sides = [side for part in wide.coarse for side in part.shape[-2:]]
    pairs = zip(sides, [height, width] * len(wide.coarse), strict=True)
    steps = [(a - 1) / max(1, b - 1) if wide.aligned else a / b for a, b in pairs]
    return [wide.pixels, height, width, *sides, *steps, wide.fine.shape[1], len(wide.own)]


def room(count: int) -> int:
    """Tiles of a matrix product are powers of two, 16 and more."""
    return max(16, triton.next_power_of_2(count))
