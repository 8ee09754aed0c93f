"""Folder throughput: `predict_files` against the bare network on decoded tensors and against a plain loop.

    python -m tools.bench_predict                          drawn streets of 512x1024, the model that ships
    python -m tools.bench_predict --folder photos --model runs/mine --device cuda --rounds 9

Four ways to work through the same images take turns, block by block, in one process:

  bare network   the prepared network on tensors that are in memory: no file, no label map
  labels         the same from pixels in memory to label map and confidence: what `Predictor.batch` does
  plain loop     read, segment, write, one image after the other
  predict_files  what `hrseg predict` runs: reading ahead and writing behind in threads

Every ratio is taken between blocks of one round, and the median over the rounds is printed. Processor time counts all
threads: its ratio holds on a busy machine too, and says what a single core could reach at most.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from hrseg.benchmark.timing import take_turns
from hrseg.data.street import scene
from hrseg.imaging import to_tensor, write_image
from hrseg.inference.outputs import needed_maps, write_all
from hrseg.inference.predict_files import DEFAULT_BATCH, open_predictor, predict_files
from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import open_sources
from tools.paired import markdown, median_ratio

Block = Callable[[], None]


def blocks(predictor: Predictor, folder: Path, kinds: list[str], batch: int) -> dict[str, Block]:
    """Return the four ways, each a call that works through the folder once."""
    paths = [one.path for one in open_sources([folder]) if one.path is not None]
    pixels = [predictor.load(path).pixels for path in paths]
    tensors = [to_tensor(one, predictor.mean, predictor.std) for one in pixels]
    groups = [range(first, min(first + batch, len(paths))) for first in range(0, len(paths), batch)]
    if len({one.shape for one in pixels}) > 1:
        groups = [range(i, i + 1) for i in range(len(paths))]

    def bare() -> None:
        for group in groups:
            predictor.logits_fn(torch.stack([tensors[i] for i in group]))
        if predictor.device.type == "cuda":
            torch.cuda.synchronize()

    def labels() -> None:
        for group in groups:
            predictor.batch([pixels[i] for i in group])

    def loop() -> None:
        with tempfile.TemporaryDirectory() as out:
            for path in paths:
                write_all(predictor(path), out, path.stem, kinds)

    def pipeline() -> None:
        with tempfile.TemporaryDirectory() as out:
            for result in predict_files(predictor, open_sources([folder]), out, kinds, batch=batch):
                if result.error is not None:
                    raise SystemExit(str(result.error))

    return {"bare network": bare, "labels": labels, "plain loop": loop, "predict_files": pipeline}


def measure(ways: dict[str, Block], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return seconds and processor seconds of blocks that take turns, without the first round."""

    def timer(block: Block) -> tuple[float, float]:
        start, used = time.perf_counter(), time.process_time()
        block()
        return time.perf_counter() - start, time.process_time() - used

    works = {name: partial(timer, block) for name, block in ways.items()}
    return {name: times[1:] for name, times in take_turns(works, 0.0, rounds + 1).items()}


def table(found: dict[str, list[tuple[float, float]]], images: int) -> list[str]:
    """Return the rows in Markdown."""
    wall = {name: [one[0] for one in times] for name, times in found.items()}
    used = {name: [one[1] for one in times] for name, times in found.items()}
    rows = [
        (
            name,
            f"{images / median(wall[name]):.1f}",
            f"{100 * median_ratio(wall['bare network'], wall[name]):.0f} %",
            f"{median_ratio(wall['plain loop'], wall[name]):.2f}",
            f"{1000 * median(used[name]) / images:.0f}",
            f"{100 * median_ratio(used['bare network'], used[name]):.0f} %",
        )
        for name in found
    ]
    header = ("way", "images a second", "of the bare network's", "plain loop's time over it")
    return markdown((*header, "processor ms an image", "bare network's over it"), rows)


def main() -> None:
    """Draw the images unless there are some, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="images of your own")
    parser.add_argument("--images", type=int, default=16, help="drawn ones (16)")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--suffix", default=".jpg", help="of drawn images (.jpg)")
    parser.add_argument("--save", nargs="+", default=["mask"], help="kinds of results (mask)")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    options = {"device": args.device, "precision": args.precision}
    predictor = open_predictor(args.model, keep=needed_maps(args.save), **options)
    batch = args.batch or DEFAULT_BATCH.get(predictor.device.type, 1)
    with tempfile.TemporaryDirectory() as drawn:
        folder = args.folder or Path(drawn)
        if args.folder is None:
            for number in range(args.images):
                write_image(folder / f"{number:03d}{args.suffix}", scene(number, args.size)[0])
        ways = blocks(predictor, folder, args.save, batch)
        images = len(list(open_sources([folder])))
        found = measure(ways, args.rounds)
    print(
        f"{images} images, {predictor.device.type}, {predictor.precision}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()} cores, batch {batch}, {' '.join(args.save)}, {args.rounds} rounds\n"
    )
    print("\n".join(table(found, images)))


if __name__ == "__main__":
    main()
