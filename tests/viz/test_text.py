import pytest

from hrseg.viz.text import letters_of, load_font, shortened, text_size, writable


@pytest.mark.parametrize(("size", "expected"), [((1, 1), 12), ((1040, 520), 20), ((520, 1040), 20), ((9999, 9), 72)])
def test_letters_grow_with_the_picture_within_bounds(size, expected):
    assert text_size(*size) == expected


def test_a_name_is_cut_with_an_ellipsis_until_it_fits():
    font = load_font(12)
    name = "a rather long name of a class"
    assert shortened(name, font, int(font.getlength(name)) + 1) == name
    for width in (30, 60, 120):
        cut = shortened(name, font, width)
        assert cut.endswith("…")
        assert name.startswith(cut[:-1])
        assert font.getlength(cut) <= width
        assert font.getlength(name[: len(cut)] + "…") > width  # one letter more does not fit
    assert shortened(name, font, 0) == "…"


def test_letters_without_a_glyph_lose_their_accent_or_become_a_question_mark():
    class Ascii:
        """A font that draws its box for everything but ASCII."""

        def getmask(self, letter):
            return letter.encode() if letter.isascii() else b"box"

    assert writable("Zürich road 7", Ascii()) == "Zurich road 7"
    assert writable("道路 é", Ascii()) == "?? e"
    assert letters_of(["straße", "é, e", "road"]) == {"ß", "é"}
