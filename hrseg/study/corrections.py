"""Findings of an audit as files: a page to look at, a list of corrections, and their application to a copy."""

import json
import os
import shlex
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hrseg.convert.convert import new_folder
from hrseg.errors import DataError, guarded, parse_json, path_text, printable
from hrseg.imaging import read_image, read_mask, write_image, write_mask, write_text
from hrseg.imaging.rle import from_coco
from hrseg.labels import LabelSet
from hrseg.study.audit import Audit, Finding
from hrseg.viz import overlay
from hrseg.viz.pages import Picture, jpeg, write_page

PAGE, CORRECTIONS = "audit.html", "corrections.jsonl"
SIDE = 300
"""Longest side of a picture on the page, in pixels."""
CONTEXT = 40
"""Pixels around a region that are shown at least."""


def write_audit(audit: Audit, labels: LabelSet, out: Path) -> None:
    """Write the page and the list of corrections into a folder.

    Args:
        audit: With its findings.
        labels: Of the dataset.
        out: Created if missing.

    Raises:
        DataError: A file cannot be read or written.
    """
    lines = [json.dumps(finding.to_dict(), ensure_ascii=False) for finding in audit.findings]
    write_page(
        out / PAGE,
        "audit.html",
        title=audit.root.resolve().name,
        audit=audit,
        rows=_rows(audit, labels, lines),
        kept=len(lines),
        root=shlex.quote(path_text(audit.root)),
    )
    write_text(out / CORRECTIONS, "".join(f"{line}\n" for line in lines))


def _rows(audit: Audit, labels: LabelSet, lines: list[str]) -> Iterator[tuple[Finding, str, list[Picture]]]:
    """Yield each finding with its line and its pictures: image, mask, suggestion."""
    for finding, line in zip(audit.findings, lines, strict=True):
        yield finding, line, _pictures(audit.root, finding, labels)


def _pictures(root: Path, finding: Finding, labels: LabelSet) -> list[Picture]:
    image = read_image(root / finding.image)
    mask = labels.encode(read_mask(root / finding.mask), finding.mask)
    region = from_coco(finding.counts, finding.size)
    suggested = np.where(region, np.uint8(labels.names.index(finding.suggested)), mask)
    left, top, width, height = finding.box
    around = max(CONTEXT, height // 2, width // 2)
    part = (
        slice(max(0, top - around), top + height + around),
        slice(max(0, left - around), left + width + around),
    )
    outlines, _ = cv2.findContours(region[part].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    pictures = []
    for ids in (None, mask[part], suggested[part]):
        shown = image[part] if ids is None else overlay(image[part], ids, labels, legend=False)
        scale = SIDE / max(shown.shape[:2])
        size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
        resized = cv2.resize(shown, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
        points = [np.round((line + 0.5) * scale).astype(np.int32) for line in outlines]
        pictures.append(jpeg(cv2.polylines(np.ascontiguousarray(resized), points, True, (255, 255, 255), 1)))
    return pictures


def apply_corrections(root: Path, corrections: Path, out: Path, link: bool = False) -> tuple[int, int]:
    """Copy a dataset, with the masks of a list of corrections corrected.

    The copy has the same files, so that a recipe needs no more than another data.root.

    Args:
        root: The dataset's folder, unchanged since the audit.
        corrections: The list; lines that were deleted are not applied.
        out: The copy; it must not exist.
        link: Link the other files instead of copying them.

    Returns:
        How many regions and masks were corrected.

    Raises:
        DataError: A line is wrong, or its mask is another one by now; nothing was written.
    """
    if not root.is_dir():
        raise DataError(f"Folder {root} does not exist. Give the folder of the dataset that was audited.")
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{out} is inside {root}, which is copied. Choose a folder beside it: --out")
    by_mask = _read(corrections, root)
    with new_folder(out) as place:
        shutil.copytree(root, place, dirs_exist_ok=True, copy_function=os.link if link else shutil.copy2)
        for name, rows in by_mask.items():
            target = place / name
            target.unlink()  # it may be a link to the original
            _correct(root / name, target, rows)
    return sum(map(len, by_mask.values())), len(by_mask)


def _read(corrections: Path, root: Path) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return mask → its lines, each with its place for messages."""
    try:
        lines = corrections.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{corrections} cannot be read: {getattr(error, 'strerror', None) or error}. Give the {CORRECTIONS} of: "
            "hrseg data audit"
        ) from error
    by_mask: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{corrections}, line {number}"
        try:
            row = parse_json(line)
            name, missing = str(row["mask"]), {"counts", "size", "values", "value"} - set(row)
        except (ValueError, TypeError, KeyError):
            name, missing, row = "", {"mask"}, {}
        if missing:
            raise DataError(f"{where} is no correction: it lacks '{min(missing)}'. Delete the line, or audit again.")
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
            raise DataError(f"{where} names the mask {printable(name)}, which is not in {root}. Give its dataset.")
        if path.suffix.lower() != ".png":
            raise DataError(f"{where}: {printable(name)} is no PNG, and only those are corrected. Convert the masks.")
        by_mask[name].append((where, row))
    if not by_mask:
        raise DataError(f"{corrections} holds no correction. Leave the lines that are to be applied.")
    return dict(by_mask)


def _correct(source: Path, target: Path, rows: list[tuple[str, dict[str, Any]]]) -> None:
    ids = read_mask(source).copy()
    for where, row in rows:
        try:
            if tuple(row["size"]) != ids.shape[:2]:
                raise ValueError(f"its mask has {ids.shape[0]}x{ids.shape[1]} pixels")
            region = from_coco(row["counts"], ids.shape[:2])
            found = np.unique(ids[region], axis=0).tolist()
            if not all(value in row["values"] for value in found):
                raise ValueError("its mask has changed since the audit")
            value = np.array(row["value"], ids.dtype)
            if value.shape != ids.shape[2:]:
                raise ValueError("its value is no id or color of this mask")
            ids[region] = value
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{where} cannot be applied: {error}. Delete the line, or audit again.") from error
    if ids.ndim == 3:
        write_image(target, ids)
        return
    with guarded(source), Image.open(source) as file:
        colors = file.getpalette() if file.mode == "P" else None
    palette = None
    if colors:
        palette = np.zeros((256, 3), np.uint8)
        palette.reshape(-1)[: len(colors)] = colors
    write_mask(target, ids, palette)
