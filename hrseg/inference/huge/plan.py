"""How a huge image is cut so that the process stays below a limit: size of windows, overlap, windows at once.

The height of a window is the height of a band. What a band needs grows with the image's width, never with its height.
"""

from dataclasses import dataclass
from typing import Any

from hrseg.errors import DataError
from hrseg.inference.blending import Blend
from hrseg.inference.grid import Grid, even_spans, step_on_grid
from hrseg.inference.huge.memory import SPARE
from hrseg.inference.huge.readers import Head
from hrseg.inference.huge.strips import MOST_AHEAD, PORTION

SIDES = (1024, 768, 512, 384, 256, 192, 128)
"""Windows that are tried, largest first: the network sees most around each pixel, and least is run twice."""
OVERLAP = 0.25
BATCH_PIXELS = 2**20
SAFETY = 1.25
"""What a network really takes, beside the tensors that torch counts."""


@dataclass(frozen=True)
class Plan:
    """Windows over one image.

    Attributes:
        window: (height, width).
        overlap: Shared fraction.
        blend: How they share.
        batch: Windows at once.
    """

    window: tuple[int, int]
    overlap: float
    blend: Blend
    batch: int

    def grid(self, height: int, width: int) -> Grid:
        """Lay the windows over an image of this size."""
        h, w = self.window
        down, right = step_on_grid(h, self.overlap), step_on_grid(w, self.overlap)
        return Grid(
            rows=even_spans(height, h, down),
            columns=even_spans(width, w, right),
            shared=(h - down, w - right),
            blend=self.blend,
            batch=self.batch,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` reads back."""
        return {
            "window": list(self.window),
            "overlap": self.overlap,
            "blend": self.blend,
            "batch": self.batch,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Plan":
        """Read what `to_dict` gave."""
        height, width = content["window"]
        return cls((height, width), content["overlap"], content["blend"], content["batch"])


@dataclass(frozen=True)
class Needs:
    """What the parts of the work take.

    Attributes:
        head: Of the image.
        seen: Bytes of a pixel as the network sees it, before it is normalised.
        network: Bytes of a pixel of a window while the network runs in host memory.
        logits: Bytes of a pixel's logits in host memory.
    """

    head: Head
    seen: int
    network: int
    logits: int

    def of(self, plan: Plan) -> int:
        """Return the most bytes that a plan takes at a time."""
        head = self.head
        grid = plan.grid(head.height, head.width)
        high, wide = max(h for _, h in grid.rows), max(w for _, w in grid.columns)
        step = step_on_grid(plan.window[1], plan.overlap)
        span = min(head.width, wide + (plan.batch - 1) * step)
        ahead = head.block if head.block <= MOST_AHEAD else 0
        held = (high + ahead) * head.width * (self.seen + 1)
        portion = max(PORTION, head.block) if ahead else high
        return (
            int(SAFETY * self.network * high * wide * plan.batch)
            + self.logits * (2 * high * span + grid.most_kept * head.width)
            + held
            + 2 * portion * (head.row_bytes + self.seen * head.width)
            + 4 * high * head.width  # mask, confidence and their packed form
            + head.reserve
        )


def make_plan(
    needs: Needs,
    room: int,
    *,
    blend: Blend,
    window: tuple[int, int] | None = None,
    overlap: float | None = None,
    used: int = 0,
    name: str = "The image",
) -> Plan:
    """Choose the largest windows that fit.

    Args:
        needs: What the work takes.
        room: Bytes that it may take beside what the process holds already.
        blend: How windows share a pixel.
        window: A size that was asked for; only the number of windows at once is chosen then.
        overlap: Shared fraction; None is OVERLAP.
        used: What the process holds already, for the message.
        name: The file, for the message.

    Raises:
        DataError: Not even the smallest windows fit.
    """
    overlap = OVERLAP if overlap is None else overlap
    windows = [window] if window else [(side, side) for side in SIDES]
    for h, w in windows:
        for batch in _batches(h, w):
            plan = Plan((h, w), overlap, blend, batch)
            if needs.of(plan) <= room:
                return plan
    least = used + SPARE + needs.of(Plan(windows[-1], overlap, blend, 1))
    raise DataError(
        f"{name} ({needs.head.height} x {needs.head.width} pixels) needs {least / 2**30:.2f} GiB even in windows of "
        f"{windows[-1][0]} x {windows[-1][1]}; the limit is {(used + SPARE + room) / 2**30:.2f} GiB. Allow "
        f"--max-memory {-(-least * 20 // 2**30) / 20:.2f}G or more."
    )


def _batches(h: int, w: int) -> list[int]:
    most = max(1, BATCH_PIXELS // (h * w))
    return sorted({most, max(1, most // 2), 1}, reverse=True)
