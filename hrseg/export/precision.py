"""ONNX models in fewer bits: fp16 by casts around the layers that gain, int8 by calibration images.

Normalization, the last resize and the choice of the class stay in fp32 either way.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import ExportError
from hrseg.export.onnx import load_onnx
from hrseg.inference.model_card import INPUT, quiet

_HALF = {
    *("Conv", "Relu", "LeakyRelu", "Add", "Concat", "Resize", "MaxPool", "AveragePool"),
    *("BatchNormalization", "Sigmoid", "Mul", "Clip"),
}
"""Layers that run in half precision; all others, softmax and matrix products among them, stay in fp32."""
_FIRST_ONLY = {"Resize"}
"""Layers whose other inputs are not maps."""
_RANGE = 65504.0
"""The largest fp16 number."""


def to_half(model: Any) -> Any:
    """Return a copy whose layers between first and last convolution compute in fp16.

    Source: ours; onnxruntime's own converter names casts twice where a map is read twice.

    Raises:
        ExportError: A weight is beyond fp16.
    """
    onnx = load_onnx()
    half = onnx.ModelProto()
    half.CopyFrom(onnx.shape_inference.infer_shapes(model, data_prop=True))
    graph = half.graph
    floats = _floats(onnx, graph)
    kinds = [node.op_type for node in graph.node]
    first, last = kinds.index("Conv"), len(kinds) - 1 - kinds[::-1].index("Conv")
    weights = {tensor.name: tensor for tensor in graph.initializer}
    in_half: set[str] = set()
    made: dict[tuple[str, bool], str] = {}
    nodes: list[Any] = []

    def read(name: str, wants_half: bool) -> str:
        if name not in floats or (name in in_half) == wants_half:
            return name
        key = (name, wants_half)
        if key not in made:
            made[key] = f"{name}_{'half' if wants_half else 'float'}"
            if name in weights:
                graph.initializer.append(_halved(onnx, weights[name], made[key]))
            else:
                kind = onnx.TensorProto.FLOAT16 if wants_half else onnx.TensorProto.FLOAT
                nodes.append(onnx.helper.make_node("Cast", [name], [made[key]], to=kind))
        return made[key]

    for place, node in enumerate(graph.node):
        chosen = (
            node.op_type in _HALF and first <= place <= last and set(node.output) <= set(floats)
        )
        for index, name in enumerate(node.input):
            if chosen and node.op_type in _FIRST_ONLY and index:
                continue
            node.input[index] = read(name, chosen)
        in_half |= set(node.output) if chosen else set()
        nodes.append(node)
    for value in graph.output:
        if value.name in in_half:
            raise ExportError(
                f"Output {value.name} would be fp16; no layer follows the last convolution."
            )
    nodes = [_copied(onnx, node) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    read_by = {name for node in graph.node for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read_by]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return half


def quantise(model: Path, out: Path, images: Sequence[np.ndarray]) -> Path:
    """Write an ONNX model with convolutions, sums and concatenations in int8 (weights per channel).

    Args:
        model: The fp32 model.
        out: File to write.
        images: What maps look like: a few dozen that the network will meet, uint8 (H, W, 3) each.

    Source: static quantisation of onnxruntime, min-max ranges, in QDQ form, which OpenVINO and TensorRT read too.
    """
    load_onnx()
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # advice to pre-process, which the exporter has done
    try:
        with quiet():
            quantize_static(
                str(model),
                str(out),
                _reader(images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Add", "Relu", "Concat"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        root.setLevel(level)
    return out


def _reader(images: Sequence[np.ndarray]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.rest, None)
            return None if image is None else {INPUT: image[None]}

    return Reader()


def _floats(onnx: Any, graph: Any) -> set[str]:
    """Return the names of all fp32 tensors."""
    kind = onnx.TensorProto.FLOAT
    values = (*graph.value_info, *graph.input, *graph.output)
    names = {value.name for value in values if value.type.tensor_type.elem_type == kind}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == kind}


def _halved(onnx: Any, tensor: Any, name: str) -> Any:
    values = onnx.numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > _RANGE:
        raise ExportError(
            f"Weight {tensor.name} reaches {np.abs(values).max():.3g}, beyond fp16. Use --precision fp32."
        )
    return onnx.numpy_helper.from_array(values.astype(np.float16), name)


def _copied(onnx: Any, node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
