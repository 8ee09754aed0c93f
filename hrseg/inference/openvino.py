"""OpenVINO: files written from ONNX, and HRNets written directly as OpenVINO graphs. Needs the extra "openvino"."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.errors import MissingExtraError, install_command
from hrseg.inference.model_card import KEY, quiet
from hrseg.models.blocks import BasicBlock, Bottleneck
from hrseg.models.folded import fold
from hrseg.models.heads import HeadC1, HeadV1, HeadV2
from hrseg.models.hrnet import HRNet, Module
from hrseg.models.segmenter import Segmenter


def load_openvino() -> Any:
    """Import openvino.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with quiet():
            import openvino
    except ImportError as error:
        raise MissingExtraError(
            f"OpenVINO files need openvino, which is not installed. Run: {install_command('openvino')}"
        ) from error
    return openvino


@functools.cache
def openvino_core() -> Any:
    """Return the OpenVINO runtime of this process, which is never freed.

    Its CPU plugin installs a signal stack in the thread that creates it, and frees that memory with the last runtime.
    If another thread did so, the first thread's next signal, such as Ctrl-C, would kill the process.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    return load_openvino().Core()


def to_openvino(onnx_file: Path, out: Path, half: bool, card: dict[str, Any] | None = None) -> Path:
    """Write an ONNX file as OpenVINO's pair of files.

    Args:
        onnx_file: Of any precision.
        out: FILE.xml; FILE.bin goes beside it.
        half: Keep the weights as fp16.
        card: Goes into the xml.
    """
    openvino = load_openvino()
    model = openvino_core().read_model(str(onnx_file))
    if card is not None:
        model.set_rt_info(json.dumps(card, ensure_ascii=False), [KEY])
    openvino.save_model(model, str(out), compress_to_fp16=half)
    return out


Node = Any
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
_COORDINATES = {"nearest": "asymmetric", "bilinear_aligned": "align_corners"}
"""Resize policy → OpenVINO's coordinate transformation; the others have "half_pixel"."""


def can_write(network: nn.Module) -> bool:
    """Return whether all layers of a network can be written; OpenVINO need not be installed."""
    if type(network) is not Segmenter or type(network.backbone) is not HRNet:
        return False
    for module in network.modules():
        if type(module) not in (*_WRITERS, *_NORMS, nn.ModuleList, Segmenter):
            return False
        if isinstance(module, nn.Conv2d) and (
            module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str)
        ):
            return False
    return True


def write_graph(network: nn.Module) -> Any:
    """Return a network up to its stride-4 logits as an OpenVINO model.

    Args:
        network: One that `can_write` admits; it is not changed, and the model has folded copies of its weights.

    Raises:
        MissingExtraError: OpenVINO is not installed.

    Shape:
        the model: float32 (N, bands, H, W) → (N, K, H / 4, W / 4)
    """
    openvino = load_openvino()
    pieces: Any = network
    with torch.no_grad():
        image = _ops().parameter([-1, pieces.spec.get("in_channels", 3), -1, -1], openvino.Type.f32)
        logits = _write(pieces.head, _write(pieces.backbone, image))
    return openvino.Model([_ops().result(logits)], [image], "hrseg")


def _ops() -> Any:
    from openvino import opset15

    return opset15


def _write(module: nn.Module, x: Any) -> Any:
    """Write a module; x is a node, or a list of them for modules that take all branches."""
    return _WRITERS[type(module)](module, x)


def _constant(values: torch.Tensor) -> Node:
    return load_openvino().op.Constant(values.cpu().contiguous().numpy(), shared_memory=True)


def _convolved(x: Node, weight: torch.Tensor, conv: nn.Conv2d) -> Node:
    pads: Any = conv.padding
    return _ops().convolution(x, _constant(weight), conv.stride, pads, pads, conv.dilation)


def _conv(conv: nn.Conv2d, x: Node, norm: nn.Module | None = None) -> Node:
    weight, bias = fold(conv, norm)
    return _plus(_convolved(x, weight, conv), bias)


def _plus(x: Node, bias: torch.Tensor) -> Node:
    return _ops().add(x, _constant(bias[None, :, None, None]))


def _sequence(layers: nn.Sequential, x: Node) -> Node:
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, nn.Conv2d):
            x = _conv(layer, x, rest.pop(0) if rest and isinstance(rest[0], _NORMS) else None)
        else:
            x = _write(layer, x)
    return x


def _pool(pool: nn.MaxPool2d, x: Node) -> Node:
    k, none = [pool.kernel_size] * 2, [0, 0]
    return _ops().max_pool(x, k, [1, 1], none, none, k, rounding_type="ceil").output(0)


def _block(block: BasicBlock | Bottleneck, x: Node) -> Node:
    pieces: Any = block
    shortcut = getattr(pieces, "downsample", None)
    last = 3 if isinstance(block, Bottleneck) else 2
    y = x
    for step in range(1, last):
        y = _conv_norm_relu(pieces, step, y)
    y = _conv(getattr(pieces, f"conv{last}"), y, getattr(pieces, f"bn{last}"))
    return _write(block.relu, _ops().add(y, x if shortcut is None else _write(shortcut, x)))


def _conv_norm_relu(pieces: Any, step: int, x: Node) -> Node:
    conv, norm = getattr(pieces, f"conv{step}"), getattr(pieces, f"bn{step}")
    return _write(pieces.relu, _conv(conv, x, norm))


def _backbone(backbone: HRNet, image: Node) -> list[Node]:
    if backbone.input_scale != 1.0:
        image = _scaled(image, backbone.input_scale)
    x = _conv_norm_relu(backbone, 2, _conv_norm_relu(backbone, 1, image))
    maps = [_write(backbone.layer1, x)]
    for stage in (2, 3, 4):
        transition = backbone.get_submodule(f"transition{stage - 1}").children()
        maps = [_write(layer, maps[min(i, len(maps) - 1)]) for i, layer in enumerate(transition)]
        for module in backbone.get_submodule(f"stage{stage}").children():
            maps = _write(module, maps)
    return maps


def _module(module: Module, maps: list[Node]) -> list[Node]:
    """Write branches and fusion. Finer branches are added last, fused with their convolutions."""
    maps = [_write(branch, x) for branch, x in zip(module.branches, maps, strict=True)]
    policy, fused = module.resize_policy, []
    for target, layers in enumerate(list(module.fuse_layers)[: module.receivers]):
        total, size, paths = maps[target], _size(maps[target]), list(layers.children())
        for source in range(target + 1, len(maps)):
            part = _write(paths[source], maps[source])
            if policy == "bilinear_scaled":
                part = _scaled(part, 2.0 ** (source - target))
            total = _ops().add(total, _resized(part, size, policy))
        for source in range(target):
            total = _ops().add(total, _write(paths[source], maps[source]))
        fused.append(_write(module.relu, total))
    return [*fused, *maps[len(fused) :]]


def _size(x: Node) -> Node:
    return _ops().gather(_ops().shape_of(x), [2, 3], 0)


def _resized(x: Node, size: Node, policy: str, given: str = "sizes") -> Node:
    return _ops().interpolate(
        *(x, size, "nearest" if policy == "nearest" else "linear_onnx", given),
        coordinate_transformation_mode=_COORDINATES.get(policy, "half_pixel"),
        nearest_mode="floor",
        axes=[2, 3],
    )


def _scaled(x: Node, factor: float) -> Node:
    return _resized(x, _constant(torch.tensor([factor, factor])), "bilinear", "scales")


_HEAD_CHANNELS = 144
"""Hidden channels of the head that are written together."""


def _head_v2(head: HeadV2, branches: list[Node]) -> Node:
    """Write the sum of `ops.fused_head.summed`, for every policy: here too it is faster than concatenation.

    Hidden channels go in parts, each through the last layer at once: all of them at stride 4 would be the network's
    largest maps.
    """
    conv, norm, relu, last = head.last_layer
    weight, bias = fold(conv, norm)  # type: ignore[arg-type]
    classify: Any = last
    widths, size = [x.get_output_partial_shape(0)[1].get_length() for x in branches], _size(branches[0])
    logits: Node = None
    parts = (weight.split(_HEAD_CHANNELS), bias.split(_HEAD_CHANNELS), classify.weight.split(_HEAD_CHANNELS, dim=1))
    for hidden, shift, classifier in zip(*parts, strict=True):
        own, *others = hidden.split(widths, dim=1)
        total = _plus(_convolved(branches[0], own, conv), shift)  # type: ignore[arg-type]
        for x, part in zip(branches[1:], others, strict=True):
            share = _convolved(x, part, conv)  # type: ignore[arg-type]
            total = _ops().add(total, _resized(share, size, head.resize_policy))
        scores = _convolved(_write(relu, total), classifier, classify)
        logits = _plus(scores, classify.bias) if logits is None else _ops().add(logits, scores)
    return logits


def _head_c1(head: HeadC1, branches: list[Node]) -> Node:
    size = _size(branches[0])
    same = [branches[0], *(_resized(x, size, head.resize_policy) for x in branches[1:])]
    return _write(head.conv_last, _write(head.cbr, _ops().concat(same, 1)))


def _pass_through(_: nn.Module, x: Node) -> Node:
    return x


_WRITERS: dict[type[nn.Module], Callable[[Any, Any], Any]] = {
    nn.Identity: _pass_through,
    nn.Dropout2d: _pass_through,
    nn.ReLU: lambda _, x: _ops().relu(x),
    nn.LeakyReLU: lambda leaky, x: _ops().prelu(x, _constant(torch.tensor(leaky.negative_slope))),
    nn.MaxPool2d: _pool,
    nn.Conv2d: _conv,
    nn.Sequential: _sequence,
    BasicBlock: _block,
    Bottleneck: _block,
    Module: _module,
    HRNet: _backbone,
    HeadV1: lambda head, branches: _write(head.last_layer, branches[0]),
    HeadV2: _head_v2,
    HeadC1: _head_c1,
}
