"""Time and peak memory of `hrseg.inference.large` against the size of the image, each size in a process of its own.

    python -m tools.bench_large --sizes 5000 10000 20000 --max-memory 1.5G > table.md
    python -m tools.bench_large --sizes 5000 10000 20000 --width 5000 --max-memory 1.5G
    python -m tools.bench_large --sizes 5000 --model hrnet_w18_small_v1.camvid --max-memory 1.5G

Images are RGB TIFFs of tiles of 512 x 512, deflated, made of one picture repeated. Without --model a
stand-in does the network's part: one convolution at stride 4 with eleven classes, so that reading, blending and
writing are what is timed. Peak memory is the process's own, VmHWM of Linux, libraries and all; processor time is
beside the time on the clock, since it does not depend on what else runs.

    python -m tools.bench_large --agree docs/images/street.jpg --model hrnet_w18_small_v1.camvid

compares windows with the image in one piece: the picture is enlarged to 1792 x 1792, and the share of pixels
with another class is told for all blends, beside the windows' borders (up to 8 pixels) and elsewhere. A folder
of images makes a mosaic instead.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

TILE = 512
SIDE = 1792
"""Two windows of 1024 pixels that share a quarter."""
NEAR = 8
WINDOWS = ((1024, 0.25), (512, 0.25), (512, 0.5))


def standin() -> Any:
    """Return a network of one convolution."""
    import torch
    from torch import nn

    class Placeholder(nn.Module):
        num_classes = 11

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, self.num_classes, 5, stride=4, padding=2, bias=False)
            nn.init.normal_(self.conv.weight, generator=torch.Generator().manual_seed(0))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(self.conv(image), image.shape[-2:], mode="bilinear")

    return Placeholder()


def write_image(path: Path, height: int, width: int, picture: Path) -> None:
    """Write a tiled TIFF without ever holding it."""
    import tifffile

    from hrseg.imaging import read_image

    tile = cv2.resize(read_image(picture), (TILE, TILE), interpolation=cv2.INTER_AREA)
    packed = zlib.compress(np.ascontiguousarray(tile).data, 1)

    def tiles() -> Iterator[bytes]:
        for _ in range(-(-height // TILE) * -(-width // TILE)):
            yield packed

    form: dict[str, Any] = {"photometric": "rgb", "compression": "zlib", "metadata": None}
    shape = (height, width, 3)
    with tifffile.TiffWriter(path, bigtiff=height * width > 2 * 10**8) as file:
        file.write(tiles(), shape=shape, dtype="uint8", tile=(TILE, TILE), **form)


def measure(image: Path, model: str | None, max_memory: str, out: Path) -> dict[str, Any]:
    """Segment one image in this process."""
    import torch

    from hrseg.inference.large import parse_size, segment_large
    from hrseg.inference.predictor import Predictor

    torch.set_num_threads(1)
    predictor = Predictor(model or standin(), device="cpu")
    began = time.perf_counter(), _processor()
    segment_large(predictor, image, out / "result", max_memory=parse_size(max_memory))
    return {
        "seconds": time.perf_counter() - began[0],
        "processor": _processor() - began[1],
        "peak": _peak(),
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    """Return the most bytes this process ever held."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else 0
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bench(sizes: list[int], width: int | None, model: str | None, max_memory: str, picture: Path) -> None:
    """Print the table."""
    print("| image | megapixels | s | processor s | megapixels / processor s | peak memory, GiB |")
    print("| --- | --: | --: | --: | --: | --: |", flush=True)
    for side in sizes:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.tif"
            write_image(image, side, width or side, picture)
            words = [sys.executable, "-m", "tools.bench_large", "--one", str(image)]
            words += ["--max-memory", max_memory, *(["--model", model] if model else [])]
            found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
        mega = side * (width or side) / 1e6
        print(
            f"| {side} x {width or side} | {mega:.0f} | {found['seconds']:.0f} | {found['processor']:.0f} | "
            f"{mega / found['processor']:.2f} | {found['peak'] / 2**30:.2f} |",
            flush=True,
        )


def agree(source: Path, model: str | None, precision: str) -> None:
    """Print how much of a mask stays as it is in one piece."""
    from hrseg.imaging import read_image, to_tensor
    from hrseg.inference.predictor import Predictor
    from hrseg.inference.windows import BLENDS, TensorSource, assemble, plan_windows, window_blocks

    predictor = Predictor(model, device="cpu", precision=precision)
    image = mosaic(source) if source.is_dir() else enlarged(read_image(source))
    tensor = to_tensor(image, predictor.mean, predictor.std)[None]
    run, cut = predictor.logits_fn, TensorSource(tensor)
    whole = run(tensor)[0].argmax(dim=0).numpy()
    print("| window | apart | blend | same class, % | another, % near borders | elsewhere |")
    print("| --- | --: | --- | --: | --: | --: |", flush=True)
    for (side, overlap), blend in ((w, b) for w in WINDOWS for b in BLENDS):
        grid = plan_windows(cut.size, (side, side), overlap, blend=blend)
        logits = assemble(window_blocks(run, cut, grid), cut.size)
        mask = logits[0].argmax(dim=0).numpy()
        wrong, near = mask != whole, borders(grid)
        print(
            f"| {side} x {side} | {grid.rows[1][0]} | {blend} | {100 * (1 - wrong.mean()):.2f} | "
            f"{100 * wrong[near].mean():.2f} | {100 * wrong[~near].mean():.2f} |",
            flush=True,
        )


def borders(grid: Any) -> np.ndarray:
    """Mark what lies up to NEAR pixels beside a border of a window inside the image. Shape: bool (H, W)."""
    height, width = grid.size
    near = np.zeros((height, width), bool)
    for spans, along in ((grid.rows, near), (grid.columns, near.T)):
        for start, length in spans:
            for edge in (start, start + length):
                if 0 < edge < len(along):
                    along[max(0, edge - NEAR) : edge + NEAR] = True
    return near


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Resize to SIDE x SIDE."""
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def mosaic(folder: Path) -> np.ndarray:
    """Lay images of one size beside and below one another, SIDE x SIDE."""
    from hrseg.imaging import read_image

    files = sorted(folder.glob("*.png"))
    first = read_image(files[0])
    down, across = -(-SIDE // first.shape[0]), -(-SIDE // first.shape[1])
    chosen = [files[i * len(files) // (down * across)] for i in range(down * across)]
    pictures = [read_image(file) for file in chosen]
    rows = [np.concatenate(pictures[i * across : (i + 1) * across], axis=1) for i in range(down)]
    return np.ascontiguousarray(np.concatenate(rows)[:SIDE, :SIDE])


def main() -> None:
    """Read the words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 10000, 20000])
    parser.add_argument("--width", type=int, help="of all images, which are square without it")
    parser.add_argument("--model")
    parser.add_argument("--max-memory", default="1.5G")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/street.jpg"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--agree", type=Path, metavar="IMAGE")
    words = parser.parse_args()
    if words.one:
        found = measure(words.one, words.model, words.max_memory, words.one.parent)
        print(json.dumps(found))
    elif words.agree:
        agree(words.agree, words.model, words.precision)
    else:
        bench(words.sizes, words.width, words.model, words.max_memory, words.picture)


if __name__ == "__main__":
    main()
