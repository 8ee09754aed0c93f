"""Resident memory of long work: many sizes of images, a long folder, many epochs.

    python -m tools.bench_memory sizes --model street.xml        400 random sizes, as `hrseg serve` meets
    python -m tools.bench_memory folder --count 2000             `hrseg predict` on a folder of mixed sizes
    python -m tools.bench_memory training --count 20             epochs of the demo recipe

Prints the resident memory of this process at the start, after a tenth, and after each fifth.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import numpy as np

import hrseg.training.build
from hrseg.benchmark.timing import resident
from hrseg.config import load_config
from hrseg.data.street import scene
from hrseg.imaging import write_image
from hrseg.inference.predict_files import open_predictor, predict_files
from hrseg.inference.sources import open_sources
from hrseg.training.fit import fit


def random_images(count: int) -> Iterator[np.ndarray]:
    """Yield cuttings of a drawn scene, of random sizes from 32x32 to 255x255."""
    rng = np.random.default_rng(0)
    whole = scene(0, (256, 256))[0]
    for height, width in rng.integers(32, 256, (count, 2)):
        yield np.ascontiguousarray(whole[:height, :width])


class Watch(pl.Callback):
    """Prints memory as the work goes on; also a callback that counts epochs."""

    def __init__(self, count: int) -> None:
        self.count, self.done = count, 0
        self.told = {0, count // 10, *(count * fifth // 5 for fifth in range(1, 6))}
        self.tell()

    def tell(self) -> None:
        """Print the memory if it is due."""
        if self.done in self.told:
            print(f"{self.done:>5}  {(resident() or 0) / 1e6:,.0f} MB", flush=True)

    def step(self) -> None:
        """Count one piece of work."""
        self.done += 1
        self.tell()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count an epoch."""
        self.step()


def sizes(count: int, model: str | None) -> None:
    """Predict images of many sizes, one by one."""
    predictor = open_predictor(model)
    watch = Watch(count)
    for image in random_images(count):
        predictor(image)
        watch.step()


def folder(count: int, model: str | None) -> None:
    """Predict a folder of images of mixed sizes, and write masks and areas."""
    with tempfile.TemporaryDirectory() as place:
        for number, image in enumerate(random_images(count)):
            write_image(Path(place, f"{number:05d}.png"), image)
        predictor = open_predictor(model)
        watch = Watch(count)
        pictures = open_sources([place])
        for _ in predict_files(predictor, pictures, Path(place, "out"), ("mask", "areas")):
            watch.step()


def training(count: int, model: str | None) -> None:
    """Train the demo recipe on small scenes."""
    watch = Watch(count)
    usual = hrseg.training.build.build_callbacks
    hrseg.training.build.build_callbacks = lambda *given: [*usual(*given), watch]
    with tempfile.TemporaryDirectory() as place:
        words = [f"run.dir={place}", f"trainer.max_epochs={count}", "data.scenes=32"]
        words += ["data.scene_size=[96,128]", "data.crop=[64,96]", "data.workers=2"]
        fit(load_config("demo", words + [f"model.weights={model}"] * (model is not None)))


WORK = {"sizes": (sizes, 400), "folder": (folder, 2000), "training": (training, 20)}
"""Name → function, and how much is done."""


def main() -> None:
    """Measure one kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--count", type=int, help="images or epochs")
    parser.add_argument("--model", help="as for hrseg predict (the model that ships)")
    words = parser.parse_args()
    function, count = WORK[words.work]
    function(words.count or count, words.model)


if __name__ == "__main__":
    main()
