"""What a recipe claims and what came out here, as plain records that say themselves."""

import shlex
from dataclasses import dataclass
from typing import Any

from hrseg.config import Config
from hrseg.data.archives import ARCHIVES, Archives
from hrseg.inference.protocol import Protocol, Size
from hrseg.train.evaluation import EvaluationResult
from hrseg.weights.catalog import Row


@dataclass(frozen=True)
class Plan:
    """What a recipe claims, and what measuring it again takes.

    Attributes:
        recipe: Its name.
        title: First line of its header.
        score: Published mIoU in per cent.
        tolerance: How far a repetition may be off, in points.
        source: Where the score is written.
        split: Of the data.
        protocol: How images are looked at.
        model: Tag or file of the weights; None where none can be had.
        weights: The tag's row, if it is one.
        config: The recipe with its words.
        words: For `hrseg validate`, besides recipe and model.
        images: How many images; None if unknown.
        passes: Size of each forward pass for an image of the usual size.
        multiply_adds: Of one image.
        data: Where the images are, or None.
        missing: Why it cannot be measured here, or None.
    """

    recipe: str
    title: str
    score: float
    tolerance: float
    source: str | None
    split: str
    protocol: Protocol
    model: str | None
    weights: Row | None
    config: Config
    words: tuple[str, ...]
    images: int | None
    passes: tuple[Size, ...]
    multiply_adds: int
    data: str | None
    missing: str | None

    @property
    def archives(self) -> Archives | None:
        """Where the data come from, for layouts that are published."""
        return ARCHIVES.get(self.config.data.layout)

    @property
    def command(self) -> str:
        """The command that measures it."""
        verb = "test" if self.split == "test" else "validate"
        model = ["--model", self.model] if self.model else []
        return shlex.join(["hrseg", verb, "--config", self.recipe, *model, *self.words])

    def facts(self) -> list[tuple[str, str]]:
        """Return name and value of each line, for people."""
        data, terms = self.config.data, self.weights and self.weights.data_terms
        facts = [
            ("published", f"{self.score:g} mIoU on {self.split}" + _in(self.source)),
            (
                "protocol",
                f"{self.protocol.name}: {self.protocol.says()}; {_ABSENT[self.protocol.absent]}",
            ),
            ("weights", self._weights()),
            ("data", f"{data.layout} in {data.root}" + ("" if self.data else " (not here)")),
        ]
        if terms:
            facts.append(("terms", terms))
        if self.archives and not self.data:
            facts.append(
                ("archives", f"{', '.join(self.archives.files)} from {self.archives.page}")
            )
        return [*facts, ("cost", self._cost()), ("command", self.command)]

    def _weights(self) -> str:
        if self.model is None:
            return "no published file has a stable address"
        if self.weights is None:
            return self.model
        here = (
            "here"
            if self.weights.files()
            else f"fetched when needed: hrseg weights pull {self.model}"
        )
        return f"{self.model} ({here})"

    def _cost(self) -> str:
        largest = max(self.passes, key=lambda size: size[0] * size[1])
        each = f"{len(self.passes)} forward passes" if len(self.passes) > 1 else "one forward pass"
        text = f"{each} an image, up to {largest[0]}x{largest[1]}, {self.multiply_adds / 1e9:,.0f} G multiply-adds"
        if self.images is None:
            return text
        return f"{self.images:,} images; {text}; {self.images * self.multiply_adds / 1e12:,.1f} T in all"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        row = self.weights
        return {
            "recipe": self.recipe,
            "title": self.title,
            "published": self.score,
            "tolerance": self.tolerance,
            "source": self.source,
            "split": self.split,
            "protocol": self.protocol.name,
            "protocol_says": self.protocol.says(),
            "absent": self.protocol.absent,
            "model": self.model,
            "model_here": bool(row.files()) if row else self.model is not None,
            "licence": row.licence if row else None,
            "data_terms": row.data_terms if row else None,
            "layout": self.config.data.layout,
            "root": self.config.data.root,
            "data_here": self.data is not None,
            "archives": list(self.archives.files) if self.archives else [],
            "page": self.archives.page if self.archives else None,
            "images": self.images,
            "passes": [list(size) for size in self.passes],
            "multiply_adds": self.multiply_adds,
            "command": self.command,
            "missing": self.missing,
        }


_ABSENT = {
    "skip": "absent classes left out of the mean",
    "zero": "absent classes count as 0",
}


def _in(source: str | None) -> str:
    return f" ({source})" if source else ""


@dataclass(frozen=True)
class Outcome:
    """Expected beside got.

    Attributes:
        plan: What was asked.
        got: mIoU in per cent, measured here.
        result: All scores.
    """

    plan: Plan
    got: float
    result: EvaluationResult

    @property
    def difference(self) -> float:
        """Got minus published, in points."""
        return self.got - self.plan.score

    @property
    def close(self) -> bool:
        """Whether the difference is within the recipe's tolerance."""
        return abs(self.difference) <= self.plan.tolerance

    def text(self) -> str:
        """Say it in one line."""
        verdict = "within" if self.close else "more than"
        return (
            f"expected {self.plan.score:.2f}, got {self.got:.2f}: {round(self.difference, 2) + 0.0:+.2f}, {verdict} "
            f"{self.plan.tolerance:g} points"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        ious = zip(self.result.labels.names, self.result.metrics["iou"].tolist(), strict=True)
        return {
            **self.plan.to_dict(),
            "got": round(self.got, 4),
            "difference": round(self.difference, 4),
            "within_tolerance": self.close,
            "iou": {name: None if iou != iou else round(100 * iou, 4) for name, iou in ious},
        }
