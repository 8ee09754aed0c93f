"""Where a source means another thing by the same tensor: small functions that change a state dict in our names.

Each returns a sentence for the receipt, or None where there was nothing to do. A row of `formats.FORMATS` names
the ones its source needs.
"""

import re
from collections.abc import Callable, Mapping

import torch

State = dict[str, torch.Tensor]

_COUNTER = "num_batches_tracked"
_NORM = ".running_var"
_OCR_BIAS = re.compile(
    r"^(head\.ocr_distri_head\.(?:object_context_block\.f_\w+|conv_bn_dropout))\.(\d)\.bias$"
)
_BEFORE_NORMS = (
    *("head.last_layer.0", "head.aux_head.0", "head.conv3x3_ocr.0"),
    *(f"head.downsamp_modules.{branch}.0" for branch in range(3)),
    "head.final_layer.0",
)
"""Convolutions that have a bias in the official code although a norm follows."""


def in_place_norms(state: State) -> str | None:
    """Convert the norms of torch 0.4.1 files, whose in-place layer used abs(weight) + 1e-5.

    Files of that layer are known by the absence of every batch counter. Taken as they are, their negative
    gammas turn channels over: the network runs, and its logits are wrong by more than their own spread.

    Source: the `master` branch of the official code, class InPlaceABNSync.
    """
    if not _all_counters_absent(state):
        return None
    norms = _norms(state)
    negative = sum(int((state[f"{norm}.weight"] < 0).sum()) for norm in norms)
    for norm in norms:
        state[f"{norm}.weight"] = state[f"{norm}.weight"].abs() + 1e-5
    batch_counters(state)
    return (
        f"{len(norms)} norms of torch 0.4.1's in-place layer converted: gamma := abs(gamma) + 1e-5 "
        f"({negative:,} were negative), batch counters added"
    )


def batch_counters(state: State) -> str | None:
    """Add the batch counters where none is stored; they do not enter the result."""
    if not _all_counters_absent(state):
        return None
    norms = _norms(state)
    for norm in norms:
        state[f"{norm}.{_COUNTER}"] = torch.tensor(0)
    return f"{len(norms)} batch counters added, which the source does not store"


def zero_biases(state: State) -> str | None:
    """Give the head's convolutions before norms the bias that the source leaves out: zero.

    mmsegmentation builds its heads without, as do the ImageNet networks called ssld.
    """
    bare = [
        name for name in _BEFORE_NORMS if f"{name}.weight" in state and f"{name}.bias" not in state
    ]
    for name in bare:
        weight = state[f"{name}.weight"]
        state[f"{name}.bias"] = weight.new_zeros(weight.shape[0])
    return f"zero bias for {', '.join(bare)}, which the source builds without one" if bare else None


def fold_biases(state: State) -> str | None:
    """Fold biases that our OCR convolutions lack into the norm behind them: running_mean -= bias."""
    folded = 0
    for key in list(state):
        found = _OCR_BIAS.match(key)
        if found:
            mean = f"{found[1]}.{int(found[2]) + 1}.0.running_mean"
            if mean in state:
                state[mean] = state[mean] - state.pop(key)
                folded += 1
    return f"{folded} biases folded into the norms behind them" if folded else None


def _norms(state: Mapping[str, torch.Tensor]) -> list[str]:
    return [key.removesuffix(_NORM) for key in state if key.endswith(_NORM)]


def _all_counters_absent(state: Mapping[str, torch.Tensor]) -> bool:
    """Some absent means a damaged file, which the comparison with the network will name."""
    return bool(_norms(state)) and not any(key.endswith(_COUNTER) for key in state)


CONVERSIONS: dict[str, Callable[[State], str | None]] = {
    "in_place_norms": in_place_norms,
    "batch_counters": batch_counters,
    "zero_biases": zero_biases,
    "fold_biases": fold_biases,
}
