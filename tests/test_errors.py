"""Paths and names of any bytes become text that files and terminals take."""

import json
import os
import sys
import unicodedata

import pytest

from hrseg.errors import name_text, path_text, printable

CONTROLS = [chr(i) for i in range(0x3000) if unicodedata.category(chr(i)) in ("Cc", "Zl", "Zp")]
TURNING = [chr(i) for i in range(0x202A, 0x202F)] + [chr(i) for i in range(0x2066, 0x206A)]


def test_a_path_becomes_utf8_and_a_usual_one_stays():
    odd = os.fsdecode(b"a/bad\xff\xfe.png")
    assert path_text(odd) == r"a/bad\xff\xfe.png"
    assert name_text(odd) == "a/bad__.png"
    for text in ("a/ü 1.png", "日本/😀.png", "a\nb"):
        assert path_text(text) == text
    assert name_text("日本/😀 ü.1") == "日本/😀 ü.1"
    assert name_text("a\nb\tc\x1b[31m") == "a_b_c_[31m"


@pytest.mark.parametrize("sign", [*CONTROLS, *TURNING])
def test_no_sign_steers_a_terminal(sign):
    shown = printable(f"a{sign}b")
    assert sign not in shown or sign == " "
    assert (shown[0], shown[-1]) == ("a", "b")
    assert printable(shown) == shown


def test_letters_of_all_scripts_stay():
    letters = "".join(
        chr(i)
        for i in range(32, min(sys.maxunicode, 0x20000))
        if unicodedata.category(chr(i)) not in ("Cc", "Cs", "Zl", "Zp") and chr(i) not in TURNING
    )
    assert printable(letters) == letters


def test_escaped_json_is_still_json():
    value = {"class": "a\x1b[31m\x7f\x9b\u202e\nb"}
    text = printable(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert text.isprintable()
