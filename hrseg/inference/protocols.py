"""The named protocols: rows that repeat what published scores were measured with.

A score means something only with its protocol: scales, mirror, windows, and what is averaged.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from hrseg.errors import ConfigError, unknown_choice
from hrseg.inference.blending import Blend
from hrseg.inference.protocol import Protocol, Size

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
