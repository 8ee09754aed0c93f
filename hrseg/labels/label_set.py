"""Classes of a dataset, and the mapping between its ids or colors and the trainIds of a network."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrseg.errors import DataError, first_few
from hrseg.imaging import NAN_ID

Color = tuple[int, int, int]
IGNORE_INDEX = 255
"""trainId of a pixel without loss or score."""
MAX_CLASSES = 255
_MAX_NAME = 500  # letters
_YAML_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"))
"""Names that YAML readers take for a truth value or nothing."""


@dataclass(frozen=True)
class Label:
    """One row of a table.

    Attributes:
        id: Number in the dataset's mask files.
        train_id: Number the network learns, 0 … K-1, or 255 for ignored.
        name: Of the class.
        color: (red, green, blue), 0 to 255.
        mirror: Id of the class that this becomes in a mirrored image, such as left and right arm; None: itself.
    """

    id: int
    train_id: int
    name: str
    color: Color
    mirror: int | None = None


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset.

    Args:
        name: Of the table, for messages.
        labels: All rows; several ids may share a trainId.
        snap: A value that no row has is taken as the nearest row's, up to this distance: of ids, or of colors in
            the channel where they differ most. For masks saved as JPEG or smoothed; 0 refuses such values.

    Raises:
        DataError: An id occurs twice, a number is out of range, or the trainIds are not 0 … K-1.

    Example:
        >>> from hrseg.labels import load_labels
        >>> labels = load_labels("cityscapes")
        >>> labels.num_classes, labels.names[0]
        (19, 'road')
        >>> labels.encode(np.array([[7, 0]])).tolist()
        [[0, 255]]
    """

    name: str
    labels: tuple[Label, ...] = field(repr=False)
    snap: int = 0

    def __post_init__(self) -> None:
        for row in self.labels:  # before a set is made of numbers from an untrusted file
            self._check_numbers(row)
        ids = [label.id for label in self.labels]
        if len(set(ids)) != len(ids):
            double = next(i for i in ids if ids.count(i) > 1)
            raise DataError(f"Table '{self.name}' has id {double} twice. Give each id one row.")
        learned = sorted({row.train_id for row in self.labels} - {IGNORE_INDEX})
        if learned != list(range(len(learned))) or not learned or len(learned) > MAX_CLASSES:
            raise self._wrong_train_ids(learned)
        by_id = dict(zip(ids, self.labels, strict=True))
        for row in self.labels:
            twin = None if row.mirror is None else by_id.get(row.mirror)
            if row.mirror is not None and (twin is None or twin.mirror != row.id):
                raise DataError(
                    f"In table '{self.name}', '{row.name}' (id {row.id}) becomes id {row.mirror} in a mirror, "
                    f"but {'there is no such id' if twin is None else 'not the other way round'}. Left and right "
                    "need each other's id in the column 'mirror'."
                )

    def _check_numbers(self, row: Label) -> None:
        if len(row.name) > _MAX_NAME:
            raise DataError(
                f"Table '{self.name}' has a name of {len(row.name):,} letters, '{row.name[:40]} …'. Shorten it to "
                f"{_MAX_NAME} at most."
            )
        if not 0 <= row.train_id <= IGNORE_INDEX:
            raise self._wrong_train_ids([row.train_id])
        lowest, highest = (-(2**31), 2**31 - 1) if row.train_id == IGNORE_INDEX else (0, 65535)
        if not lowest <= row.id <= highest:
            raise DataError(
                f"Table '{self.name}' gives '{row.name}' the id {row.id}; a mask file holds 0 to 65535, and "
                "only ignored ids may be negative or larger. Change the id."
            )
        if len(row.color) != 3 or not all(0 <= value <= 255 for value in row.color):
            raise DataError(
                f"Table '{self.name}' gives '{row.name}' the color {row.color}; it should be red, green, blue "
                "from 0 to 255. Change the color."
            )

    def _wrong_train_ids(self, learned: list[int]) -> DataError:
        return DataError(
            f"Table '{self.name}' has train ids {learned[:8]}…; they must be 0, 1, 2 … without a gap, "
            f"at most {MAX_CLASSES} of them, and 255 for ignored ids."
        )

    @cached_property
    def classes(self) -> tuple[Label, ...]:
        """The first row of each trainId, in trainId order."""
        first: dict[int, Label] = {}
        for label in self.labels:
            first.setdefault(label.train_id, label)
        return tuple(first[i] for i in sorted(first) if i != IGNORE_INDEX)

    @property
    def nodata_id(self) -> int:
        """The id in mask files that means no data, which no class has: 255, or 65535 where ids go beyond 254."""
        return 65535 if max(label.id for label in self.labels) > 254 else IGNORE_INDEX

    @property
    def num_classes(self) -> int:
        """K, the classes a network learns."""
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Names in trainId order."""
        return [label.name for label in self.classes]

    @cached_property
    def palette(self) -> np.ndarray:
        """Colors in trainId order, uint8. Shape: (K, 3)."""
        return np.array([label.color for label in self.classes], dtype=np.uint8)

    @cached_property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of trainIds that change places when an image is mirrored, such as left and right arm.

        Example:
            >>> from hrseg.labels import load_labels
            >>> load_labels("lip").flip_pairs
            ((14, 15), (16, 17), (18, 19))
        """
        train_ids = {label.id: label.train_id for label in self.labels}
        pairs = [(x.train_id, train_ids[x.mirror]) for x in self.classes if x.mirror is not None]
        return tuple(pair for pair in pairs if pair[0] < pair[1] != IGNORE_INDEX)

    @property
    def flip_order(self) -> list[int]:
        """The trainId that each trainId becomes in a mirror; logits of a mirrored image are read in this order."""
        order = list(range(self.num_classes))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order

    def encode(self, ids: np.ndarray, source: str = "") -> np.ndarray:
        """Turn ids or colors of a mask file into uint8 trainIds, 255 where ignored.

        Args:
            ids: From `imaging.read_mask`.
            source: Name of the file, for the message.

        Raises:
            DataError: A value that the table lacks.

        Shape:
            (H, W) or (H, W, 3) → (H, W)
        """
        of_colors = ids.ndim == 3
        values = pack_colors(ids) if of_colors else ids
        table, in_table = self._low_ids
        if of_colors or not ids.size or ids.min() < 0 or ids.max() >= len(table):
            train_ids, known = self._look_up(values, of_colors)
        elif ids.dtype == np.uint8 and in_table.take(_unique_bytes(ids)).all():
            return cv2.LUT(ids, table[:256])
        else:
            train_ids, known = table.take(ids), in_table.take(ids)
        if not known.all():
            self._refuse(np.unique(values[~known]).tolist(), source, of_colors)
        return train_ids

    def find(self, value: int, of_colors: bool = False) -> Label | None:
        """Return the row that a value of a mask, an id or 0xRRGGBB, is taken as; None if there is none."""
        train_ids, known = self._look_up(np.array([value]), of_colors)
        if not known[0]:
            return None
        if train_ids[0] != IGNORE_INDEX:
            return self.classes[train_ids[0]]
        same = (row for row in self.labels if _key(row, of_colors) == value)
        name = "NaN" if value == NAN_ID else "no label"
        return next(same, Label(value, IGNORE_INDEX, name, (0, 0, 0)))

    def decode(self, mask: np.ndarray) -> np.ndarray:
        """Turn trainIds into the dataset's ids, uint8 or uint16; 255 becomes an ignored id of the table, if it has one.

        Shape:
            (H, W) → (H, W)
        """
        largest = max(label.id for label in self.labels)
        ignored = (x.id for x in self.labels if x.train_id == IGNORE_INDEX and 0 <= x.id < 256)
        table = np.full(256, next(ignored, IGNORE_INDEX), dtype=np.uint16)  # trainId → id
        table[: self.num_classes] = [label.id for label in self.classes]
        return table[mask].astype(np.uint8 if largest < 256 else np.uint16)

    def id_palette(self) -> np.ndarray:
        """Return colors by id for palette PNGs; ids the table lacks are black. Shape: (256, 3)."""
        palette = np.zeros((256, 3), dtype=np.uint8)  # PNG palettes have 256 entries
        for label in self.labels:
            if 0 <= label.id < 256:
                palette[label.id] = label.color
        return palette

    def to_dict(self) -> dict[str, Any]:
        """Return plain types that `from_dict` reads back, for checkpoints and cards."""
        rows = [[row.id, row.train_id, row.name, *row.color] for row in self.labels]
        mirrored = {str(row.id): row.mirror for row in self.labels if row.mirror is not None}
        more = {"mirror": mirrored, "snap": self.snap}
        return {"name": self.name, "labels": rows} | {key: v for key, v in more.items() if v}

    def to_yaml(self, comment: str) -> str:
        """Return the text of a labels.yaml that `load_labels` reads back."""
        learned = [row.train_id for row in self.labels if row.train_id != IGNORE_INDEX]
        explicit = learned != list(range(len(learned)))  # rows that share a class, or another order
        lines = [f"# {line}" for line in comment.splitlines()]
        if self.snap:
            lines.append(f"snap: {self.snap}   # largest distance of a value that is taken as the nearest class")
        lines.append("classes:")
        for row in self.labels:
            train_id = f"train_id: {row.train_id}, " * (explicit or row.train_id == IGNORE_INDEX)
            plain = re.fullmatch("[A-Za-z][A-Za-z_ ]*[A-Za-z]", row.name)
            quote = not plain or row.name.lower() in _YAML_WORDS
            name = json.dumps(row.name, ensure_ascii=False) if quote else row.name
            mirror = f", mirror: {row.mirror}" * (row.mirror is not None)
            lines.append(f"  - {{id: {row.id}, {train_id}name: {name}, color: {list(row.color)}{mirror}}}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LabelSet":
        """Read what `to_dict` wrote.

        Raises:
            DataError: It is something else.
        """
        try:
            mirrored = {str(i): int(twin) for i, twin in content.get("mirror", {}).items()}
            rows = tuple(
                Label(int(i), int(t), _text(name), (int(r), int(g), int(b)), mirrored.get(str(i)))
                for i, t, name, r, g, b in content["labels"]
            )
            return cls(_text(content["name"]), rows, int(content.get("snap", 0)))
        except DataError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"The stored classes cannot be read: {error!r}. Use an undamaged file.") from error

    @cached_property
    def _low_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """The trainIds of the ids 0 to 65535, and whether each is in the table; faster than a search."""
        return self._look_up(np.arange(65536), of_colors=False)

    @cached_property
    def _id_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ids and their trainIds; 255 and NaN are ignored unless a row has them."""
        train_ids = {NAN_ID: IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
        train_ids |= {row.id: row.train_id for row in self.labels}
        return _sorted_arrays(train_ids)

    @cached_property
    def _color_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted packed colors and their trainIds; a class takes precedence over an ignored row of its color."""
        train_ids: dict[int, int] = {}
        for row in sorted(self.labels, key=lambda row: row.train_id == IGNORE_INDEX):
            before = train_ids.setdefault(_key(row, of_colors=True), row.train_id)
            if before != row.train_id != IGNORE_INDEX:
                raise DataError(
                    f"Table '{self.name}' gives {row.color} to '{self.names[before]}' and '{row.name}', so masks of "
                    "the colors are ambiguous. Give each class its own color, or use masks of ids."
                )
        return _sorted_arrays(train_ids)

    def _look_up(self, values: np.ndarray, of_colors: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the trainIds of ids or packed colors, and whether each is in the table."""
        keys, train_ids = self._color_table if of_colors else self._id_table
        place = np.searchsorted(keys, values).clip(max=len(keys) - 1)  # of the shape of values
        known = keys[place] == values
        if self.snap and not known.all():
            missing, which = np.unique(values[~known], return_inverse=True)
            nearest, near = np.empty(len(missing), np.int64), np.empty(len(missing), bool)
            for start in range(0, len(missing), 4096):  # bounds the memory of the distances
                chunk = slice(start, start + 4096)
                distances = channel_distances(missing[chunk], keys, of_colors)  # (4096, rows)
                nearest[chunk] = distances.argmin(axis=1)
                near[chunk] = distances.min(axis=1) <= self.snap
            place[~known], known[~known] = nearest[which], near[which]
        return train_ids[place], known

    def _refuse(self, values: list[Any], source: str, of_colors: bool) -> None:
        if of_colors:
            values = [(value >> 16, value >> 8 & 255, value & 255) for value in values]
            kind, known = "color", f"{len(self.labels)} colors"
        else:
            ids = sorted(label.id for label in self.labels)
            known = f"{ids[0]} to {ids[-1]}" if len(ids) > 12 else ", ".join(map(str, ids))
            kind = "id"
        many = len(values) > 1
        step = (
            f"Add {'them' if many else 'it'} to the table, or choose the table of this dataset with "
            "data.labels. To check all masks: hrseg data check FOLDER"
        )
        if Path(source).suffix.lower() in (".jpg", ".jpeg"):
            step = "JPEG changes ids when it is saved: export the masks as PNG."
        elif of_colors and all(r == g == b for r, g, b in values):
            step = "These seem to be ids saved as gray RGB: save the masks with one channel."
        raise DataError(
            f"{source or 'A mask'} holds {kind}{'s' * many} {first_few(values, 6)}; table '{self.name}' has {known}. "
            f"{step}"
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is a {type(value).__name__}")
    return value


def _unique_bytes(ids: np.ndarray) -> np.ndarray:
    """Return the bytes that occur; a histogram is faster than sorting."""
    if ids.ndim != 2:
        return np.unique(ids)
    counts = cv2.calcHist([np.ascontiguousarray(ids)], [0], None, [256], [0, 256])
    return np.flatnonzero(counts)


def channel_distances(values: np.ndarray, others: np.ndarray, of_colors: bool) -> np.ndarray:
    """Return the distances of ids, or of packed colors in the channel where they differ most.

    Shape:
        (N,), (M,) → (N, M)
    """
    shifts = np.array([16, 8, 0] if of_colors else [0])  # red, green, blue
    mask = 255 if of_colors else -1
    one, other = (array.astype(np.int64)[:, None] >> shifts & mask for array in (values, others))
    distances: np.ndarray = np.abs(one[:, None] - other[None]).max(axis=-1)  # (N, M, 3) → (N, M)
    return distances


def _key(row: Label, of_colors: bool) -> int:
    return int(pack_colors(np.array(row.color))) if of_colors else row.id


def _sorted_arrays(train_ids: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    keys = sorted(train_ids)
    return np.array(keys, np.int32), np.array([train_ids[key] for key in keys], np.uint8)


def pack_colors(colors: np.ndarray) -> np.ndarray:
    """Return colors as 0xRRGGBB. Shape: (..., 3) → (...)."""
    wide = colors.astype(np.int32)  # (..., 3)
    packed: np.ndarray = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return packed
