"""`push_model`: upload of a run or a release to the Hugging Face hub.

A run is first converted to a release: weights without the optimizer, and a card without paths of this machine.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hrseg.errors import WeightsError
from hrseg.imaging import temporary_folder
from hrseg.inference.load_model import open_model
from hrseg.weights.checkpoint_io import read_checkpoint
from hrseg.weights.hub import CARD, PAGE, WEIGHTS, check_terms, is_hub, page, push, repository
from hrseg.weights.release import read_release, write_release

_PATH = re.compile(r"(?:/|~|\\\\|[A-Za-z]:[\\/]).*")


class HubModel(NamedTuple):
    """A model on the hub: "org/name", its URL (empty where nothing was sent), its README.md, bytes of the weights."""

    name: str
    url: str
    page: str
    size: int


def push_model(
    source: str | Path,
    to: str,
    *,
    licence: str | None = None,
    data_terms: str | None = None,
    private: bool = False,
    message: str | None = None,
    send: bool = True,
) -> HubModel:
    """Upload weights, card, and a README.md made of the card.

    Args:
        source: A .safetensors release, a .ckpt of a run, the run's folder, or the tag of a shipped model.
        to: "org/name", or "org/name@branch".
        licence: Of the weights, such as "mit"; needed where the card has none.
        data_terms: What the data's owners allow; needed where the card has none.
        private: Whether a new repository is private.
        message: Of the commit.
        send: Whether to send it; False only writes the page.

    Raises:
        WeightsError: Not a model of hrseg, a card without terms, or the hub cannot be written.
        MissingExtraError: The hub's client is not installed.
    """
    target = repository(to)
    if is_hub(source):
        raise WeightsError(f"{source} is on the hub already. Give a release, a checkpoint or a run's folder.")
    with temporary_folder("hrseg-push") as folder:
        file, card = _release(source, folder)
        card |= {"licence": licence} if licence else {}
        card |= {"data_terms": data_terms} if data_terms else {}
        check_terms(card, str(source))
        card = {**_without_paths(card), "tag": target.name.partition("/")[2]}
        text = page(card, target.name)
        content = json.dumps(card, indent=2, ensure_ascii=False).encode() + b"\n"
        shared = HubModel(target.name, "", text, file.stat().st_size)
        if not send:
            return shared
        files: dict[str, Path | bytes] = {WEIGHTS: file, CARD: content, PAGE: text.encode()}
        what = message or f"{card['network']['backbone']} for {card['labels']['name']}"
        url = push(files, str(target), private=private, message=what)
    return HubModel(target.name, url, text, shared.size)


def _release(source: str | Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file and card of a release; a run is converted into the folder."""
    opened = open_model(source)
    if opened.source.suffix == ".safetensors":
        return opened.source, read_release(opened.source)[1]
    checkpoint = read_checkpoint(opened.source)
    entry = checkpoint["hrseg"]
    card = {
        "network": dict(getattr(opened.network, "spec", {})),
        "labels": opened.labels.to_dict(),
        "mean": list(opened.mean),
        "std": list(opened.std),
        **opened.banded,
        "score": _score(opened.source, entry.get("miou"), opened.labels.names),
        "trained": {"packages": {"hrseg": entry.get("version")}, "epoch": checkpoint.get("epoch")},
        "config": opened.config,
    }
    file = folder / WEIGHTS
    write_release(file, opened.network.state_dict(), card)
    return file, read_release(file)[1]


def _score(checkpoint: Path, miou: float | None, names: list[str]) -> dict[str, Any]:
    """Return the run's own score; per class where the table beside the checkpoint is of the same weights."""
    if miou is None:
        return {}
    score: dict[str, Any] = {
        "split": "val",
        "protocol": "the run's own validation; see evaluation in config.json",
        "miou": round(100 * float(miou), 2),
    }
    try:
        lines = (checkpoint.parent / "per_class.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return score
    if not any(line.startswith(f"mIoU {score['miou']:.2f} ") for line in lines):
        return score
    rows = {row[0]: row[1] for line in lines if len(row := line.rsplit(maxsplit=5)) == 6}
    figures = {name: rows[name] for name in names if name in rows}
    score["iou"] = {name: None if text == "-" else float(text) for name, text in figures.items()}
    return score


def _without_paths(value: Any) -> Any:
    """Return a card in which absolute paths are cut to their last part."""
    if isinstance(value, Mapping):
        return {key: _without_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(part) for part in value]
    if isinstance(value, str) and _PATH.fullmatch(value):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value
