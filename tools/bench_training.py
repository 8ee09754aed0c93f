"""Training throughput and peak memory: hrseg, the plain loop, the official code and mmsegmentation.

    python -m tools.bench_training --official CHECKOUT --mmseg /path/to/python/with/mmsegmentation > table.md

    python -m tools.bench_training --camvid FOLDER --clock cpu --threads 1

Each row is a process that trains on one batch in its memory, without reading images; with --camvid on crops of CamVid
by the augmentation of camvid_w18_small_v1.yaml, which hrseg's own loader makes for its rows, and PIL and albumentations
in torch's DataLoader for the others. Without --workers the process itself loads, so that processor time counts it, and
the table has the loader's share of a step. The rows take turns; every ratio is taken between turns of one round, and
the median over the rounds is printed. Peers that are not given are left out. Without options on a GPU: W48, 19 classes,
batches of 4 crops of 512x1024; on a CPU: W18-small-v1, 11 classes, 4 of 256x320. Memory is the most that torch had
allocated on a GPU; on a CPU the most that the process had resident, less what it had before its first step.
"""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hrseg.benchmark.timing import take_turns
from tools.paired import Contender, markdown, median_ratio


class Row(NamedTuple):
    """One line of the table: a contender of `training_peers` with its options."""

    contender: str
    bf16: bool
    options: dict[str, Any]
    usual: bool = True


ROWS = {
    "plain loop, fp32": Row("plain", False, {}),
    "plain loop, bf16": Row("plain", True, {}),
    "official, fp32": Row("official", False, {}),
    "official, bf16": Row("official", True, {}),
    "mmsegmentation, fp32": Row("mmseg", False, {}),
    "mmsegmentation, bf16": Row("mmseg", True, {}),
    "hrseg, fp32": Row("hrseg", False, {}),
    "hrseg, bf16": Row("hrseg", True, {}),
    "hrseg, bf16, checkpointing=blocks": Row("hrseg", True, {"checkpointing": "blocks"}),
    "hrseg, bf16, checkpointing=modules": Row("hrseg", True, {"checkpointing": "modules"}),
    "hrseg, bf16, compile": Row("hrseg", True, {"compile": "true"}, usual=False),
    "mmsegmentation, bf16, with_cp": Row("mmseg", True, {"with_cp": True}, usual=False),
}
AGAINST = ("plain loop, fp32", "official, fp32", "mmsegmentation, bf16")
"""Columns of ratios, for those that are there."""


def start(name: str, arguments: argparse.Namespace) -> Contender:
    """Start the process of a row."""
    row = ROWS[name]
    job = {
        "contender": row.contender,
        "options": row.options,
        "bf16": row.bf16,
        "backbone": arguments.backbone,
        "classes": arguments.classes,
        "batch": [arguments.batch, *arguments.size],
        "loss": arguments.loss,
        "device": arguments.device,
        "checkout": arguments.official,
        "threads": arguments.threads,
        "camvid": arguments.camvid,
        "workers": arguments.workers,
    }
    python = arguments.mmseg if row.contender == "mmseg" else None
    log = Path(os.devnull) if arguments.quiet else None
    return Contender("tools.training_peers", job, python, arguments.threads, log)


def measure(names: list[str], arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Let the rows take turns; return each one's measurements. A row that fails is reported and left out."""
    running: dict[str, Contender] = {}
    works = {}
    try:
        for name in names:
            running[name] = start(name, arguments)
            try:
                running[name].turn(arguments.warm_up)
                works[name] = partial(running[name].turn, arguments.steps)
            except RuntimeError as error:
                print(f"'{name}': {error}", file=sys.stderr)
        return take_turns(works, 0.0, arguments.rounds)
    finally:
        for contender in running.values():
            contender.close()


def table(turns: dict[str, list[dict[str, float]]], batch: int, clock: str) -> str:
    """Write the Markdown table.

    Example:
        >>> turn = {"wall": 2.0, "cpu": 2.0, "memory": 2.0**30}
        >>> twice = {"wall": 1.0, "cpu": 1.0, "memory": 2.0**29}
        >>> print(table({"plain loop, fp32": [turn], "hrseg, bf16": [twice]}, 4, "wall"))
        | training | images/s | against plain loop, fp32 | peak memory | share of plain loop, fp32 |
        | --- | --: | --: | --: | --: |
        | plain loop, fp32 | 2.00 | 1.00 | 1.00 GiB | 1.00 |
        | hrseg, bf16 | 4.00 | 2.00 | 0.50 GiB | 0.50 |
    """
    against = [name for name in AGAINST if name in turns]
    of = next((name for name in ("official, fp32", "plain loop, fp32") if name in turns), None)
    memory = {name: max(turn["memory"] for turn in mine) for name, mine in turns.items()}
    seconds = {name: [turn[clock] for turn in mine] for name, mine in turns.items()}
    rows = [
        [
            name,
            f"{batch / median(mine):.2f}",
            *(f"{median_ratio(seconds[other], mine):.2f}" for other in against),
            f"{memory[name] / 2**30:.2f} GiB",
            *([f"{memory[name] / memory[of]:.2f}"] if of else []),
        ]
        for name, mine in seconds.items()
    ]
    header = ["training", "images/s", *(f"against {name}" for name in against), "peak memory"]
    header += [f"share of {of}"] if of else []
    waits = {
        name: median(turn.get(f"{clock} loader", 0.0) / turn[clock] for turn in mine) for name, mine in turns.items()
    }
    if max(waits.values()) > 0.001:
        header.append("loader's share of a step")
        rows = [[*row, f"{100 * waits[row[0]]:.1f} %"] for row in rows]
    return "\n".join(markdown(header, rows))


def chosen(arguments: argparse.Namespace) -> list[str]:
    """Return the rows to run: those asked for, or the usual ones whose code is there."""
    there = {"hrseg": True, "plain": True}
    there |= {"official": bool(arguments.official), "mmseg": bool(arguments.mmseg)}
    if arguments.rows:
        wrong = [name for name in arguments.rows if name not in ROWS]
        if wrong:
            raise SystemExit(f"No row '{wrong[0]}'. Rows: {'; '.join(ROWS)}.")
        missing = [name for name in arguments.rows if not there[ROWS[name].contender]]
        if missing:
            raise SystemExit(f"Row '{missing[0]}' needs --official or --mmseg.")
        return list(arguments.rows)
    return [name for name, row in ROWS.items() if row.usual and there[row.contender]]


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--backbone")
    made.add_argument("--classes", type=int)
    made.add_argument("--size", help="HxW of the crops")
    made.add_argument("--batch", type=int, default=4)
    made.add_argument("--loss", choices=("cross_entropy", "ohem"), default="cross_entropy")
    made.add_argument("--official", help="checkout of HRNet-Semantic-Segmentation, branch HRNet-OCR")
    made.add_argument("--mmseg", help="python of an environment with mmsegmentation")
    made.add_argument("--camvid", help="folder of CamVid, to train on its images instead of one batch in memory")
    made.add_argument("--workers", type=int, default=0, help="loader processes, with --camvid (0)")
    made.add_argument("--rows", nargs="+", help="names of rows, quoted; default the usual ones")
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--steps", type=int, default=3, help="of one turn")
    made.add_argument("--warm-up", type=int, default=2, help="steps before the first turn")
    made.add_argument("--threads", type=int, help="on a CPU; default torch's choice")
    made.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    made.add_argument("--json", type=Path, help="write all turns here")
    made.add_argument("--quiet", action="store_true", help="hide what the contenders print")
    return made


def main(words: list[str] | None = None) -> None:
    """Run the rows and print the table."""
    arguments = parser().parse_args(words)
    if arguments.device == "auto":
        import torch

        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    large = arguments.device == "cuda"
    arguments.backbone = arguments.backbone or ("hrnet_w48" if large else "hrnet_w18_small_v1")
    arguments.classes = arguments.classes or (19 if large else 11)
    size = arguments.size or ("512x1024" if large else "256x320")
    arguments.size = [int(side) for side in size.split("x")]
    turns = measure(chosen(arguments), arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(turns, indent=1) + "\n", encoding="utf-8")
    print(table(turns, arguments.batch, arguments.clock))


if __name__ == "__main__":
    main()
