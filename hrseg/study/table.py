"""Result table of a study, a row per variant, as Markdown, CSV and JSON."""

import csv
import json
import statistics
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrseg.errors import cell_text
from hrseg.imaging import write_atomic, write_text
from hrseg.study.study import Plan, Record

HEADINGS = ("variant", "parameters", "multiply-adds", "mIoU", "minutes")


@dataclass(frozen=True)
class Row:
    """Results of one variant.

    Attributes:
        variant: Its name.
        parameters: Number of parameters.
        multiply_adds: Multiply-adds of one crop.
        miou: Mean over the finished runs of the best score on the validation split, a fraction.
        spread: Their standard deviation (n - 1 in the denominator); None for fewer than two.
        minutes: Mean time of a finished run.
        finished: Number of finished runs.
        runs: Number of planned runs.
    """

    variant: str
    parameters: int
    multiply_adds: int
    miou: float | None
    spread: float | None
    minutes: float | None
    finished: int
    runs: int


@dataclass(frozen=True)
class Table:
    """Results of a study so far; `records` are in the order of the plan's runs."""

    plan: Plan
    records: tuple[Record, ...]

    @classmethod
    def of(cls, plan: Plan) -> "Table":
        """Read the records of a study."""
        return cls(plan, tuple(run.record for run in plan.runs))

    @property
    def rows(self) -> list[Row]:
        """One row per variant, in the study's order."""
        return [self._row(name) for name in self.plan.study.variants]

    @property
    def failures(self) -> dict[str, str]:
        """Failed run → error."""
        return {
            f"{run.variant} (seed {run.seed})": record.error
            for run, record in zip(self.plan.runs, self.records, strict=True)
            if record.error is not None
        }

    def _row(self, variant: str) -> Row:
        mine = [record for run, record in zip(self.plan.runs, self.records, strict=True) if run.variant == variant]
        done = [record for record in mine if record.finished]
        scores = [record.miou for record in done if record.miou is not None]
        cost = self.plan.costs[variant]
        return Row(
            variant=variant,
            parameters=cost.parameters,
            multiply_adds=cost.multiply_adds,
            miou=statistics.fmean(scores) if scores else None,
            spread=statistics.stdev(scores) if len(scores) > 1 else None,
            minutes=statistics.fmean(record.seconds for record in done) / 60 if done else None,
            finished=len(done),
            runs=len(mine),
        )

    def text(self) -> str:
        """Return Markdown with aligned columns, a caption and the failures."""
        cells = [list(HEADINGS), *(self._cells(row) for row in self.rows)]
        wide = [max(4, *(len(line[column]) for line in cells)) for column in range(len(HEADINGS))]
        rule = [f"{'-' * wide[0]}", *(f"{'-' * (width - 1)}:" for width in wide[1:])]
        lines = [
            _line(cells[0], wide),
            _line(rule, wide),
            *(_line(line, wide) for line in cells[1:]),
        ]
        notes = [f"{name} failed: {reason}" for name, reason in self.failures.items()]
        below = (_wrapped(text) for text in (self._caption(), *notes))
        return "\n\n".join(["\n".join(lines), *below])

    def _cells(self, row: Row) -> list[str]:
        score = "-"
        if row.miou is not None:
            score = f"{100 * row.miou:.2f}"
        if row.spread is not None:
            score += f" ± {100 * row.spread:.2f}"
        if row.finished < row.runs:
            waiting = f"{row.finished} of {row.runs} runs"
            score = f"{score} ({waiting})" if row.finished else score
            failed = any(name.startswith(f"{row.variant} (") for name in self.failures)
            score = "failed" if failed and not row.finished else score
        return [
            row.variant,
            f"{row.parameters:,}",
            f"{row.multiply_adds / 1e9:.2f} G",
            score,
            "-" if row.minutes is None else f"{row.minutes:.1f}",
        ]

    def _caption(self) -> str:
        plan = self.plan
        seeds = list(dict.fromkeys(run.seed for run in plan.runs))
        crops = dict.fromkeys("x".join(map(str, run.config.data.crop)) for run in plan.runs)
        spread = ", mean and standard deviation over them" if len(seeds) > 1 else ""
        words = " ".join((*plan.study.words, *plan.overrides))
        return (
            f"Study {plan.study.name}, recipe {plan.study.recipe.stem}{f' with {words}' if words else ''}; "
            f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}{spread}. mIoU is the best of a run "
            f"on its validation split, in per cent. Multiply-adds are those of one {' or '.join(crops)} crop."
        )

    def write(self) -> None:
        """Write table.md, table.csv and table.json into the study's folder."""
        rows = [asdict(row) for row in self.rows]
        folder = self.plan.folder
        write_text(folder / "table.md", f"{self.text()}\n")
        with (
            write_atomic(folder / "table.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"variant": cell_text(row["variant"])} for row in rows)
        write_text(folder / "table.json", f"{json.dumps(self._content(rows), indent=2)}\n")

    def _content(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        study = self.plan.study
        return {
            "study": study.name,
            "recipe": Path(study.recipe).stem,
            "words": [*study.words, *self.plan.overrides],
            "rows": [
                {
                    **row,
                    "words": list(study.variants[row["variant"]]),
                    "each_run": [
                        {"seed": run.seed, **asdict(record)}
                        for run, record in zip(self.plan.runs, self.records, strict=True)
                        if run.variant == row["variant"]
                    ],
                }
                for row in rows
            ],
        }


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _line(cells: list[str], wide: list[int]) -> str:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, wide, strict=True))
    )
    return f"| {' | '.join([first, *others])} |"
