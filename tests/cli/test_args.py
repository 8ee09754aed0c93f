import argparse

import pytest

from hrseg.cli.args import Parser, add_verb, positive
from hrseg.errors import ConfigError


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="hrseg paint")
    parser.add_argument("--kind", choices=("mask", "color"))
    parser.add_argument("--size", type=positive, nargs=2)
    return parser


def test_sizes_are_whole_numbers_above_0(parser):
    assert parser.parse_args(["--size", "3", "04"]).size == [3, 4]
    for word in ("0", "-1", "1.5", "²", "1_0", "1e3", ""):
        with pytest.raises(ConfigError, match=f"'{word}' is not a whole number above 0"):
            parser.parse_args(["--size", "8", word])


def test_a_wrong_choice_is_told_the_nearest_and_the_page_of_help(parser):
    with pytest.raises(ConfigError) as error:
        parser.parse_args(["--kind", "maks"])
    assert "--kind does not take 'maks'. It takes: mask, color." in str(error.value)
    assert "Did you mean 'mask'?" in str(error.value)
    assert str(error.value).endswith("See: hrseg paint --help")


def test_the_docstring_of_a_verb_is_its_help():
    def paint(arguments: argparse.Namespace) -> int:
        """Paint each image.

        Nothing is overwritten.
        """
        return len(arguments.images)

    parser = Parser(prog="hrseg")
    verb = add_verb(parser.add_subparsers(), "paint", paint)
    verb.add_argument("images", nargs="*")
    assert "paint each image\n" in parser.format_help()
    assert "Paint each image.\n\nNothing is overwritten.\n" in verb.format_help()
    arguments = parser.parse_args(["paint", "a.png", "b.png"])
    assert arguments.run(arguments) == 2
