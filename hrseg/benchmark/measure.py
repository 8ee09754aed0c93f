"""One benchmark from words to rows, and one comparison from two words to a ratio."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hrseg.benchmark.ceiling import matrix_ceiling
from hrseg.benchmark.clock import alternate, repeat, seconds_of, waiter
from hrseg.benchmark.machine import describe
from hrseg.benchmark.memory import Peak, hand_back, resident
from hrseg.benchmark.ratios import paired_ratio, percentile
from hrseg.benchmark.rows import Comparison, Report, Row, Size
from hrseg.benchmark.subjects import CLASSES, Choice, Subject, open_subject, pictures
from hrseg.errors import ConfigError
from hrseg.inference.threads import settle_threads


def benchmark(
    choices: Sequence[Choice],
    sizes: Sequence[Size],
    *,
    batch: int = 1,
    device: str = "auto",
    until: str = "labels",
    threads: int | None = None,
    seconds: float = 5.0,
    classes: int = CLASSES,
) -> Report:
    """Time models one after the other, each at all sizes from small to large.

    Args:
        choices: The models.
        sizes: (height, width) of images.
        batch: Images at once.
        device: "auto", "cpu" or "cuda".
        until: A key of `subjects.UNTIL`.
        threads: Of torch and the runtimes; None takes as many as predict does.
        seconds: For each row.
        classes: Of networks given by name.

    Raises:
        ConfigError: See `open_subject`.
        WeightsError: See `open_subject`.
    """
    _set_threads(threads)
    rows = []
    where = torch.device("cpu")
    for choice in choices:
        subject = open_subject(choice, device=device, until=until, classes=classes)
        where = subject.device
        before = matrix_ceiling(where, subject.precision)
        counts = {size: subject.multiply_adds(size, batch) for size in sizes}
        hand_back()  # what counting took is not the network's
        base = resident()
        found = {
            size: measure(subject, size, batch, seconds, base)
            for size in sorted(sizes, key=lambda one: one[0] * one[1])
        }
        after = matrix_ceiling(where, subject.precision)
        ceiling = None if before is None or after is None else max(before, after)
        rows += [
            replace(found[size], multiply_adds=counts[size], ceiling=ceiling) for size in sizes
        ]
    return Report(describe(where), until, tuple(rows))


def measure(
    subject: Subject,
    size: Size,
    batch: int,
    seconds: float,
    base: int | None = None,
    least: int = 3,
) -> Row:
    """Time one subject at one size: a first run, a second for its memory, then many. Nothing is counted.

    Args:
        subject: What.
        size: (height, width).
        batch: Images at once.
        seconds: How long the timed runs go on.
        base: Resident bytes that memory counts from, see `memory.Peak`.
        least: Timed runs in any case.
    """
    images = subject.feed(pictures(size, batch, subject.bands))
    wait = waiter(subject.device)

    def work() -> object:
        return subject.work(images)

    first = seconds_of(work, wait)
    with Peak(subject.device, base) as peak:
        work()
    taken = repeat(work, seconds, wait=wait, least=least)
    return Row(
        *(subject.name, subject.precision, size, batch),
        *(first, tuple(taken), peak.bytes),
    )


def compare(
    choices: tuple[Choice, Choice],
    size: Size,
    *,
    batch: int = 1,
    device: str = "auto",
    until: str = "labels",
    threads: int | None = None,
    seconds: float = 10.0,
    classes: int = CLASSES,
) -> Comparison:
    """Time two in turns on the same images.

    Args:
        choices: The two.
        size: (height, width).
        batch: Images at once.
        device: See `benchmark`.
        until: See `benchmark`.
        threads: See `benchmark`.
        seconds: For both together.
        classes: See `benchmark`.

    Raises:
        ConfigError: See `open_subject`; or the two see images of different bands.
    """
    _set_threads(threads)
    one, other = (open_subject(c, device=device, until=until, classes=classes) for c in choices)
    if one.bands != other.bands:
        raise ConfigError(
            f"{one.name} sees {one.bands} bands and {other.name} {other.bands}; they cannot look at the same images. "
            "Compare two of the same bands."
        )
    images = pictures(size, batch, one.bands)
    fed = {"A": (one, one.feed(images)), "B": (other, other.feed(images))}
    works = {mark: _work(subject, given) for mark, (subject, given) in fed.items()}
    answers = [subject.labels(works[mark]()) for mark, (subject, _) in fed.items()]
    agreement = None
    if one.num_classes == other.num_classes and answers[0].shape == answers[1].shape:
        agreement = float(np.mean(answers[0] == answers[1]))
    busy = next((s.device for s in (one, other) if s.device.type != "cpu"), one.device)
    taken = alternate(works, seconds, wait=waiter(busy))
    return Comparison(
        describe(one.device),
        until,
        size,
        batch,
        (f"{one.name}, {one.precision}", f"{other.name}, {other.precision}"),
        (percentile(taken["A"], 0.5), percentile(taken["B"], 0.5)),
        paired_ratio(taken["A"], taken["B"]),
        agreement,
    )


def _work(subject: Subject, images: Any) -> Any:
    return lambda: subject.work(images)


def _set_threads(threads: int | None) -> None:
    if threads is None:
        settle_threads()
    else:
        torch.set_num_threads(threads)
