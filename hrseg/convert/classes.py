"""Assignment of ids to the classes of a source: merging, renaming, dropping, background; and splits by name."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrseg.convert.base import BACKGROUND_NAMES, Source, color_code, data_error
from hrseg.data.check.file_names import folder_words
from hrseg.errors import ConfigError, DataError, did_you_mean
from hrseg.labels import (
    IGNORE_INDEX,
    VOID,
    ClassTable,
    Color,
    Label,
    LabelSet,
    class_name,
    distinct_colors,
    find_classes,
    read_classes,
)
from hrseg.labels.text_tables import read_text, read_yaml

BACKGROUND, IGNORE, DROP = "background", "ignore", "drop"
"""Targets of --merge that are no classes of their own."""
OTHERS = "*"
"""In --merge: every class that is not named."""
Background = Literal["class", "ignore"]


@dataclass(frozen=True)
class Plan:
    """Target of each class of a source.

    Attributes:
        ids: Source class → id in the masks, 255 where ignored; dropped classes are absent.
        targets: Source class → our class, or one of BACKGROUND, IGNORE and DROP.
        blank: Id of pixels that belong to no object.
        labels: Our classes.
    """

    ids: Mapping[str, int]
    targets: Mapping[str, str]
    blank: int
    labels: LabelSet


def plan_classes(
    source: Source,
    merge: Mapping[str, str],
    background: Background | None = None,
    labels: LabelSet | None = None,
) -> Plan:
    """Assign an id to every class of a source.

    Args:
        source: Result of a reader.
        merge: Source class → our class, "ignore", "drop" or "background"; "*" stands for all others.
        background: Meaning of pixels of no object; None takes the table's, else the tool's.
        labels: Target classes; None numbers those of the source.

    Raises:
        DataError: A class that does not exist is merged, or one has no place in the given table.
    """
    for name in source.classes:
        class_name(name, "The source")
    for name in merge:
        if name != OTHERS and name not in source.classes:
            raise DataError(
                f"--merge names '{name}', which is no class of the source.{did_you_mean(name, source.classes)} "
                f"Classes: {', '.join(source.classes) or 'none'}."
            )
    targets = {name: _target(name, merge, source) for name in source.classes}
    names = list(dict.fromkeys(t for t in targets.values() if t not in (BACKGROUND, IGNORE, DROP)))
    background = background or (_background_of(labels) if labels else source.background)
    bare = not source.covers or any(target in (BACKGROUND, DROP) for target in targets.values())
    has_background = background == "class" and bare
    if labels is None:
        labels = _numbered(source, targets, names, has_background)
    ids = {label.name: label.id for label in labels.labels}
    known = next((ids[name] for name in ids if name.lower() in BACKGROUND_NAMES), None)
    if has_background and known is None:
        raise DataError(
            f"Table '{labels.name}' has no class 'background' for the pixels of no object. Add it, or ignore them "
            "with --background ignore."
        )
    blank = IGNORE_INDEX if not has_background or known is None else known
    missing = next((name for name in names if name not in ids), None)
    if missing is not None:
        raise DataError(
            f"Class '{missing}' is not in table '{labels.name}'.{did_you_mean(missing, ids)} Say what it becomes with "
            f"--merge '{missing}=…' (a class of the table, ignore or drop)."
        )
    special = {BACKGROUND: blank, IGNORE: IGNORE_INDEX}
    numbers = {name: special.get(t, ids.get(t, blank)) for name, t in targets.items() if t != DROP}
    return Plan(numbers, targets, blank, labels)


def read_merge(words: Sequence[str]) -> dict[str, str]:
    """Read rules such as "car,truck,bus=vehicle", or files of them.

    A YAML holds `vehicle: [car, truck, bus]`; a CSV has the columns source and target.

    Example:
        >>> read_merge(["car, bus=vehicle", "*=ignore"])
        {'car': 'vehicle', 'bus': 'vehicle', '*': 'ignore'}

    Raises:
        ConfigError: A rule that cannot be read, or two targets for one class.
    """
    rules: dict[str, str] = {}
    for word in words:
        is_file = Path(word).suffix.lower() in (".yaml", ".yml", ".csv") and "=" not in word
        for name, target in _of_file(Path(word)) if is_file else _of_word(word):
            if rules.setdefault(name, target) != target:
                raise ConfigError(
                    f"--merge gives '{name}' to '{rules[name]}' and to '{target}'. Keep one of the rules."
                )
    return rules


def _target(name: str, merge: Mapping[str, str], source: Source) -> str:
    if name in merge:
        return merge[name]
    if name.lower() in BACKGROUND_NAMES:
        return BACKGROUND
    if name.lower() in VOID or name in source.ignored:
        return IGNORE
    return merge.get(OTHERS, name)


def _background_of(labels: LabelSet) -> Background:
    learned = [row for row in labels.labels if row.train_id != IGNORE_INDEX]
    return "class" if any(row.name.lower() in BACKGROUND_NAMES for row in learned) else "ignore"


def _numbered(source: Source, targets: Mapping[str, str], learned: list[str], has_background: bool) -> LabelSet:
    if not learned:
        raise DataError(
            f"No class is left to learn: {', '.join(f'{n} → {t}' for n, t in targets.items()) or 'none was found'}. "
            "Change --merge, or check that the right files were given."
        )
    colors: dict[str, Color] = {BACKGROUND: (0, 0, 0)} if has_background else {}
    for name, target in targets.items():
        color = source.classes[name]
        if color is not None and target in learned and (target not in targets or target == name):
            colors.setdefault(target, color)
    for name, color in zip(learned, distinct_colors(len(learned)), strict=True):
        colors.setdefault(name, color)
    names = [BACKGROUND] * has_background + learned
    rows = [Label(number, number, name, colors[name]) for number, name in enumerate(names)]
    return LabelSet("labels", tuple(rows))


def _of_word(word: str) -> list[tuple[str, str]]:
    names, equals, target = word.rpartition("=")
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not equals or not found or not target.strip():
        raise ConfigError(f"--merge '{word}' is no rule. Write 'car,truck=vehicle', or give a .yaml or .csv file.")
    return [(name, target.strip()) for name in found]


def _of_file(path: Path) -> list[tuple[str, str]]:
    try:
        if path.suffix.lower() == ".csv":
            rows = csv.DictReader(read_text(path).splitlines(), skipinitialspace=True)
            return [(row["source"].strip(), row["target"].strip()) for row in rows]
        groups = {t: names if isinstance(names, list) else [names] for t, names in read_yaml(path).items()}
        return [(f"{name:s}", str(target)) for target, names in groups.items() for name in names]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"--merge {path} cannot be read: {error}. A YAML holds 'vehicle: [car, truck]'; a CSV has the columns "
            "source and target."
        ) from error


@dataclass(frozen=True)
class SourceClasses:
    """Class table of a source.

    Attributes:
        names: In its order.
        ids: Id → name, for masks of one channel.
        colors: Name → color.
        ignored: Names without a class.
        place: Its file or name, for messages.
    """

    names: tuple[str, ...]
    ids: dict[int, str]
    colors: dict[str, Color]
    ignored: frozenset[str]
    place: str

    @property
    def by_color(self) -> dict[int, str]:
        """0xRRGGBB → name.

        Raises:
            DataError: Two classes share a color.
        """
        found: dict[int, str] = {}
        for name, color in self.colors.items():
            other = found.setdefault(color_code(color), name)
            if other != name:
                raise data_error(
                    self.place,
                    f"'{other}' and '{name}' have the same color {color}",
                    "Give each class its own color",
                )
        return found


def read_source_classes(source: str | Path) -> SourceClasses:
    """Read a source's classes: a table's name, such as "voc2012", or any file that `read_classes` takes.

    Raises:
        DataError: It cannot be read.
    """
    return _known(read_classes(source))


def find_source_classes(folder: Path) -> SourceClasses | None:
    """Read the table of classes in a folder, or return None.

    Raises:
        DataError: They are there and cannot be read.
    """
    table = find_classes(folder)
    return None if table is None else _known(table)


def split_name(name: str) -> str:
    """Return the standard name of a tool's split, or its own name made safe for a folder.

    Example:
        >>> split_name("Validation"), split_name("train2017"), split_name("default"), split_name("night")
        ('val', 'train', '', 'night')
    """
    word = name.strip().lower()
    split = folder_words(word)[1]
    return split or ("" if word == "default" else re.sub(r"[^\w.-]", "_", word).strip("."))


def standard_split(*words: str) -> str:
    """Return the first word that is train, val or test by any usual name, or "".

    Example:
        >>> standard_split("instances", "train2017"), standard_split("aachen")
        ('train', '')
    """
    return next((s for s in map(split_name, words) if s in ("train", "val", "test")), "")


def _known(table: ClassTable) -> SourceClasses:
    labels = table.labels
    shared = {row.train_id: row.name for row in labels.classes}
    ids = {row.id: shared.get(row.train_id, row.name) for row in labels.labels}
    void = [row.name for row in labels.labels if row.train_id == IGNORE_INDEX]
    ignored = frozenset(void) - set(labels.names)
    names = (*labels.names, *(name for name in dict.fromkeys(void) if name in ignored))
    colors = {row.name: row.color for row in table.rows if row.color and row.name in names}
    return SourceClasses(names, ids, colors, ignored, str(table.path))
