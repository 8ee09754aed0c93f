"""Classes in lines of text, with a header or without: which number is an id and which a color, and what is the name."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hrseg.errors import DataError, did_you_mean

MAX_BYTES = 2**18
"""Largest file that is read; 255 names take a few kilobytes."""
NULLS = frozenset(("", "~", "null", "Null", "NULL"))
"""What YAML calls nothing; a class may be called so, an option not."""
_SIGNS = frozenset("‘’“”«»–—…°€\u00a0")


Cells = tuple[int, Mapping[str, Any]]
"""A class as it is written: its line's number, and field → word."""


class Word(str):
    """A word of a YAML file, never a number or a truth value; `line` says where it stands."""

    line: int = 0


def read_text(path: Path) -> str:
    """Read a small text file: UTF-8, UTF-16, or what Windows wrote before (cp1251, cp1252).

    Raises:
        DataError: It cannot be opened, is larger than `MAX_BYTES`, or is in none of these encodings.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Check that the file is there and may be opened."
        ) from error
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{path} has more than {MAX_BYTES:,} bytes, and no table of classes has. Give the file that names the "
            "classes."
        )
    try:
        return _decoded(content)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read: its text is neither UTF-8 nor UTF-16, nor plainly cp1252 or cp1251. Save it as "
            "UTF-8."
        ) from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file as lists and mappings of words: `no`, `null` and `1` stay what they are called.

    Raises:
        DataError: It is no YAML, nests too deep, or a mapping has a key twice.
    """
    text = read_text(path)
    try:
        return _plain(yaml.compose(text, Loader=yaml.BaseLoader), path, {})
    except RecursionError as error:
        raise DataError(
            f"{path} cannot be read: its lists nest without end. A table of classes has three levels at most."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is no YAML"
        raise DataError(
            f"{path}{where} cannot be read: {what}. Correct the YAML; names with signs need quotes."
        ) from error


def refuse(path: Path, line: int, what: str, step: str) -> NoReturn:
    """Raise the error of a line that is not understood."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in what)
    raise DataError(f"Label file {path}, line {line} cannot be read: {shown}. {step}")


def check_fields(path: Path, line: int, fields: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a field that is not known."""
    for field in fields:
        if field not in known:
            close = did_you_mean(field[:60], known)
            refuse(path, line, f"'{field:.60}' is unknown", f"Known: {', '.join(known)}.{close}")


def whole_numbers(words: Iterable[Any]) -> bool:
    """Say whether all words are whole numbers."""
    return all(isinstance(w, str) and re.fullmatch("[+-]?[0-9]{1,10}", w) for w in words)


def _plain(node: yaml.Node | None, path: Path, done: dict[int, Any]) -> Any:
    """Turn a node into words; `done` keeps aliases of aliases from growing."""
    if node is None:
        return None
    if id(node) in done:
        return done[id(node)]
    line = node.start_mark.line + 1
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = Word(node.value)
        value.line = line
    elif isinstance(node, yaml.MappingNode):
        value = {}
        for key_node, value_node in node.value:
            key = _plain(key_node, path, done)
            if not isinstance(key, Word) or key in value:
                what = f"'{key:.60}' stands twice" if isinstance(key, Word) else "a key is a list"
                refuse(path, key_node.start_mark.line + 1, what, "Give each key once, as a word.")
            value[key] = _plain(value_node, path, done)
    else:
        value = [_plain(item, path, done) for item in node.value]
    done[id(node)] = value
    return value


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if b"\0" in content:  # UTF-16 without a mark: the zero bytes tell which half is the high one
        little = content[1::2].count(0) >= content[::2].count(0)
        return content.decode("utf-16-le" if little else "utf-16-be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1251", errors="replace")
        words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
        if all(
            re.fullmatch(r"[Ѐ-ӿ]{2,}", w) and w in (w.lower(), w.title(), w.upper()) for w in words
        ):
            return text
        text = content.decode("cp1252")
        words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
        signs = set(text) - _SIGNS - set("".join(words))
        if (
            all(len(word) == 1 or re.search("[A-Za-z]", word) for word in words)
            and max(signs) < "\x7f"
        ):
            return text
        raise


_MAX_LINE = 1000


def read_lines_of_classes(path: Path) -> list[Cells]:
    """Read the classes of a text file.

    Raises:
        DataError: A line is not understood.
    """
    lines = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        line = line.strip(" \t")
        if len(line) > _MAX_LINE:
            refuse(path, number, f"it has {len(line):,} letters", "Write one class on each line.")
        comment = line.startswith("#") and not re.match(r"#[0-9a-fA-F]{6}[\s,;:]", line)
        if line and not comment and not line.startswith("INTERPOLATION:"):  # the latter of QGIS
            lines.append((number, line))
    if not lines:
        return []
    header = _header(path, lines[0][1])
    return _columns(path, lines, *header) if header else _bare(path, lines)


_FIELDS = {
    alias: field
    for field, aliases in (
        ("name", "name classname labelname class label category classes labels"),
        ("id", "id pixelvalue pixel value index idx classid labelid number code gray gray"),
        *(("r", "r red"), ("g", "g green"), ("b", "b blue")),
        *(
            ("color", "color colour rgb colorrgb hex"),
            ("train_id", "trainid"),
            ("mirror", "mirror"),
        ),
        ("", "a alpha supercategory catid hasinstances ignoreineval ratio train val stuff"),
    )
    for alias in aliases.split()
}
"""Head of a column in small letters → field; "" says nothing about classes."""
_COLUMNS = ("id", "train_id", "name", "r", "g", "b", "color", "mirror")


def _field(head: str) -> str | None:
    return _FIELDS.get(re.sub(r"[^a-z0-9]", "", head.lower()))


def _header(path: Path, line: str) -> tuple[Callable[[str], list[str]], list[str]] | None:
    """Return what splits a line, and the heads of the columns; None where the first line is a class."""
    for delimiter in "\t;,":
        if delimiter in line:
            split = partial(_cells, delimiter)
            try:
                heads = split(line)
            except csv.Error:
                return None
            return (split, heads) if any(map(_field, heads)) else None
    heads = line.split()
    fields = [_field(head) for head in heads]
    if len(heads) == 1 and fields[0] and path.suffix.lower() in (".csv", ".tsv"):
        return partial(_cells, ","), heads
    if len(heads) > 1 and all(fields) and "name" in fields:
        return partial(_by_blanks, fields.index("name"), len(heads)), heads
    return None


def _cells(delimiter: str, line: str) -> list[str]:
    row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    return [cell.strip() for cell in row]


def _by_blanks(place: int, count: int, line: str) -> list[str]:
    """Split at blanks, but not inside the name, which stands at `place`."""
    cells = line.split(None, place)
    return cells[:-1] + cells[-1].rsplit(None, count - 1 - place)


def _columns(
    path: Path, lines: list[tuple[int, str]], split: Callable[[str], list[str]], heads: list[str]
) -> list[Cells]:
    """Read classes under a header."""
    fields = [_field(head) for head in heads]
    lost = next((head for head, field in zip(heads, fields, strict=True) if field is None), None)
    if lost is not None:
        check_fields(path, lines[0][0], (lost,), _COLUMNS)
    rows = []
    for number, line in lines[1:]:
        try:
            row = split(line)
        except csv.Error as error:
            refuse(path, number, str(error), "Close the quotes.")
        if len(row) > len(heads):
            step = "Put a name that holds the separator into quotes."
            refuse(path, number, f"it has more cells than the header: {len(row)}", step)
        rows.append((number, row + [""] * (len(heads) - len(row))))
    names = [place for place, field in enumerate(fields) if field == "name"]
    if len(names) > 1:  # "label, class": one of them is the number
        whole = [place for place in names if whole_numbers(row[place] for _, row in rows)]
        for place in whole[: len(names) - 1]:
            fields[place] = "" if "id" in fields else "id"
    seen = [field for field in fields if field]
    if len(seen) != len(set(seen)):
        double = next(field for field in seen if seen.count(field) > 1)
        step = "Keep one of them."
        refuse(path, lines[0][0], f"two columns may be the {double} of a class", step)
    if "name" not in fields:
        refuse(path, lines[0][0], "it has no name of the classes", "It needs a column 'name'.")
    return [
        (number, {f: cell for f, cell in zip(fields, row, strict=True) if f and cell})
        for number, row in rows
    ]


HEX = re.compile(r"(?:#|\b0x)([0-9a-fA-F]{6})\b")
_LABELMAP = re.compile(r"([^:]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?$")
_LINE = re.compile(r"((?:-?\d+[\s,;:=]+)*)(.*?)((?:[\s,;:=]+-?\d+)*)$")
_ODD = re.compile(r"(?:^|\s)\d*\.\d+(?:\s|$)|[\[({]\s*\d+\s*[,\s]\s*\d")
_SHAPES = {
    (0, 0): "name",
    (1, 0): "id name",
    (0, 1): "name id",
    (3, 0): "r g b name",
    (0, 3): "name r g b",
    (3, 1): "r g b name id",
    (1, 3): "id name r g b",
    (1, 4): "id name r g b a",
    (5, 0): "id r g b a name",
    (7, 0): "id r g b a visible mesh name",
}
"""Numbers before and behind the name → what they are. Four on one side are an id or an opacity more."""


def decimal(match: re.Match[str]) -> str:
    """Replace a match of `HEX` by red, green, blue."""
    return " " + " ".join(str(value) for value in bytes.fromhex(match[1])) + " "


def _bare(path: Path, lines: list[tuple[int, str]]) -> list[Cells]:
    """Read classes without a header, by what stands before and behind their names."""
    rows = []
    for _, line in lines:
        line = HEX.sub(decimal, line).strip()
        labelmap = _LABELMAP.match(line)
        match = _LINE.match(
            f"{labelmap[1]} {labelmap[2]} {labelmap[3]} {labelmap[4]}" if labelmap else line
        )
        assert match is not None  # it takes any line
        rows.append((re.findall(r"-?\d+", match[1]), match[2], re.findall(r"-?\d+", match[3])))
    shapes = [(len(before), len(behind)) for before, _, behind in rows]
    names = [name for _, name, _ in rows]
    numbered = set(shapes) == {(0, 1)} and len(set(names)) == len(names)
    if set(shapes) <= {(0, 0), (0, 1)} and not numbered:  # "lane 1", "lane 2" are names
        rows, shapes = [([], line, []) for _, line in lines], [(0, 0)] * len(lines)
    found = []
    for (number, line), (before, name, behind), shape in zip(lines, rows, shapes, strict=True):
        fields = _fields_of(shape, rows)
        bare = _unquoted(name)
        what = None
        if fields is None:
            what = f"'{line:.60}' is no class"
        elif shape != shapes[0]:
            what = f"'{line:.60}' is written in another way than '{lines[0][1]:.60}' in line {lines[0][0]}"
        elif bare == name and (_ODD.search(name) or (shape > (0, 1) and name.isdecimal())):
            what = f"the numbers of '{line:.60}' have no known meaning"
        if fields is None or what:
            step = "Write 'name', 'id name', 'name r g b', 'id name r g b' or 'name:r,g,b::' on each line, or a header."
            refuse(path, number, str(what), step)
        found.append((number, dict(zip(fields, [*before, bare, *behind], strict=True))))
    for sign in "\t;,:=|":
        if set(shapes) == {(0, 0)} and all(sign in name for _, name, _ in rows):
            step = "Write a header such as name,id,r,g,b above, or put the names into quotes."
            refuse(path, lines[0][0], f"each line has columns ('{sign}') without a meaning", step)
    return [(number, {k: v for k, v in row.items() if k in _COLUMNS}) for number, row in found]


def _fields_of(
    shape: tuple[int, int], rows: Sequence[tuple[list[str], str, list[str]]]
) -> list[str] | None:
    """Return what a line's numbers mean."""
    if shape not in ((4, 0), (0, 4)):
        return _SHAPES[shape].split() if shape in _SHAPES else None
    numbers = [before or behind for before, _, behind in rows]
    first, last = {row[0] for row in numbers if row}, {row[-1] for row in numbers if row}
    opacity = last == {"255"} or (last == {"0", "255"} and len(first) < len(rows))
    four = ["r", "g", "b", "a"] if opacity else ["id", "r", "g", "b"]
    return [*four, "name"] if shape[0] else ["name", *four]


def _unquoted(name: str) -> str:
    """Take quotes from around a name, and a comma from behind it."""
    name = name.rstrip(",; ")
    for quote in "\"'":
        if len(name) > 1 and name[0] == name[-1] == quote:
            return name[1:-1].replace(quote * 2, quote)
    return name
