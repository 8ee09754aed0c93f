"""Opening a model and predicting many pictures: what `hrseg predict` does, for Python too.

One picture that cannot be read never stops the others; a disk that cannot be written does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hrseg.errors import DataError
from hrseg.inference.large import segment_huge
from hrseg.inference.outputs import DEFAULT_KINDS, Options, check_kinds
from hrseg.inference.pipeline import FileResult, Pipeline
from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import Picture, named_files
from hrseg.inference.window_grid import Blend
from hrseg.weights.hub import repository

__all__ = ["FileResult", "from_pretrained", "open_predictor", "predict_files"]


def open_predictor(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    window: tuple[int, int] | None = None,
    overlap: float | None = None,
    blend: Blend | None = None,
    protocol: str = "whole",
    scales: Sequence[float] = (),
    flip: bool | None = None,
    merge: str | None = None,
    keep: Sequence[str] = ("confidence",),
    classes: Sequence[str] = (),
    bits: int | None = None,
) -> Predictor:
    """Open a trained model, ready to segment images.

    Args:
        model: A .ckpt of a run, the run's folder, a .safetensors release, the tag of a shipped model, or
            None for the default one.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        precision: "auto" (bf16 where the device is quick at it), "fp32" or "bf16".
        engine: What computes: "auto", "torch", "openvino" or "compile", see `inference.engines`.
        window: (height, width) of sliding windows, multiples of 32; None runs whole images.
        overlap: Shared fraction of neighboring windows; None is 0.5.
        blend: How windows share a pixel: "ramp" (None), "cosine", "gaussian" or "equal".
        protocol: Name of a way to look: "whole", "tta", or that of a published score.
        scales: Scales to look at instead of the protocol's.
        flip: Whether to look at the mirrored image too.
        merge: What is averaged over them: "softmax", "logits" or "exp".
        keep: Maps that results need beside the mask; see `inference.outputs.needed_maps`. Without any, labels come
            faster.
        classes: Names of the classes whose probabilities are kept; none means all.
        bits: Significant bits of 16-bit files; None takes what the model or the file says, else 16.

    Raises:
        ConfigError: A choice that cannot work.
        WeightsError: The model cannot be opened.
    """
    return Predictor(
        model,
        device=device,
        precision=precision,
        engine=engine,
        window=window,
        overlap=overlap,
        blend=blend,
        protocol=protocol,
        scales=scales,
        flip=flip,
        merge=merge,
        keep=keep,
        classes=classes,
        bits=bits,
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
    sources: Iterable[str | Path | Picture],
    out: str | Path,
    outputs: Sequence[str] = DEFAULT_KINDS,
    options: Options | None = None,
    *,
    batch: int | None = None,
    covers: Callable[[Path], bool] | None = None,
    max_memory: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[FileResult]:
    """Segment pictures and write the results of each, such as mask and overlay.

    Reading, the network and writing overlap: pictures are decoded ahead and written behind in threads. Files are
    called NAME_mask.png (NAME_mask.tif where the picture has a place on the ground) and NAME_overlay.png, where NAME is
    the picture's name: `inference.sources` says how it comes about, and for a list of paths
    `inference.sources.result_names`.

    Args:
        predictor: From `open_predictor`.
        sources: Paths, or pictures from `inference.sources.open_sources`, which need not end.
        out: Folder of the results; it is made where it is missing.
        outputs: Kinds of results, rows of `inference.outputs.OUTPUTS`, and "video": one overlay video of each clip.
        options: What their writers may be told.
        batch: Pictures of one size that share a pass through the network; None takes what suits the device.
        covers: Tells whether a file is one of the pictures, which no result may overwrite; None asks the sources.
        max_memory: Bytes that the process may use; images that need more are refused. None sets no limit.
        progress: Is told of images that are segmented in bands after each of them: rows done, rows of the image.

    Returns:
        One result for each picture, in order, as soon as it is done. Broken ones have an error.

    Raises:
        ConfigError: An unknown kind, or one that needs a map that the predictor does not keep.
        DataError: A result would overwrite one of the pictures, or the folder cannot be written.
        MissingExtraError: A video is asked for, and PyAV is not installed.
    """
    out = Path(out)
    video = "video" in outputs
    others = [kind for kind in outputs if kind != "video"]
    kinds = check_kinds(others) if others or not video else ()
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; results need a folder. Choose another one with --out.")
    if covers is None:
        covers = getattr(sources, "covers", None)
    pictures: Iterable[Picture] = sources  # type: ignore[assignment]
    if isinstance(sources, list | tuple) and not any(isinstance(one, Picture) for one in sources):
        pictures = named_files(sources)
        known = {one.path.resolve() for one in pictures if one.path is not None}
        covers = covers or (lambda path: path.resolve() in known)
    pipeline = Pipeline(
        predictor,
        out,
        kinds,
        options,
        video=video,
        batch=batch,
        covers=covers or (lambda path: False),
        max_memory=max_memory,
        huge=partial(segment_huge, progress=progress),
    )
    yield from pipeline.run(pictures)
