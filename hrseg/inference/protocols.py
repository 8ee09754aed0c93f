"""Named inference protocols, among them those that published scores were measured with.

A protocol defines which scales, mirrors and windows are run, and what is averaged.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from hrseg.errors import ConfigError, unknown_choice
from hrseg.inference.windows import BLENDS, OVERLAP, WHOLE_PIXELS, Blend, Size, check_window

MERGES = ("logits", "softmax", "exp")
LARGEST_SCALE = 8.0


@dataclass(frozen=True)
class Protocol:
    """Inference protocol of one image.

    Attributes:
        name: Key in PROTOCOLS.
        title: One line of description.
        scales: Sizes at which the image is run, relative to scale 1.
        flip: Whether each scale is run mirrored too.
        merge: What is averaged: "logits"; "softmax", the probabilities of each scale and mirror; or "exp", the
            exp of logits whose mirrors were averaged before, pass by pass.
        window: Sliding window, in pixels of the scaled image; None runs it whole, up to whole_pixels.
        whole_pixels: Pixels, as the network sees them, above which an image is cut even without a window.
        overlap: Shared fraction of neighboring windows, where there is no stride.
        stride: Distance between windows: (height, width) in pixels, or a fraction of the window, cut to pixels.
        blend: Weights of overlapping windows, see `windows.Blend`.
        edge: "shift" moves the last window inside the image, "pad" adds black to the right and below.
        whole_up_to: Scales up to this one are run whole in spite of the window.
        base_size: Long side at scale 1; None is the image's own.
        base_short_side: Short side at scale 1; with base_size the image fits into both.
        first_resize: Before anything else, "short_side" brings the short side to base_size, "squash" makes the
            image as large as the window whatever its shape.
        first_multiple: After that resize, the mean color is added up to a multiple of this.
        keep_border: Whether that border stays in the result, which is then resized to the image's size.
        rounded: Whether scaled images are rounded to 8 bits again, and their sides as mmsegmentation does.
        absent: How mIoU treats a class in neither masks nor predictions, "skip" or "zero".
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
        """Number of scales, times two with mirrors."""
        return len(self.scales) * (1 + self.flip)

    @property
    def absolute(self) -> bool:
        """Whether the size that the network sees is fixed, so that an image cannot be cut before."""
        return bool(self.base_size or self.base_short_side or self.first_resize != "none")

    @property
    def plain(self) -> bool:
        """Whether a single pass over each pixel makes the result: nothing is scaled, mirrored or merged."""
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

    def describe(self) -> str:
        """Return one line about it.

        Example:
            >>> Protocol("", "", scales=(0.5, 1.0), flip=True, base_size=520).describe()
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
            what = {"logits": "logits", "softmax": "probabilities", "exp": "exp of logits"}[self.merge]
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
        """Raise if values are out of range.

        Raises:
            ConfigError: An unknown merge, or scales, windows or strides out of range.
        """
        if self.merge not in MERGES:
            raise ConfigError(unknown_choice("merge", self.merge, MERGES))
        if self.blend not in BLENDS:
            raise ConfigError(unknown_choice("blend", self.blend, BLENDS))
        for scale in self.scales:
            if not 0 < scale <= LARGEST_SCALE:  # false for NaN as well
                raise ConfigError(
                    f"Scale {scale:g} cannot be used. Scales are numbers above 0 and up to {LARGEST_SCALE:g}, such as "
                    "0.75 1 1.25."
                )
        if self.window is not None:
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
    whole_pixels=2**23,  # its published scores are of whole images larger than WHOLE_PIXELS
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
        "slightly better than whole, six times the work",
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


def choose_protocol(protocol: str | Protocol = "whole", **changes: Any) -> Protocol:
    """Return a row of PROTOCOLS with some fields replaced, checked.

    Args:
        protocol: A name, or a protocol of your own.
        changes: Fields of `Protocol`; None, and no scales, keep the protocol's. An overlap replaces the stride.

    Raises:
        ConfigError: An unknown name or rule, scales or windows out of range.

    Example:
        >>> choose_protocol("tta", scales=[1, 0.5], merge="logits").describe()
        'scales 1 0.5, mirrored too, logits averaged'
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise ConfigError(unknown_choice("protocol", protocol, PROTOCOLS))
        protocol = PROTOCOLS[protocol]
    if "scales" in changes:
        changes["scales"] = tuple(map(float, changes["scales"] or ())) or None
    for name in ("window", "stride"):
        if changes.get(name):
            changes[name] = (int(changes[name][0]), int(changes[name][1]))
    changes = {name: value for name, value in changes.items() if value is not None}
    if "overlap" in changes:
        changes.setdefault("stride", None)
    chosen = replace(protocol, **changes)
    chosen.check()
    return chosen
