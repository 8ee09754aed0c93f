"""Our names → those of other code bases, written from their modules and apart from `hrseg.weights.formats`.

Each function walks a name's parts, as the other code base's constructors would have made them; none shares a line
with the rename rules under test.
"""

import numpy as np


def official(name):
    """Official, ImageNet, timm, CSAILVision: no backbone or head in front."""
    return name.split(".", 1)[1]


def mmseg(name):
    part, rest = name.split(".", 1)
    if part == "backbone":
        return name
    words = rest.split(".")
    leaf = words[-1]
    if words[0] == "last_layer":
        place = {"0": "convs.0.conv", "1": "convs.0.bn", "3": "conv_seg"}[words[1]]
        return f"decode_head.{place}.{leaf}"
    if words[0] == "aux_head":
        place = {"0": "convs.0.conv", "1": "convs.0.bn", "3": "conv_seg"}[words[1]]
        return f"decode_head.0.{place}.{leaf}"
    if words[0] == "conv3x3_ocr":
        return f"decode_head.1.bottleneck.{'conv' if words[1] == '0' else 'bn'}.{leaf}"
    if words[0] == "cls_head":
        return f"decode_head.1.conv_seg.{leaf}"
    block = "decode_head.1.object_context_block"
    if words[1] == "conv_bn_dropout":
        return f"{block}.bottleneck.{'conv' if words[2] == '0' else 'bn'}.{leaf}"
    project = {"f_pixel": "query", "f_object": "key", "f_down": "value", "f_up": "out"}[words[2]]
    index, kind = int(words[3]) // 2, ("conv", "bn")[int(words[3]) % 2]
    place = f".{index}" if project in ("query", "key") else ""
    return f"{block}.{project}_project{place}.{kind}.{leaf}"


_BUFFERS = {"running_mean": "_mean", "running_var": "_variance"}


def paddle(name):
    """None for batch counters, which PaddleSeg does not have."""
    *words, leaf = name.split(".")
    if leaf == "num_batches_tracked":
        return None
    leaf = _BUFFERS.get(leaf, leaf)
    where = _paddle_backbone(words[1:]) if words[0] == "backbone" else _paddle_head(words[1:])
    return f"{words[0]}.{where}.{leaf}"


def _pair(index):
    return "_conv" if int(index) == 0 else "_batch_norm"


def _block(layer):
    if layer[0] == "downsample":
        return f"conv_down.{_pair(layer[1])}"
    kind, number = layer[0][:-1], layer[0][-1]
    return f"conv{number}.{'_conv' if kind == 'conv' else '_batch_norm'}"


def _paddle_backbone(words):
    first = words[0]
    if first in ("conv1", "conv2", "bn1", "bn2"):
        return f"conv_layer1_{first[-1]}.{'_conv' if first.startswith('conv') else '_batch_norm'}"
    if first == "layer1":
        return f"la1.bb_layer2_{int(words[1]) + 1}.{_block(words[2:])}"
    number = first[-1]
    if first.startswith("transition"):
        branch = int(words[1]) + 1
        return f"tr{number}.transition_tr{number}_layer_{branch}.{_pair(words[-1])}"
    module = int(words[1]) + 1
    stage = f"st{number}.stage_st{number}_{module}"
    i, j = int(words[3]) + 1, int(words[4]) + 1
    if words[2] == "branches":
        return f"{stage}.branches_func.bb_st{number}_{module}_branch_layer_{i}_{j}.{_block(words[5:])}"
    step = f"_{int(words[5]) + 1}" if len(words) == 7 else ""
    return f"{stage}.fuse_func.residual_st{number}_{module}_layer_{i}_{j}{step}.{_pair(words[-1])}"


def _paddle_head(words):
    if words[0] == "last_layer":
        return {"0": "conv_1._conv", "1": "conv_1._batch_norm", "3": "cls"}[words[1]]
    if words[0] == "conv3x3_ocr":
        return f"conv3x3_ocr.{_pair(words[1])}"
    if words[0] == "aux_head":
        return {"0": "aux_head.0._conv", "1": "aux_head.0._batch_norm", "3": "aux_head.1"}[words[1]]
    if words[0] == "cls_head":
        return "cls_head"
    if words[1] == "conv_bn_dropout":
        return f"spatial_ocr.conv1x1.0.{_pair(words[2])}"
    part, number = words[2], int(words[3])
    index = f".{number // 2}" if part in ("f_pixel", "f_object") else ""
    return f"spatial_ocr.attention_block.{part}{index}.{_pair(number % 2)}"


def as_official(state):
    return {official(name): value.clone() for name, value in state.items()}


def as_mmseg(state):
    """The head's first convolutions lose their bias; it is folded into the norm behind them."""
    state = {name: value.clone() for name, value in state.items()}
    for first in ("head.last_layer", "head.aux_head", "head.conv3x3_ocr"):
        if f"{first}.0.bias" in state:
            state[f"{first}.1.running_mean"] -= state.pop(f"{first}.0.bias")
    return {mmseg(name): value for name, value in state.items()}


def as_paddle(state):
    """Numpy arrays; the OCR convolutions gain a bias that their norms make up for."""
    arrays = {key: value.numpy().copy() for name, value in state.items() if (key := paddle(name)) is not None}
    for key in [k for k in arrays if "spatial_ocr" in k and k.endswith("._conv.weight")]:
        bias = np.linspace(-1, 1, len(arrays[key]), dtype=np.float32)
        arrays[key.replace("weight", "bias")] = bias
        arrays[key.replace("_conv.weight", "_batch_norm._mean")] += bias
    return arrays
