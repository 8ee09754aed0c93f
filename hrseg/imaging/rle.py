"""Run-length encodings of COCO, CVAT and Label Studio.

COCO counts down the columns, and its strings pack differences of counts into six bits a letter. CVAT counts along
the rows of a box. Label Studio packs the RGBA pixels of a brush into a stream of bits.
"""

from collections.abc import Sequence

import numpy as np


def runs(pixels: np.ndarray) -> list[int]:
    """Return run lengths of a flat mask, beginning with the run of False.

    Example:
        >>> runs(np.array([1, 1, 0, 0, 0, 1], bool))
        [0, 2, 3, 1]
    """
    edges = np.flatnonzero(np.diff(pixels.astype(np.int8), prepend=0))  # where the value changes
    return np.diff(edges, prepend=0, append=len(pixels)).tolist()


def pixels(counts: Sequence[int], total: int) -> np.ndarray:
    """Undo `runs`.

    Args:
        counts: Lengths, beginning with the run of False.
        total: Their required sum.

    Raises:
        ValueError: They do not.
    """
    try:
        lengths = np.asarray(counts, dtype=np.int64).reshape(-1)
    except (OverflowError, TypeError) as error:
        raise ValueError("its run lengths are no numbers of pixels") from error
    if (lengths < 0).any() or int(lengths.sum()) != total:
        raise ValueError(f"its run lengths cover {int(lengths.sum())} pixels instead of {total}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)  # every second run is True


def to_coco(mask: np.ndarray) -> str:
    """Write a mask as a COCO string. Shape: bool (H, W)."""
    return coco_string(runs(mask.ravel(order="F")))  # COCO counts down the columns


def coco_box(rows: slice, columns: slice) -> list[int]:
    """Return a box as COCO has it: left, top, width, height."""
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


def from_coco(counts: str | Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Read COCO's counts, a list or a string. Shape: → bool (H, W).

    Raises:
        ValueError: They do not fit the size, or are no counts.
    """
    lengths = coco_counts(counts) if isinstance(counts, str) else counts
    return pixels(lengths, size[0] * size[1]).reshape(size, order="F")


def coco_string(counts: Sequence[int]) -> str:
    """Encode counts as a COCO string.

    Example:
        >>> coco_string([0, 2, 3, 1])
        '023O'

    Source:
        The format of pycocotools: five bits a letter, the sixth is set where more follow, letters from "0" on; from
        the fourth count on it is the difference to the one two before.
    """
    letters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)  # until only the sign is left
            letters.append(chr(48 + bits + 32 * more))
    return "".join(letters)


def coco_counts(text: str) -> list[int]:
    """Decode a COCO string.

    Example:
        >>> coco_counts("023O")
        [0, 2, 3, 1]

    Raises:
        ValueError: A letter that does not occur, or an end in the middle of a count.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode("utf-8"):
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 35:
            raise ValueError(f"its RLE string holds {chr(letter)!r} where no such letter can be")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift  # negative, in two's complement
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its RLE string ends in the middle of a count")
    return counts


def from_label_studio(data: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Read a brush of Label Studio; what is not transparent belongs to it. Shape: → bool (H, W).

    Raises:
        ValueError: It does not fit the size, or ends early.

    Source:
        rle-pack of thi.ng/umbrella, which Label Studio uses: 32 bits of length, 5 bits of word size - 1, four times
        4 bits of count size - 1; then blocks: 1 bit (repeated or not), 2 bits (which count size), count - 1, and
        one word or that many.
    """
    values = unpack(data, size[0] * size[1] * 4)
    return values.reshape(*size, 4)[..., 3] > 0  # opacity


def to_label_studio(mask: np.ndarray) -> list[int]:
    """Write a mask as a brush of Label Studio: white and opaque where it is set. Shape: bool (H, W).

    Example:
        >>> from_label_studio(to_label_studio(np.array([[True, False, True]])), (1, 3)).tolist()
        [[True, False, True]]

    Source:
        As in `from_label_studio`; every block repeats one word.
    """
    bits = [f"{mask.size * 4:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in _COUNT_SIZES)]
    for index, count in enumerate(runs(mask.ravel())):
        left = count * 4  # red, green, blue and opacity are equal
        while left:
            length = min(left, 1 << _COUNT_SIZES[-1])
            which = next(i for i, size in enumerate(_COUNT_SIZES) if length <= 1 << size)
            bits.append(f"1{which:02b}{length - 1:0{_COUNT_SIZES[which]}b}{255 * (index % 2):08b}")
            left -= length
    text = "".join(bits)
    count = -(-len(text) // 8)
    return list(int(text.ljust(count * 8, "0"), 2).to_bytes(count, "big"))


_COUNT_SIZES = (3, 4, 8, 16)
"""Bits of the counts that Label Studio itself writes."""


def unpack(data: Sequence[int], total: int) -> np.ndarray:
    """Unpack rle-pack bytes into words.

    Args:
        data: Bytes, 0 to 255.
        total: How many words must come out.

    Raises:
        ValueError: Other than that many, or an early end.
    """
    try:
        raw = np.asarray(data)
        fits = raw.ndim == 1 and raw.dtype.kind in "iu" and raw.min() >= 0 and raw.max() <= 255
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("its 'rle' is not a list of bytes, 0 to 255")
    packed = raw.astype(np.uint8).tobytes()
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))  # (8 * bytes,)
    position = 0

    def read(count: int) -> int:
        nonlocal position
        first, position = position, position + count
        if position > len(bits):
            raise ValueError(f"its 'rle' ends after {place} of {total} values")
        around = int.from_bytes(packed[first >> 3 : (position + 7) >> 3], "big")
        return around >> (-position & 7) & ((1 << count) - 1)

    place = 0
    length, word = read(32), read(5) + 1
    if length != total:
        raise ValueError(f"its 'rle' holds {length} values instead of {total}, four a pixel")
    if word > 16:
        raise ValueError(f"its 'rle' has words of {word} bits, where 8 are usual")
    sizes = [read(4) + 1 for _ in range(4)]
    out = np.zeros(length, dtype=np.uint16)
    first = (1 << word) - 1
    powers = 1 << np.arange(word - 1, -1, -1)  # (word,), highest bit first
    while place < length:
        block = read(3)  # repeated or not, and which count size
        both = read(sizes[block & 3] + word)  # the count and the first word
        end = place + 1 + (both >> word)
        if end > length:
            raise ValueError(f"its 'rle' runs beyond its {length} values")
        if block & 4 or end == place + 1:
            out[place:end] = both & first
        else:
            position -= word
            count = (end - place) * word
            position += count
            if position > len(bits):
                raise ValueError(f"its 'rle' ends after {place} of {total} values")
            out[place:end] = bits[position - count : position].reshape(-1, word) @ powers
        place = end
    return out
