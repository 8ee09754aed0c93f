"""Sliding windows, scales and mirrors around a logits function, merged into one map by a protocol.

Results are logits whatever was merged: their softmax gives the averaged probabilities back, and their argmax the class.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from hrseg.errors import ConfigError
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, denormalize, to_tensor
from hrseg.inference.prepare import LogitsFunction
from hrseg.inference.protocols import Protocol, Size
from hrseg.inference.windows import (
    BATCH_PIXELS,
    WINDOW_PIXELS,
    Block,
    Grid,
    Source,
    TensorSource,
    assemble,
    default_window,
    plan_windows,
    window_blocks,
)
from hrseg.ops.upsample import LabelStrip, labels_from_logits, logit_rows, reduce_blocks

VIEW_PIXELS = 2**23
"""Pixels of a scaled view, as the network sees them, that are run in one pass."""
EXP_LIMIT = 80.0
"""Logits are clamped to this before exp: float32 overflows at 88, and so does the official code."""


@dataclass(frozen=True)
class Merge:
    """Settings of averaging over scales, mirrors and windows.

    Attributes:
        of_pass: On the logits of each pass through the network, before windows are put together.
        of_view: On each view of the whole image, at its size.
        to_logits: From the average to logits.
        mirrors_inside: Whether a pass and its mirror image are averaged as logits first.
    """

    of_pass: LogitsFunction
    of_view: LogitsFunction
    to_logits: LogitsFunction
    mirrors_inside: bool = False


def _identity(values: torch.Tensor) -> torch.Tensor:
    return values


def _log(values: torch.Tensor) -> torch.Tensor:
    return values.clamp_min(torch.finfo(values.dtype).tiny).log()


MERGE_RULES = {
    "logits": Merge(_identity, _identity, _identity),
    "softmax": Merge(_identity, lambda logits: logits.softmax(dim=1), _log),
    "exp": Merge(lambda logits: logits.clamp_max(EXP_LIMIT).exp(), _identity, _log, mirrors_inside=True),
}
"""Name → rule. mmsegmentation averages softmax, the official code exp."""


def mirrored(logits_fn: LogitsFunction, flip_order: Sequence[int] | None = None) -> LogitsFunction:
    """Return a logits function that averages the logits of an image and of its mirror image.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        flip_order: The class that each class becomes in a mirror (`LabelSet.flip_order`); None changes none.

    Example:
        >>> mirrored(lambda image: image)(torch.tensor([[[[1.0, 5.0]]]])).tolist()
        [[[[1.0, 5.0]]]]
    """

    def both(image: torch.Tensor) -> torch.Tensor:
        return (logits_fn(image) + _flip_back(logits_fn(image.flip(-1)), flip_order)) * 0.5

    return both


def _flip_back(logits: torch.Tensor, flip_order: Sequence[int] | None) -> torch.Tensor:
    logits = logits.flip(-1)
    if flip_order is None or list(flip_order) == sorted(flip_order):
        return logits
    return logits[:, list(flip_order)]  # left and right classes exchanged


class SlidingWindowInference:
    """A logits function that runs another one on windows, scales and mirrors, as a protocol defines.

    Images above `Protocol.whole_pixels` are cut into windows first and run through the protocol window by window, so
    memory stays bounded, unless the protocol fixes the size that the network sees.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        protocol: A row of `protocols.PROTOCOLS`, or from `protocols.choose_protocol`.
        flip_order: The class that each class becomes in a mirror (`LabelSet.flip_order`); None changes none.
        mean: Per-band mean that was subtracted from the images, for black padding and rounding to 8 bits.
        std: Per-band standard deviation.
        aligned: Whether maps are resized with aligned corners, as in networks of policy "bilinear_aligned".
        rgb: Whether images are RGB of 8 bits, which some published protocols resize as such.
        input_scale: By how much the network enlarges its images, see `input_scale`.
        device: A GPU runs windows together, as many as BATCH_PIXELS allow; a CPU gains nothing by it.

    Shape:
        (N, bands, H, W) → (N, K, H, W)

    Source:
        HRNet-Semantic-Segmentation, branch HRNet-OCR, lib/datasets/base_dataset.py, cityscapes.py, lip.py;
        mmsegmentation 1.2.2, models/segmentors. Logits instead of averages in the end: ours.

    Example:
        >>> from hrseg.inference.protocols import choose_protocol
        >>> image = torch.rand(1, 3, 40, 60)
        >>> tta = SlidingWindowInference(lambda x: x, choose_protocol("tta", merge="logits"))
        >>> tta(image).shape
        torch.Size([1, 3, 40, 60])
    """

    def __init__(
        self,
        logits_fn: LogitsFunction,
        protocol: Protocol,
        *,
        flip_order: Sequence[int] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        aligned: bool = False,
        rgb: bool = True,
        input_scale: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        protocol.check()
        if not rgb and (protocol.rounded or protocol.first_resize != "none"):
            raise ConfigError(
                "This protocol resizes images as RGB of 8 bits, and the network sees other bands. Choose another, such "
                "as whole or tta."
            )
        self.logits_fn = logits_fn
        self.protocol = protocol
        self._plain, self._fixed_size = protocol.plain, protocol.absolute
        self.flip_order = flip_order
        self.mean, self.std = tuple(mean), tuple(std)
        self.aligned, self.pixel_factor = aligned, input_scale**2
        on_gpu = torch.device(device).type != "cpu"
        self.batch_pixels = BATCH_PIXELS / self.pixel_factor if on_gpu else 0
        self.rule = MERGE_RULES[protocol.merge]
        of_pass = self.rule.of_pass
        inner = logits_fn
        if protocol.flip and self.rule.mirrors_inside:
            inner = mirrored(logits_fn, flip_order)
        self._pass: LogitsFunction = lambda image: of_pass(inner(image))

    def plan(self, size: Size) -> Grid:
        """Lay windows over an image of this (height, width); a single one where it is run whole."""
        protocol = self.protocol
        requested = protocol.window if self._plain else None
        small = size[0] * size[1] * self.pixel_factor <= protocol.whole_pixels
        if self._fixed_size or (small and requested is None):
            return Grid(rows=((0, size[0]),), columns=((0, size[1]),))
        window = requested or default_window(min(protocol.whole_pixels, WINDOW_PIXELS) / self.pixel_factor)
        if self._plain or protocol.window is None:
            return self._grid(size, window)
        return plan_windows(size, window, batch=self._batch(window))  # its own are those of views

    def _grid(self, size: Size, window: Size) -> Grid:
        """Lay windows over an image or a view, with the protocol's overlap or stride."""
        protocol = self.protocol
        return plan_windows(
            *(size, window, protocol.overlap),
            stride=protocol.stride_of(window) if protocol.window else None,
            blend=protocol.blend,
            batch=self._batch(window),
        )

    def _batch(self, window: Size) -> int:
        return max(1, int(self.batch_pixels // (window[0] * window[1])))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at image size. Shape: (N, bands, H, W) → (N, K, H, W)."""
        source = TensorSource(image)
        return assemble(self._windowed(source), source.size)

    def blocks(self, image: torch.Tensor | Source) -> Iterator[Block]:
        """Yield logits block by block, for callers that reduce them at once.

        A single pass over the whole image is enlarged from stride 4 in rows that fit the processor's cache; logits of
        the whole image never exist.

        Shape:
            image (N, bands, H, W) → (top, left, (N, K, rows, columns)), rows of blocks from top to bottom
        """
        source = TensorSource(image) if isinstance(image, torch.Tensor) else image
        coarse = self.coarse(source)
        if coarse is None:
            return self._windowed(source)
        return ((top, 0, rows) for top, rows in logit_rows(coarse, source.size, self.policy))

    def label_strips(
        self,
        image: torch.Tensor | Source,
        want: Collection[str] = (),
        begin: int = 0,
    ) -> Iterator[LabelStrip]:
        """Yield labels, and other maps that are wanted, from top to bottom.

        Args:
            image: Normalized images, or the source of their windows.
            want: Any of `upsample.MAPS`.
            begin: Rows above are done already, and strips of them are undefined.

        Shape:
            image (N, bands, H, W) → strips of (N, rows, W)
        """
        source = TensorSource(image) if isinstance(image, torch.Tensor) else image
        coarse = self.coarse(source)
        if coarse is not None:
            return labels_from_logits(coarse, source.size, policy=self.policy, want=want)
        return reduce_blocks(self._windowed(source, begin), source.size[1], want)

    def _windowed(self, source: Source, begin: int = 0) -> Iterator[Block]:
        run = self.logits_fn if self._plain else self._merged_views
        return window_blocks(run, source, self.plan(source.size), begin)

    def coarse(self, source: Source) -> torch.Tensor | None:
        """Return logits at stride 4, or None if more than one pass over the whole image is needed."""
        coarse = getattr(self.logits_fn, "coarse", None)
        if coarse is None or not self._plain or not self.plan(source.size).whole:
            return None
        logits: torch.Tensor = coarse(source.cut(0, 0, *source.size))  # (N, K, H/4, W/4)
        return logits

    @property
    def policy(self) -> str:
        """Resize policy of the logits."""
        return "bilinear_aligned" if self.aligned else "bilinear"

    def _merged_views(self, image: torch.Tensor) -> torch.Tensor:
        """Run all scales and mirrors of an image or window, and merge them."""
        protocol, rule = self.protocol, self.rule
        base, (height, width) = self._first_resize(image)  # (N, bands, h, w)
        total: torch.Tensor | None = None
        mirrors = (False, True) if protocol.flip and not rule.mirrors_inside else (False,)
        for scale in protocol.scales:
            scaled = self._scaled(base, scale)  # (N, bands, h * scale, w * scale)
            for mirror in mirrors:
                view = self._run_view(scaled.flip(-1) if mirror else scaled, scale)
                view = _flip_back(view, self.flip_order) if mirror else view
                view = rule.of_view(self._resize(view, (base.shape[-2], base.shape[-1])))
                total = torch.zeros_like(view) if total is None else total
                total += view  # (N, K, h, w)
                del view  # memory: not to be held while the network runs
        assert total is not None
        total /= len(protocol.scales) * len(mirrors)
        if not protocol.keep_border:
            total = total[..., :height, :width]  # without the border of the first resize
        return rule.to_logits(self._resize(total, (image.shape[-2], image.shape[-1])))

    def _run_view(self, image: torch.Tensor, scale: float) -> torch.Tensor:
        """Run one view whole or in windows. Shape: (N, bands, h, w) → (N, K, h, w)."""
        protocol = self.protocol
        source = TensorSource(image)
        height, width = source.size
        if protocol.window is not None and scale > protocol.whole_up_to:
            if protocol.edge == "pad":
                stride = protocol.stride_of(protocol.window) or protocol.window
                source = TensorSource(self._pad_black(image, protocol.window, stride))
            grid = self._grid(source.size, protocol.window)
        elif height * width * self.pixel_factor <= VIEW_PIXELS:
            return self._pass(image)
        else:
            grid = plan_windows(source.size, default_window(WINDOW_PIXELS / self.pixel_factor))
        maps = assemble(window_blocks(self._pass, source, grid), source.size)  # (N, K, h, w)
        return maps[..., :height, :width]

    def _pad_black(self, image: torch.Tensor, window: Size, stride: Size) -> torch.Tensor:
        """Pad with black at the right and below, up to a whole number of strides."""
        h, w = (
            side + step * -(-max(0, length - side) // step)
            for length, side, step in zip(image.shape[-2:], window, stride, strict=True)
        )
        black = (-torch.tensor(self.mean) / torch.tensor(self.std))[None, :, None, None]
        padded = black.to(image).expand(len(image), -1, h, w).clone()  # (N, bands, h, w)
        padded[..., : image.shape[-2], : image.shape[-1]] = image
        return padded

    def _first_resize(self, image: torch.Tensor) -> tuple[torch.Tensor, Size]:
        """Apply the protocol's first resize; return the image, and its size without the border."""
        protocol = self.protocol
        height, width = int(image.shape[-2]), int(image.shape[-1])
        if protocol.first_resize == "none":
            return image, (height, width)
        if protocol.first_resize == "squash":
            size = protocol.window or (height, width)
        else:
            short, side = min(height, width), protocol.base_size or min(height, width)
            h, w = (side if n == short else int(n * side / short + 0.5) for n in (height, width))
            size = (h, w)
        return self._resize_bytes(image, size, protocol.first_multiple), size

    def _scaled(self, image: torch.Tensor, scale: float) -> torch.Tensor:
        height, width = int(image.shape[-2]), int(image.shape[-1])
        size = self.protocol.size_at(scale, height, width)
        if size == (height, width):
            return image
        if self.protocol.rounded:
            return self._resize_bytes(image, size)
        return F.interpolate(image, size, mode="bilinear", align_corners=False)

    def _resize_bytes(self, image: torch.Tensor, size: Size, multiple: int = 1) -> torch.Tensor:
        """Resize images as 8-bit pixels, as a file would be."""
        resized = [_resize_pixels(denormalize(one, self.mean, self.std), size, multiple, self.mean) for one in image]
        return torch.stack([to_tensor(one, self.mean, self.std) for one in resized]).to(image)

    def _resize(self, maps: torch.Tensor, size: Size) -> torch.Tensor:
        if tuple(maps.shape[-2:]) == size:
            return maps
        return F.interpolate(maps, size, mode="bilinear", align_corners=self.aligned)


def aligns(network: object) -> bool:
    """Return whether a network resizes its maps with aligned corners."""
    return getattr(network, "resize", None) == "bilinear_aligned"


def input_scale(network: object) -> float:
    """Return the factor by which a network enlarges both sides of its images."""
    return float(getattr(network, "spec", {}).get("input_scale", 1.0))


def _resize_pixels(pixels: Any, size: Size, multiple: int, mean: tuple[float, ...]) -> Any:
    """Resize uint8 pixels, then pad with their mean color at the right and below up to a multiple."""
    import cv2  # slow to import, and only some published protocols resize bytes

    height, width = size
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return pixels
    color = tuple(255 * value for value in mean)
    return cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=color)
