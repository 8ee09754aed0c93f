"""What Paddle adds to a pickled dictionary of arrays.

Arrays above 4 GB are cut into slices, with a table that tells how to join them. A second table maps structured to
internal parameter names; it stays, since it tells where the file comes from.
"""

from typing import Any

import torch

from hrseg.weights.refusals import Damaged

SLICES = "UnpackBigParamInfor@@"
NAMES = "StructuredToParameterName@@"


def join_slices(content: dict[Any, Any]) -> dict[Any, Any]:
    """Join arrays that Paddle cut into slices; other dictionaries stay as they are.

    Raises:
        Damaged: A slice is missing, or the slices do not fill the array.

    Example:
        >>> part = torch.tensor([1.0, 2.0])
        >>> table = {"w": {"OriginShape": (1, 2), "slices": ["w@@.0"]}}
        >>> join_slices({"w@@.0": part, SLICES: table})
        {'w': tensor([[1., 2.]])}
    """
    table = content.get(SLICES)
    if not isinstance(table, dict):
        return content
    joined = {key: value for key, value in content.items() if key != SLICES}
    for name, row in table.items():
        try:
            parts = [joined.pop(key).reshape(-1) for key in row["slices"]]
            joined[name] = torch.cat(parts).reshape(tuple(row["OriginShape"]))
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise Damaged(f"the slices of {str(name)[:60]} are not complete") from error
    return joined
