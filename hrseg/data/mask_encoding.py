"""Detection of the numbering of a dataset's masks, from the ids they hold.

COCO-Stuff is published in four numberings and PASCAL-Context in two, in files of the same form. A wrong choice shifts
every class without an error, so a numbering counts only if it explains all ids of many masks and no other does.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hrseg.data.layouts import Pair
from hrseg.errors import DataError
from hrseg.labels import IGNORE_INDEX, LabelSet, load_labels

log = logging.getLogger(__name__)

NUMBERINGS: dict[str, tuple[str, ...]] = {
    "coco_stuff": ("coco_stuff_from_0", "coco_stuff_171", "coco_stuff_171_from_0"),
    "pascal_context_59": ("pascal_context_59_of_459",),
    "pascal_context_60": ("pascal_context_60_of_459",),
}
"""Table → tables of the same classes under other numbers."""
_HAS_GAPS = {".mat": True, "_labelTrainIds.png": False}
"""Ending of a mask's name → whether COCO-Stuff's numbers have gaps there: released maps do, mmsegmentation's not."""
SAMPLE_SIZES = (100, 1000)
"""Masks read at first, and if several numberings explain those."""


def choose_tables(
    pairs: Sequence[Pair],
    labels: LabelSet,
    read: Callable[[Pair], np.ndarray | None],
    *,
    trusted: bool = False,
) -> list[Pair]:
    """Return the pairs with the table whose numbers their masks use.

    Args:
        pairs: Of one split; its masks are numbered alike.
        labels: The table in use; one without other numberings changes nothing.
        read: Pair → ids.
        trusted: Whether the user chose the table: it is taken where several fit.

    Raises:
        DataError: Several numberings explain the masks, or none does.
    """
    masks = [pair for pair in pairs if pair.mask is not None]
    if labels.name not in NUMBERINGS or not masks:
        return list(pairs)
    tables = {labels.name: labels} | {name: load_labels(name) for name in NUMBERINGS[labels.name]}
    for ending, gaps in _HAS_GAPS.items():
        if any(str(pair.mask).endswith(ending) for pair in masks):
            tables = {name: table for name, table in tables.items() if ("171" not in name) == gaps}
    seen: set[int] = set()
    count, fitting = 0, list(tables)
    for size in SAMPLE_SIZES:
        sample = masks[:: max(1, -(-len(masks) // size))]  # evenly from all
        if len(sample) > count:
            seen, count = seen | _ids(sample, read), len(sample)
        fitting = _fitting(tables, seen)
        if len(fitting) == 1:
            break
    if len(fitting) > 1 and trusted and labels.name in fitting:
        fitting = [labels.name]
    if len(fitting) != 1:
        raise DataError(_explain(tables, fitting, seen, f"{count} masks like {masks[0].mask}"))
    (found,) = fitting
    numbering = _describe(tables[found])
    log.info("masks are numbered as in table '%s' (%s), by the ids of %d", found, numbering, count)
    return [pair._replace(table=None if found == labels.name else found) for pair in pairs]


def _fitting(tables: dict[str, LabelSet], seen: set[int]) -> list[str]:
    """Return the tables that contain all ids; where one contains another, the smaller fits better."""
    known = {name: {label.id for label in table.labels} for name, table in tables.items()}
    fitting = [name for name in tables if seen <= known[name]]
    return [name for name in fitting if not any(known[other] < known[name] for other in fitting)]


def _ids(pairs: Sequence[Pair], read: Callable[[Pair], np.ndarray | None]) -> set[int]:
    def unique(pair: Pair) -> list[int]:
        ids = read(pair)
        if ids is None or ids.ndim == 3:
            raise DataError(f"{pair.mask} is a mask of colors; this dataset has numbers. Choose data.labels.")
        values: list[int] = np.unique(ids).tolist()
        return values

    with ThreadPoolExecutor(4) as pool:
        return {value for values in pool.map(unique, pairs) for value in values}


def _describe(table: LabelSet) -> str:
    """Describe a numbering by the meaning of its first and last numbers."""
    rows = sorted(table.labels, key=lambda label: label.id)
    void = "" if rows[-1].id != IGNORE_INDEX else f", {IGNORE_INDEX} {rows.pop().name}"
    return f"0 {rows[0].name}, 1 {rows[1].name}, {rows[-1].id} {rows[-1].name}{void}"


def _explain(tables: dict[str, LabelSet], fitting: list[str], seen: set[int], masks: str) -> str:
    """Return the message for no numbering or several."""
    values = sorted(seen)
    shown = ", ".join(map(str, values[:12])) + (f", … {values[-1]}" if len(values) > 12 else "")
    listed = "; ".join(f"{name} ({_describe(tables[name])})" for name in fitting or tables)
    start = f"{masks} hold the ids {shown}, "
    if fitting:
        return (
            f"{start}which fits more than one numbering of these classes: {listed}. A wrong one would shift every "
            "class. Choose it with data.labels=NAME."
        )
    return (
        f"{start}which fits no numbering of these classes: {listed}. Make sure that all masks are in one form, or "
        "write a table of your own and set data.labels=FILE."
    )
