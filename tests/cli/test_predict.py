from hrseg.cli.main import _parse
from hrseg.inference.outputs import check_kinds


def test_save_takes_color_for_colour():
    kinds = _parse(["predict", "x.png", "--save", "color", "mask", "colour"]).save
    assert check_kinds(kinds) == ("colour", "mask")
