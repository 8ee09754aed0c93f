"""The image reader tried on folders of foreign test images: what it reads, what it refuses, and what differs.

    python -m tools.check_reader Pillow/Tests/images image-tiff/tests torchgeo/tests/data > report.txt

RGB is compared with Pillow's, laid on white and turned upright; bands with rasterio's. A difference of one step is
rounding. Files without an image's suffix are left out, as `hrseg predict` leaves them out of folders.
"""

import argparse
import contextlib
import functools
import logging
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image, ImageOps

from hrseg.errors import HrsegError
from hrseg.imaging import IMAGE_SUFFIXES, image_size, load_image, read_bands, read_mask, stored_form

OTHER_SUFFIXES = {".dds", ".tga", ".psd", ".ico", ".avif", ".mpo", ".jpe", ".pbm", ".pcx", ".sgi", ".blp", ".fli",
                  ".eps", ".j2k", ".jpc", ".hdf", ".h5", ".nc", ".bin", ".dcm", ".img", ".vrt", ".webp"}  # fmt: skip
SECONDS = 20
"""For each file and way of reading."""
PIXELS = 2**24
"""The most that are compared."""


class _TooLong(BaseException):
    """Not an Exception, which the reader would take for a failure of the image library."""


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit code is the number of tracebacks, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    logging.captureWarnings(True)
    signal.signal(signal.SIGALRM, _stop)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    details: dict[str, list[str]] = defaultdict(list)
    for folder in options.folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES | OTHER_SUFFIXES:
                for title, kind, text in _try(path):
                    counts[kind][title] += 1
                    if text:
                        details[f"{title} {kind}"].append(f"{path.relative_to(folder)}: {text}")
    print("| kind | RGB | bands | mask |\n|---|--:|--:|--:|")
    for kind, by_title in sorted(counts.items()):
        print(f"| {kind} | {' | '.join(str(by_title[title]) for title in ('RGB', 'bands', 'mask'))} |")
    for kind in sorted(details):
        print(f"\n## {kind}\n" + "\n".join(details[kind]))
    return min(100, counts["traceback"].total())


def _stop(*_: Any) -> None:
    raise _TooLong


def _try(path: Path) -> list[tuple[str, str, str]]:
    """Return the way of reading, the kind of outcome, and a detail or an empty text."""
    found = []
    for title, function in (("RGB", _rgb), ("bands", _bands), ("mask", _mask)):
        said: list[str] = []
        signal.alarm(SECONDS)
        try:
            height, width = _size(path)
            if height * width > PIXELS:
                found.append((title, "not compared: many pixels", ""))
            else:
                found.append((title, *function(path, said)))
        except HrsegError as error:
            text = str(error).replace(str(path), "FILE")
            found.append((title, f"refused: {_kind_of(text)}", text))
        except _TooLong:
            found.append((title, f"longer than {SECONDS} s", "stopped"))
        except Exception:
            found.append((title, "traceback", traceback.format_exc()))
        finally:
            signal.alarm(0)
        found += [(title, "said on the terminal", line) for line in said]
    return found


@functools.lru_cache(1)
def _size(path: Path) -> tuple[int, int]:
    """Return the size, (0, 0) where the file is refused: the ways of reading say why."""
    try:
        return image_size(path)
    except HrsegError:
        return 0, 0


def _kind_of(text: str) -> str:
    """Return what messages of one kind have in common: what stands before numbers, lists and reasons."""
    return re.split(r"[:;,.(]|\d", text.removeprefix("FILE "))[0].strip()


def _rgb(path: Path, said: list[str]) -> tuple[str, str]:
    with _heard(said):
        image = load_image(path)
        size = image_size(path)
    if image.pixels.shape[:2] != size:
        return "of another size than said", str(image.pixels.shape)
    try:
        with _heard([]):
            expected = _pillow(path)
    except Exception as error:
        return "read, the reference does not", f"{type(error).__name__} {' '.join(image.notes)}"
    kind, detail = _compared(image.pixels, expected, " ".join(image.notes))
    known = _exception(_tags(path)) if kind == "differs without a note" else ""
    return (f"differs as documented: {known}", detail) if known else (kind, detail)


def _pages(path: Path) -> int:
    with _heard([]), Image.open(path) as image:
        return getattr(image, "n_frames", 1)


def _tags(path: Path) -> dict[int, Any]:
    """Return the tags of a TIFF's first image, {} of other files."""
    try:
        with _heard([]), Image.open(path) as image:
            return dict(getattr(image, "tag_v2", {}))
    except Exception:
        return {}


def _exception(tags: dict[int, Any]) -> str:
    """Return which of the exceptions in docs/data.md a TIFF is, "" where it is none."""
    compression, photometric, planes = (tags.get(tag) for tag in (259, 262, 284))
    deep = max(tags.get(258, (8,))) == 16
    if compression == 7 and photometric == 6:
        return "JPEG inside TIFF"
    if deep and photometric == 5:
        return "CMYK of 16 bits"
    return "RGB of 16 bits in planes" if deep and planes == 2 else ""


def _pillow(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            image.load()
            upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in upright.info:
                clear = upright.convert("RGBA")
                white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
                return np.array(Image.alpha_composite(white, clear).convert("RGB"))
            if upright.mode.startswith("I"):
                gray = _eight_bits(np.array(upright).clip(0, 65535), _significant(image))
                return np.repeat(gray[..., None], 3, axis=2)
            return np.array(upright.convert("RGB"))


def _significant(image: Image.Image) -> int:
    """Return the bits of 16-bit gray that count."""
    sizes = getattr(image, "tag_v2", {}).get(258, (16,))
    return sizes[0] if 8 < sizes[0] < 16 else 16


def _eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Scale to 8 bits; Pillow has shifted some 12-bit values to 16 bits."""
    if values.max(initial=0) >= 2**bits:
        values = values >> (16 - bits)
    return (values.astype(np.float64) * 255 / (2**bits - 1)).round().astype(np.uint8)


def _bands(path: Path, said: list[str]) -> tuple[str, str]:
    with _heard(said):
        values = read_bands(path)
    if path.suffix.lower() not in (".tif", ".tiff", ".jp2"):
        return "read", ""
    tags = _tags(path)
    if tags.get(274, 1) != 1:
        return "read, not compared: GDAL does not turn", ""
    if tags and _pages(path) > 1:
        return "read, not compared: pages as bands", ""
    try:
        with _heard([]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path) as raster:
                converted = "SOURCE_COLOR_SPACE" in raster.tags(ns="IMAGE_STRUCTURE")
            raw = "GTIFF_RAW:" if converted or tags.get(262) in (5, 8) else ""  # CMYK and LAB as stored
            with rasterio.open(f"{raw}{path}") as raster:
                expected = np.moveaxis(raster.read(), 0, 2).astype(values.dtype)
    except Exception as error:
        return "read, the reference does not", type(error).__name__
    return _compared(values, expected, "")


def _compared(values: np.ndarray, expected: np.ndarray, notes: str) -> tuple[str, str]:
    if values.shape != expected.shape:
        return "differs in shape", f"{values.shape} for {expected.shape} {notes}"
    with np.errstate(all="ignore"):
        steps = np.abs(values.astype(np.float64) - expected.astype(np.float64))
    worst = float(np.nan_to_num(steps).max(initial=0))
    if worst <= 1:
        return "equal" if not worst else "equal but for rounding", ""
    share = float((steps > 1).mean())
    told = "with a note" if notes else "without a note"
    return f"differs {told}", f"by up to {worst:g} in {share:.1%} {notes}"


def _mask(path: Path, said: list[str]) -> tuple[str, str]:
    with _heard(said):
        stored_form(path)
        read_mask(path)
    return "read", ""


@contextlib.contextmanager
def _heard(lines: list[str]) -> Iterator[None]:
    """Collect what is written to the terminal, by whatever library."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()[:3]


if __name__ == "__main__":
    sys.exit(main())
