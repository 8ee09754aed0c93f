"""The header of a safetensors file, checked before anything is mapped or allocated.

The format is 8 bytes of length, JSON, numbers. Every tensor must name a known type, its bytes must be what type and
shape say, and all of them together must cover the rest of the file without gap or overlap.

Source: the format's description at https://github.com/huggingface/safetensors.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

from hrseg.weights.refusals import Damaged, TooLarge

MAX_HEADER = 4 << 20
"""Bytes; an HRNet with OCR head has about 300,000."""
MAX_SIDES = 32
BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "BOOL": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1},
}
"""Type → bytes of one number."""


def check_header(path: Path, size: int) -> None:
    """Refuse a safetensors file whose header is not true.

    Args:
        path: The file.
        size: Its bytes.

    Raises:
        Refusal: The header is too long, not JSON, or does not describe this file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise Damaged("it ends before its header begins")
        (length,) = struct.unpack("<Q", start)
        if length > size - 8:
            raise Damaged(f"its header would take {length:,} bytes, more than the file has")
        if length > MAX_HEADER:
            raise TooLarge(
                f"its header takes {length:,} bytes; that of a network has less than a million"
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Damaged("its header is not JSON") from error
    if not isinstance(header, dict):
        raise Damaged("its header is not a table of tensors")
    header.pop("__metadata__", None)
    places = sorted((*_place(name, entry), name) for name, entry in header.items())
    at, before = 0, "its header"
    for begin, end, name in places:
        if begin != at:
            how = "overlaps" if begin < at else "leaves a gap after"
            raise Damaged(f"tensor {name[:60]} {how} {before[:60]}")
        at, before = end, name
    if at != size - 8 - length:
        has = size - 8 - length
        raise Damaged(f"its header describes {at:,} bytes of numbers, the file has {has:,}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _place(name: str, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict):
        raise Damaged(f"tensor {name[:60]} has no description")
    kind = str(entry.get("dtype"))
    if kind not in BYTES:
        raise Damaged(f"tensor {name[:60]} is of type {kind[:20]}")
    shape, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise Damaged(f"tensor {name[:60]} has no sound shape or place")
    begin, end = offsets
    if math.prod(shape) * BYTES[kind] != end - begin:
        raise Damaged(
            f"tensor {name[:60]} of type {kind} and shape {tuple(shape)} cannot fill {end - begin:,} bytes"
        )
    return begin, end


def _sizes(value: Any) -> list[int] | None:
    if not isinstance(value, list) or len(value) > MAX_SIDES:
        return None
    return value if all(type(item) is int and 0 <= item < 1 << 62 for item in value) else None
