"""What becomes of a prediction: one row of OUTPUTS for each kind of file.

A writer takes a prediction, the file and the options, and writes the file whole or not at all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrseg.errors import ConfigError, unknown_choice
from hrseg.inference.outputs.options import Options
from hrseg.inference.outputs.pictures import write_ids, write_overlay
from hrseg.inference.prediction import DEFAULT_KINDS, Prediction

__all__ = [
    "DEFAULT_KINDS",
    "OUTPUTS",
    "Options",
    "Output",
    "check_kinds",
    "needed_maps",
    "result_paths",
    "write_all",
]


@dataclass(frozen=True)
class Output:
    """One row of OUTPUTS.

    Attributes:
        suffix: What follows the image's name.
        write: (prediction, file, options) → nothing; it raises DataError where the file cannot be written.
        title: What the file is, in a few words.
        needs: Maps of the prediction that must have been kept, of `prediction.MAPS`.
    """

    suffix: str
    write: Callable[[Prediction, Path, Options], None]
    title: str
    needs: tuple[str, ...] = ()


OUTPUTS: dict[str, Output] = {
    "mask": Output("_mask.png", write_ids, "the dataset's ids in a palette PNG"),
    "overlay": Output("_overlay.png", write_overlay, "the image under its classes, with a legend"),
}
"""Kind → row."""


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds without doubles.

    Raises:
        ConfigError: One is not in the table, or there is none.
    """
    kinds = tuple(dict.fromkeys(kinds))
    for kind in kinds:
        if kind not in OUTPUTS:
            raise ConfigError(unknown_choice("output", kind, OUTPUTS))
    if not kinds:
        raise ConfigError(f"No kind of result is named. Kinds: {', '.join(OUTPUTS)}.")
    return kinds


def needed_maps(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the maps that `Predictor(keep=...)` has to keep for these kinds.

    Example:
        >>> needed_maps(["mask", "overlay"])
        ()
    """
    return tuple(dict.fromkeys(need for kind in check_kinds(kinds) for need in OUTPUTS[kind].needs))


def result_paths(
    out: str | Path, name: str, kinds: Iterable[str] = DEFAULT_KINDS
) -> dict[str, Path]:
    """Return where the results of an image go.

    Example:
        >>> result_paths("out", "a/x")["mask"].as_posix()
        'out/a/x_mask.png'
    """
    return {kind: Path(out) / f"{name}{OUTPUTS[kind].suffix}" for kind in check_kinds(kinds)}


def write_all(
    prediction: Prediction,
    out: str | Path,
    name: str,
    kinds: Sequence[str] = DEFAULT_KINDS,
    options: Options | None = None,
) -> dict[str, Path]:
    """Write the results of one image, each whole or not at all.

    Args:
        prediction: From a `Predictor` that keeps what the kinds need; see `needed_maps`.
        out: Folder of the results; it is made where it is missing.
        name: Of the image; it may hold "/".
        kinds: Rows of OUTPUTS.
        options: What the writers may be told.

    Returns:
        Kind → file, in the order of the kinds.

    Raises:
        ConfigError: An unknown kind, or one that needs a map that was not kept.
        DataError: A file cannot be written.
    """
    for kind in check_kinds(kinds):
        for need in OUTPUTS[kind].needs:
            if getattr(prediction, need) is None:
                raise ConfigError(
                    f"'{kind}' needs the {need} of every pixel, and the predictor did not keep it. Open it with "
                    f"keep={needed_maps(kinds)}."
                )
    paths = result_paths(out, name, kinds)
    for kind, path in paths.items():
        OUTPUTS[kind].write(prediction, path, options or Options())
    return paths
