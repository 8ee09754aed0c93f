"""What this machine could do at best: the rate of one large matrix product, measured like everything else here."""

import torch

from hrseg.benchmark.clock import repeat, waiter

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIDES = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrices: large enough that a device is busy, small enough for a fraction of a second."""


def matrix_ceiling(
    device: torch.device, precision: str, seconds: float = 0.5, side: int | None = None
) -> float | None:
    """Return the operations per second of the fastest of several matrix products; a multiply-add is two.

    Convolutions by Winograd's or a similar algorithm need fewer multiplications than are counted, so fp32 networks
    can exceed it.

    Args:
        device: Where.
        precision: "fp32" (never TF32), "bf16" or "fp16".
        seconds: How long it is repeated.
        side: Rows and columns of the matrices; None takes SIDES'.

    Returns:
        None for a precision that torch does not multiply in, such as int8, or not quickly, as fp16 on a CPU.
    """
    if precision not in DTYPES or (precision == "fp16" and device.type == "cpu"):
        return None
    side = side or SIDES.get(device.type, 2048)
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.rand(side, side, generator=generator).to(device, DTYPES[precision]) for _ in range(2)
    )
    out = torch.empty_like(left)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.no_grad():
            torch.mm(left, right, out=out)
            taken = repeat(lambda: torch.mm(left, right, out=out), seconds, wait=waiter(device))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return rate(side, taken)


def rate(side: int, taken: list[float]) -> float:
    """Return the operations per second of the fastest product of two square matrices.

    Example:
        >>> rate(1000, [4.0, 2.0])
        1000000000.0
    """
    return 2 * side**3 / min(taken)
