"""Names for the classes of an imported network: the user's, the file's own, or those its class count is known for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hrseg.data.labels import Label, LabelSet, distinct_colors, load_labels, table_names
from hrseg.errors import WeightsError
from hrseg.weights.foreign import Translated
from hrseg.weights.formats import KNOWN_LABELS

_TABLES = {"voc": "voc2012", "vaihingen": "potsdam"}
"""Data of the catalogue → label table, where they are called otherwise."""


def name_classes(
    found: Translated, spec: Mapping[str, Any], asked: LabelSet | None, new_classifier: bool
) -> tuple[LabelSet | None, str]:
    """Choose the labels of an imported network, and say where they come from.

    Args:
        found: The file in our names.
        spec: Arguments of `create_model`, with the class count of the file where it has one.
        asked: What the user named; None looks into the file, then at what its class count means.
        new_classifier: Whether another class count than the file's is wanted.

    Returns:
        The labels (None where no pixel gets a class, or the count is unknown), and a phrase.

    Raises:
        WeightsError: The labels are for another class count.
    """
    count = spec.get("num_classes")
    if asked is not None:
        if count not in (None, asked.num_classes) and not new_classifier:
            raise WeightsError(
                f"{found.file} tells {count} classes apart, the labels '{asked.name}' name "
                f"{asked.num_classes}. Give the labels it was trained with, or let its last layer start fresh with "
                "--new-classifier (new_classifier=True)."
            )
        return asked, f"{asked.name}, as asked for"
    if spec["head"] == "classification":
        return None, "none: an image classifier names no pixels"
    if found.card.get("labels"):
        own = LabelSet.from_dict(found.card["labels"])
        return own, f"{own.name}, from its card"
    if count is None:
        return None, "unknown"
    data = str(found.card.get("data", ""))
    data = _TABLES.get(data, data)
    if data in table_names():
        return load_labels(data), f"{data}, from the catalogue"
    stored = _from_meta(found.meta, count)
    if stored is not None:
        return stored, f"{stored.name}, from the names in the file"
    if count in KNOWN_LABELS:
        name = KNOWN_LABELS[count]
        return load_labels(name), f"{name}, assumed from its {count} classes; --labels overrides"
    rows = tuple(Label(i, i, f"class {i}", c) for i, c in enumerate(distinct_colors(count)))
    return LabelSet(
        "numbered", rows
    ), f"numbered: no names are known for {count} classes; see --labels"


def _from_meta(content: Mapping[str, Any], count: int) -> LabelSet | None:
    """Read the class names that mmsegmentation keeps; those of a table of ours become that table."""
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    places = [place for place in (meta.get("dataset_meta"), meta) if isinstance(place, Mapping)]
    lowered = [{str(k).lower(): v for k, v in place.items()} for place in places]
    place = next((place for place in lowered if place.get("classes")), {})
    names = [str(name) for name in place.get("classes") or ()]
    if len(names) != count:
        return None
    known = KNOWN_LABELS.get(count)
    if known and _same_classes(load_labels(known).names, names):
        return load_labels(known)
    colors = place.get("palette") or distinct_colors(count)
    if len(colors) != count:
        colors = distinct_colors(count)
    rows = (
        Label(i, i, name, (int(color[0]), int(color[1]), int(color[2])))
        for i, (name, color) in enumerate(zip(names, colors, strict=True))
    )
    return LabelSet("from the file", tuple(rows))


def _same_classes(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Datasets are spelled in several ways (signboard, sign); most names in their places make the same one."""
    plain = [
        (re.split(r"[,;]", name)[0].strip().lower() for name in names) for names in (ours, theirs)
    ]
    equal = sum(a == b for a, b in zip(*plain, strict=True))
    return equal >= 0.8 * len(ours)
