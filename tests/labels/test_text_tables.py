import random

import numpy as np
import pytest

from hrseg.errors import DataError
from hrseg.labels import (
    find_classes,
    load_labels,
)
from tests.data.class_files import BINARY, BROKEN, ENCODINGS, FORMS


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_in_every_encoding(tmp_path, encoding):
    codec, text = ENCODINGS[encoding]
    (tmp_path / "classes.txt").write_bytes(text.encode(codec))
    assert load_labels(tmp_path / "classes.txt").names == text.split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_understood_is_refused_with_its_place(tmp_path, case):
    name, text, said = BROKEN[case]
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    for read in (load_labels, find_classes):
        with pytest.raises(DataError, match=said) as refused:
            read(tmp_path / name if read is load_labels else tmp_path)
        assert name in str(refused.value)
        assert len(str(refused.value)) < 1000
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("case", BINARY)
def test_what_is_no_text_is_refused(tmp_path, case):
    name, content = BINARY[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        find_classes(tmp_path)


@pytest.mark.parametrize("name", ["no", "yes", "off", "null", "~", "1", "1.5", "2024-01-01", "0x10"])
def test_yaml_words_and_numbers_stay_names(tmp_path, name):
    for file, text in (
        ("a.yaml", f"classes: [{name}, other]\n"),
        ("b.yaml", f"classes: [{{name: {name}}}, other]\n"),
        ("data.yaml", f"names: [{name}, other]\n"),
        ("dataset.yaml", f"names:\n  0: {name}\n  1: other\n"),
    ):
        (tmp_path / file).write_text(text)
        labels = load_labels(tmp_path / file)
        assert labels.names == [name, "other"]
        (tmp_path / "again.yaml").write_text(labels.to_yaml("x"), encoding="utf-8")
        assert load_labels(tmp_path / "again.yaml").labels == labels.labels


def test_rows_may_stand_in_any_order(tmp_path):
    (tmp_path / "classes.txt").write_text("2 car\n0 sky\n1 road\n")
    labels = load_labels(tmp_path / "classes.txt")
    assert labels.names == ["car", "sky", "road"]  # train ids follow the file
    assert labels.encode(np.array([[0, 1, 2]], np.uint8)).tolist() == [[1, 2, 0]]


def test_names_that_end_in_numbers_are_names(tmp_path):
    for lines in (["lane 1", "lane 2"], ["background", "lane 1"], ["0", "1", "7"]):
        (tmp_path / "classes.txt").write_text("\n".join(lines))
        assert load_labels(tmp_path / "classes.txt").names == lines


def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path):
    rng = random.Random(0)
    forms = [form[:2] for form in [*FORMS.values(), *BROKEN.values()] if len(form[1]) < 1000]
    bits = [
        "\n",
        "\t",
        ",",
        ";",
        ":",
        "0",
        "-1",
        '"',
        "'",
        "[",
        "]",
        "{",
        "}",
        "#",
        "&a",
        "*a",
        "? ",
        "=",
        "1.5",
    ]
    seen = set()
    for _ in range(600):
        name, text = rng.choice(forms)
        for _ in range(rng.randint(1, 4)):
            place = rng.randint(0, len(text))
            text = text[:place] + rng.choice([*bits, "\x1b", "\u202e", "name"]) + text[place + rng.randint(0, 2) :]
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        try:
            load_labels(tmp_path / name)
            seen.add("read")
        except DataError as error:
            seen.add("refused" if name in str(error) and str(error).isprintable() else str(error))
    assert seen == {"read", "refused"}
