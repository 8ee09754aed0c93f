"""Scales and mirrors around a logits function, merged into one map: what a protocol asks for, carried out.

A `Scorer` is itself a logits function. Its results are logits whatever was merged: their softmax gives the
averaged probabilities back, and their argmax the class.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from hrseg.errors import ConfigError
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, denormalize, to_tensor
from hrseg.inference.prepare import LogitsFunction
from hrseg.inference.protocols import Protocol, Size
from hrseg.inference.window_grid import (
    BATCH_PIXELS,
    WINDOW_PIXELS,
    Grid,
    default_window,
    plan_windows,
)
from hrseg.inference.windows import Block, Source, TensorSource, whole_map, window_blocks
from hrseg.ops.argmax import LabelBand, labels_from_logits, logit_rows, reduce_blocks

VIEW_PIXELS = 2**23
"""Pixels of a scaled view, as the network sees them, that are run in one pass."""
EXP_LIMIT = 80.0
"""exp of logits above this counts as exp of this: float32 ends at 88, and the official code with it."""


@dataclass(frozen=True)
class Merge:
    """One rule for what is averaged.

    Attributes:
        of_pass: On the logits of each pass through the network, before windows are put together.
        of_view: On each view of the whole image, at its size.
        back: From the average to logits.
        mirrors_inside: Whether a pass and its mirror image are averaged as logits first.
    """

    of_pass: LogitsFunction
    of_view: LogitsFunction
    back: LogitsFunction
    mirrors_inside: bool = False


def _same(values: torch.Tensor) -> torch.Tensor:
    return values


def _log(values: torch.Tensor) -> torch.Tensor:
    return values.clamp_min(torch.finfo(values.dtype).tiny).log()


def _exp(values: torch.Tensor) -> torch.Tensor:
    return values.clamp_max(EXP_LIMIT).exp()


MERGE_RULES = {
    "logits": Merge(_same, _same, _same),
    "softmax": Merge(_same, lambda logits: logits.softmax(dim=1), _log),
    "exp": Merge(_exp, _same, _log, mirrors_inside=True),
}
"""Name → rule. mmsegmentation averages softmax, the official code exp."""


def mirrored(logits_fn: LogitsFunction, flip_order: Sequence[int] | None = None) -> LogitsFunction:
    """Average the logits of an image and of its mirror image.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        flip_order: The class that each class becomes in a mirror (`LabelSet.flip_order`); None changes none.

    Shape:
        (n, bands, h, w) → (n, K, h, w)

    Example:
        >>> mirrored(lambda image: image)(torch.tensor([[[[1.0, 5.0]]]])).tolist()
        [[[[1.0, 5.0]]]]
    """

    def both(image: torch.Tensor) -> torch.Tensor:
        return (logits_fn(image) + _unmirror(logits_fn(image.flip(-1)), flip_order)) * 0.5

    return both


def _unmirror(logits: torch.Tensor, flip_order: Sequence[int] | None) -> torch.Tensor:
    logits = logits.flip(-1)
    if flip_order is None or list(flip_order) == sorted(flip_order):
        return logits
    return logits[:, list(flip_order)]


class Scorer:
    """A logits function that looks at images by a protocol.

    Images that one pass does not take (`Protocol.whole_pixels`) are cut into windows first and run through the
    protocol window by window, so memory stays bounded, unless the protocol fixes the size that the network sees.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        protocol: A row of `protocols.PROTOCOLS`, or from `protocols.choose_protocol`.
        flip_order: The class that each class becomes in a mirror (`LabelSet.flip_order`); None changes none.
        mean: Per-band mean that was subtracted from the images; black padding and 8-bit rounding need it.
        std: Per-band standard deviation.
        aligned: Whether maps are resized with aligned corners, as in networks of policy "bilinear_aligned".
        rgb: Whether images are RGB of 8 bits, which some published protocols resize as such.
        input_scale: By how much the network enlarges its images, see `input_scale`.
        device: A GPU runs windows together, as many as grid.BATCH_PIXELS allow; a CPU gains nothing by it.

    Shape:
        (N, bands, H, W) → (N, K, H, W)

    Source:
        HRNet-Semantic-Segmentation, branch HRNet-OCR, lib/datasets/base_dataset.py, cityscapes.py, lip.py;
        mmsegmentation 1.2.2, models/segmentors. Logits instead of averages in the end: ours.

    Example:
        >>> from hrseg.inference.protocols import choose_protocol
        >>> image = torch.rand(1, 3, 40, 60)
        >>> Scorer(lambda x: x, choose_protocol("tta", merge="logits"))(image).shape
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
        self.flip_order = flip_order
        self.mean, self.std = tuple(mean), tuple(std)
        self.aligned, self.enlarged = aligned, input_scale**2
        on_gpu = torch.device(device).type != "cpu"
        self.batch_pixels = BATCH_PIXELS / self.enlarged if on_gpu else 0
        self.rule = MERGE_RULES[protocol.merge]
        of_pass = self.rule.of_pass
        inner = logits_fn
        if protocol.flip and self.rule.mirrors_inside:
            inner = mirrored(logits_fn, flip_order)
        self._pass: LogitsFunction = lambda image: of_pass(inner(image))

    def plan(self, size: Size) -> Grid:
        """Lay windows over an image of this (height, width); one where it goes whole."""
        row = self.protocol
        own = row.window if row.plain else None
        small = size[0] * size[1] * self.enlarged <= row.whole_pixels
        if row.absolute or (small and own is None):
            return Grid(rows=((0, size[0]),), columns=((0, size[1]),))
        window = own or default_window(min(row.whole_pixels, WINDOW_PIXELS) / self.enlarged)
        if row.plain or row.window is None:
            return self._grid(size, window)
        return plan_windows(size, window, batch=self._batch(window))  # the row's are those of views

    def _grid(self, size: Size, window: Size) -> Grid:
        """Lay windows over an image or a view, shared as the protocol says."""
        row = self.protocol
        stride = row.stride_of(window) if row.window else None
        batch = self._batch(window)
        return plan_windows(size, window, row.overlap, stride=stride, blend=row.blend, batch=batch)

    def _batch(self, window: Size) -> int:
        return max(1, int(self.batch_pixels // (window[0] * window[1])))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at image size. Shape: (N, bands, H, W) → (N, K, H, W)."""
        source = TensorSource(image)
        return whole_map(self._windowed(source), source.size)

    def blocks(self, image: torch.Tensor | Source) -> Iterator[Block]:
        """Yield logits block by block, for callers that reduce them at once.

        One plain look at a whole image goes from the head's own resolution to rows that fit the processor's cache;
        there are never logits of the whole image.

        Shape:
            image (N, bands, H, W) → (top, left, (N, K, rows, columns)), rows of blocks from top to bottom
        """
        source = TensorSource(image) if isinstance(image, torch.Tensor) else image
        coarse = self._coarse(source)
        if coarse is None:
            return self._windowed(source)
        return ((top, 0, rows) for top, rows in logit_rows(coarse, source.size, self._policy))

    def label_bands(
        self,
        image: torch.Tensor | Source,
        want: Collection[str] = (),
        begin: int = 0,
    ) -> Iterator[LabelBand]:
        """Yield labels, and what else is wanted of `kernels.labels.MAPS`, from top to bottom.

        Args:
            image: Normalized images, or what windows of them are cut out of.
            want: Any of `kernels.labels.MAPS`.
            begin: Rows above are known already, and bands of them mean nothing.

        Shape:
            image (N, bands, H, W) → bands of (N, rows, W)
        """
        source = TensorSource(image) if isinstance(image, torch.Tensor) else image
        coarse = self._coarse(source)
        if coarse is not None:
            return labels_from_logits(coarse, source.size, policy=self._policy, want=want)
        return reduce_blocks(self._windowed(source, begin), source.size[1], want)

    def _windowed(self, source: Source, begin: int = 0) -> Iterator[Block]:
        run = self.logits_fn if self.protocol.plain else self._look
        return window_blocks(run, source, self.plan(source.size), begin)

    def _coarse(self, source: Source) -> torch.Tensor | None:
        """Return logits at the head's own resolution, if one plain look at the whole image is all there is to do."""
        coarse = getattr(self.logits_fn, "coarse", None)
        if coarse is None or not self.protocol.plain or not self.plan(source.size).whole:
            return None
        logits: torch.Tensor = coarse(source.cut(0, 0, *source.size))
        return logits

    @property
    def _policy(self) -> str:
        return "bilinear_aligned" if self.aligned else "bilinear"

    def _look(self, image: torch.Tensor) -> torch.Tensor:
        row, rule = self.protocol, self.rule
        work, (height, width) = self._first(image)
        total: torch.Tensor | None = None
        mirrors = (False, True) if row.flip and not rule.mirrors_inside else (False,)
        for scale in row.scales:
            scaled = self._scaled(work, scale)
            for mirror in mirrors:
                view = self._windows(scaled.flip(-1) if mirror else scaled, scale)
                view = _unmirror(view, self.flip_order) if mirror else view
                view = rule.of_view(self._resize(view, (work.shape[-2], work.shape[-1])))
                total = torch.zeros_like(view) if total is None else total
                total += view
                del view
        assert total is not None
        total /= len(row.scales) * len(mirrors)
        if not row.keep_border:
            total = total[..., :height, :width]
        return rule.back(self._resize(total, (image.shape[-2], image.shape[-1])))

    def _windows(self, image: torch.Tensor, scale: float) -> torch.Tensor:
        """Run one view whole or in windows. Shape: (N, bands, h, w) → (N, K, h, w)."""
        row = self.protocol
        source = TensorSource(image)
        height, width = source.size
        if row.window is not None and scale > row.whole_up_to:
            if row.edge == "pad":
                stride = row.stride_of(row.window) or row.window
                source = TensorSource(self._pad_black(image, row.window, stride))
            grid = self._grid(source.size, row.window)
        elif height * width * self.enlarged <= VIEW_PIXELS:
            return self._pass(image)
        else:
            grid = plan_windows(source.size, default_window(WINDOW_PIXELS / self.enlarged))
        maps = whole_map(window_blocks(self._pass, source, grid), source.size)
        return maps[..., :height, :width]

    def _pad_black(self, image: torch.Tensor, window: Size, stride: Size) -> torch.Tensor:
        """Add black to the right and below, up to a whole number of strides."""
        h, w = (
            side + step * -(-max(0, length - side) // step)
            for length, side, step in zip(image.shape[-2:], window, stride, strict=True)
        )
        canvas = self._black.to(image).expand(len(image), -1, h, w).clone()
        canvas[..., : image.shape[-2], : image.shape[-1]] = image
        return canvas

    @property
    def _black(self) -> torch.Tensor:
        return (-torch.tensor(self.mean) / torch.tensor(self.std))[None, :, None, None]

    def _first(self, image: torch.Tensor) -> tuple[torch.Tensor, Size]:
        """Resize before anything else; return the image, and the size without its border."""
        row = self.protocol
        height, width = int(image.shape[-2]), int(image.shape[-1])
        if row.first_resize == "none":
            return image, (height, width)
        if row.first_resize == "squash":
            size = row.window or (height, width)
        else:
            short, side = min(height, width), row.base_size or min(height, width)
            h, w = (side if n == short else int(n * side / short + 0.5) for n in (height, width))
            size = (h, w)
        return self._in_bytes(
            image, lambda x: _resize_bytes(x, size, row.first_multiple, self.mean)
        ), size

    def _scaled(self, image: torch.Tensor, scale: float) -> torch.Tensor:
        height, width = int(image.shape[-2]), int(image.shape[-1])
        size = self.protocol.size_at(scale, height, width)
        if size == (height, width):
            return image
        if self.protocol.rounded:
            return self._in_bytes(image, lambda x: _resize_bytes(x, size, 1, self.mean))
        return F.interpolate(image, size, mode="bilinear", align_corners=False)

    def _in_bytes(self, image: torch.Tensor, change: Callable[[Any], Any]) -> torch.Tensor:
        """Change images as 8-bit pixels, as a file would be."""
        changed = [change(denormalize(one, self.mean, self.std)) for one in image]
        return torch.stack([to_tensor(one, self.mean, self.std) for one in changed]).to(image)

    def _resize(self, maps: torch.Tensor, size: Size) -> torch.Tensor:
        if tuple(maps.shape[-2:]) == size:
            return maps
        return F.interpolate(maps, size, mode="bilinear", align_corners=self.aligned)


def aligns(network: object) -> bool:
    """Tell whether a network resizes its maps with aligned corners."""
    return getattr(network, "resize", None) == "bilinear_aligned"


def input_scale(network: object) -> float:
    """Return by how much a network enlarges its images: it sees so many times as many pixels, squared."""
    return float(getattr(network, "spec", {}).get("input_scale", 1.0))


def _resize_bytes(pixels: Any, size: Size, multiple: int, mean: tuple[float, ...]) -> Any:
    """Resize uint8 pixels, then add their mean color to the right and below up to a multiple."""
    import cv2  # slow to import, and only some published protocols resize bytes

    height, width = size
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return pixels
    color = tuple(255 * value for value in mean)
    return cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=color)
