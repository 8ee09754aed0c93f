"""Shared runner of the bench scripts: contenders in processes of their own that take turns, and Markdown tables."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Contender:
    """A process that runs once for each line it gets; its module calls `serve_turns`.

    Args:
        module: Such as "tools.peers".
        job: Its only argument, as JSON.
        python: Interpreter; None takes this one.
        threads: Of the processor; None leaves them to the libraries.
        log: File for its standard error; None shows it.
    """

    def __init__(
        self,
        module: str,
        job: Any,
        python: str | None = None,
        threads: int | None = None,
        log: Path | None = None,
    ) -> None:
        count = {} if not threads else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        quiet = {"PYTHONWARNINGS": "ignore", "NO_ALBUMENTATIONS_UPDATE": "1"}
        self.log = log
        errors = None if log is None else log.open("w")
        self.process = subprocess.Popen(
            [python or sys.executable, "-m", module, json.dumps(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
            env=os.environ | count | quiet | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if errors is not None:
            errors.close()

    def ready(self) -> Any:
        """Wait until it can run, and return its facts.

        Raises:
            RuntimeError: It ended before.
        """
        return self._answer("ready ")

    def turn(self, line: object = "go") -> Any:
        """Let it run once, and return what it measured.

        Raises:
            RuntimeError: It ended before its turn did.
        """
        stdin: Any = self.process.stdin
        try:
            stdin.write(f"{line}\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # its exit code is reported below
        return self._answer("turn ")

    def _answer(self, mark: str) -> Any:
        stdout: Any = self.process.stdout
        for line in stdout:
            if line.startswith(mark):
                return json.loads(line.removeprefix(mark))
        last = self.log.read_text().strip().rpartition("\n")[2][:120] if self.log else ""
        raise RuntimeError(last or f"ended with {self.process.wait()} before its turn did")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def serve_turns(facts: Any = None) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Say in a contender's process that it is ready; then yield each line with a function for its measurement."""
    stdout: Any = sys.__stdout__

    def answer(mark: str, value: Any) -> None:
        stdout.write(f"\n{mark} {json.dumps(value)}\n")
        stdout.flush()

    answer("ready", facts)
    for line in sys.stdin:
        yield line.strip(), lambda value: answer("turn", value)


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the median over the rounds of first / second."""
    return median(a / b for a, b in zip(first, second, strict=True))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all columns but the first are aligned to the right.

    Example:
        >>> markdown(("a", "b"), [("x", "1")])
        ['| a | b |', '| --- | --: |', '| x | 1 |']
    """
    rule = ("---", *["--:"] * (len(header) - 1))
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
