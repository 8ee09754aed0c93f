"""Time of whole commands in this checkout against another one, such as an earlier commit's worktree.

    git worktree add ../before COMMIT && python -m tools.bench_commits ../before --images FOLDER

Both checkouts run each command in turn, in processes of their own, the first one of a pair alternating. Printed are
the median and the extremes of this checkout's time over the other's; below 1 is faster. Both run under the interpreter
that runs this tool, so their dependencies are the same.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tools.paired import ROOT, markdown

DEMO = ["trainer.max_epochs=3", "data.scenes=120", "optim.warmup_steps=10", "run.dir=runs"]


def seconds(checkout: Path, arguments: list[str]) -> float:
    """Run hrseg of a checkout in an empty folder, and return its time on the clock.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    with tempfile.TemporaryDirectory(prefix="hrseg-bench-") as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "hrseg", *arguments],
            check=True, cwd=folder, env=os.environ | {"PYTHONPATH": str(checkout)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - start


def main() -> None:
    """Measure, and print one row for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--images", type=Path, help="folder for predict (docs/images)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = (options.images or ROOT / "docs/images").resolve()
    commands = {
        "predict": ["predict", str(images), "--out", "out"],
        "fit, demo of 3 epochs": ["fit", "--config", "demo", *DEMO],
    }
    rows = []
    for name, arguments in commands.items():
        ratios = []
        for number in range(options.rounds):
            pair = [ROOT, options.other.resolve()]
            taken = {one: seconds(one, arguments) for one in (pair if number % 2 else pair[::-1])}
            ratios.append(taken[pair[0]] / taken[pair[1]])
        rows.append(
            (
                name,
                f"{median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                str(options.rounds),
            )
        )
    print("\n".join(markdown(("command", "time over the other's", "range", "pairs"), rows)))


if __name__ == "__main__":
    main()
