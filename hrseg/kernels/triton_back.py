"""The backward pass of HRNet's head as Triton kernels: the wide map is computed again, a tile at a time.

Written for CUDA and checked in Triton's interpreter on a CPU; not yet run on a GPU. Imported only where Triton is.
The functions are those of `wide_rows`. Nothing is added atomically, so these kernels repeat themselves to the bit.
"""

# Kernels have no Python types.
# mypy: disallow-untyped-defs=False

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from hrseg.kernels import triton_head
from hrseg.kernels.triton_head import LAUNCH, at, room, sizes, wide_tile
from hrseg.kernels.wide_rows import Norm, Rows, Wide


@triton.jit
def _through(
    tile, norm, gradient, last, pixel, channel, pixels, wide, classes, CLASSES: tl.constexpr
):  # fmt: skip
    """Return a tile normalised, after ReLU, the logits' gradient (pixels, classes), and the one before the ReLU."""
    group = tl.arange(0, CLASSES)
    asked, known = channel < wide, group < classes
    middle = tl.load(norm + channel, mask=asked, other=0.0)
    spread = tl.load(norm + wide + channel, mask=asked, other=0.0)
    gamma = tl.load(norm + 2 * wide + channel, mask=asked, other=0.0)
    beta = tl.load(norm + 3 * wide + channel, mask=asked, other=0.0)
    unit = (tile - middle[None, :]) * spread[None, :]
    y = tl.maximum(unit * gamma[None, :] + beta[None, :], 0.0)
    g = tl.load(
        at(gradient, pixel, group, classes),
        mask=(pixel < pixels)[:, None] & known[None, :],
        other=0.0,
    )
    weight = tl.load(
        at(last, group, channel, wide), mask=known[:, None] & asked[None, :], other=0.0
    )
    dy = tl.where(y > 0, tl.dot(g, weight, input_precision="ieee"), 0.0)
    return unit, y, g, dy


@triton.jit
def _sums_kernel(
    fine, own, z1, z2, z3, norm, gradient, last, sums, pixels, height, width, h1, w1, h2, w2, h3, w3,
    d1, r1, d2, r2, d3, r3, channels, wide, classes, splits, CHANNELS: tl.constexpr,
    CLASSES: tl.constexpr, PIXELS: tl.constexpr, WIDE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Write sums of WIDE channels over every splits-th tile of pixels: of dy, of dy * unit, and g^T y."""
    channel = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    part = tl.program_id(1)
    asked = channel < wide
    group = tl.arange(0, CLASSES)
    first = tl.zeros((WIDE,), dtype=tl.float32)
    second = tl.zeros((WIDE,), dtype=tl.float32)
    d_last = tl.zeros((CLASSES, WIDE), dtype=tl.float32)
    for begin in range(part * PIXELS, pixels, splits * PIXELS):
        # Beyond the last one g is zero, and so is all that is summed.
        pixel = begin + tl.arange(0, PIXELS)
        tile = wide_tile(
            fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
            d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS, ALIGNED,
        )  # fmt: skip
        unit, y, g, dy = _through(
            tile, norm, gradient, last, pixel, channel, pixels, wide, classes, CLASSES
        )
        first += tl.sum(dy, axis=0)
        second += tl.sum(dy * unit, axis=0)
        d_last += tl.dot(tl.trans(g), y.to(g.dtype), input_precision="ieee")
    row = sums + part * (2 + classes) * wide
    tl.store(row + channel, first, mask=asked)
    tl.store(row + wide + channel, second, mask=asked)
    mask = (group < classes)[:, None] & asked[None, :]
    tl.store(at(row, 2 + group, channel, wide), d_last, mask=mask)


@triton.jit
def _steps_kernel(
    fine, own, z1, z2, z3, norm, gradient, last, dt, d_fine, top, rows, places,
    pixels, height, width, h1, w1, h2, w2, h3, w3, d1, r1, d2, r2, d3, r3, channels, wide, classes,
    CHANNELS: tl.constexpr, CLASSES: tl.constexpr, PIXELS: tl.constexpr, WIDE: tl.constexpr,
    ALIGNED: tl.constexpr,
):  # fmt: skip
    """Write, for PIXELS places of some rows of every image, the gradients of the wide map and the finest branch."""
    place = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    there = place < places
    band = rows * width
    pixel = place // band * (height * width) + top * width + place % band
    pixel = tl.where(there, pixel, pixels)
    inner = tl.arange(0, CHANNELS)
    total = tl.zeros((PIXELS, CHANNELS), dtype=tl.float32)
    for begin in range(0, wide, WIDE):
        channel = begin + tl.arange(0, WIDE)
        asked = channel < wide
        tile = wide_tile(
            fine, own, z1, z2, z3, pixel, channel, pixels, height, width, h1, w1, h2, w2, h3, w3,
            d1, r1, d2, r2, d3, r3, channels, wide, CHANNELS, ALIGNED,
        )  # fmt: skip
        unit, _, _, dy = _through(
            tile, norm, gradient, last, pixel, channel, pixels, wide, classes, CLASSES
        )
        scale = tl.load(norm + wide + channel, mask=asked, other=0.0)
        scale *= tl.load(norm + 2 * wide + channel, mask=asked, other=0.0)
        away = tl.load(norm + 4 * wide + channel, mask=asked, other=0.0)
        slope = tl.load(norm + 5 * wide + channel, mask=asked, other=0.0)
        step = (dy - away[None, :] - unit * slope[None, :]) * scale[None, :]
        tl.store(at(dt, place, channel, wide), step, mask=there[:, None] & asked[None, :])
        weight = tl.load(
            at(own, channel, inner, channels),
            mask=asked[:, None] & (inner < channels)[None, :],
            other=0.0,
        )
        total += tl.dot(step.to(weight.dtype), weight, input_precision="ieee")
    mask = there[:, None] & (inner < channels)[None, :]
    tl.store(at(d_fine, place, inner, channels), total, mask=mask)


def sums(
    wide: Wide, norm: Norm, gradient: torch.Tensor, last: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `wide_rows.sums` does; products are of the maps' precision, sums of single.

    Args:
        wide: The map, of four branches.
        norm: Its norm.
        gradient: Of the loss for the logits.
        last: Weights of the classifier.

    Shape:
        gradient (N, K, h, w) → (2, M), (K, M)
    """
    many, classes = len(wide.own), len(last)
    splits = min(triton_head.SPLITS, triton.cdiv(wide.pixels, triton_head.PIXELS))
    parts = torch.empty(splits, 2 + classes, many, device=last.device)
    _sums_kernel[(triton.cdiv(many, triton_head.WIDE), splits)](
        wide.fine, wide.own, *wide.coarse, _stacked(norm), *_outer(wide, gradient, last), parts,
        *sizes(wide), classes, splits, **_tile(wide, classes),
    )  # fmt: skip
    total = parts.sum(dim=0)
    return total[:2], total[2:]


def steps(
    wide: Wide, norm: Norm, gradient: torch.Tensor, last: torch.Tensor, away: torch.Tensor
) -> Iterator[tuple[Rows, torch.Tensor, torch.Tensor]]:
    """Do what `wide_rows.steps` does: a block of the wide map's gradient is written, and neither map.

    Args:
        wide: The map, of four branches.
        norm: Its norm.
        gradient: Of the loss for the logits.
        last: Weights of the classifier.
        away: The means that a norm by batch takes away.

    Shape:
        gradient (N, K, h, w), away (2, M) → (N, M, rows, w) in single precision, (N, C, rows, w)
    """
    fine, classes = wide.fine, len(last)
    channelwise, outer = _stacked((*norm, *away)), _outer(wide, gradient, last)
    for rows in wide.blocks():
        shape = (len(fine), len(wide.own), rows[1] - rows[0], fine.shape[-1])
        dt = torch.empty(shape, device=fine.device, memory_format=torch.channels_last)
        d_fine = torch.empty_like(fine[:, :, slice(*rows)], memory_format=torch.channels_last)
        places = dt.numel() // dt.shape[1]
        _steps_kernel[(triton.cdiv(places, triton_head.PIXELS),)](
            fine, wide.own, *wide.coarse, channelwise, *outer, dt, d_fine,
            rows[0], rows[1] - rows[0], places, *sizes(wide), classes, **_tile(wide, classes),
        )  # fmt: skip
        yield rows, dt, d_fine


def _stacked(channelwise: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Shape: (M,) each → (how many, M), float32."""
    return torch.stack([x.float() for x in channelwise])


def _outer(
    wide: Wide, gradient: torch.Tensor, last: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits' gradient and the classifier as the kernels read them: of one dtype, channels last."""
    dtype = wide.fine.dtype
    gradient = gradient.to(dtype).contiguous(memory_format=torch.channels_last)
    return gradient, last.to(dtype).contiguous()


def _tile(wide: Wide, classes: int) -> dict[str, int]:
    shape = {"PIXELS": triton_head.PIXELS, "WIDE": triton_head.WIDE, "CLASSES": room(classes)}
    return {**shape, "CHANNELS": room(wide.fine.shape[1]), "ALIGNED": wide.aligned, **LAUNCH}
