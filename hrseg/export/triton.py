"""A model repository for the Triton inference server: one folder that it serves as it is."""

from collections.abc import Mapping, Sequence

from hrseg.data.labels import LabelSet
from hrseg.export.graph import INPUT

_TYPES: dict[str, tuple[str, str]] = {
    "labels": ("TYPE_UINT8", "[ -1, -1 ]"),
    "logits": ("TYPE_FP32", "[ {classes}, -1, -1 ]"),
    "probability": ("TYPE_FP32", "[ -1, -1 ]"),
}


def config_text(name: str, outputs: Sequence[str], labels: LabelSet) -> str:
    """Write config.pbtxt.

    Requests with images of one size are batched by the server; sizes may differ between requests.

    Args:
        name: Of the model, and of its folder.
        outputs: What the file gives.
        labels: The classes; their names go into labels.txt.
    """
    rows = []
    for output in outputs:
        kind, dims = _TYPES[output]
        dims = dims.format(classes=labels.num_classes)
        rows.append(f'  {{ name: "{output}" data_type: {kind} dims: {dims} }}')
    return "\n".join(
        (
            f'name: "{name}"',
            'backend: "onnxruntime"',
            "max_batch_size: 8",
            f'input [\n  {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}\n]',
            "output [\n" + ",\n".join(rows) + "\n]",
            "dynamic_batching { max_queue_delay_microseconds: 2000 }",
            "",
        )
    )


def repository(model: bytes, config: str, labels: LabelSet) -> Mapping[str, bytes]:
    """Return the files of the model's folder: config.pbtxt, labels.txt and 1/model.onnx."""
    return {
        "1/model.onnx": model,
        "labels.txt": "".join(f"{name}\n" for name in labels.names).encode(),
        "config.pbtxt": config.encode(),  # last: a server that polls begins with it
    }
