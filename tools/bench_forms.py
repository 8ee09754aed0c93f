"""Times each fast form against the plain one, in alternation, and prints a table of paired ratios.

    python -m tools.bench_forms --what head labels loss network --backbone hrnet_w18_small_v1 --size 512 1024

Every round runs the plain form and then the other; a row gives the median of the rounds' ratios, which a machine with
other work shifts less than either time. --clock cpu counts the process's own seconds.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from hrseg.benchmark.timing import take_turns
from hrseg.inference.prepare import prepare
from hrseg.losses import WeightedSum
from hrseg.models import create_model
from hrseg.models.blocks import resize_logits
from hrseg.ops.fused_head import using
from hrseg.ops.upsample import labels_from_logits
from tools.paired import median_ratio

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Pair = tuple[str, Callable[[], Any], Callable[[], Any]]
"""Name, plain form, other form."""


def head(backbone: str, size: tuple[int, int], classes: int) -> Iterator[Pair]:
    """The head alone: at inference in both precisions, and learning."""
    network = create_model(backbone, num_classes=classes).eval()
    fine = (size[0] // 4, size[1] // 4)
    channels = network.backbone.out_channels

    def branches(dtype: torch.dtype) -> list[torch.Tensor]:
        return [
            torch.randn(1, wide, fine[0] // 2**i, fine[1] // 2**i, dtype=dtype).contiguous(
                memory_format=torch.channels_last
            )
            for i, wide in enumerate(channels)
        ]

    def run(form: str, module: Any, maps: list[torch.Tensor]) -> Callable[[], Any]:
        def once() -> None:
            with torch.no_grad(), using(form):
                module(maps)

        return once

    def learn(form: str, module: Any, maps: list[torch.Tensor]) -> Callable[[], Any]:
        def once() -> None:
            with using(form):
                module([x.detach().requires_grad_() for x in maps])["main"].sum().backward()

        return once

    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        twin = create_model(backbone, num_classes=classes).eval()
        twin.rewrite(dtype)
        maps = branches(dtype)
        for form in ("summed", "rows"):
            yield f"head, {name}, {form}", run("plain", twin.head, maps), run(form, twin.head, maps)
    network.train()
    maps = branches(torch.float32)
    pair = learn("plain", network.head, maps), learn("summed", network.head, maps)
    yield "head, forward and backward, summed", *pair


def labels(backbone: str, size: tuple[int, int], classes: int) -> Iterator[Pair]:
    """From logits at stride 4 to labels with and without confidence."""
    for count in (classes, 150):
        logits = torch.randn(1, count, size[0] // 4, size[1] // 4)
        logits = logits.contiguous(memory_format=torch.channels_last)

        def whole(logits: torch.Tensor = logits) -> None:
            large = resize_logits(logits, size, "bilinear")
            best, winner = large[0].max(dim=0)
            torch.exp(best - torch.logsumexp(large[0], dim=0)), winner.to(torch.uint8)

        def bands(logits: torch.Tensor = logits) -> None:
            for _ in labels_from_logits(logits, size, want=("confidence",)):
                pass

        yield f"labels and confidence of {count} classes", whole, bands
        patches = torch.randn(1, count, 8, 16)  # regions, as a trained network gives them
        regions = F.interpolate(patches, logits.shape[-2:], mode="bicubic")
        regions = regions.contiguous(memory_format=torch.channels_last)

        def winners(logits: torch.Tensor = regions) -> None:
            resize_logits(logits, size, "bilinear").argmax(dim=1)

        def copied(logits: torch.Tensor = regions) -> None:
            for _ in labels_from_logits(logits, size):
                pass

        yield f"labels of {count} classes", winners, copied


def loss(backbone: str, size: tuple[int, int], classes: int) -> Iterator[Pair]:
    """Loss and its gradient from logits at stride 4, batch 2."""
    logits = torch.randn(2, classes, size[0] // 4, size[1] // 4)
    mask = torch.randint(0, classes, (2, *size))
    for name in ("cross_entropy", "ohem"):
        term = WeightedSum({name: 1.0})

        def whole(term: WeightedSum = term) -> None:
            wanted = logits.detach().requires_grad_()
            term(F.interpolate(wanted, size, mode="bilinear"), mask).backward()

        def blocks(term: WeightedSum = term) -> None:
            term.total({"main": logits.detach().requires_grad_()}, mask).backward()

        yield f"{name} and gradient", whole, blocks


def network(backbone: str, size: tuple[int, int], classes: int) -> Iterator[Pair]:
    """The whole network: as it is written, and as inference runs it."""
    model = create_model(backbone, num_classes=classes).eval()
    image = torch.randn(1, 3, *size)
    for precision in ("fp32", "bf16"):
        before = prepare(model, "cpu", precision, rewrite=False)
        after = prepare(model, "cpu", precision)

        def plain(run: Any = before) -> None:
            with using("plain"):
                run.coarse(image)

        def rewritten(run: Any = after) -> None:
            run.coarse(image)

        yield f"network, {precision}, rewritten", plain, rewritten


PARTS: dict[str, Callable[..., Iterator[Pair]]] = {
    "head": head,
    "labels": labels,
    "loss": loss,
    "network": network,
}


def measure(pair: Pair, rounds: int, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Return medians: milliseconds of the plain form and of the other, and the rounds' ratio."""

    def timer(run: Callable[[], Any]) -> float:
        start = clock()
        run()
        return clock() - start

    works = {name: partial(timer, run) for name, run in zip(("plain", "other"), pair[1:], strict=True)}
    plain, other = (times[1:] for times in take_turns(works, 0.0, rounds + 1).values())  # warm
    return 1e3 * median(plain), 1e3 * median(other), median_ratio(plain, other)


def main() -> None:
    """Parse the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--what", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--backbone", default="hrnet_w18_small_v1")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024), metavar=("H", "W"))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    arguments = parser.parse_args()
    print(f"{arguments.backbone}, {arguments.size[0]}x{arguments.size[1]}, {torch.get_num_threads()} threads")
    print("| form | plain, ms | this, ms | times as fast |\n| --- | --: | --: | --: |")
    for part in arguments.what:
        for pair in PARTS[part](arguments.backbone, tuple(arguments.size), arguments.classes):
            one, two, ratio = measure(pair, arguments.rounds, CLOCKS[arguments.clock])
            print(f"| {pair[0]} | {one:.1f} | {two:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
