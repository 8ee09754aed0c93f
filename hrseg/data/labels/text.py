"""Text and YAML files of classes: any usual encoding, and words that all stay words."""

import re
from collections.abc import Iterable, Mapping, Sequence
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
