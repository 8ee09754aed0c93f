"""How time and memory grow with the image, the batch, the classes and the loader's workers: a CSV and a figure each.

    python -m tools.bench_scaling image --out docs/images

One sweep a command: `image` (0.5 to 64 megapixels, above 8 by windows), `batch`, `classes` (2 to 1000), `workers`.
What is timed is all of predict but the files; for workers, crops out of PNG files. The exponent of the last line is
the slope between logarithms: 1 where twice as much takes twice as long. Memory is the growth of the process above the
opened model, the images included; for workers, what their processes hold.
"""

import argparse
import csv
import functools
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hrseg.benchmark.models import (
    Choice,
    Settings,
    TimedModel,
    measure,
    open_timed,
    pictures,
    random_network,
)
from hrseg.benchmark.timing import release_memory, resident
from hrseg.imaging import to_tensor, write_atomic
from hrseg.inference.backends import set_threads
from hrseg.inference.prepare import prepare, resolve_device
from hrseg.inference.protocols import choose_protocol
from hrseg.inference.tta import SlidingWindowInference
from tools.scaling_figure import Panel, write_figure


class Point(NamedTuple):
    """One measurement: x, seconds and bytes."""

    x: float
    seconds: float
    memory: int


class Sweep(NamedTuple):
    """A row of SWEEPS.

    Attributes:
        title: Of the figure.
        x_title: What grows.
        xs: How it grows.
        points: Measures them.
        logarithmic: Axes of the figure.
        slope: Exponent that is expected of the time.
    """

    title: str
    x_title: str
    xs: tuple[int, ...]
    points: Callable[[argparse.Namespace, Sequence[int]], Iterator[Point]]
    logarithmic: bool
    slope: int = 1


def _images(words: argparse.Namespace, xs: Sequence[int]) -> Iterator[Point]:
    model, settings = open_timed(Choice(words.model)), Settings(seconds=words.seconds)
    release_memory()
    base = resident()
    for half_megapixels in xs:
        height = round(512 * half_megapixels**0.5 / 32) * 32
        row = measure(model, (height, 2 * height), settings, base, words.least)
        yield Point(2 * height**2 / 1e6, row.seconds["p50"], row.peak_memory_bytes or 0)


def _batches(words: argparse.Namespace, xs: Sequence[int]) -> Iterator[Point]:
    model = open_timed(Choice(words.model))
    release_memory()
    base = resident()
    for batch in xs:
        settings = Settings(batch=batch, seconds=words.seconds)
        row = measure(model, (256, 512), settings, base, words.least)
        yield Point(batch, row.seconds["p50"], row.peak_memory_bytes or 0)


def _labeled(scorer: SlidingWindowInference, batch: Any) -> Any:
    return list(scorer.label_strips(batch, ("confidence",)))


def _classes(words: argparse.Namespace, xs: Sequence[int]) -> Iterator[Point]:
    """Time network and labels; tables, and with them masks as files, end at 255 classes."""
    device = resolve_device("auto")
    for classes in xs:
        network = _calmed(random_network("hrnet_w18_small_v1", classes=classes))
        scorer = SlidingWindowInference(prepare(network, device), choose_protocol("whole"))
        model = TimedModel(
            *(f"{classes} classes", "auto", device, _normalized),
            functools.partial(_labeled, scorer),
            *(3, None, classes),
        )
        release_memory()
        settings = Settings(seconds=words.seconds)
        row = measure(model, (512, 512), settings, resident(), words.least)
        yield Point(classes, row.seconds["p50"], row.peak_memory_bytes or 0)


def _calmed(network: Any) -> Any:
    """Scale the classifier until logits deviate by 3, as trained ones do: exponentials of far smaller ones are slow."""
    last = network.head.last_layer[-1]
    with torch.no_grad():
        last.weight *= 3 / network.forward_coarse(_normalized(pictures((128, 128)))).std()
    return network


def _normalized(images: np.ndarray) -> torch.Tensor:
    return torch.stack([to_tensor(image) for image in images])


def _workers(words: argparse.Namespace, xs: Sequence[int]) -> Iterator[Point]:
    """Time crops, an epoch of loaders that were warmed up by one before."""
    from torch.utils.data import DataLoader

    from hrseg.data.datamodule import SegmentationData, prepare_worker
    from hrseg.data.synthetic import write_scenes

    with tempfile.TemporaryDirectory(prefix="hrseg-scaling-") as root:
        write_scenes(root, "cityscapes", {"train": 16, "val": 1}, (512, 1024))
        data = SegmentationData(layout="cityscapes", root=root, crop=(256, 512), batch_size=4, workers=0)
        data.setup("fit")
        order = list(range(16)) * 8
        for workers in xs:
            loader: Any = DataLoader(
                data.train_set,
                batch_size=4,
                sampler=order,
                num_workers=workers,
                persistent_workers=True,
                worker_init_fn=prepare_worker,
            )
            for _ in loader:
                pass
            start = time.perf_counter()
            for _ in loader:
                pass
            taken = time.perf_counter() - start
            held = sum(_held(process.pid) for process in loader._iterator._workers)
            yield Point(workers, taken / len(order), held)
            del loader


def _held(pid: int) -> int:
    """Return the bytes of a process, those that it shares counted in parts."""
    return resident("Pss", f"/proc/{pid}/smaps_rollup") or 0


SWEEPS = {
    "image": Sweep(
        "Time and memory as the image grows",
        "megapixels",
        (1, 2, 4, 8, 16, 32, 64, 128),
        _images,
        True,
    ),
    "batch": Sweep(
        "Time and memory as the batch grows, 256 x 512",
        "images at once",
        (1, 2, 4, 8, 16, 32),
        _batches,
        False,
    ),
    "classes": Sweep(
        "Time and memory as classes grow, 512 x 512",
        "classes",
        (2, 19, 60, 150, 300, 600, 1000),
        _classes,
        False,
    ),
    "workers": Sweep(
        "Time of a crop and memory as workers grow",
        "worker processes",
        (1, 2, 4, 8),
        _workers,
        True,
        -1,
    ),
}


def main() -> None:
    """Measure one sweep, print it, write its CSV and its figure."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench_scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", choices=SWEEPS)
    parser.add_argument("--model", help="for image and batch (the model that ships)")
    parser.add_argument("--most", type=float, default=float("inf"), help="leave out x above this")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each point (3)")
    parser.add_argument("--least", type=int, default=2, help="timed runs in any case (2)")
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--note", default="", help="added to the headline")
    words = parser.parse_args()
    sweep = SWEEPS[words.sweep]
    xs = [x for x in sweep.xs if x <= words.most]
    if len(xs) < 2:
        parser.error(f"--most {words.most:g} leaves {len(xs)} of {sweep.xs}; growth takes two")
    warnings.filterwarnings("ignore", message=".*worker processes in total")
    threads = set_threads()
    load = os.getloadavg()[0]
    print(f"{sweep.x_title},seconds,bytes  ({threads} threads, load before {load:.1f})", flush=True)
    points = []
    for point in sweep.points(words, xs):
        points.append(point)
        print(f"{point.x:g},{point.seconds:.5f},{point.memory}", flush=True)
    words.out.mkdir(parents=True, exist_ok=True)
    with write_atomic(words.out / f"scaling_{words.sweep}.csv") as draft, draft.open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((sweep.x_title, "seconds", "bytes"))
        writer.writerows((f"{p.x:g}", f"{p.seconds:.5f}", p.memory) for p in points)
    title = sweep.title + (f", {words.note}" if words.note else "")
    panels = fit_lines(sweep, points)
    path = words.out / f"scaling_{words.sweep}.png"
    measured = [point.x for point in points]
    write_figure(path, title, sweep.x_title, measured, panels, sweep.logarithmic)
    print("\n".join(f"{panel.title}: {panel.note}" for panel in panels))


def fit_lines(sweep: Sweep, points: Sequence[Point]) -> list[Panel]:
    """Return the curves of a sweep, each with its exponent or straight line."""
    xs = [point.x for point in points]
    curves = {
        "seconds": ([point.seconds for point in points], sweep.slope),
        "megabytes": ([max(point.memory, 1) / 1e6 for point in points], 1),
    }
    panels = []
    for name, (values, slope) in curves.items():
        exponent, _ = np.polyfit(np.log(xs), np.log(values), 1)
        note = f"exponent {exponent:.2f}"
        if sweep.logarithmic:
            middle = np.exp(np.mean(np.log(values)) - slope * np.mean(np.log(xs)))
            line = [float(middle * x**slope) for x in xs]
            note += f"; dashed: exponent {slope}"
        else:
            gradient, start = np.polyfit(xs, values, 1)
            line = [max(0.0, float(start + gradient * x)) for x in xs]
            note += f"; a straight line (dashed) explains {100 * straightness(xs, values):.1f} %"
        panels.append(Panel(name, note, values, line))
    return panels


def straightness(xs: Sequence[float], values: Sequence[float]) -> float:
    """Return the share of the variance that a straight line explains; 1 is straight.

    Example:
        >>> round(straightness([1, 2, 3], [5, 7, 9]), 6)
        1.0
    """
    return float(np.corrcoef(xs, values)[0, 1] ** 2)


if __name__ == "__main__":
    main()
