"""hrseg's predict against other ways to run the same HRNet, in turns: one table for docs/results.md.

    python -m tools.bench_peers --official CHECKOUT --mmseg PYTHON [--network hrnet_w48] [--write]

CHECKOUT is HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR; PYTHON an interpreter with torch, mmsegmentation 1.2,
mmengine and mmcv-lite. A peer that is not there has a row that says so. All get the same seeded weights and the same
drawn street, each in a process of its own that only runs when it is its turn; before anything is timed, their
answers are compared with those of plain torch in fp32. Every ratio is taken within a round, and the median over the
rounds is printed with its 95 % interval. Torch starts from normalized images, exported files from pixels.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hrseg.benchmark.models import pictures
from hrseg.benchmark.results import describe, paired_ratio
from hrseg.benchmark.timing import matrix_ceiling, take_turns
from hrseg.errors import seconds_text
from hrseg.imaging import write_atomic
from hrseg.inference.backends import usable_cores
from hrseg.inference.prepare import resolve_device
from hrseg.models import create_model
from tests.reference.seeded import seeded_state
from tools.paired import Contender, markdown
from tools.peers import CLASSES, Job

PAGE = Path("docs/results.md")
ROWS = {
    "cpu": {
        "hrseg": ("auto", "fp32"),
        "hrseg, confidence read": ("auto",),
        "hrseg --engine torch": ("auto",),
        "official": ("fp32",),
        "mmsegmentation": ("fp32",),
        "timm backbone, same head": ("fp32",),
        "plain torch": ("fp32", "bf16"),
        "torch.compile": ("fp32", "bf16"),
        "ONNX Runtime": ("fp32",),
        "OpenVINO": ("fp32", "bf16"),
    },
    "cuda": {
        "hrseg": ("auto", "fp32"),
        "hrseg --engine compile": ("auto",),
        "official": ("bf16", "fp32"),
        "mmsegmentation": ("bf16",),
        "timm backbone, same head": ("bf16",),
        "plain torch": ("fp32", "bf16"),
        "plain torch, channels last": ("bf16",),
        "torch.compile": ("bf16",),
        "ONNX Runtime": ("fp32",),
        "OpenVINO": (),
    },
}
"""Device → peer → precisions; bf16 of a torch peer is its AMP."""
SIZES = {"cpu": (512, 1024), "cuda": (1024, 2048)}
_ALWAYS = (("hrseg", "auto"), ("plain torch", "fp32"))
"""Denominator of all ratios, and reference of all answers."""
AGREE = {"fp32": 0.9999, "bf16": 0.97, "auto": 0.97}
"""Least share of pixels that must get the class that plain torch gives in fp32."""
SPREAD = 1e-3
"""Largest difference of fp32 logits over their standard deviation."""


class Found(NamedTuple):
    """Outcome of one peer: its facts and times, or the reason why it is missing."""

    job: Job
    facts: dict[str, Any]
    seconds: list[float]
    agreement: float = 0.0
    missing: str = ""


def main() -> None:
    """Start the peers, compare their answers, let them take turns, print the table."""
    arguments = _arguments()
    device = resolve_device(arguments.device)
    size = tuple(arguments.size or SIZES[device.type])
    threads = arguments.threads or usable_cores()
    load = os.getloadavg()[0]
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="hrseg-peers-") as name:
        folder = Path(name)
        _write_inputs(folder, arguments.network, size, arguments.batch)
        pythons = {"mmsegmentation": arguments.mmseg}
        jobs = [
            Job(
                *(peer, precision, arguments.network, arguments.until, device.type, str(folder)),
                arguments.official,
                threads,
            )
            for peer, precisions in ROWS[device.type].items()
            for precision in precisions
            if (peer, precision) in _ALWAYS or _wanted(peer, arguments)
        ]
        before = _products(device)
        found = _measure(jobs, folder, pythons, arguments)
    lines = [*table(found), "", products_line(before, _products(device))]
    cells = f"{arguments.network}, {arguments.batch} x {size[0]}x{size[1]}, {_ENDS[arguments.until]}"
    busy = f" **With other work on the machine** (load {load:.1f} before it began)." if load > 0.5 else ""
    rounds = max((len(one.seconds) for one in found), default=0)
    note = f"{cells}; {describe(device)}; {rounds} rounds.{busy}"
    page = "\n".join([note, "", *lines])
    print(page)
    if arguments.write:
        write_table(page, f"peers {device.type} {arguments.network} {arguments.batch} {arguments.until}")


def _products(device: torch.device) -> dict[str, float]:
    """Return precision → operations per second of a large matrix product."""
    return {name: matrix_ceiling(device, name) or 0.0 for name in ("fp32", "bf16")}


def products_line(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Format the speed of bf16 against fp32 on this machine where arithmetic alone counts.

    Example:
        >>> products_line({"fp32": 2e11, "bf16": 3e11}, {"fp32": 1e11, "bf16": 4e11})
        'Matrix products around the rounds: 200 GFLOP/s in fp32, 400 in bf16, which is 2.0 times as fast.'
    """
    single, half = (max(before[name], after[name]) for name in ("fp32", "bf16"))
    return (
        f"Matrix products around the rounds: {single / 1e9:.0f} GFLOP/s in fp32, {half / 1e9:.0f} in bf16, which is "
        f"{half / single:.1f} times as fast."
    )


_ENDS = {"labels": "to labels of every pixel", "head": "network and head alone"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--official", metavar="CHECKOUT", help="of the official code")
    parser.add_argument("--mmseg", metavar="PYTHON", help="interpreter with mmsegmentation")
    parser.add_argument("--network", default="hrnet_w18_small_v1")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--until", choices=("labels", "head"), default="labels")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all turns together (60)")
    parser.add_argument("--least", type=int, default=5, help="rounds in any case (5)")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="peers whose names hold one")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    return parser.parse_args()


def _wanted(peer: str, arguments: argparse.Namespace) -> bool:
    return arguments.only is None or any(word.lower() in peer.lower() for word in arguments.only)


def _write_inputs(folder: Path, network: str, size: tuple[int, int], batch: int) -> None:
    shapes = {
        name.partition(".")[2]: tuple(value.shape)
        for name, value in create_model(network, "v2", CLASSES).state_dict().items()
    }
    np.savez(folder / "state.npz", allow_pickle=False, **seeded_state(shapes))
    np.save(folder / "images.npy", pictures(size, batch))


def _measure(
    jobs: list[Job], folder: Path, pythons: Mapping[str, str | None], arguments: argparse.Namespace
) -> list[Found]:
    running: dict[str, Contender] = {}
    found: dict[str, Found] = {}
    reference_first = sorted(jobs, key=lambda job: (job.name, job.precision) != _ALWAYS[1])
    try:
        for job in reference_first:
            if missing := _absent(job, pythons):
                found[job.title] = Found(job, {}, [], missing=missing)
                continue
            print(f"starting {job.title}", file=sys.stderr, flush=True)
            log = folder / f"{job.title}.log"
            contender = Contender("tools.peers", job._asdict(), pythons.get(job.name), job.threads, log)
            running[job.title] = contender
            try:
                facts = contender.ready()
            except RuntimeError as error:
                running.pop(job.title).close()
                found[job.title] = Found(job, {}, [], missing=str(error))
                continue
            found[job.title] = Found(job, facts, [], agreement(folder, job))
        works = {title: contender.turn for title, contender in running.items()}
        for title, seconds in take_turns(works, arguments.seconds, arguments.least).items():
            found[title] = found[title]._replace(seconds=seconds)
    finally:
        for contender in running.values():
            contender.close()
    return [found[job.title] for job in jobs]


def _absent(job: Job, pythons: Mapping[str, str | None]) -> str:
    if job.name == "official" and not job.checkout:
        return "no --official CHECKOUT"
    if job.name in pythons and not pythons[job.name]:
        return "no --mmseg PYTHON"
    return ""


def agreement(folder: Path, job: Job) -> float:
    """Return the share of pixels of the same class as plain torch in fp32, or stop where it is too small.

    A peer that differs by design is compared with our network in its ways.
    """
    with np.load(folder / f"{job.title}.npz") as file:
        answer, expected = file["answer"], file.get("expected")
    if expected is None:
        with np.load(folder / "plain torch-fp32.npz") as file:
            expected = file["answer"]
    if job.until == "head":
        spread = float(np.abs(answer - expected).max() / expected.std())
        if job.precision == "fp32" and spread > SPREAD:
            raise SystemExit(f"{job.title}: logits differ by {spread:.1e} of their deviation.")
        answer, expected = answer.argmax(axis=1), expected.argmax(axis=1)
    same = float(np.mean(answer == expected))
    if same < AGREE[job.precision]:
        raise SystemExit(f"{job.title}: only {100 * same:.2f} % of the pixels get the same class.")
    return same


def table(found: list[Found]) -> list[str]:
    """Return the Markdown table; ratios are a peer's time over that of hrseg as it is by default."""
    own = next(one for one in found if (one.job.name, one.job.precision) == _ALWAYS[0])
    header = (
        "what runs it",
        "precision",
        "version",
        "time",
        "over hrseg's",
        "95 %",
        "peak memory",
        "same class",
    )
    rows = []
    for one in found:
        precision = {"auto": "default"}.get(one.job.precision, one.job.precision)
        if one.missing:
            rows.append((one.job.name, one.job.precision, f"missing: {one.missing}", *[""] * 5))
            continue
        ratio, memory = paired_ratio(one.seconds, own.seconds), one.facts["memory"]
        rows.append(
            (
                *(one.job.name, precision, one.facts["version"]),
                seconds_text(float(np.median(one.seconds))),
                f"{ratio.median:.2f}",
                f"{ratio.low:.2f} to {ratio.high:.2f}",
                "" if memory is None else f"{memory / 1e6:,.0f} MB",
                f"{100 * one.agreement:.2f} %",
            )
        )
    return markdown(header, rows)


def write_table(page: str, mark: str) -> None:
    """Put a table between its two marks in docs/results.md."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    text = PAGE.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise SystemExit(f"{PAGE} has no place for this table. Put these two lines where it belongs: {begin} {end}")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    with write_atomic(PAGE) as draft:
        draft.write_text(f"{before}{begin}\n{page}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
