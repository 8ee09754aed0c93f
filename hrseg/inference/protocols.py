"""The named protocols: rows that repeat what published scores were measured with.

A score means something only with its protocol: scales, mirror, windows, and what is averaged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hrseg.errors import ConfigError, unknown_choice
from hrseg.inference.window_grid import BLENDS, OVERLAP, WHOLE_PIXELS, Blend, Size, check_window

MERGES = ("logits", "softmax", "exp")
LARGEST_SCALE = 8.0


@dataclass(frozen=True)
class Protocol:
    """How one image is looked at.

    Attributes:
        name: Its row.
        title: What it is, in one line.
        scales: Sizes at which the image is shown, relative to scale 1.
        flip: Whether each scale is shown mirrored too.
        merge: What is averaged: "logits"; "softmax", the probabilities of each scale and mirror; or "exp", the
            exp of logits whose mirrors were averaged before, pass by pass.
        window: Sliding window, in pixels of the scaled image; None shows it whole, up to whole_pixels.
        whole_pixels: Pixels, as the network sees them, above which an image without window is cut all the same.
        overlap: Shared fraction of neighboring windows, where there is no stride.
        stride: Distance between windows: (height, width) in pixels, or a fraction of the window, cut to pixels.
        blend: "ramp", "cosine" and "gaussian" fade windows into one another, "equal" counts each the same.
        edge: "shift" moves the last window inside the image, "pad" adds black to the right and below.
        whole_up_to: Scales up to this one are shown whole in spite of the window.
        base_size: Long side at scale 1; None keeps the image's own.
        base_short_side: Short side at scale 1; with base_size the image fits into both.
        first_resize: Before anything else, "short_side" brings the short side to base_size, "squash" makes the
            image as large as the window whatever its shape.
        first_multiple: After that resize, the mean color is added up to a multiple of this.
        keep_border: Whether that border stays in the result, which is then squeezed to the image's size.
        rounded: Whether scaled images are rounded to 8 bits again, and their sides as mmsegmentation does.
        absent: What a class in neither masks nor predictions does to mIoU, "skip" or "zero".
    """

    name: str
    title: str
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge: str = "softmax"
    window: Size | None = None
    whole_pixels: int = WHOLE_PIXELS
    overlap: float = OVERLAP
    stride: Size | float | None = None
    blend: Blend = "gaussian"
    edge: Literal["shift", "pad"] = "shift"
    whole_up_to: float = 0.0
    base_size: int | None = None
    base_short_side: int | None = None
    first_resize: Literal["none", "short_side", "squash"] = "none"
    first_multiple: int = 1
    keep_border: bool = False
    rounded: bool = False
    absent: Literal["skip", "zero"] = "skip"

    @property
    def views(self) -> int:
        """How many times the image is looked at."""
        return len(self.scales) * (1 + self.flip)

    @property
    def absolute(self) -> bool:
        """Whether the size that the network sees is fixed, so that parts of an image would look unlike it."""
        return bool(self.base_size or self.base_short_side or self.first_resize != "none")

    @property
    def plain(self) -> bool:
        """Whether one look at the image as it is makes the result: nothing is scaled, mirrored or merged."""
        merged = self.merge == "exp" and self.window is not None
        return self.views == 1 and self.scales == (1.0,) and not self.absolute and not merged

    def size_at(self, scale: float, height: int, width: int) -> Size:
        """Return an image's size at a scale, rounded as the official code and mmsegmentation round.

        Example:
            >>> Protocol("", "", base_size=520).size_at(0.5, 300, 400)
            (195, 260)
            >>> Protocol("", "", base_size=2048, base_short_side=512).size_at(1.0, 300, 400)
            (512, 683)
        """
        long, short = max(height, width), min(height, width)
        if bool(self.base_size) != bool(self.base_short_side):  # the official rule
            fixed = long if self.base_size else short
            side = int((self.base_size or self.base_short_side or 0) * scale + 0.5)
            sides = [side if x == fixed else int(x * side / fixed + 0.5) for x in (height, width)]
        else:
            factor = scale
            if self.base_size and self.base_short_side:
                factor *= min(self.base_size / long, self.base_short_side / short)
            elif self.rounded:  # mmsegmentation fits the image into its rounded size
                factor = min(int(x * scale + 0.5) / x for x in (height, width))
            sides = [int(x * factor + 0.5) for x in (height, width)]
        return max(1, sides[0]), max(1, sides[1])

    def stride_of(self, window: Size) -> Size | None:
        """Return the stride in pixels; None leaves it to the overlap."""
        if isinstance(self.stride, tuple) or self.stride is None:
            return self.stride
        return int(window[0] * self.stride), int(window[1] * self.stride)

    def says(self) -> str:
        """Say what it does, in one line.

        Example:
            >>> Protocol("", "", scales=(0.5, 1.0), flip=True, base_size=520).says()
            'scales 0.5 1, mirrored too, probabilities averaged, long side 520'
        """
        parts = []
        if self.first_resize == "squash" and self.window:
            parts.append(f"squashed to {_x(self.window)}")
        if self.scales != (1.0,):
            parts.append(f"scales {' '.join(f'{scale:g}' for scale in self.scales)}")
        if self.flip:
            parts.append("mirrored too")
        if self.views > 1:
            what = {"logits": "logits", "softmax": "probabilities", "exp": "exp of logits"}[
                self.merge
            ]
            parts.append(f"{what} averaged")
        sliding = self.first_resize != "squash" and max(self.scales) > self.whole_up_to
        if self.window and sliding:
            stride = self.stride_of(self.window)
            step = f" every {_x(stride)}" if stride and stride != self.window else ""
            above = f" above scale {self.whole_up_to:g}" if self.whole_up_to else ""
            parts.append(f"windows {_x(self.window)}{step}{above}")
        if self.first_resize == "short_side":
            parts.append(f"short side {self.base_size} first")
        if self.base_size and self.first_resize != "squash":
            parts.append(f"long side {self.base_size}")
        if self.base_short_side:
            parts.append(f"short side {self.base_short_side}")
        return ", ".join(parts) or "whole image, one pass"

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: An unknown merge, or scales, windows or strides out of range.
        """
        if self.merge not in MERGES:
            raise ConfigError(unknown_choice("merge", self.merge, MERGES))
        if self.blend not in BLENDS:
            raise ConfigError(unknown_choice("blend", self.blend, BLENDS))
        wrong = [
            scale
            for scale in self.scales
            if not (math.isfinite(scale) and 0 < scale <= LARGEST_SCALE)
        ]
        if wrong:
            raise ConfigError(
                f"Scale {wrong[0]:g} cannot be used. Scales are numbers above 0 and up to {LARGEST_SCALE:g}, such as "
                "0.75 1 1.25."
            )
        if self.window is None:
            return
        check_window(self.window, self.overlap, self.stride_of(self.window), self.blend)


def _x(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


_MS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_CITYSCAPES = Protocol(
    "official_cityscapes",
    "official code, Cityscapes, one scale",
    merge="exp",
    window=(1024, 2048),
    stride=(1024, 2048),
    blend="equal",
    whole_up_to=1.0,
    base_size=2048,
    absent="zero",
)
_CROP = Protocol(
    "official_crop",
    "official code, PASCAL-Context and COCO-Stuff, one scale",
    merge="exp",
    window=(520, 520),
    stride=2 / 3,
    blend="equal",
    edge="pad",
    base_size=520,
    first_resize="short_side",
    first_multiple=8,
    absent="zero",
)
_CROP_V1 = replace(
    _CROP,
    name="official_crop_v1",
    title="official code before the HRNet-OCR branch, PASCAL-Context, one scale",
    window=(480, 480),
    first_resize="none",
    first_multiple=1,
)
_ADE20K = replace(
    _CROP,
    name="official_ade20k",
    title="official code, ADE20K, one scale; the border to a multiple of 8 stays in",
    keep_border=True,
)
_MMSEG = Protocol(
    "mmseg_whole",
    "mmsegmentation, whole images at native size",
    merge="softmax",
    whole_pixels=2**23,  # published with whole images that are larger than ours go
)
_MMSEG_SLIDE = replace(
    _MMSEG,
    name="mmseg_slide",
    title="mmsegmentation, PASCAL-Context",
    window=(480, 480),
    stride=(320, 320),
    blend="equal",
    base_size=520,
    base_short_side=520,
    rounded=True,
)


def _many(row: Protocol, scales: tuple[float, ...], **changes: Any) -> Protocol:
    title = row.title.replace("one scale", "several scales and mirror")
    name = f"{row.name}_ms"
    return replace(row, **{"name": name, "title": title, "scales": scales, "flip": True, **changes})


_ROWS = (
    Protocol("whole", "the default"),
    Protocol(
        "tta",
        "a little better than whole, six times the work",
        scales=(0.75, 1.0, 1.25),
        flip=True,
    ),
    _CITYSCAPES,
    _many(_CITYSCAPES, _MS),
    _CROP,
    _many(_CROP, (*_MS, 2.0)),
    _CROP_V1,
    _many(_CROP_V1, (*_MS, 2.0)),
    _ADE20K,
    _many(_ADE20K, (*_MS, 2.0)),
    Protocol(
        "lip",
        "official code, LIP: squashed to 473x473, mirrored too, left and right exchanged",
        flip=True,
        merge="exp",
        window=(473, 473),
        stride=2 / 3,
        blend="equal",
        edge="pad",
        base_size=473,
        first_resize="squash",
        absent="zero",
    ),
    _MMSEG,
    replace(
        _MMSEG,
        name="mmseg_short512",
        title="mmsegmentation, ADE20K and VOC 2012",
        base_size=2048,
        base_short_side=512,
        rounded=True,
    ),
    _MMSEG_SLIDE,
    replace(
        _MMSEG,
        name="mmseg_tta",
        title="mmsegmentation, several scales of the native size and mirror",
        scales=_MS,
        flip=True,
        rounded=True,
    ),
    replace(
        _MMSEG_SLIDE,
        name="mmseg_slide_tta",
        title="mmsegmentation, PASCAL-Context, several scales of the native size and mirror",
        scales=_MS,
        flip=True,
        base_size=None,
        base_short_side=None,
    ),
)
PROTOCOLS = {row.name: row for row in _ROWS}
"""Protocol by name.

Source:
    HRNet-Semantic-Segmentation, branch HRNet-OCR, lib/datasets (multi_scale_inference of base_dataset.py and
    cityscapes.py; "testval" of the others), lib/core/function.py (testval), and the scale lists of its README.
    mmsegmentation 1.2.2, models/segmentors/encoder_decoder.py and seg_tta.py, configs/_base_/datasets.
"""


def choose_protocol(
    protocol: str | Protocol = "whole",
    *,
    scales: Sequence[float] = (),
    flip: bool | None = None,
    merge: str | None = None,
    window: Size | None = None,
    overlap: float | None = None,
    stride: Size | None = None,
    blend: Blend | None = None,
    base_size: int | None = None,
    base_short_side: int | None = None,
    absent: Literal["skip", "zero"] | None = None,
) -> Protocol:
    """Take a row of PROTOCOLS, change what is given, and refuse what cannot work.

    Args:
        protocol: A name, or a row of one's own.
        scales: Empty keeps the row's, and None everywhere else.
        flip: See `Protocol`, as all others.
        merge: "logits", "softmax" or "exp".
        window: (height, width).
        overlap: Takes the stride's place.
        stride: (height, width) in pixels.
        blend: One of `blending.BLENDS`.
        base_size: Long side.
        base_short_side: Short side.
        absent: "skip" or "zero".

    Raises:
        ConfigError: An unknown name or rule, scales or windows that cannot work.

    Example:
        >>> choose_protocol("tta", scales=[1, 0.5], merge="logits").says()
        'scales 1 0.5, mirrored too, logits averaged'
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise ConfigError(unknown_choice("protocol", protocol, PROTOCOLS))
        protocol = PROTOCOLS[protocol]
    given: dict[str, Any] = {
        "scales": tuple(float(scale) for scale in scales) or None,
        "flip": flip,
        "merge": merge,
        "window": window and (int(window[0]), int(window[1])),
        "overlap": overlap,
        "stride": stride and (int(stride[0]), int(stride[1])),
        "blend": blend,
        "base_size": base_size,
        "base_short_side": base_short_side,
        "absent": absent,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if overlap is not None and stride is None:
        changes["stride"] = None
    chosen = replace(protocol, **changes)
    chosen.check()
    return chosen
