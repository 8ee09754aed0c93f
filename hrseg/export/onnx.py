"""ONNX files: from a torch.export program to a model with names, a card, and the outputs asked for.

Needs the extra "export".
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hrseg.errors import ExportError, MissingExtraError
from hrseg.inference.model_card import INPUT, KEY, quiet

OPSET = 18
"""Old enough for TensorRT 8.6 and OpenVINO 2023, new enough for everything a network here does."""
_SIZES = ("batch", "height", "width")
_PROTOBUF = 2**31 - 2**20
"""A single ONNX file cannot be larger."""


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
            f"Exporting needs {error.name}, which is not installed. Run: pip install 'hrseg[export]'"
        ) from error
    del onnxruntime, onnxscript  # both are needed later on; here they only have to be there
    return onnx


def to_onnx(program: Any, outputs: Sequence[str]) -> Any:
    """Translate a program into an ONNX model with speaking names.

    Args:
        program: From `graph.trace`.
        outputs: Names of its outputs, in order.

    Raises:
        ExportError: torch cannot translate it, or the model is larger than one ONNX file can be.
    """
    load_onnx()
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size > _PROTOBUF:
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
    model = exported.model_proto
    del model.graph.value_info[:]  # they speak of torch's symbols; every reader infers its own
    for node, number in zip(model.graph.node, range(len(model.graph.node)), strict=True):
        node.name = f"{node.op_type}_{number}"
        del node.metadata_props[:]  # lines of our code, several times the size of the graph
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        free = iter(_SIZES)
        for dim in dims:
            if dim.HasField("dim_param"):
                dim.dim_param = next(free)
    return model


def keep_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a copy with these outputs only, in this order, and without the nodes that only others needed."""
    onnx = load_onnx()
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    graph = kept.graph
    outputs = {value.name: value for value in model.graph.output}
    del graph.output[:]
    graph.output.extend(outputs[name] for name in names)
    wanted, nodes = set(names), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return kept


def save(model: Any, path: Path, card: dict[str, Any] | None = None) -> Path:
    """Write a checked model, with its card where it has one.

    Raises:
        ExportError: The model is not valid ONNX.
    """
    onnx = load_onnx()
    model.producer_name = "hrseg"
    if card is not None:
        onnx.helper.set_model_props(model, {KEY: json.dumps(card, ensure_ascii=False)})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"The ONNX model is not valid: {str(error).splitlines()[0]} Try --precision fp32."
        ) from error
    onnx.save_model(model, str(path))
    return path
