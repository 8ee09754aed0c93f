from hrseg.cli.main import _parse


def test_save_takes_color_for_colour():
    assert _parse(["predict", "x.png", "--save", "color", "mask"]).save == ["colour", "mask"]
