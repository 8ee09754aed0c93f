"""Opening a model and predicting many images: what `hrseg predict` does, for Python too.

One image that cannot be read never stops the others; a disk that cannot be written does.
"""

import errno
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hrseg.errors import DataError, HrsegError
from hrseg.inference.outputs import DEFAULT_KINDS, Options, check_kinds, result_paths, write_all
from hrseg.inference.predictor import Prediction, Predictor
from hrseg.inference.sources import result_names
from hrseg.viz import percent
from hrseg.weights.hub import repository

_HOPELESS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST),  # the folder cannot be made
}
"""Reasons not to write that the next image would meet as well."""


@dataclass(frozen=True)
class FileResult:
    """What became of one image file.

    Attributes:
        image: The file.
        files: Kind of result → file; empty if the image failed.
        size: (height, width) of the image; None if it failed.
        classes: Class name → share of the pixels, largest first.
        confidence: Mean probability of the chosen classes; None if the image failed.
        seconds: From opening the image to all files on disk.
        error: Why it failed, else None.
        name: What its results are called; it may hold "/".
    """

    image: Path
    files: dict[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    classes: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    seconds: float = 0.0
    error: HrsegError | None = None
    name: str = ""

    @property
    def mask(self) -> Path | None:
        """Palette PNG of dataset ids; None if the image failed or nobody asked for it."""
        return self.files.get("mask")

    @property
    def overlay(self) -> Path | None:
        """The picture with its legend; None if the image failed or nobody asked for it."""
        return self.files.get("overlay")

    def line(self, most: int = 4) -> str:
        """Say it in one line: the image, its largest classes, where the overlay (or the last file) is.

        Example:
            >>> FileResult(Path("a.png"), {"overlay": Path("a_overlay.png")}, classes={"road": 0.5}).line()
            'a.png: road 50.0 %  -> a_overlay.png'
        """
        if self.error is not None:
            return f"{self.image}: {self.error}"
        shown = [f"{name} {percent(share)}" for name, share in self.classes.items()]
        rest = f", {len(shown) - most} more" if len(shown) > most else ""
        last = self.overlay or next(reversed(self.files.values()), None)
        return f"{self.image}: {', '.join(shown[:most])}{rest}  -> {last}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "image": str(self.image),
            "mask": self.mask and str(self.mask),
            "overlay": self.overlay and str(self.overlay),
            "files": {kind: str(path) for kind, path in self.files.items()},
            "height": self.size and self.size[0],
            "width": self.size and self.size[1],
            "classes": {name: round(share, 6) for name, share in self.classes.items()},
            "confidence": self.confidence and round(self.confidence, 6),
            "seconds": round(self.seconds, 4),
            "error": self.error and str(self.error),
        }


def open_predictor(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    window: tuple[int, int] | None = None,
    overlap: float | None = None,
    protocol: str = "whole",
    scales: Sequence[float] = (),
    flip: bool | None = None,
    merge: str | None = None,
    keep: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Predictor:
    """Open a trained model, ready to segment images.

    Args:
        model: A .ckpt of a run, the run's folder, a .safetensors release, the tag of a shipped model, or
            None for the default one.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        precision: "auto" (bf16 where the device is quick at it), "fp32" or "bf16".
        window: (height, width) of sliding windows, multiples of 32; None runs whole images.
        overlap: Shared fraction of neighbouring windows; None is 0.5.
        protocol: Name of a way to look: "whole", "tta", or that of a published score.
        scales: Scales to look at instead of the protocol's.
        flip: Whether to look at the mirrored image too.
        merge: What is averaged over them: "softmax", "logits" or "exp".
        keep: Maps that results need beside mask and confidence; see `inference.outputs.needed_maps`.
        classes: Names of the classes whose probabilities are kept; none means all.

    Raises:
        ConfigError: A choice that cannot work.
        WeightsError: The model cannot be opened.
    """
    return Predictor(
        model,
        device=device,
        precision=precision,
        window=window,
        overlap=overlap,
        protocol=protocol,
        scales=scales,
        flip=flip,
        merge=merge,
        keep=keep,
        classes=classes,
    )


def from_pretrained(name: str, revision: str | None = None, **options: Any) -> Predictor:
    """Open a model of the Hugging Face hub, ready to segment images; it is fetched once.

    `create_model` and `load_weights(network, "hf:org/name")` put its weights into a network of your own.

    Args:
        name: "org/name", where `hrseg weights push` or somebody else's put it.
        revision: A branch, tag or commit; None takes the newest.
        options: Of `open_predictor`.

    Raises:
        WeightsError: There is no such model, it is none of hrseg, or it cannot be reached.
        MissingExtraError: The hub's client is not installed.
    """
    wanted = repository(f"{name}@{revision}" if revision else name)
    return open_predictor(str(wanted), **options)


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: str | Path,
    outputs: Sequence[str] = DEFAULT_KINDS,
    options: Options | None = None,
) -> Iterator[FileResult]:
    """Segment image files one after the other, and write the results of each, such as mask and overlay.

    Files are called NAME_mask.png and NAME_overlay.png, where NAME is the image's stem. Images that
    share a stem keep their folders: a/x.png and b/x.png give out/a/x_mask.png and out/b/x_mask.png. See
    `inference.sources.result_names`.

    Args:
        predictor: From `open_predictor`.
        paths: The images, for example from `inference.sources.expand`.
        out: Folder of the results; it is made where it is missing.
        outputs: Kinds of results, rows of `inference.outputs.OUTPUTS`.
        options: What their writers may be told.

    Returns:
        One result for each image, in order, as soon as it is done. Broken images have an error.

    Raises:
        ConfigError: An unknown kind, or one that needs a map that the predictor does not keep.
        DataError: A result would overwrite one of the images, or the folder cannot be written.
    """
    out = Path(out)
    kinds = check_kinds(outputs)
    paths = [Path(path) for path in paths]
    names = result_names(paths)
    _refuse_overwriting(paths, names, out, kinds)
    for path, name in zip(paths, names, strict=True):
        yield _predict_file(predictor, path, name, out, kinds, options)


def _predict_file(
    predictor: Predictor,
    path: Path,
    name: str,
    out: Path,
    kinds: Sequence[str],
    options: Options | None,
) -> FileResult:
    start = time.perf_counter()
    try:
        prediction = _predict(predictor, path)
    except HrsegError as error:
        return FileResult(path, seconds=time.perf_counter() - start, error=error, name=name)
    try:
        files = write_all(prediction, out, name, kinds, options)
    except HrsegError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS:
            raise
        return FileResult(path, seconds=time.perf_counter() - start, error=error, name=name)
    return FileResult(
        image=path,
        files=files,
        size=prediction.size,
        classes=prediction.shares(),
        confidence=float(prediction.confidence.mean()),
        seconds=time.perf_counter() - start,
        name=name,
    )


def _predict(predictor: Predictor, path: Path) -> Prediction:
    try:
        return predictor(path)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, HrsegError) or not _is_out_of_memory(error):
            raise
        raise DataError(
            f"{path} needs more memory than there is. Run it in windows, such as --window 512 1024, or close "
            "other programs."
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _refuse_overwriting(
    paths: Sequence[Path], names: Sequence[str], out: Path, kinds: Sequence[str]
) -> None:
    """A mask called x_mask.png may be somebody's own, lying beside the image x.png."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; results need a folder. Choose another one with --out.")
    inputs = {path.resolve() for path in paths}
    for name in names:
        for target in result_paths(out, name, kinds).values():
            if target.resolve() in inputs:
                raise DataError(
                    f"{target} is one of the images, and a result would overwrite it. Choose another folder "
                    "with --out, or leave that file out."
                )
