"""The cache of fetched files: where it is, what a file in it should be, and the receipt that says it was checked.

A tag has a folder of its own, and a file keeps the name it has at its source, so that a file fetched by hand can be
put in its place. Beside each file lies NAME.receipt.json with what was found when it was checked.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hrseg.errors import WeightsError
from hrseg.imaging import write_atomic
from hrseg.weights.checkpoint_io import file_digest

_TRUE = {"1", "on", "yes", "true"}
FULL = 64
"""Digits of a whole sha256."""


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched.

    Attributes:
        name: The tag it belongs to, for messages.
        url: Where it lies.
        path: Its place in the cache.
        sha256: Published digest, all 64 digits or the first few; may be empty.
        size: Published size in bytes, where there is one.
    """

    name: str
    url: str
    path: Path
    sha256: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Receipt:
    """What a file was found to be.

    Attributes:
        path: The file.
        url: Where it came from.
        size: Bytes.
        sha256: Of the whole file.
        checked: "sha256" (against the published digest), "prefix" (against its first digits), "server"
            (against the digest the server named), or "size" (nothing to check it against was published).
    """

    path: Path
    url: str
    size: int
    sha256: str
    checked: str

    def says(self) -> str:
        """Tell how far the file can be trusted.

        Example:
            >>> Receipt(Path("a"), "", 1, "", "size").says()
            'unverified: nobody has published its sha256'
        """
        return {
            "sha256": "verified: its sha256 is the published one",
            "prefix": "verified: its sha256 begins as published",
            "server": "verified: its sha256 is the one its server names",
        }.get(self.checked, "unverified: nobody has published its sha256")


def cache_dir(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """Return hrseg's cache folder: HRSEG_CACHE, or a folder where the platform keeps caches.

    Args:
        environment: Variables; None takes the process's own.
        platform: As sys.platform says it.

    Example:
        >>> cache_dir({"HRSEG_CACHE": "/data/hrseg"}).as_posix()
        '/data/hrseg'
        >>> cache_dir({"XDG_CACHE_HOME": "/scratch"}, "linux").as_posix()
        '/scratch/hrseg'
    """
    env = os.environ if environment is None else environment
    if env.get("HRSEG_CACHE"):
        return Path(env["HRSEG_CACHE"]).expanduser()
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "hrseg" / "Cache"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hrseg"
    xdg = env.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "hrseg"


def offline(environment: Mapping[str, str] | None = None) -> str:
    """Return the variable that forbids fetching, HRSEG_OFFLINE or HF_HUB_OFFLINE, or an empty string.

    Args:
        environment: Variables; None takes the process's own.

    Example:
        >>> offline({"HF_HUB_OFFLINE": "1"}), offline({"HRSEG_OFFLINE": "0"})
        ('HF_HUB_OFFLINE', '')
    """
    env = os.environ if environment is None else environment
    names = ("HRSEG_OFFLINE", "HF_HUB_OFFLINE")
    return next((name for name in names if env.get(name, "").strip().lower() in _TRUE), "")


def cached(remote: Remote) -> Receipt | None:
    """Return the receipt of a file that is here and was checked, without reading the file again."""
    receipt = receipt_of(remote.path)
    try:
        fits = receipt is not None and remote.path.stat().st_size == receipt.size
    except OSError:
        return None
    return receipt if receipt and fits and receipt.sha256.startswith(remote.sha256) else None


def receipt_of(path: Path) -> Receipt | None:
    """Return what a file was found to be when it was fetched, whatever became of it since."""
    try:
        found = json.loads(_receipt_path(path).read_text(encoding="utf-8"))
        texts = (str(found[key]) for key in ("url", "sha256", "checked"))
        url, sha256, checked = texts
        return Receipt(path, url, int(found["size"]), sha256, checked)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check(remote: Remote, path: Path, named: str = "", named_by: str = "server") -> Receipt:
    """Hash a file and compare it with what is published.

    Args:
        remote: What it should be.
        path: Where it lies now.
        named: Digest from another place, used where nothing is published.
        named_by: That place, for the receipt.

    Raises:
        WeightsError: The file is another one.
    """
    size, digest = path.stat().st_size, file_digest(path)
    wanted = remote.sha256 or named
    if not digest.startswith(wanted):
        raise WeightsError(
            f"{remote.name}: the sha256 of {remote.path.name} begins with {digest[:16]}, and should begin with "
            f"{wanted[:16]}"
        )
    if remote.size is not None and size != remote.size:
        raise WeightsError(
            f"{remote.name}: {remote.path.name} has {size:,} bytes, and should have {remote.size:,}"
        )
    full = "sha256" if len(remote.sha256) == FULL else "prefix"
    checked = full if remote.sha256 else named_by if named else "size"
    return Receipt(remote.path, remote.url, size, digest, checked)


def keep(receipt: Receipt) -> None:
    """Write a receipt beside its file."""
    content = {key: value for key, value in asdict(receipt).items() if key != "path"}
    with write_atomic(_receipt_path(receipt.path)) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _receipt_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.receipt.json")
