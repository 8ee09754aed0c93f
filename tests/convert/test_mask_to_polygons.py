import numpy as np

from hrseg.convert.convert import ConvertOptions, convert
from hrseg.convert.mask_to_polygons import Style, mask_polygons
from hrseg.convert.writers import export
from hrseg.imaging import read_mask
from tests.convert.conftest import predicted


def test_polygons_nest_and_write_the_background_only_inside(with_background):
    mask = np.zeros((7, 9), np.uint8)
    mask[1:6, 1:8] = 1
    mask[2:5, 2:7] = 0
    mask[3, 4] = 2
    style = Style(with_background, "polygons")
    found = mask_polygons(mask, style)
    assert [name for name, _ in found] == ["road", "background", "car"]
    assert [len(ring) for _, ring in found] == [4, 4, 4]
    assert [n for n, _ in mask_polygons(mask, Style(with_background, "polygons", smallest=2))] == [
        "road",
        "background",
    ]


def test_tolerance_bounds_how_far_a_border_moves(tmp_path, with_background):
    y, x = np.mgrid[:90, :120]
    disc = (np.hypot(y - 45, x - 60) < 30).astype(np.uint8)
    predicted(tmp_path, {"disc": disc})
    out = tmp_path / "out.xml"
    export(
        *(tmp_path / "predicted", out, "cvat", with_background),
        images=tmp_path / "photos",
        shapes="polygons",
        tolerance=1.5,
    )
    assert out.read_text().count(";") < 40
    convert(out, tmp_path / "back", ConvertOptions(images=tmp_path / "photos", labels=with_background))
    back = read_mask(tmp_path / "back/masks/train/disc.png")
    changed = np.argwhere(back != disc) + 0.5
    assert np.abs(np.hypot(*(changed - (45, 60)).T) - 30).max() < 1.5 + 1
