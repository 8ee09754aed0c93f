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
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD, denormalise, to_tensor
from hrseg.inference.prepare import LogitsFunction
from hrseg.inference.protocol import Protocol, Size
from hrseg.inference.windows import WHOLE_PIXELS, Band, in_rows, logit_bands, whole_or_windows
from hrseg.kernels.labels import LabelBand, labels_from_logits, logit_rows, reduce_logits

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

    Images above windows.WHOLE_PIXELS are cut into windows first and looked at window by window, so memory
    stays bounded, unless the protocol fixes the size that the network sees.

    Args:
        logits_fn: Any callable mapping (n, bands, h, w) to (n, K, h, w).
        protocol: A row of `protocols.PROTOCOLS`, or from `protocols.choose_protocol`.
        flip_order: The class that each class becomes in a mirror (`LabelSet.flip_order`); None changes none.
        mean: Per-band mean that was subtracted from the images; black padding and 8-bit rounding need it.
        std: Per-band standard deviation.
        aligned: Whether maps are resized with aligned corners, as in networks of policy "bilinear_aligned".
        rgb: Whether images are RGB of 8 bits, which some published protocols resize as such.

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
        self.aligned = aligned
        self.rule = MERGE_RULES[protocol.merge]
        of_pass = self.rule.of_pass
        inner = logits_fn
        if protocol.flip and self.rule.mirrors_inside:
            inner = mirrored(logits_fn, flip_order)
        self._pass: LogitsFunction = lambda image: of_pass(inner(image))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at image size. Shape: (N, bands, H, W) → (N, K, H, W)."""
        if self.protocol.absolute:
            return self._look(image)
        return whole_or_windows(*self._outer(image))

    def bands(self, image: torch.Tensor) -> Iterator[Band]:
        """Yield the same band by band, for callers that reduce it at once; see `windows.logit_bands`.

        One plain look at a whole image goes from the head's own resolution to bands that fit the processor's cache;
        there are never logits of the whole image.
        """
        if self.protocol.absolute:
            return in_rows(0, self._look(image))
        coarse = self._coarse(image)
        if coarse is not None:
            return logit_rows(coarse, (int(image.shape[-2]), int(image.shape[-1])), self._policy)
        return logit_bands(*self._outer(image))

    def label_bands(self, image: torch.Tensor, want: Collection[str] = ()) -> Iterator[LabelBand]:
        """Yield labels, and what else is wanted of `kernels.labels.MAPS`, from top to bottom.

        Args:
            image: Normalised.
            want: Any of `kernels.labels.MAPS`.

        Shape:
            image (N, bands, H, W) → bands of (N, rows, W)
        """
        coarse = self._coarse(image)
        if coarse is not None:
            size = (int(image.shape[-2]), int(image.shape[-1]))
            yield from labels_from_logits(coarse, size, policy=self._policy, want=want)
            return
        for top, logits in self.bands(image):
            yield reduce_logits(top, logits, want)

    def _coarse(self, image: torch.Tensor) -> torch.Tensor | None:
        """Return logits at the head's own resolution, if one plain look at the whole image is all there is to do."""
        coarse = getattr(self.logits_fn, "coarse", None)
        whole = self.protocol.plain and self.protocol.window is None
        pixels = int(image.shape[-2]) * int(image.shape[-1])
        if coarse is None or not whole or not 0 < pixels <= WHOLE_PIXELS:
            return None
        logits: torch.Tensor = coarse(image)
        return logits

    @property
    def _policy(self) -> str:
        return "bilinear_aligned" if self.aligned else "bilinear"

    @property
    def look(self) -> LogitsFunction:
        """What runs on a part of an image that is too large to be held whole.

        Raises:
            ConfigError: The protocol fixes the size that the network sees.
        """
        if self.protocol.absolute:
            raise ConfigError(
                f"Protocol '{self.protocol.name}' resizes whole images, and this one is too large for it. Use tta."
            )
        return self.logits_fn if self.protocol.plain else self._look

    def _outer(self, image: torch.Tensor) -> tuple[Any, ...]:
        row = self.protocol
        if not row.plain:
            return self._look, image
        stride = row.stride_of(row.window) if row.window else None
        return self.logits_fn, image, row.window, row.overlap, stride, row.blend

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
        height, width = image.shape[-2:]
        if row.window is None or scale <= row.whole_up_to:
            return whole_or_windows(self._pass, image)
        stride = row.stride_of(row.window)
        if row.edge == "pad":
            image = self._pad_black(image, row.window, stride or row.window)
        maps = whole_or_windows(self._pass, image, row.window, row.overlap, stride, row.blend)
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
        changed = [change(denormalise(one, self.mean, self.std)) for one in image]
        return torch.stack([to_tensor(one, self.mean, self.std) for one in changed]).to(image)

    def _resize(self, maps: torch.Tensor, size: Size) -> torch.Tensor:
        if tuple(maps.shape[-2:]) == size:
            return maps
        return F.interpolate(maps, size, mode="bilinear", align_corners=self.aligned)


def aligns(network: object) -> bool:
    """Tell whether a network resizes its maps with aligned corners."""
    return getattr(network, "resize", None) == "bilinear_aligned"


def _resize_bytes(pixels: Any, size: Size, multiple: int, mean: tuple[float, ...]) -> Any:
    """Resize uint8 pixels, then add their mean colour to the right and below up to a multiple."""
    import cv2  # slow to import, and only some published protocols resize bytes

    height, width = size
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return pixels
    colour = tuple(255 * value for value in mean)
    return cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=colour)
