"""Writers of predictions, one row of OUTPUTS for each kind of file; every file is written atomically."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hrseg.errors import ConfigError, unknown_choice
from hrseg.inference.outputs.class_areas import write_areas
from hrseg.inference.outputs.options import Options
from hrseg.inference.outputs.rasters import (
    map_writer,
    write_bands,
    write_color,
    write_ids,
    write_maps,
    write_overlay,
    write_probabilities,
    write_train_ids,
)
from hrseg.inference.outputs.vectors import write_coco, write_geojson

if TYPE_CHECKING:
    from hrseg.inference.prediction import Prediction

__all__ = [
    "DEFAULT_KINDS",
    "OUTPUTS",
    "Options",
    "Output",
    "check_kinds",
    "needed_maps",
    "possible_paths",
    "result_paths",
    "write_all",
]


DEFAULT_KINDS = ("mask", "overlay")


@dataclass(frozen=True)
class Output:
    """One row of OUTPUTS.

    Attributes:
        suffix: Appended to the image's name.
        write: Writes (prediction, file, options); raises DataError where the file cannot be written.
        title: Short description.
        needs: Maps of `prediction.MAPS` that the predictor has to keep.
        placed: Whether it is a GeoTIFF, with .tif for .png, where the image is georeferenced.
    """

    suffix: str
    write: Callable[["Prediction", Path, Options], None]
    title: str
    needs: tuple[str, ...] = ()
    placed: bool = False

    def ending(self, georeferenced: bool) -> str:
        """Return the suffix, .tif for a georeferenced image."""
        tif = self.placed and georeferenced
        return f"{self.suffix.removesuffix('.png')}.tif" if tif else self.suffix


OUTPUTS: dict[str, Output] = {
    "mask": Output("_mask.png", write_ids, "the dataset's ids, in a palette PNG", placed=True),
    "trainids": Output("_trainids.png", write_train_ids, "trainIds, in a gray PNG", placed=True),
    "colour": Output("_colour.png", write_color, "colors of the classes, RGB"),
    "overlay": Output("_overlay.png", write_overlay, "the image under its classes, with a legend"),
    "confidence": Output(
        "_confidence.png",
        map_writer("confidence"),
        "probability of the chosen class, 16 bits",
        ("confidence",),
        placed=True,
    ),
    "margin": Output(
        "_margin.png",
        map_writer("margin"),
        "largest probability less the second, 16 bits",
        ("margin",),
        placed=True,
    ),
    "entropy": Output(
        "_entropy.png",
        map_writer("entropy"),
        "entropy in parts of ln K, 16 bits",
        ("entropy",),
        placed=True,
    ),
    "maps": Output(
        "_maps.npz",
        write_maps,
        "confidence, margin and entropy as float32",
        ("confidence", "margin", "entropy"),
    ),
    "probabilities": Output(
        "_probabilities.npz",
        write_probabilities,
        "probabilities of the chosen classes, float16",
        ("probabilities",),
    ),
    "probabilities_tif": Output(
        "_probabilities.tif",
        write_bands,
        "the same as bands of a float32 GeoTIFF",
        ("probabilities",),
    ),
    "coco": Output("_coco.json", write_coco, "COCO annotations with run lengths", ("confidence",)),
    "geojson": Output("_polygons.geojson", write_geojson, "polygons with holes", ("confidence",)),
    "areas": Output("_areas.json", write_areas, "pixels, per cent and square meters of each class"),
    "areas_csv": Output("_areas.csv", write_areas, "the same as CSV"),
}
"""Kind → row."""


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds without duplicates, or raise ConfigError for an unknown kind or none."""
    kinds = tuple(dict.fromkeys("colour" if kind == "color" else kind for kind in kinds))
    for kind in kinds:
        if kind not in OUTPUTS:
            raise ConfigError(unknown_choice("output", kind, OUTPUTS))
    if not kinds:
        raise ConfigError(f"No kind of result is named. Kinds: {', '.join(OUTPUTS)}.")
    return kinds


def needed_maps(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the maps for `Predictor(keep=...)` that these kinds need.

    Example:
        >>> needed_maps(["mask", "overlay"])
        ()
    """
    return tuple(dict.fromkeys(need for kind in check_kinds(kinds) for need in OUTPUTS[kind].needs))


def result_paths(
    out: str | Path,
    name: str,
    kinds: Iterable[str] = DEFAULT_KINDS,
    georeferenced: bool = False,
) -> dict[str, Path]:
    """Return kind → file of an image's results.

    Example:
        >>> [result_paths("out", "a/x", georeferenced=place)["mask"].as_posix() for place in (False, True)]
        ['out/a/x_mask.png', 'out/a/x_mask.tif']
    """
    rows = {kind: OUTPUTS[kind] for kind in check_kinds(kinds)}
    return {kind: Path(out) / f"{name}{row.ending(georeferenced)}" for kind, row in rows.items()}


def possible_paths(out: str | Path, name: str, kinds: Iterable[str]) -> list[Path]:
    """Return the files that the results of an image may have, whether it is georeferenced or not."""
    both = [result_paths(out, name, kinds, place).values() for place in (False, True)]
    return list(dict.fromkeys(path for paths in both for path in paths))


def write_all(
    prediction: "Prediction",
    out: str | Path,
    name: str,
    kinds: Sequence[str] = DEFAULT_KINDS,
    options: Options | None = None,
) -> dict[str, Path]:
    """Write the results of one image and return kind → file.

    Args:
        prediction: From a `Predictor` with the maps that the kinds need; see `needed_maps`.
        out: Folder of the results; created if missing.
        name: Name of the image; may contain "/".
        kinds: Keys of OUTPUTS.
        options: Writer options.

    Raises:
        ConfigError: An unknown kind, or one that needs a map that the predictor did not keep.
        DataError: A file cannot be written.
    """
    for kind in check_kinds(kinds):
        for need in OUTPUTS[kind].needs:
            if getattr(prediction, need) is None:
                raise ConfigError(
                    f"'{kind}' needs the {need} of every pixel, and the predictor did not keep it. Open it with "
                    f"keep={needed_maps(kinds)}."
                )
    paths = result_paths(out, name, kinds, prediction.georeference is not None)
    for kind, path in paths.items():
        OUTPUTS[kind].write(prediction, path, options or Options())
    return paths
