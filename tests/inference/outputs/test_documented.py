"""The ways to read results back that docs/outputs.md shows do what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

import hrseg
from hrseg.inference.outputs import OUTPUTS, write_all
from tests.inference.outputs.made import LABELS, prediction

PAGE = (Path(hrseg.__file__).parents[1] / "docs" / "outputs.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MADE = prediction()


def test_the_table_has_every_kind_with_its_file():
    rows = re.findall(r"^\| `(\w+)` \| `NAME(\S+)` \|", PAGE, re.MULTILINE)
    assert rows == [(kind, row.suffix) for kind, row in OUTPUTS.items()]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # files that a short snippet leaves open
@pytest.mark.parametrize("kind", OUTPUTS)
def test_each_kind_is_read_back_in_few_lines(kind, tmp_path, monkeypatch, capsys):
    path = write_all(MADE, tmp_path, "street", [kind])[kind]
    [snippet] = [text for text in SNIPPETS if f'"{path.name}"' in text]
    assert len(snippet.replace("\n\n", "\n").splitlines()) <= 6
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(snippet, names)
    _CHECKS[kind](names)


def close(name, expected, tolerance):
    return lambda names: np.testing.assert_allclose(names[name], expected, atol=tolerance)


def same_pixels(names):
    for label in LABELS.classes:
        np.testing.assert_array_equal(names["pixels"][label.id], MADE.mask == label.train_id)


def same_probabilities(names):
    assert list(names["of_class"]) == LABELS.names
    np.testing.assert_array_equal(names["of_class"]["car"], MADE.probabilities[1])


_IDS = np.array([7, 26, 23])
_COUNTS = np.bincount(MADE.mask.ravel()).tolist()
_CHECKS = {
    "mask": close("ids", _IDS[MADE.mask], 0),
    "trainids": close("train_ids", MADE.mask, 0),
    "colour": close("colors", LABELS.palette[MADE.mask], 0),
    "overlay": lambda names: np.testing.assert_equal(names["picture"].shape[2], 3),
    "confidence": close("confidence", MADE.confidence, 1e-5),
    "margin": close("margin", MADE.margin, 1e-5),
    "entropy": close("entropy", MADE.entropy, 1e-5),
    "maps": close("entropy", MADE.entropy, 0),
    "probabilities": same_probabilities,
    "probabilities_tif": close("probabilities", MADE.probabilities, 0),
    "coco": same_pixels,
    "geojson": lambda names: close("n", MADE.mask.size, 0)(
        {"n": sum(one["properties"]["pixels"] for one in names["features"])}
    ),
    "areas": lambda names: close("n", _COUNTS, 0)({"n": [r["pixels"] for r in names["rows"]]}),
    "areas_csv": lambda names: close("n", _COUNTS, 0)({"n": [int(row["pixels"]) for row in names["rows"]]}),
}
