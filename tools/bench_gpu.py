"""Every GPU table of docs/results.md in one call of eight minutes, resumable.

    python -m tools.bench_gpu --out gpu [--official CHECKOUT] [--mmseg PYTHON] [--write]

Each table is a run of `tools.bench_peers` or `tools.bench_training` in a process of its own, and a file in --out once
it is complete: the same command does the missing ones. The time left is shared among them; one that takes longer is
ended, named, and tried again the next time. --device cpu with a small --size shows that everything runs.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from hrseg.imaging import write_text
from tools.bench_peers import write_table
from tools.bench_training import ROWS
from tools.paired import ROOT

NETWORKS = ("hrnet_w48", "hrnet_w18_small_v1")
BATCHES = (1, 8)
START = 45.0
"""Seconds that a table needs before and after its rounds: processes, compilers, comparisons of answers."""


def tables(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the mark of each table in docs/results.md → the command that prints it."""
    code = [*(["--official", arguments.official] if arguments.official else [])]
    code += ["--mmseg", arguments.mmseg] if arguments.mmseg else []
    found = {}
    for network in arguments.networks or NETWORKS:
        for batch in arguments.batches or BATCHES:
            words = ["--network", network, "--batch", str(batch), "--device", arguments.device, *code]
            if arguments.size:
                words += ["--size", *map(str, arguments.size)]
            if arguments.only:
                words += ["--only", *arguments.only]
            found[f"peers {arguments.device} {network} {batch} labels"] = ["tools.bench_peers", *words]
        words = ["--backbone", network, "--device", arguments.device, "--rounds", "5", "--quiet", *code]
        if arguments.size:
            words += ["--size", "x".join(map(str, arguments.size)), "--batch", "2"]
        if arguments.only:
            words += ["--rows", *(row for row in ROWS if any(word in row for word in arguments.only))]
        found[f"training {arguments.device} {network}"] = ["tools.bench_training", *words]
    return found


def run(command: list[str], seconds: float) -> tuple[str, str]:
    """Run one table within so many seconds; return it, or the reason why there is none."""
    if command[0] == "tools.bench_peers":
        command = [*command, "--seconds", f"{min(60.0, max(1.0, seconds - START)):.0f}", "--least", "3"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=max(seconds, START)
        )
    except subprocess.TimeoutExpired:
        return "", f"took more than {max(seconds, START):.0f} s"
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return done.stdout, ""


def main(words: list[str] | None = None) -> int:
    """Make the tables that are missing, print all, and return 1 if one is still missing."""
    arguments = parser().parse_args(words)
    ends = time.monotonic() + arguments.seconds
    wanted = tables(arguments)
    files = {mark: arguments.out / f"{mark.replace(' ', '_')}.md" for mark in wanted}
    waiting = [mark for mark in wanted if not files[mark].exists()]
    for number, mark in enumerate(waiting):
        left = (ends - time.monotonic()) / (len(waiting) - number)
        print(f"{mark}: {max(left, START):.0f} s", file=sys.stderr, flush=True)
        page, problem = run(wanted[mark], left)
        if problem:
            print(f"{mark} is missing: {problem}", file=sys.stderr)
        else:
            write_text(files[mark], page)
    there = {mark: file.read_text(encoding="utf-8") for mark, file in files.items() if file.exists()}
    for mark, page in there.items():
        print(f"### {mark}\n\n{page}")
        if arguments.write:
            write_table(page.strip(), mark)
    return int(len(there) < len(wanted))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="folder of the tables")
    made.add_argument("--official", metavar="CHECKOUT", help="HRNet-Semantic-Segmentation, branch HRNet-OCR")
    made.add_argument("--mmseg", metavar="PYTHON", help="interpreter with mmsegmentation")
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--networks", nargs="+", metavar="NAME", help=f"({' '.join(NETWORKS)})")
    made.add_argument("--batches", type=int, nargs="+", metavar="N", help="images at once (1 8)")
    made.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="instead of those of each table")
    made.add_argument("--only", nargs="+", metavar="TEXT", help="peers and rows whose names hold one")
    made.add_argument("--seconds", type=float, default=480.0, help="for all tables together (480)")
    made.add_argument("--write", action="store_true", help="put the tables into docs/results.md")
    return made


if __name__ == "__main__":
    sys.exit(main())
