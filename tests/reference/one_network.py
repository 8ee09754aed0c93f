"""One network told in three formats without the importer's key maps: mmsegmentation's by rule, PaddleSeg's by order.

`tools.references` has the originals confirm that these are indeed the same network.
"""

from collections.abc import Iterable, Mapping

import numpy as np

State = dict[str, np.ndarray]


def as_mmseg(official: Mapping[str, np.ndarray]) -> State:
    """Write an official state dict as mmsegmentation's FCN: its first head convolution has no bias, so it is folded."""
    heads = {
        "last_layer.0.": "decode_head.convs.0.conv.",
        "last_layer.1.": "decode_head.convs.0.bn.",
        "last_layer.3.": "decode_head.conv_seg.",
    }
    state: State = {}
    for name, value in official.items():
        head = next((part for part in heads if name.startswith(part)), None)
        state[name.replace(head, heads[head]) if head else f"backbone.{name}"] = value
    bias = state.pop("decode_head.convs.0.conv.bias")
    mean = "decode_head.convs.0.bn.running_mean"
    return {**state, mean: state[mean] - bias}


def as_paddle(official: Mapping[str, np.ndarray], names: Iterable[str]) -> State:
    """Write an official state dict as PaddleSeg's FCN, whose tensors come in the same order without counters."""
    values = [value for name, value in official.items() if not name.endswith("num_batches_tracked")]
    return dict(zip(names, values, strict=True))
