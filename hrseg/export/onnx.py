"""ONNX models: translation from torch.export, selection of outputs, fp16, int8, and saving with the model card.

Normalization, the last resize and the argmax stay in fp32. Needs the extra "export".
"""

import copy
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.errors import ExportError, MissingExtraError, install_command
from hrseg.inference.exported import as_plain
from hrseg.inference.model_card import INPUT, KEY, quiet

OPSET = 18
"""Of torch's exporter; has every operator that the networks need. `_lowered` goes below it."""
log = logging.getLogger(__name__)
_DYNAMIC_SIZES = ("batch", "height", "width")
_MAX_BYTES = 2**31 - 2**20
"""Limit of protobuf, and so of one ONNX file."""

_HALF = {
    *("Conv", "Relu", "LeakyRelu", "Add", "Concat", "Resize", "MaxPool", "AveragePool"),
    *("BatchNormalization", "Sigmoid", "Mul", "Clip"),
}
"""Layers that run in half precision; all others, softmax and matrix products among them, stay in fp32."""
_MAP_FIRST = {"Resize"}
"""Layers of which only the first input is a feature map."""
_MAX_HALF = float(np.finfo(np.float16).max)


def load_onnx() -> Any:
    """Import onnx and what the exporter needs, or say how to get them.

    Raises:
        MissingExtraError: They are not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise MissingExtraError(
            f"Exporting needs {error.name}, which is not installed. Run: {install_command('export')}"
        ) from error
    del onnxruntime, onnxscript  # both are needed later on; here they only have to be there
    return onnx


def to_onnx(program: Any, outputs: Sequence[str]) -> Any:
    """Translate a program into an ONNX model with readable names.

    Args:
        program: From `graph.trace`.
        outputs: Names of its outputs, in order.

    Raises:
        ExportError: torch cannot translate it, or the model is larger than one ONNX file can be.
    """
    load_onnx()
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size > _MAX_BYTES:
        raise ExportError(
            f"The network has {size / 2**30:.1f} GiB of weights, and one ONNX file holds 2. Export it with --to torch."
        )
    try:
        with torch.no_grad(), quiet():
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(
            f"torch cannot write this network as ONNX: {str(error).splitlines()[0]} Export it with --to torch."
        ) from error
    assert exported is not None
    model = _lowered(exported.model_proto)
    del model.graph.value_info[:]  # named by torch's symbols; readers infer their own
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
        del node.metadata_props[:]  # lines of our code, several times the size of the graph
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        free = iter(_DYNAMIC_SIZES)
        for dim in dims:
            if dim.HasField("dim_param"):
                dim.dim_param = next(free)
    return model


def _lowered(model: Any) -> Any:
    """Return a model in the lowest opset that its operators have a form in: older runtimes read it too."""
    onnx = load_onnx()
    try:
        for opset in range(OPSET - 1, 0, -1):
            lower = onnx.version_converter.convert_version(model, opset)
            onnx.checker.check_model(lower, full_check=True)
            model = lower
    except Exception as error:  # an operator without an older form; the converter raises many kinds
        log.debug("opset %d it is: %s", opset + 1, error)
    return model


def select_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a copy with these outputs, in this order, without the nodes that only others need."""
    selected = copy.deepcopy(model)
    graph = selected.graph
    outputs = {value.name: value for value in graph.output}
    _replace(graph.output, [outputs[name] for name in names])
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    _replace(graph.node, nodes[::-1])
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    return selected


def save(model: Any, path: Path, card: dict[str, Any] | None = None, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a checked model.

    Args:
        model: In memory; its metadata are replaced.
        path: File to write.
        card: Of the model.
        metadata: More entries, for other programs.

    Raises:
        ExportError: The model is not valid ONNX.
    """
    onnx = load_onnx()
    model.producer_name = "hrseg"
    if card is not None:
        onnx.helper.set_model_props(model, {KEY: json.dumps(card, ensure_ascii=False), **(metadata or {})})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The ONNX model is not valid: {str(error).splitlines()[0]} Try --precision fp32.") from error
    # exporter and quantizer write their own newest version, which older runtimes refuse
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, True)
    onnx.save_model(model, str(path))
    return path


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
    floats = _float_names(onnx, graph)
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
                graph.initializer.append(_to_half_tensor(onnx, weights[name], made[key]))
            else:
                kind = onnx.TensorProto.FLOAT16 if wants_half else onnx.TensorProto.FLOAT
                nodes.append(onnx.helper.make_node("Cast", [name], [made[key]], to=kind))
        return made[key]

    for place, node in enumerate(graph.node):
        chosen = node.op_type in _HALF and first <= place <= last and set(node.output) <= set(floats)
        for index, name in enumerate(node.input):
            if chosen and node.op_type in _MAP_FIRST and index:
                continue
            node.input[index] = read(name, chosen)
        in_half |= set(node.output) if chosen else set()
        nodes.append(node)
    for value in graph.output:
        if value.name in in_half:
            raise ExportError(f"Output {value.name} would be fp16; no layer follows the last convolution.")
    _replace(graph.node, nodes)
    del graph.value_info[:]
    used = {name for node in graph.node for name in node.input}
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    return half


def quantize(model: Path, out: Path, images: Sequence[np.ndarray], plain: bool = False) -> Path:
    """Write an ONNX model with convolutions, sums and concatenations in int8 (weights per channel).

    Args:
        model: The fp32 model.
        out: File to write.
        images: Calibration images, uint8 (H, W, 3): a few dozen like those the network will meet.
        plain: Whether the model has the plain profile.

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
                _reader(images, plain),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Add", "Relu", "Concat"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        root.setLevel(level)
    return out


def _reader(images: Sequence[np.ndarray], plain: bool) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.rest, None)
            if image is None:
                return None
            return {INPUT: as_plain(image[None]) if plain else image[None]}

    return Reader()


def _float_names(onnx: Any, graph: Any) -> set[str]:
    """Return the names of all fp32 tensors."""
    kind = onnx.TensorProto.FLOAT
    values = (*graph.value_info, *graph.input, *graph.output)
    names = {value.name for value in values if value.type.tensor_type.elem_type == kind}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == kind}


def _to_half_tensor(onnx: Any, tensor: Any, name: str) -> Any:
    values = onnx.numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > _MAX_HALF:
        raise ExportError(
            f"Weight {tensor.name} reaches {np.abs(values).max():.3g}, beyond fp16. Use --precision fp32."
        )
    return onnx.numpy_helper.from_array(values.astype(np.float16), name)


def _replace(field: Any, messages: Sequence[Any]) -> None:
    """Replace the messages of a repeated field; they are copied before it is cleared."""
    copies = [copy.deepcopy(message) for message in messages]
    del field[:]
    field.extend(copies)
