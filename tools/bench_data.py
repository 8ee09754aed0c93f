"""From files to training samples, per core: hrseg, a plain PIL and albumentations loop, and mmsegmentation.

    python -m tools.bench_data --python /path/to/python/with/mmsegmentation > table.md

Street scenes of 1024x2048 are written as Cityscapes writes its own, PNG image and PNG mask. Each pipeline is a
process with one thread. They take turns, block by block, over the same files; a block's time is the processor
time of its samples, so that what else runs on the machine weighs little. Every ratio is taken between
blocks of one round, and the median over the rounds is printed. hrseg counts its normalization and its ids to
trainIds; mmsegmentation normalizes later, on the device, and got no ids to translate.

Source: mmsegmentation's steps are those of its configs/_base_/datasets/cityscapes.py.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from types import ModuleType
from typing import Any

from hrseg.benchmark.timing import take_turns
from tools.paired import Contender, markdown, serve_turns

CROP = (512, 1024)
SIZE = (1024, 2048)
RECIPES = {"scale, crop, mirror": False, "the same, with colors and class share": True}
"""Recipe → whether colors change, and crops with too much of one class are drawn again."""
Sample = Callable[[Path, Path], Any]


def ours(colors: bool, cache: str | None = None) -> Sample:
    """Make hrseg's pipeline: what its loader processes do, to the normalized float32 tensor."""
    from hrseg.config import DataConfig
    from hrseg.data.datamodule import prepare_worker
    from hrseg.data.dataset import SegmentationDataset, make_reader
    from hrseg.data.layouts import Pair
    from hrseg.data.transforms import train_recipe
    from hrseg.labels import load_labels

    prepare_worker()
    more: Any = {"photometric": 1.0, "photometric_rule": "mmseg", "max_class_share": 0.75}
    scales: Any = {"scale_min": 0.5, "scale_max": 2.0, "scale_step": 0.0}
    config = DataConfig(crop=CROP, cache=cache, cache_gb=10, **scales, **(more if colors else {}))
    recipe, read, labels = train_recipe(config), make_reader(config), load_labels("cityscapes")

    def sample(image: Path, mask: Path) -> Any:
        seed = random.getrandbits(30)
        pairs = [Pair(image, mask, image.stem)]
        return SegmentationDataset(pairs, labels, recipe, read=read, seed=seed)[0]

    return sample


def plain(colors: bool) -> Sample:
    """Make the loop that people write: PIL for files, albumentations for the rest."""
    import albumentations as A
    import torch

    torch.set_num_threads(1)
    jitter = A.ColorJitter((0.875, 1.125), (0.5, 1.5), (0.5, 1.5), (-0.1, 0.1), p=0.5)
    return albumentations_sample("cityscapes", CROP, (0.5, 2.0), [jitter] if colors else [])


def albumentations_sample(
    table: str, crop: tuple[int, int], scales: tuple[float, float], colors: Sequence[Any]
) -> Sample:
    """Return a function that reads image and mask by PIL, then scales, crops, mirrors and normalizes them.

    Args:
        table: Name of the class table that turns ids into trainIds.
        crop: (height, width).
        scales: Least and largest.
        colors: Transforms of the crop's colors.
    """
    import albumentations as A
    import cv2
    import numpy as np
    from albumentations.pytorch import ToTensorV2
    from PIL import Image

    from hrseg.labels import load_labels

    cv2.setNumThreads(0)
    labels = load_labels(table)
    ids = np.arange(max(label.id for label in labels.labels) + 1, dtype=np.uint8)
    trainids = labels.encode(ids[None])[0]
    steps = A.Compose(
        [
            A.RandomScale(scale_limit=(scales[0] - 1, scales[1] - 1), p=1.0),
            A.PadIfNeeded(*crop, fill_mask=255),
            A.RandomCrop(*crop),
            A.HorizontalFlip(p=0.5),
            *colors,
            A.Normalize(),
            ToTensorV2(),
        ]
    )

    def sample(image: Path, mask: Path) -> Any:
        pixels = np.array(Image.open(image).convert("RGB"))
        done = steps(image=pixels, mask=trainids[np.array(Image.open(mask))])
        return {"image": done["image"], "mask": done["mask"].long()}

    return sample


def mmseg(colors: bool) -> Sample:
    """Make mmsegmentation's pipeline. Its normalization happens later, on the device, and is not counted."""
    import cv2
    import torch
    from mmcv.transforms import Compose

    class Operators(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    sys.modules.setdefault("mmcv.ops", Operators("mmcv.ops"))  # mmcv-lite lacks it; no pipeline needs it
    import mmseg.datasets.transforms  # noqa: F401
    from mmseg.registry import TRANSFORMS

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {
            "type": "RandomResize",
            "scale": SIZE[::-1],
            "ratio_range": (0.5, 2.0),
            "keep_ratio": True,
        },
        {"type": "RandomCrop", "crop_size": CROP, "cat_max_ratio": 0.75 if colors else 1.0},
        {"type": "RandomFlip", "prob": 0.5},
        *([{"type": "PhotoMetricDistortion"}] if colors else []),
        {"type": "PackSegInputs"},
    ]
    compose = Compose([TRANSFORMS.build(step) for step in steps])

    def sample(image: Path, mask: Path) -> Any:
        return compose(
            {
                "img_path": str(image),
                "seg_map_path": str(mask),
                "seg_fields": [],
                "reduce_zero_label": False,
            }
        )

    return sample


PIPELINES: dict[str, Callable[..., Sample]] = {
    "hrseg": ours,
    "hrseg without the extra `fast`": ours,
    "hrseg with data.cache": ours,
    "PIL + albumentations": plain,
    "mmsegmentation": mmseg,
}


def serve(name: str, colors: bool, root: Path) -> None:
    """Work on a block for each line on stdin, and answer with its processor seconds per sample."""
    if "without" in name:
        sys.modules["pyspng"] = sys.modules["isal.isal_zlib"] = None  # type: ignore[assignment]
    more = {"cache": str(root / "cache")} if name.endswith("cache") else {}
    sample = PIPELINES[name](colors, **more)
    files = (sorted(root.glob(f"{kind}/**/*.png")) for kind in ("left*", "gt*"))
    pairs = list(zip(*files, strict=True))
    for pair in pairs * 2:
        sample(*pair)  # warm
    for _, answer in serve_turns():
        start = time.process_time()
        for pair in pairs:
            sample(*pair)
        answer((time.process_time() - start) / len(pairs))


def measure(root: Path, python: str | None, rounds: int, colors: bool) -> dict[str, list[float]]:
    """Return the seconds per sample of pipelines that take turns."""
    running: dict[str, Contender] = {}
    try:
        for name in PIPELINES:
            interpreter = python if name == "mmsegmentation" else sys.executable
            if interpreter is not None:
                log = None if name == "hrseg" else root / f"{name}.log"
                job = (name, colors, str(root))
                running[name] = Contender("tools.bench_data", job, interpreter, 1, log)
        for name, contender in running.items():
            try:
                contender.ready()
            except RuntimeError as error:
                raise SystemExit(f"{name} did not start: {error}") from error
        works = {name: contender.turn for name, contender in running.items()}
        return take_turns(works, 0.0, rounds)
    finally:
        for contender in running.values():
            contender.close()


def table(found: dict[str, list[float]], title: str) -> list[str]:
    """Return the table of one recipe, with ratios to hrseg's times."""
    rows = []
    for name, times in found.items():
        ratios = [theirs / own for theirs, own in zip(times, found["hrseg"], strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        time_each = median(times)
        cells = (f"{1000 * time_each:.1f}", f"{1 / time_each:.0f}", f"{middle:.2f}")
        rows.append((name, *cells, f"{low:.2f} to {high:.2f}"))
    header = ("ms a sample", "samples a second and core", "time over hrseg's", "middle half")
    return markdown((title, *header), rows)


def main() -> None:
    """Write the scenes, measure, print the tables."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        name, colors, root = json.loads(sys.argv[1])
        serve(name, colors, Path(root))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    text = "interpreter with mmsegmentation; without it that row is missing"
    parser.add_argument("--python", help=text)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--images", type=int, default=6, help="pairs in a block")
    args = parser.parse_args()
    from hrseg.data.synthetic import write_scenes

    with tempfile.TemporaryDirectory() as folder:
        write_scenes(folder, "cityscapes", {"train": args.images}, SIZE)
        for title, colors in RECIPES.items():
            found = measure(Path(folder), args.python, args.rounds, colors)
            print("\n".join([*table(found, title), ""]), flush=True)


if __name__ == "__main__":
    main()
