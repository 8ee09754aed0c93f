"""Table of weight file formats: recognition, renaming rules and resize policy of each source.

Key names identify the code base that wrote a file, and not its interpolation: 1,830 names are common to networks that
compute different functions. So each row also states the resize policy, its reason, and whether it is certain.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from hrseg.errors import WeightsError
from hrseg.imaging import IMAGENET_MEAN, IMAGENET_STD

Rules = tuple[tuple[str, str], ...]

WRAPPERS: Rules = ((r"^(?:(?:module|model|network|net|_orig_mod)\.)+", ""),)
"""Prefixes of wrappers around a network: DataParallel, torch.compile, Lightning, the official loss wrapper."""

BACKBONE: Rules = ((r"^(conv[12]|bn[12]|layer1|transition[123]|stage[234])\.", "backbone.<1>."),)
"""Official, ImageNet, timm and CSAILVision backbones are spelled alike."""

OFFICIAL: Rules = (
    *BACKBONE,
    (r"^(last_layer|conv3x3_ocr|aux_head|ocr_distri_head|cls_head)\.", "head.<1>."),
)

CLASSIFICATION: Rules = (
    *BACKBONE,
    (r"^(incre_modules|downsamp_modules|final_layer|classifier)\.", "head.<1>."),
)

CSAIL: Rules = ((r"^(?:encoder|decoder)\.", ""), *BACKBONE, (r"^(cbr|conv_last)\.", "head.<1>."))

SMP: Rules = ((r"^encoder\.model\.", ""), *CLASSIFICATION)

MMSEG: Rules = (
    # FCN head
    (r"^decode_head\.convs\.0\.conv\.", "head.last_layer.0."),
    (r"^decode_head\.convs\.0\.bn\.", "head.last_layer.1."),
    (r"^decode_head\.conv_seg\.", "head.last_layer.3."),
    # OCR: a cascade of the auxiliary FCN head and the object-contextual one
    (r"^decode_head\.0\.convs\.0\.conv\.", "head.aux_head.0."),
    (r"^decode_head\.0\.convs\.0\.bn\.", "head.aux_head.1."),
    (r"^decode_head\.0\.conv_seg\.", "head.aux_head.3."),
    (r"^decode_head\.1\.bottleneck\.conv\.", "head.conv3x3_ocr.0."),
    (r"^decode_head\.1\.bottleneck\.bn\.", "head.conv3x3_ocr.1."),
    (r"^decode_head\.1\.conv_seg\.", "head.cls_head."),
    (
        r"^decode_head\.1\.object_context_block\.bottleneck\.",
        "head.ocr_distri_head.conv_bn_dropout.",
    ),
    (r"^decode_head\.1\.object_context_block\.", "head.ocr_distri_head.object_context_block."),
    (r"\.query_project\.", ".f_pixel."),
    (r"\.key_project\.", ".f_object."),
    (r"\.value_project\.", ".f_down."),
    (r"\.out_project\.", ".f_up."),
    # The second of two convolutions comes after a convolution, a norm and ReLU in one Sequential.
    (r"\.(f_pixel|f_object)\.0\.conv\.", ".<1>.0."),
    (r"\.(f_pixel|f_object)\.0\.bn\.", ".<1>.1.0."),
    (r"\.(f_pixel|f_object)\.1\.conv\.", ".<1>.2."),
    (r"\.(f_pixel|f_object)\.1\.bn\.", ".<1>.3.0."),
    (r"\.(f_down|f_up|conv_bn_dropout)\.conv\.", ".<1>.0."),
    (r"\.(f_down|f_up|conv_bn_dropout)\.bn\.", ".<1>.1.0."),
)

PADDLE: Rules = (
    (r"\._mean$", ".running_mean"),
    (r"\._variance$", ".running_var"),
    # Heads first, while their convolutions and norms have different names
    (r"^head\.conv_1\._conv\.", "head.last_layer.0."),
    (r"^head\.conv_1\._batch_norm\.", "head.last_layer.1."),
    (r"^head\.cls\.", "head.last_layer.3."),
    (r"^head\.aux_head\.1\.", "head.aux_head.3."),
    (r"^head\.aux_head\.0\._conv\.", "head.aux_head.0."),
    (r"^head\.aux_head\.0\._batch_norm\.", "head.aux_head.1."),
    (r"^head\.spatial_ocr\.attention_block\.", "head.ocr_distri_head.object_context_block."),
    (r"^head\.spatial_ocr\.conv1x1\.0\.", "head.ocr_distri_head.conv_bn_dropout."),
    (r"\.(f_pixel|f_object)\.0\._conv\.", ".<1>.0."),
    (r"\.(f_pixel|f_object)\.0\._batch_norm\.", ".<1>.1.0."),
    (r"\.(f_pixel|f_object)\.1\._conv\.", ".<1>.2."),
    (r"\.(f_pixel|f_object)\.1\._batch_norm\.", ".<1>.3.0."),
    (r"\.(f_down|f_up|conv_bn_dropout)\._conv\.", ".<1>.0."),
    (r"\.(f_down|f_up|conv_bn_dropout)\._batch_norm\.", ".<1>.1.0."),
    # Backbone, with its prefix or (ImageNet files) without
    (r"^(?:backbone\.)?conv_layer1_(\d)\._conv\.", "backbone.conv<1>."),
    (r"^(?:backbone\.)?conv_layer1_(\d)\._batch_norm\.", "backbone.bn<1>."),
    (r"^(?:backbone\.)?la1\.bb_layer2_(\d+)\.", "backbone.layer1.<1-1>."),
    (r"^(?:backbone\.)?tr1\.transition_tr1_layer_1\.", "backbone.transition1.0."),
    (
        r"^(?:backbone\.)?tr(\d)\.transition_tr\d_layer_(\d)\.",
        "backbone.transition<1>.<2-1>.0.",
    ),
    (r"^(?:backbone\.)?st(\d)\.stage_st\d_(\d+)\.", "backbone.stage<1>.<2-1>."),
    (
        r"\.branches_func\.bb_st\d_\d+_branch_layer_(\d+)_(\d+)\.",
        ".branches.<1-1>.<2-1>.",
    ),
    (
        r"\.fuse_func\.residual_st\d_\d+_layer_(\d+)_(\d+)_(\d+)\.",
        ".fuse_layers.<1-1>.<2-1>.<3-1>.",
    ),
    (r"\.fuse_func\.residual_st\d_\d+_layer_(\d+)_(\d+)\.", ".fuse_layers.<1-1>.<2-1>."),
    (r"\.conv(\d)\._conv\.", ".conv<1>."),
    (r"\.conv(\d)\._batch_norm\.", ".bn<1>."),
    (r"\.conv_down\._conv\.", ".downsample.0."),
    (r"\.conv_down\._batch_norm\.", ".downsample.1."),
    # What is left is a pair in a Sequential: transitions, fusions, conv3x3_ocr
    (r"\._conv\.", ".0."),
    (r"\._batch_norm\.", ".1."),
)

_HOLE = re.compile(r"<(\d)(-1)?>")


def rename(key: str, rules: Iterable[tuple[str, str]]) -> str:
    """Apply every row in order.

    Args:
        key: A parameter's name.
        rules: Rows of pattern and replacement.

    Example:
        >>> rename("module.model.last_layer.3.bias", (*WRAPPERS, *OFFICIAL))
        'head.last_layer.3.bias'
        >>> rename("backbone.tr2.transition_tr2_layer_3._conv.weight", PADDLE)
        'backbone.transition2.2.0.0.weight'
    """
    for pattern, replacement in rules:
        found = re.search(pattern, key)
        if found:
            filled = _HOLE.sub(partial(_fill, found=found), replacement)
            key = key[: found.start()] + filled + key[found.end() :]
    return key


def _fill(hole: re.Match[str], found: re.Match[str]) -> str:
    text = found[int(hole[1])]
    return str(int(text) - 1) if hole[2] else text


HALF = (0.5, 0.5, 0.5)
NOTHING = r"(?!)"
NO_HEAD = "none"
"""Head in the card of a release that holds a backbone only."""
NOT_NETWORK = r"^(?:loss|criterion|metrics)\.|^auxiliary_head\.|\._tmp_running_(?:mean|var)$|\._running_iter$"
"""Tensors of training beside the network, such as class weights."""


@dataclass(frozen=True)
class Format:
    """One source of weight files.

    Attributes:
        name: Name in reports.
        signs: Patterns that must each match some key.
        head: Our head for it; None where the file has only a backbone for us.
        resize: Class count → policy; the row None holds for all other counts.
        reason: Reason for that policy.
        certain: Whether the source has no other policy; else it is an assumption.
        rules: Its names → ours.
        conversions: Names of `conversions.CONVERSIONS`, in order.
        padding: Of stride-2 3x3 convolutions.
        mean: Per-band mean of its images, in 0 … 1.
        std: Per-band standard deviation.
        needless: Pattern of names that no network of ours needs.
        foreign_head: Pattern of a head that is another network than ours.
        foreign_reason: Description of that head.
    """

    name: str
    signs: tuple[str, ...]
    head: str | None
    resize: Mapping[int | None, str]
    reason: str
    certain: bool
    rules: Rules = ()
    conversions: tuple[str, ...] = ("batch_counters",)
    padding: str = "symmetric"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    needless: str = NOTHING
    foreign_head: str = NOTHING
    foreign_reason: str = ""

    def policy(self, num_classes: int | None) -> str:
        """Return the resize policy for a class count."""
        return self.resize.get(num_classes, self.resize[None])


_IMAGENET_REASON = "ImageNet backbones were trained with nearest fusions"
_MMSEG_REASON = (
    "mmsegmentation enlarges in the fusions by whole factors, then to the sibling's size, bilinearly with "
    "align_corners=False in every HRNet config (at sizes in multiples of 32 that equals 'bilinear')"
)
_PADDLE_REASON = "PaddleSeg resizes bilinearly with align_corners=False unless a config sets it"

FORMATS: tuple[Format, ...] = (
    Format(
        name="mmsegmentation OCR",
        signs=(r"^backbone\.stage4\.", r"^decode_head\.1\.object_context_block\."),
        head="ocr",
        resize={None: "bilinear_scaled"},
        reason=_MMSEG_REASON,
        certain=True,
        rules=MMSEG,
        conversions=("batch_counters", "zero_biases"),
    ),
    Format(
        name="mmsegmentation FCN",
        signs=(r"^backbone\.stage4\.", r"^decode_head\.convs\.0\.conv\."),
        head="v2",
        resize={None: "bilinear_scaled"},
        reason=_MMSEG_REASON,
        certain=True,
        rules=MMSEG,
        conversions=("batch_counters", "zero_biases"),
    ),
    Format(
        name="mmsegmentation with another decode head",
        signs=(r"^backbone\.stage4\.", r"^decode_head\."),
        head=None,
        resize={None: "bilinear_scaled"},
        reason=_MMSEG_REASON,
        certain=True,
        rules=MMSEG,
        foreign_head=r"^decode_head\.|^head\.",
        foreign_reason="a decode head that hrseg has no counterpart for",
    ),
    Format(
        name="PaddleSeg OCR",
        signs=(r"^(?:backbone\.)?st4\.", r"^head\.spatial_ocr\."),
        head="ocr",
        resize={None: "bilinear"},
        reason=_PADDLE_REASON,
        certain=True,
        rules=PADDLE,
        conversions=("batch_counters", "zero_biases", "fold_biases"),
        padding="same",
        mean=HALF,
        std=HALF,
    ),
    Format(
        name="PaddleSeg FCN",
        signs=(r"^(?:backbone\.)?st4\.", r"^head\.conv_1\."),
        head="v2",
        resize={None: "bilinear"},
        reason=_PADDLE_REASON,
        certain=True,
        rules=PADDLE,
        conversions=("batch_counters", "zero_biases"),
        padding="same",
        mean=HALF,
        std=HALF,
    ),
    Format(
        name="PaddleSeg backbone",
        signs=(r"^(?:backbone\.)?st4\.stage_st4_1\.",),
        head=None,
        resize={None: "bilinear"},
        reason=_PADDLE_REASON,
        certain=False,
        rules=PADDLE,
        padding="same",
        foreign_head=r"^head\.|^(?!backbone\.)",
        foreign_reason="a head that hrseg has no counterpart for",
    ),
    Format(
        name="smp with a tu-hrnet encoder",
        signs=(r"^encoder\.model\.stage4\.",),
        head=None,
        resize={None: "nearest"},
        reason="smp's tu-hrnet encoders are timm's, which fuse with nearest",
        certain=True,
        rules=SMP,
        needless=r"^encoder\.model\.(?:incre_modules|downsamp_modules|final_layer)\.",
        foreign_head=r"^(?:decoder|segmentation_head|classification_head)\.",
        foreign_reason=(
            "smp's own decoder on timm's 64 to 1024 channels of ImageNet features, which is another network than "
            "HRNetV2"
        ),
    ),
    Format(
        name="CSAILVision encoder and C1 decoder",
        signs=(r"^(?:encoder\.)?stage4\.", r"^(?:decoder\.)?cbr\.0\.", r"conv_last\."),
        head="c1",
        resize={None: "bilinear"},
        reason="CSAILVision resizes bilinearly with align_corners=False everywhere",
        certain=True,
        rules=CSAIL,
        needless=r"^(?:encoder\.)?(?:incre_modules|downsamp_modules|final_layer|classifier)\.",
    ),
    Format(
        name="official HRNet-OCR",
        signs=(r"^stage4\.", r"^ocr_distri_head\."),
        head="ocr",
        resize={None: "bilinear_aligned"},
        reason="every official OCR recipe leaves MODEL.ALIGN_CORNERS at its default, True",
        certain=False,
        rules=OFFICIAL,
        conversions=("in_place_norms",),
    ),
    Format(
        name="official HRNetV2",
        signs=(r"^stage4\.", r"^last_layer\."),
        head="v2",
        resize={None: "bilinear", 150: "bilinear_aligned", 171: "bilinear_aligned"},
        reason=(
            "of the official recipes with this head, those for ADE20K (150 classes) and COCO-Stuff (171) align "
            "corners and the others do not"
        ),
        certain=False,
        rules=OFFICIAL,
        conversions=("in_place_norms",),
    ),
    Format(
        name="ImageNet classification (official or timm)",
        signs=(r"^stage4\.", r"^classifier\."),
        head="classification",
        resize={None: "nearest"},
        reason=_IMAGENET_REASON,
        certain=True,
        rules=CLASSIFICATION,
        conversions=("batch_counters", "zero_biases"),  # the ssld files have fewer biases
    ),
    Format(
        name="timm features",
        signs=(r"^stage4\.", r"^incre_modules\."),
        head=None,
        resize={None: "nearest"},
        reason=_IMAGENET_REASON,
        certain=True,
        rules=CLASSIFICATION,
        needless=r"^(?:incre_modules|downsamp_modules|final_layer)\.",
    ),
    Format(
        name="a bare backbone (official names)",
        signs=(r"^stage4\.", r"^conv1\."),
        head=None,
        resize={None: "nearest"},
        reason=_IMAGENET_REASON + ", and published backbones come from there",
        certain=False,
        rules=CLASSIFICATION,
    ),
    Format(
        name="another network on an HRNet backbone",
        signs=(r"^backbone\.stage4\.", r"^(?!backbone\.|head\.)"),
        head=None,
        resize={None: "nearest"},
        reason="detectors and pose networks keep the nearest fusions of their ImageNet backbones",
        certain=False,
        foreign_head=r"^(?!backbone\.)",
        foreign_reason="parts of a network that hrseg has no counterpart for",
    ),
    Format(
        name="hrseg",
        signs=(r"^backbone\.stage4\.", r"^backbone\.conv1\."),
        head=None,
        resize={None: "bilinear"},
        reason="the file has no card, and this is hrseg's default",
        certain=False,
        conversions=(),
    ),
)
"""The first row whose signs are all there wins."""

HRSEG = FORMATS[-1]

HEADS: dict[str, str] = {
    "ocr": r"^head\.ocr_distri_head\.",
    "classification": r"^head\.(?:incre_modules|downsamp_modules|final_layer|classifier)\.",
    "c1": r"^head\.cbr\.",
    "v2": r"^head\.last_layer\.",
}
"""Head → a pattern of its names, in ours."""

CLASSIFIERS = r"^head\.(?:last_layer\.3|cls_head|aux_head\.3|conv_last|classifier)\."
"""The layers whose outputs are classes."""

KNOWN_LABELS = {
    19: "cityscapes",
    20: "lip",
    21: "voc2012",
    59: "pascal_context_59",
    60: "pascal_context_60",
    150: "ade20k",
    171: "coco_stuff",
}
"""Class count → label table of published files with that count; small counts are ambiguous."""

_HINTS = {
    r"^conv_last\.": "This is the decoder of a CSAILVision pair. Give the encoder's file too.",
    r"^(?:encoder|decoder)\.": "It is an smp network on another encoder than tu-hrnet.",
    r"^(?:backbone\.)?(?:layer2|layers|patch_embed)\.": "It is a network of another family.",
}


def recognize(keys: Iterable[str], source: str) -> Format:
    """Find the row that a file belongs to.

    Args:
        keys: Its tensors' names, wrappers removed.
        source: The file's name, for the message.

    Raises:
        WeightsError: No row fits.

    Example:
        >>> recognize(["conv1.weight", "stage4.0.x", "last_layer.0.weight"], "a.pth").name
        'official HRNetV2'
    """
    keys = list(keys)
    for row in FORMATS:
        if all(any_match(sign, keys) for sign in row.signs):
            return row
    hint = next((text for sign, text in _HINTS.items() if any_match(sign, keys)), "")
    raise WeightsError(
        f"{source} holds no HRNet that hrseg knows: its {len(keys):,} tensors begin with "
        f"{', '.join(keys[:3])}. {hint or 'Known sources: ' + ', '.join(row.name for row in FORMATS) + '.'}"
    )


def head_of(keys: Iterable[str]) -> str | None:
    """Return which of our heads a state dict in our names holds, or None.

    Example:
        >>> head_of(["backbone.conv1.weight", "head.cls_head.weight", "head.ocr_distri_head.x"])
        'ocr'
    """
    keys = list(keys)
    return next((head for head, sign in HEADS.items() if any_match(sign, keys)), None)


def any_match(pattern: str, keys: Iterable[str]) -> bool:
    """Return whether a pattern matches one of the keys."""
    compiled = re.compile(pattern)
    return any(compiled.search(key) for key in keys)
