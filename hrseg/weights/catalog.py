"""Catalog of published checkpoints with a stable address, one row each in catalog.csv.

A row holds the address and what keys cannot show: network, resize policy, padding, mean of the images, published score
with its protocol, and terms. `resolve` turns a tag into a file on disk. tools/make_catalog.py compiles the rows from
the publishers' own tables.
"""

import csv
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from hrseg.errors import WeightsError, did_you_mean
from hrseg.weights.checkpoint_io import file_digest
from hrseg.weights.download import (
    Remote,
    Watcher,
    cache_dir,
    cached,
    check,
    fetch,
    receipt_of,
    write_receipt,
)
from hrseg.weights.hub import is_hub, pull
from hrseg.weights.release import DEFAULT_TAG, packaged_models, read_release

HUB = "https://huggingface.co"
COLUMNS = (
    *("tag", "source", "data", "backbone", "head", "num_classes", "resize", "padding", "mean"),
    *("std", "score", "protocol", "url", "sha256", "size", "parameters"),
    *("licence", "data_terms", "reference"),
)


@dataclass(frozen=True)
class Row:
    """One published checkpoint.

    Attributes:
        tag: `architecture.source_data`, such as "hrnet_w48_ocr.mmseg_cityscapes_160k".
        source: Publisher: hrseg, official, timm, mmseg, openmmlab, paddle, csail, openseg.
        data: Training data: a label table, or "in1k" for ImageNet.
        backbone: Name for `create_model`.
        head: Name for `create_model`.
        num_classes: Outputs of its classifier.
        resize: Resize policy of its training.
        padding: Padding of its stride-2 convolutions.
        mean: Per-band mean of its images, in 0 … 1, RGB.
        std: Per-band standard deviation.
        score: Published mIoU or top-1 in per cent; None where none is published.
        protocol: Measure and protocol of the score.
        urls: Addresses of its files; CSAILVision has two, encoder and decoder.
        sha256: Published digest, or its first digits as mmsegmentation puts them into names; may be empty.
        size: Bytes, where published.
        parameters: Parameters of the network; four bytes each are about the size of its file.
        licence: License that the publisher names.
        data_terms: Terms of the training data.
        reference: Source of this row.
    """

    tag: str
    source: str
    data: str
    backbone: str
    head: str
    num_classes: int
    resize: str
    padding: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    score: float | None
    protocol: str
    urls: tuple[str, ...]
    sha256: str
    size: int | None
    parameters: int
    licence: str
    data_terms: str
    reference: str

    @property
    def dataset(self) -> str:
        """Name of its training data, as its owners write it."""
        return re.split("[:(]", self.data_terms)[0].strip()

    @property
    def research_only(self) -> bool:
        """Whether the owners of its data name research, teaching or academic use as the use they allow."""
        return bool(re.search("research|academic|non-commercial", self.data_terms))

    @property
    def megabytes(self) -> int:
        """Size of its files; where none is published, that of its parameters in float32."""
        return round((self.size or 4 * self.parameters) / 1e6)

    @property
    def packaged(self) -> bool:
        """Whether it ships inside the package."""
        return self.urls[0].startswith("package:")

    def remotes(self) -> tuple[Remote, ...]:
        """Return each of its files with its place in the cache; HF_ENDPOINT moves the hub's addresses."""
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
        folder = cache_dir() / "weights" / self.tag
        return tuple(
            Remote(
                self.tag,
                re.sub(f"^{HUB}(?=/)", endpoint, url),
                folder / PurePosixPath(urlsplit(url).path).name,
                self.sha256,
                self.size,
            )
            for url in self.urls
            if not self.packaged
        )

    def files(self) -> tuple[Path, ...]:
        """Return its files where all of them are on this machine, else nothing."""
        if self.packaged:
            return (packaged_models()[self.tag],)
        found = tuple(remote.path for remote in self.remotes() if cached(remote))
        return found if len(found) == len(self.urls) else ()


@cache
def rows() -> tuple[Row, ...]:
    """Return the whole catalog.

    Example:
        >>> {row.source for row in rows()} >= {"official", "timm", "mmseg", "paddle", "csail"}
        True
    """
    text = (resources.files("hrseg.weights") / "catalog.csv").read_text(encoding="utf-8")
    return tuple(_row(line) for line in csv.DictReader(text.splitlines()))


def _row(line: dict[str, str]) -> Row:
    return Row(
        **{key: line[key] for key in ("tag", "source", "data", "backbone", "head", "resize")},
        **{key: line[key] for key in ("padding", "protocol", "sha256", "licence", "data_terms")},
        reference=line["reference"],
        num_classes=int(line["num_classes"]),
        mean=tuple(map(float, line["mean"].split())),
        std=tuple(map(float, line["std"].split())),
        score=float(line["score"]) if line["score"] else None,
        urls=tuple(line["url"].split()),
        size=int(line["size"]) if line["size"] else None,
        parameters=int(line["parameters"]),
    )


def list_weights(*words: str) -> list[str]:
    """Return the tags of published weights, for `load_weights`, `open_predictor` and `model.weights`.

    Args:
        words: Filters that a tag, its source or its data's name must all match.

    Example:
        >>> list_weights("official", "cityscapes")[:2]
        ['hrnet_w48.official_cityscapes', 'hrnet_w48_ocr.official_cityscapes']
    """
    return [row.tag for row in find(words)]


def find(words: Iterable[str]) -> list[Row]:
    """Return the rows that match all words, in any case.

    Example:
        >>> [row.tag for row in find(["CSAIL", "ade"])]
        ['hrnet_w48_c1.csail_ade20k']
    """
    wanted = [word.lower() for word in words]
    return [
        row
        for row in rows()
        if all(word in f"{row.tag} {row.source} {row.head} {row.dataset}".lower() for word in wanted)
    ]


def recommended() -> set[str]:
    """Return the tag of the best published score for each data set, and for each backbone's ImageNet start.

    Scores of test splits, of groups left out and of other protocols than a single scale do not compare, so such rows
    do not count; for its own data it is the model that ships.

    Example:
        >>> sorted(tag for tag in recommended() if "voc" in tag or "w30" in tag)
        ['hrnet_w30.ms_in1k', 'hrnet_w48_ocr.paddle_voc']
    """
    best: dict[str, Row] = {}
    for row in rows():
        if row.score is None or re.search("test|left out|several", row.protocol.partition(";")[0]):
            continue
        group = f"{row.data} {row.backbone}" if row.data == "in1k" else row.data
        if group not in best or row.score > (best[group].score or 0):
            best[group] = row
    default = row_of(DEFAULT_TAG)
    return {row.tag for row in (best | {default.data: default}).values()}


def suggest(name: str) -> str:
    """Return a sentence with the tags that a name may mean: a data set, a network, a recipe, a misspelled tag.

    Example:
        >>> suggest("hrnet_w64")
        ' Tags of that name: hrnet_w64.ms_in1k (79.5).'
        >>> suggest("zzz")
        ''
    """
    wanted = Path(name).stem.lower() if name.endswith((".yaml", ".yml")) else name.lower()
    found = [row for row in rows() if row.tag.startswith(f"{wanted}.") or row.data == wanted]
    if not found:  # a recipe's name: data set, network, head
        found = [row for row in rows() if f"{row.data}_{row.tag.partition('.')[0]}".replace("hrnet_", "") == wanted]
    if not found:
        return did_you_mean(name, list_weights())
    found.sort(key=lambda row: (row.tag not in recommended(), -(row.score or 0)))
    shown = [row.tag + (f" ({row.score:.1f})" if row.score else "") for row in found[:4]]
    rest = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return f" Tags of that name: {', '.join(shown)}{rest}."


def is_tag(text: str | Path) -> bool:
    """Return whether the catalog has this tag.

    Example:
        >>> is_tag("hrnet_w48.ms_in1k"), is_tag("hrnet_w48.ckpt")
        (True, False)
    """
    return any(row.tag == str(text) for row in rows())


def row_of(tag: str) -> Row:
    """Return the row of a tag.

    Raises:
        WeightsError: No such tag.

    Example:
        >>> row_of("hrnet_w18_small.ms_in1k").backbone
        'hrnet_w18_small_v1'
    """
    for row in rows():
        if row.tag == tag:
            return row
    raise WeightsError(
        f"Unknown tag '{tag}'.{suggest(tag)} A tag reads architecture.source_data; hrseg weights list shows all "
        f"{len(rows())}, and hrseg weights list cityscapes w48 those of one kind."
    )


def looks_like_tag(text: str | Path) -> bool:
    """Return whether a name is a tag, maybe a misspelled one, and not a file name.

    Example:
        >>> looks_like_tag("hrnet_w49.ms_in1k"), looks_like_tag("hrnet_w48.pth"), looks_like_tag("runs/hrnet_w48")
        (True, False, False)
    """
    text = str(text)
    suffixes = (".ckpt", ".pth", ".pt", ".tar", ".safetensors", ".pdparams", ".pkl", ".npz")
    return re.fullmatch(r"hrnet_\w+\.\w+", text) is not None and not text.endswith(suffixes) and not Path(text).exists()


def resolve(file_or_tag: str | Path) -> Path:
    """Return the only file of a path or a tag; see `resolve_all`.

    Raises:
        WeightsError: Unknown tag, a tag of two files, or the file cannot be had.
    """
    files = resolve_all(file_or_tag)
    if len(files) == 1:
        return files[0]
    raise WeightsError(
        f"'{file_or_tag}' is a pair of files, {' and '.join(path.name for path in files)}, which belong together. "
        f"Make one file of them: hrseg weights import {file_or_tag} --out NAME.safetensors"
    )


def resolve_all(file_or_tag: str | Path, watcher: Watcher | None = None) -> tuple[Path, ...]:
    """Return the files of a tag, fetched into the cache once; a path is returned as it is.

    Args:
        file_or_tag: A path, a tag, or hf:org/name.
        watcher: Observer of the progress; None logs it.

    Raises:
        WeightsError: Unknown tag, or a file cannot be had.
    """
    if is_hub(file_or_tag):
        return (pull(str(file_or_tag)),)
    if not is_tag(file_or_tag) and not looks_like_tag(file_or_tag):
        return (Path(file_or_tag),)
    row = row_of(str(file_or_tag))
    if row.packaged:
        return row.files()
    return tuple(fetch(remote, watcher).path for remote in row.remotes())


def check_backbone(tag: str, backbone: str) -> None:
    """Refuse weights of another backbone than the network's before they are fetched.

    Raises:
        WeightsError: Unknown tag, or it belongs to another backbone.
    """
    row = row_of(tag)
    if row.backbone == backbone:
        return
    raise WeightsError(
        f"Weights '{tag}' are for {row.backbone}; this network is {backbone}. Set model.backbone={row.backbone}, or "
        f"choose weights made for {backbone}."
    )


def cached_tags() -> list[str]:
    """Return the tags with a file in the cache, maybe only one of a pair."""
    return [row.tag for row in rows() if any(remote.path.exists() for remote in row.remotes())]


def known(tag_or_file: str) -> str:
    """Return a tag of the catalog, or a file that exists.

    Raises:
        WeightsError: It is neither.
    """
    if is_tag(tag_or_file) or looks_like_tag(tag_or_file):
        return row_of(tag_or_file).tag
    if not Path(tag_or_file).is_file():
        raise WeightsError(
            f"{tag_or_file} is neither a file nor a tag. Tags: hrseg weights list; all that is in the cache: hrseg "
            "weights verify"
        )
    return tag_or_file


def verify(tag_or_file: str) -> list[str]:
    """Hash the files of a tag in the cache, or a file, and compare them with the published digests.

    Returns:
        One line for each file: its identity, and how far that is certain.

    Raises:
        WeightsError: A file is missing or another one than it should be, or the tag is unknown.
    """
    if is_tag(known(tag_or_file)):
        row = row_of(tag_or_file)
        return [_packaged(row)] if row.packaged else [_verify_cached(remote) for remote in row.remotes()]
    path = Path(tag_or_file)
    if path.with_suffix(".json").is_file() and path.suffix == ".safetensors":
        read_release(path)
        return [f"{path}: the weights its card describes"]
    return [_recognized(path)]


def _packaged(row: Row) -> str:
    path = packaged_models()[row.tag]
    check(Remote(row.tag, row.urls[0], path, row.sha256, row.size), path)
    return f"{row.tag}: part of hrseg, verified"


def _verify_cached(remote: Remote) -> str:
    before = receipt_of(remote.path)
    if not remote.path.is_file():
        raise WeightsError(
            f"{remote.name}: {remote.path.name} is not in the cache. Fetch it: hrseg weights pull {remote.name}"
        )
    named = before.sha256 if before else ""
    try:
        receipt = check(remote, remote.path, named, before.checked if before else "size")
    except WeightsError as error:
        raise WeightsError(
            f"{error}. Remove {remote.path} and fetch it again: hrseg weights pull {remote.name}"
        ) from error
    if before is None:
        write_receipt(receipt)
    since = "; unchanged since it was fetched" if before else ""
    return f"{remote.name} {remote.path.name}: {receipt.describe()}{since}"


def _recognized(path: Path) -> str:
    """Identify a file of the catalog by its digest and its name."""
    digest, size = file_digest(path), path.stat().st_size
    for row in rows():
        for remote in row.remotes():
            if remote.sha256 and digest.startswith(remote.sha256):
                return f"{path}: {row.tag}, as published"
            if remote.path.name == path.name and remote.sha256:
                raise WeightsError(
                    f"{path} is called like the file of {row.tag}, but its sha256 begins with {digest[:16]} instead of "
                    f"{remote.sha256[:16]}. Fetch it again: hrseg weights pull {row.tag}"
                )
    return f"{path}: sha256 {digest}, {size:,} bytes; no such digest is in the catalog"
