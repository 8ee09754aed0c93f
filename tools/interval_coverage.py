"""Count how often the intervals of `hrseg compare` and `hrseg evaluate` hold the truth, on simulated images.

    python -m tools.interval_coverage --images 60 100 --repetitions 1000

Every image has some of the classes with areas that differ by orders of magnitude, a difficulty of its own that all
models share, and errors that go to the other classes in it. The truth is the score of 40,000 images. Two models of
equal skill make other errors on the same images; they are called different where p is below 0.05.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from hrseg.metrics.bootstrap import compare, interval
from hrseg.metrics.confusion import iou
from hrseg.metrics.records import ImageRecords, class_counts

PIXELS = 4000
TRUTH = 40_000


@dataclass(frozen=True)
class Set:
    """A kind of data set.

    Attributes:
        classes: How many.
        rarest: Part of the images that hold the rarest class.
    """

    classes: int
    rarest: float


SETS = {
    "2 classes in every image": Set(2, 1.0),
    "11 classes, the rarest in a third": Set(11, 0.35),
    "19 classes, the rarest in a twentieth": Set(19, 0.05),
}


def draw(generator: np.random.Generator, kind: Set, images: int, skill: float) -> list[np.ndarray]:
    """Draw the confusion matrices of two models on the same images. Shape: → two (images, K, K)."""
    classes = kind.classes
    present = generator.random((images, classes)) < np.linspace(1, kind.rarest, classes)
    present[:, 0] = True
    size = np.linspace(1, -2, classes) + generator.normal(0, 1, (images, classes))
    area = np.exp(size) * present
    pixels = generator.multinomial(PIXELS, area / area.sum(axis=1, keepdims=True))  # (N, K)
    difficulty = generator.normal(0, 0.8, (images, 1))
    others = np.repeat(area[:, None], classes, axis=1) * (1 - np.eye(classes))
    total = others.sum(axis=2, keepdims=True)
    alone = (1 - np.eye(classes)) / (classes - 1)  # an image of one class: errors may be any other
    goals = np.where(total > 0, others / np.where(total > 0, total, 1), alone)  # (N, K, K)
    models = []
    for _ in range(2):
        own = generator.normal(0, 0.6, (images, classes))
        recall = 1 / (1 + np.exp(difficulty - skill - own + np.linspace(0, 1.2, classes)))
        hits = generator.binomial(pixels, recall)
        matrices = generator.multinomial(pixels - hits, goals)
        matrices[:, range(classes), range(classes)] += hits
        models.append(matrices)
    return models


def coverage(kind: Set, images: int, repetitions: int, draws: int, skill: float) -> tuple[float, float]:
    """Return how often the interval holds the true mIoU, and how often equal models are called different."""
    generator = np.random.default_rng(0)
    summed = sum(
        sum(matrices.sum(axis=0) for matrices in draw(generator, kind, 2000, skill)) for _ in range(TRUTH // 2000)
    )
    truth = float(np.nanmean(iou(*class_counts(np.asarray(summed)))))
    names = tuple(map(str, range(images)))
    classes = tuple(map(str, range(kind.classes)))
    held = different = 0
    for _ in range(repetitions):
        matrices = draw(generator, kind, images, skill)
        first, second = (ImageRecords(names, classes, each) for each in matrices)
        low, high = interval(first, draws=draws)
        held += low <= truth <= high
        different += compare(first, second, draws=draws).p < 0.05
    return held / repetitions, different / repetitions


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20, 60, 100], metavar="N")
    parser.add_argument("--repetitions", type=int, default=1000, metavar="N")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="bootstrap samples")
    parser.add_argument("--skill", type=float, default=2.2, help="log odds of a right pixel")
    arguments = parser.parse_args()
    print("| data set | images | interval holds the truth | equal models called different |")
    print("| --- | --- | --- | --- |")
    for name, kind in SETS.items():
        for images in arguments.images:
            held, different = coverage(kind, images, arguments.repetitions, arguments.draws, arguments.skill)
            print(f"| {name} | {images} | {100 * held:.1f} % | {100 * different:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
