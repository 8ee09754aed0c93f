"""Released models: a safetensors file of weights and a JSON card with everything else.

The card holds network, classes, colors, mean, std and resize policy for prediction, and recipe, commit, score and
data terms for readers. Both files are written atomically.
"""

import json
import reprlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hrseg.errors import WeightsError, parse_json
from hrseg.imaging import write_atomic, write_text
from hrseg.weights.checkpoint_io import file_digest, read_checkpoint

DEFAULT_TAG = "hrnet_w18_small_v2.camvid"
"""The model that `hrseg predict` uses when none is named."""
STARTER_TAG = "hrnet_w18_small_v1.camvid"
"""The model that recipes for one's own data start from: on a CPU it learns in a quarter of the time."""
REQUIRED = ("network", "labels", "mean", "std", "sha256")


def packaged_models() -> dict[str, Path]:
    """Return tag → file of the models that ship inside the package.

    Example:
        >>> DEFAULT_TAG in packaged_models()
        True
    """
    folder = Path(str(resources.files("hrseg.weights"))) / "packaged"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def write_release(path: str | Path, state_dict: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write NAME.safetensors and, beside it, NAME.json with the card and the file's sha256.

    Args:
        path: Where the .safetensors file goes.
        state_dict: Weights of a `create_model` network.
        card: Plain types; must hold "network" (its spec), "labels", "mean" and "std".
    """
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state_dict.items()}
    with write_atomic(path) as temporary:
        # save_file replaces the file by one that only its owner may read
        mode = temporary.stat().st_mode
        save_file(tensors, temporary)
        temporary.chmod(mode)
        full = {**card, "sha256": file_digest(temporary)}
    write_text(path.with_suffix(".json"), json.dumps(full, indent=2, ensure_ascii=False) + "\n")


def card_path(path: str | Path) -> Path:
    """Return the path of a release's card: NAME.json beside NAME.safetensors, or config.json in a repository.

    Example:
        >>> card_path("weights/camvid.safetensors").name
        'camvid.json'
    """
    beside = Path(path).with_suffix(".json")
    config = beside.with_name("config.json")
    return config if not beside.exists() and config.is_file() else beside


MAX_BANDS = 4096
"""Of an image that a network sees; satellites have a few hundred."""


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _are_numbers(value: Any, above: float = -1e30) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MAX_BANDS
        and all(type(x) in (int, float) and above < x < 1e30 for x in value)
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value can be compared with others; tensors give tensors."""
    if isinstance(value, Mapping):
        return _is_table(value) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | None)


def _is_spec(value: Any) -> bool:
    return (
        _is_table(value)
        and all(isinstance(part, str | int | float | None) for part in value.values())
        and type(bands := value.get("in_channels", 3)) is int
        and 0 < bands <= MAX_BANDS
    )


_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (_is_spec, "a table of the arguments of create_model"),
    "labels": (lambda v: v is None or _is_table(v), "a table with name and labels"),
    "mean": (_are_numbers, "a list with a number for each band"),
    "std": (lambda v: _are_numbers(v, above=0), "a list with a positive number for each band"),
    "bands": (
        lambda v: v is None or (_are_numbers(v, above=-1) and all(type(x) is int for x in v)),
        "a list of band numbers",
    ),
    "value_range": (lambda v: v is None or _are_numbers([v], above=0), "a positive number"),
    "config": (
        lambda v: v is None or (_is_table(v) and all(map(_is_table, v.values()))),
        "a table of sections, each a table of options",
    ),
    "sha256": (lambda v: isinstance(v, str), "a text"),
}
"""Entry of a card → whether a value has its form, and that form in words."""


def check_card(card: Any, source: object) -> dict[str, Any]:
    """Return a card whose entries have their forms; which of them there are is for the caller to check.

    Args:
        card: Of a release, a checkpoint or an exported file, which may be untrusted.
        source: Its file, for the message.

    Raises:
        WeightsError: It is no table, or an entry has another form.
    """
    if not _is_table(card):
        raise WeightsError(
            f"The card of {source} is a {type(card).__name__} and should be a table of {', '.join(REQUIRED[:-1])}. "
            "The file is damaged or was edited; copy or export it again."
        )
    for name, (fits, form) in _ENTRIES.items():
        if name in card and not (fits(card[name]) and _is_plain(card[name])):
            raise WeightsError(
                f"The card of {source} has as {name} {reprlib.repr(card[name])[:200]}, which should be {form}. The "
                "file is damaged or was edited; copy or export it again."
            )
    return dict(card)


def read_release(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a released model.

    Returns:
        The state dict and the card.

    Raises:
        WeightsError: A file is missing or damaged, or the card belongs to other weights.
    """
    path = Path(path)
    state = read_checkpoint(path).get("state_dict", {})
    beside = card_path(path)
    if not beside.is_file():
        raise WeightsError(
            f"{path} has no card: {beside.name} should be beside it, with classes, colors and mean. Copy both "
            "files together."
        )
    try:
        card = check_card(parse_json(beside.read_text(encoding="utf-8")), beside)
    except ValueError as error:
        raise WeightsError(f"{beside} is not readable JSON: {error}. Copy it again.") from error
    lacking = [key for key in REQUIRED if key not in card]
    if lacking:
        raise WeightsError(
            f"{beside} lacks {', '.join(lacking)}; a card of hrseg holds {', '.join(REQUIRED)}. Write the "
            "model again with hrseg.weights.release.write_release."
        )
    if card["sha256"] != file_digest(path):
        raise WeightsError(
            f"{path} is not the file its card describes (the sha256 differs). Copy both files again from the same "
            "place."
        )
    return state, card
