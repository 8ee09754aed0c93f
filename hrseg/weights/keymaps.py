"""How other code bases spell the same network: rows of pattern and replacement, one list per spelling.

The left column is a regular expression, the right one our name; `<1>` stands for the first group and `<1-1>` for
that number less one, since PaddleSeg counts from 1. Every row is applied, in order, to what the rows before it left.
Our names are the official ones under `backbone.` and `head.`.

Source: the names that github.com/HRNet/HRNet-Semantic-Segmentation, HRNet-Image-Classification, timm,
open-mmlab/mmsegmentation, PaddlePaddle/PaddleSeg and CSAILVision/semantic-segmentation-pytorch give to their modules.
"""

import re
from collections.abc import Iterable
from functools import partial

Rules = tuple[tuple[str, str], ...]

WRAPPERS: Rules = ((r"^(?:(?:module|model|network|net|_orig_mod)\.)+", ""),)
"""What training scripts put around a network: DataParallel, torch.compile, Lightning, the official loss wrapper."""

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
    # Heads first, while their convolutions can be told from their norms
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
