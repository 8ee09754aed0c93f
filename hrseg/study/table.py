"""Result table of a study, a row per variant, as Markdown, CSV and JSON."""

import csv
import json
import statistics
import textwrap
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import cell_text, score
from hrseg.imaging import write_atomic, write_text
from hrseg.metrics.bootstrap import over_folds
from hrseg.metrics.confusion import iou
from hrseg.metrics.records import ImageRecords, class_counts, read_records
from hrseg.study.study import Plan, Record

HEADINGS = ("variant", "parameters", "multiply-adds", "mIoU", "minutes")
INTERVALS = ("95 % interval", "to the first", "95 % interval")
"""Further columns of a study with folds, after mIoU."""


@dataclass(frozen=True)
class Row:
    """Results of one variant.

    Attributes:
        variant: Its name.
        parameters: Number of parameters.
        multiply_adds: Multiply-adds of one crop.
        miou: Mean over the finished runs of the best score on the validation split, or of the last on the fold; a
            fraction.
        spread: Standard deviation over the seeds (n - 1 in the denominator); None for fewer than two.
        minutes: Mean time of a finished run.
        finished: Number of finished runs.
        runs: Number of planned runs.
        low: Lower end of the 95 % interval over the images of all folds; None without folds or before all are done.
        high: Upper end.
        difference: Difference to the first variant.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end.
        classes: Mean IoU of each class over the folds that hold it.
    """

    variant: str
    parameters: int
    multiply_adds: int
    miou: float | None
    spread: float | None
    minutes: float | None
    finished: int
    runs: int
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    classes: dict[str, float] | None = None


@dataclass(frozen=True)
class Table:
    """Results of a study so far; `records` are in the order of the plan's runs."""

    plan: Plan
    records: tuple[Record, ...]

    @classmethod
    def of(cls, plan: Plan) -> "Table":
        """Read the records of a study."""
        return cls(plan, tuple(run.record for run in plan.runs))

    @cached_property
    def rows(self) -> list[Row]:
        """One row per variant, in the study's order."""
        return [self._row(name) for name in self.plan.study.variants]

    @property
    def failures(self) -> dict[str, str]:
        """Failed run → error."""
        return {
            run.label: record.error
            for run, record in zip(self.plan.runs, self.records, strict=True)
            if record.error is not None
        }

    def _row(self, variant: str) -> Row:
        mine = [
            (run, record) for run, record in zip(self.plan.runs, self.records, strict=True) if run.variant == variant
        ]
        done = [record for _, record in mine if record.finished]
        scores = [record.miou for record in done if record.miou is not None]
        of_seeds: dict[int, list[float]] = {}
        for run, record in mine:
            if record.finished and record.miou is not None:
                of_seeds.setdefault(run.seed, []).append(record.miou)
        means = [statistics.fmean(found) for found in of_seeds.values() if len(found) == max(1, self.plan.study.folds)]
        cost = self.plan.costs[variant]
        return Row(
            variant=variant,
            parameters=cost.parameters,
            multiply_adds=cost.multiply_adds,
            miou=statistics.fmean(scores) if scores else None,
            spread=statistics.stdev(means) if len(means) > 1 else None,
            minutes=statistics.fmean(record.seconds for record in done) / 60 if done else None,
            finished=len(done),
            runs=len(mine),
            **self._intervals(variant),
        )

    def _intervals(self, variant: str) -> dict[str, Any]:
        own, before = self._ledgers(variant), next(iter(self.plan.study.variants))
        if own is None:
            return {}
        first = self._ledgers(before) if variant != before else None
        _, low, high = over_folds(own)
        ious = [iou(*class_counts(records.matrices.sum(axis=0))) for fold in own for records in fold]
        table = np.ma.masked_invalid(ious).mean(axis=0).filled(np.nan)  # a fold may lack a class
        difference = over_folds(own, first) if first is not None else (None, None, None)
        return {
            "low": low,
            "high": high,
            **dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True)),
            "classes": {
                name: float(value) for name, value in zip(own[0][0].classes, table, strict=True) if not np.isnan(value)
            },
        }

    def _ledgers(self, variant: str) -> list[list[ImageRecords]] | None:
        """Return the records of each fold and run of a variant; None before all are done."""
        folds: dict[int, list[ImageRecords]] = {}
        for run, record in zip(self.plan.runs, self.records, strict=True):
            if run.variant == variant:
                if not (run.fold and record.finished and run.ledger_file.is_file()):
                    return None
                folds.setdefault(run.fold, []).append(read_records(run.ledger_file))
        return list(folds.values())

    def text(self) -> str:
        """Return Markdown with aligned columns, a caption and the failures."""
        head = list(HEADINGS)
        if self.plan.study.folds:
            head[4:4] = INTERVALS
        rows = self.rows
        parts = [_markdown([head, *(self._cells(row) for row in rows)])]
        known = [row for row in rows if row.classes]
        if known:
            names = dict.fromkeys(name for row in known for name in row.classes or {})
            ious = ([score((row.classes or {}).get(name, np.nan)) for row in known] for name in names)
            parts.append(
                _markdown(
                    [["IoU", *(row.variant for row in known)], *([n, *c] for n, c in zip(names, ious, strict=True))]
                )
            )
        notes = [f"{name} failed: {reason}" for name, reason in self.failures.items()]
        below = (_wrapped(text) for text in (self._caption(), *notes))
        return "\n\n".join([*parts, *below])

    def _cells(self, row: Row) -> list[str]:
        result = "-"
        if row.miou is not None:
            result = score(row.miou)
        if row.spread is not None:
            result += f" ± {score(row.spread)}"
        if row.finished < row.runs:
            waiting = f"{row.finished} of {row.runs} runs"
            result = f"{result} ({waiting})" if row.finished else result
            failed = any(name.startswith(f"{row.variant} (") for name in self.failures)
            result = "failed" if failed and not row.finished else result
        cells = [
            row.variant,
            f"{row.parameters:,}",
            f"{row.multiply_adds / 1e9:.2f} G",
            result,
            "-" if row.minutes is None else f"{row.minutes:.1f}",
        ]
        if self.plan.study.folds:
            own = "-" if row.low is None or row.high is None else f"{score(row.low)} to {score(row.high)}"
            value, low, high = (
                "" if each is None else f"{100 * each:+.2f}"
                for each in (row.difference, row.difference_low, row.difference_high)
            )
            cells[4:4] = [own, value, f"{low} to {high}" if value else ""]
        return cells

    def _caption(self) -> str:
        plan = self.plan
        seeds = list(dict.fromkeys(run.seed for run in plan.runs))
        crops = dict.fromkeys("x".join(map(str, run.config.data.crop)) for run in plan.runs)
        spread = ", mean and standard deviation over them" if len(seeds) > 1 else ""
        words = " ".join((*plan.study.words, *plan.overrides))
        return (
            f"Study {plan.study.name}, recipe {plan.study.recipe.stem}{f' with {words}' if words else ''}; "
            f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}{spread}. mIoU is "
            + (
                f"that after the last step on the fold left out, mean over {plan.study.folds} folds"
                if plan.study.folds
                else "the best of a run on its validation split"
            )
            + f", in per cent. Multiply-adds are those of one {' or '.join(crops)} crop."
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
            writer = csv.DictWriter(file, [name for name in rows[0] if name != "classes"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row | {"variant": cell_text(row["variant"])} for row in rows)
        write_text(folder / "table.json", f"{json.dumps(self.to_dict(), indent=2)}\n")

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain values, with each run."""
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
                        {"seed": run.seed, "fold": run.fold, **asdict(record)}
                        for run, record in zip(self.plan.runs, self.records, strict=True)
                        if run.variant == row["variant"]
                    ],
                }
                for row in map(asdict, self.rows)
            ],
        }


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _markdown(cells: list[list[str]]) -> str:
    wide = [max(4, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = [f"{'-' * wide[0]}", *(f"{'-' * (width - 1)}:" for width in wide[1:])]
    return "\n".join(_line(line, wide) for line in (cells[0], rule, *cells[1:]))


def _line(cells: list[str], wide: list[int]) -> str:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, wide, strict=True))
    )
    return f"| {' | '.join([first, *others])} |"
