"""Paths and names of any bytes become text that files and terminals take."""

import ast
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import hrseg
from hrseg import errors
from hrseg.errors import DataError, format_duration, name_text, parse_json, path_text, printable, whole_number

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


PLAIN = {
    "key", "prefix.strip('.')", "row.tag", "remote.name", "shared.name", "name", "file_or_tag", "self.recipe",
    "self.model", "rate", "extra", "len(rows())", "model.backbone", "model.weights", "usual", "options",
}  # fmt: skip
"""Names of options, recipes and tags, of which no shell takes a letter for its own."""
VERBS = "fit|study|validate|test|evaluate|compare|explain|predict|submit|export|benchmark|serve|reproduce"
COMMAND = re.compile(rf"\b(hrseg ({VERBS}|(config|data|weights) [a-z]+) [^.;:)]*|model\.weights=)$")


def unquoted(source: str) -> Iterator[str]:
    """Yield the values that an f-string puts into a command without quoting them for the shell."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    quoting = [call for call in calls if ast.unparse(call.func).startswith("shlex.")]
    quoted = {id(inside) for call in quoting for inside in ast.walk(call)}
    for node in nodes:
        before = ""
        texts = isinstance(node, ast.JoinedStr) and id(node) not in quoted
        for part in node.values if texts else ():
            if isinstance(part, ast.Constant):
                before += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                text = ast.unparse(part.value)
                if COMMAND.search(before) and "shlex." not in text and text not in PLAIN:
                    yield text
                before += "X"


def test_every_command_that_is_printed_is_quoted_for_the_shell():
    assert list(unquoted("f'Run: hrseg fit --config {path}'")) == ["path"]
    assert list(unquoted("f'Run: hrseg fit {shlex.quote(path)}. See {page}'")) == []
    found = {
        f"{path.name}: {text}"
        for path in sorted(Path(hrseg.__file__).parent.rglob("*.py"))
        for text in unquoted(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_a_message_of_any_length_is_one_paragraph_of_a_page():
    error = DataError(f"{'x' * 10**6} is wrong. Mend it.")
    assert len(str(error)) < 3000
    assert str(error).endswith("x is wrong. Mend it.")
    assert str(DataError("short")) == "short"


def test_json_that_nests_without_end_is_a_value_error():
    with pytest.raises(ValueError, match="nest without end"):
        parse_json("[" * 100_000)
    found = [
        path.name
        for path in sorted(Path(hrseg.__file__).parent.rglob("*.py"))
        if re.search(r"json\.loads?\((?!json\.dumps)", path.read_text(encoding="utf-8"))
    ]
    # the header of safetensors catches it itself; the examples are programs of their own
    assert found == ["errors.py", "segment.py", "segment_openvino.py", "checkpoint_io.py"]


@pytest.mark.parametrize("number", [(2**61 - 1) * 10**4, -(10**21), 10**400])
def test_numbers_that_could_collide_as_keys_are_refused(number):
    with pytest.raises(ValueError, match="more than 64 bits"):
        parse_json(f'{{"rows": [{{"id": {number}}}]}}')
    with pytest.raises(ValueError, match="more than 64 bits"):
        whole_number(str(number))


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63), 2**64 - 1])
def test_numbers_of_64_bits_are_read_exactly(number):
    assert parse_json(f"[{number}, 1e30]") == [number, 1e30]


@pytest.mark.parametrize(
    ("where", "url", "source"),
    [
        ("clone", None, "'{clone}[geo]'"),
        ("clone, in it", None, "'.[geo]'"),
        ("wheel", "file://{wheel}", "'{wheel}[geo]'"),
        ("folder", "file://{folder}", "'{folder}[geo]'"),
        ("gone", "file:///gone/hrseg.whl", "'hrseg[geo]'"),
        ("index", None, "'hrseg[geo]'"),
    ],
)
def test_the_command_that_adds_an_extra_fits_the_installation(where, url, source, tmp_path, monkeypatch):
    clone, folder = tmp_path / "clone", tmp_path / "a folder"
    wheel = tmp_path / "hrseg-1-py3-none-any.whl"
    (clone / "hrseg").mkdir(parents=True)
    folder.mkdir()
    wheel.touch()
    if where.startswith("clone"):
        (clone / "pyproject.toml").touch()
    monkeypatch.setattr(errors, "__file__", str(clone / "hrseg" / "errors.py"))
    monkeypatch.chdir(clone if where == "clone, in it" else tmp_path)
    places = {"clone": clone, "wheel": wheel, "folder": folder}
    text = url and json.dumps({"url": url.format(**places).replace(" ", "%20")})
    monkeypatch.setattr(errors.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text))
    assert errors.install_command("geo") == f"pip install {source.format(**places)}"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")])
def test_durations(seconds, words):
    assert format_duration(seconds) == words
