"""Hashing again what was fetched, and recognising a file that came by another way."""

from pathlib import Path

from hrseg.digests import file_digest
from hrseg.errors import WeightsError
from hrseg.weights.cache import Remote, check, keep, receipt_of
from hrseg.weights.catalog import Row, is_tag, looks_like_tag, row_of, rows
from hrseg.weights.release import packaged_models, read_release


def here() -> list[str]:
    """Return the tags whose files are in the cache, whole or not all of a pair."""
    return [row.tag for row in rows() if any(remote.path.exists() for remote in row.remotes())]


def known(tag_or_file: str) -> str:
    """Return what can be verified as it is.

    Args:
        tag_or_file: A tag, or a file that exists.

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
    """Hash the files of a tag, or a file, and compare them with what is published.

    Args:
        tag_or_file: A tag whose files are here, or any weight file.

    Returns:
        One line for each file: what it is, and how far that is certain.

    Raises:
        WeightsError: A file is missing or another one than it should be, or the tag is unknown.
    """
    if is_tag(known(tag_or_file)):
        row = row_of(tag_or_file)
        return [_packaged(row)] if row.packaged else [_again(remote) for remote in row.remotes()]
    path = Path(tag_or_file)
    if path.with_suffix(".json").is_file() and path.suffix == ".safetensors":
        read_release(path)
        return [f"{path}: the weights its card describes"]
    return [_recognised(path)]


def _packaged(row: Row) -> str:
    path = packaged_models()[row.tag]
    check(Remote(row.tag, row.urls[0], path, row.sha256, row.size), path)
    return f"{row.tag}: part of hrseg, verified"


def _again(remote: Remote) -> str:
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
        keep(receipt)
    since = "; unchanged since it was fetched" if before else ""
    return f"{remote.name} {remote.path.name}: {receipt.says()}{since}"


def _recognised(path: Path) -> str:
    """Say whether a file is one of the catalogue, by its digest and its name."""
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
    return f"{path}: sha256 {digest}, {size:,} bytes; the catalogue knows no such digest"
