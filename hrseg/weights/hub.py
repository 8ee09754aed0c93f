"""Push and pull of releases on the Hugging Face hub; one repository holds one model, as weights, card and page.

    model.safetensors   the weights                config.json   the release's card, as hrseg reads it
    README.md           the model's page, from `page`

Files come and go through the hub's own client, with its cache, tokens and proxies (HF_TOKEN, HF_HOME, HF_ENDPOINT,
HF_HUB_OFFLINE). What is fetched is opened like any other file: tensors and plain types only.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hrseg.errors import MissingExtraError, WeightsError, install_command
from hrseg.labels import LabelSet
from hrseg.weights.download import offline

PREFIX = "hf:"
WEIGHTS, CARD, PAGE = "model.safetensors", "config.json", "README.md"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Repository:
    """A repository of models, and a branch, tag or commit of it."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}" + (f"@{self.revision}" if self.revision else "")


def is_hub(text: str | Path) -> bool:
    """Return whether a name is one of the hub, not a file or tag.

    Example:
        >>> is_hub("hf:org/name"), is_hub("runs/name"), is_hub("hrnet_w48.ms_in1k")
        (True, False, False)
    """
    return str(text).startswith(PREFIX)


def repository(text: str) -> Repository:
    """Read "org/name", "hf:org/name" or "hf:org/name@revision".

    Raises:
        WeightsError: It is none of these.

    Example:
        >>> repository("hf:org/name@v1.0")
        Repository(name='org/name', revision='v1.0')
    """
    name, _, revision = text.removeprefix(PREFIX).partition("@")
    if not _NAME.fullmatch(name) or ".." in name:
        raise WeightsError(
            f"'{text}' is no model of the Hugging Face hub. Write hf:ORGANISATION/NAME, or "
            "hf:ORGANISATION/NAME@REVISION for a branch, tag or commit."
        )
    return Repository(name, revision or None)


def pull(text: str) -> Path:
    """Return the path of a repository's weights in the hub's cache, with the card beside them; fetched once.

    Args:
        text: Such as "hf:org/name@v1".

    Raises:
        WeightsError: There is no such model, or it cannot be reached.
        MissingExtraError: The hub's client is not installed.
    """
    wanted = repository(text)
    client, errors = _client()
    here_only = bool(offline())
    with _explained(wanted, errors, "fetch"):
        revision = wanted.revision
        # The page of another library's model may have no card; its weights can still be loaded.
        with contextlib.suppress(errors.RemoteEntryNotFoundError):
            card = client.hf_hub_download(wanted.name, CARD, revision=revision, local_files_only=here_only)
            revision = Path(card).parent.name  # both files of one commit
        return Path(client.hf_hub_download(wanted.name, WEIGHTS, revision=revision, local_files_only=here_only))


def push(files: Mapping[str, Path | bytes], to: str, *, private: bool, message: str) -> str:
    """Put files into a repository in one commit; the repository is made where it is missing.

    Args:
        files: Name in the repository → the file or its content.
        to: Such as "hf:org/name", or "hf:org/name@branch".
        private: Whether a new repository is private.
        message: Of the commit.

    Returns:
        URL of the repository.

    Raises:
        WeightsError: It may not be written, or cannot be reached.
        MissingExtraError: The hub's client is not installed.
    """
    wanted = repository(to)
    client, errors = _client()
    if offline():
        raise WeightsError(
            f"{wanted} cannot be written: {offline()} is set. Unset it, and push again with a connection."
        )
    with _explained(wanted, errors, "push"):
        hub = client.HfApi()
        url = hub.create_repo(wanted.name, private=private, exist_ok=True)
        additions = [
            client.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        hub.create_commit(wanted.name, additions, commit_message=message, revision=wanted.revision)
        return str(url)


def _client() -> tuple[Any, Any]:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Models of the Hugging Face hub need its client. Run: {install_command('hub')}"
        ) from error
    return huggingface_hub, errors


@contextlib.contextmanager
def _explained(wanted: Repository, errors: Any, what: str) -> Iterator[None]:
    """Turn errors of the client into one paragraph, and silence its messages about retries."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise WeightsError(
            f"{wanted.name} has no revision '{wanted.revision}'. Leave it out for the newest, or see its page for "
            "branches and tags."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise WeightsError(
            f"{wanted} holds no {WEIGHTS}, so hrseg has nothing to open there. Models that hrseg pushed hold it; for "
            "others, download the weight file and run: hrseg weights import FILE --out NAME.safetensors"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise WeightsError(_unreachable(wanted)) from error
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(_refused(wanted, what, error)) from error
    finally:
        log.setLevel(level)


def _unreachable(wanted: Repository) -> str:
    variable = offline()
    reason = f"{variable} is set" if variable else f"{_endpoint()} cannot be reached"
    return (
        f"{wanted} is not in the cache, and {reason}. Try again with a connection; or bring {WEIGHTS} and {CARD} from "
        f"{_endpoint()}/{wanted.name} and give the path of {WEIGHTS}."
    )


def _refused(wanted: Repository, what: str, error: Exception) -> str:
    code = getattr(getattr(error, "response", None), "status_code", None)
    known = "Check the spelling; for a private model, log in with `hf auth login` or set HF_TOKEN."
    reasons = {
        401: f"{wanted} is not on the hub, or not for everybody (401). {known}",
        403: f"This account may not {what} {wanted} (403). Use a token that may, or a repository of your own.",
        404: f"{wanted} is not on the hub (404). {known}",
    }
    if what == "push":
        reasons[401] = (
            f"{wanted} cannot be written: no user is logged in, or the token is wrong (401). Run `hf auth login`, or "
            "set HF_TOKEN to a token that may write."
        )
    reason = str(error).strip().partition("\n")[0].partition(" (Request ID")[0][:160].rstrip(".")
    return reasons.get(
        code or 0,
        f"Could not {what} {wanted}: {reason or type(error).__name__}. No incomplete file is left; try again.",
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


HUB_LICENCES = frozenset(
    [
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "isc"),
        "unlicense",
        *("cc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-3.0", "cc-by-sa-3.0", "cc-by-nc-3.0"),
        *("gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "openrail"),
        *("afl-3.0", "artistic-2.0", "ecl-2.0", "epl-2.0", "eupl-1.1", "ms-pl", "wtfpl", "zlib"),
    ]
)
"""Licenses that the hub has names for; others are shown as "other" with the name."""


def check_terms(card: Mapping[str, Any], name: str) -> None:
    """Refuse to publish a model without stated terms; `name` is for the message.

    Raises:
        WeightsError: License or terms of the data are missing.
    """
    terms = {
        "a license for the weights": licence_of(card),
        "the terms of the data they learned from": card.get("data_terms"),
    }
    lacking = [what for what, known in terms.items() if not known]
    if lacking:
        raise WeightsError(
            f"The card of {name} lacks {' and '.join(lacking)}, and others cannot use a model without them. Give them "
            'with --license and --data-terms, such as: --license mit --data-terms "CamVid, free for research".'
        )


def licence_of(card: Mapping[str, Any]) -> str:
    """Return the license, under either spelling of the key."""
    return str(card.get("licence") or card.get("license") or "")


def page(card: Mapping[str, Any], name: str) -> str:
    """Return the README.md of a repository.

    Args:
        card: Of a release.
        name: The repository, such as "org/name".

    Example:
        >>> card = {"network": {"backbone": "hrnet_w18", "head": "v2", "num_classes": 1, "resize": "nearest"},
        ...         "labels": {"name": "camvid", "labels": [[0, 0, "road", 1, 2, 3]]}, "mean": [0], "std": [1],
        ...         "license": "MIT", "data_terms": "free"}
        >>> print(page(card, "org/name").partition("tags")[0])
        ---
        license: mit
        library_name: hrseg
        pipeline_tag: image-segmentation
        <BLANKLINE>
    """
    front = yaml.safe_dump(_front(card, name), sort_keys=False, allow_unicode=True)
    spec, title = card["network"], name.partition("/")[2] or name
    head = "v2" if spec["head"] == "v2" else f"{spec['head']} head"
    parts = [
        f"# {title}",
        f"Semantic segmentation into the {spec['num_classes']} classes of {_data(card)}: {spec['backbone']}, {head}, a "
        "network of hrseg.",
        "## Use",
        "```python\n"
        "import hrseg  # in a clone: pip install '.[hub]'\n"
        f'predictor = hrseg.from_pretrained("{name}")\n'
        'predictor("street.jpg").save("out")  # mask and overlay\n'
        "```",
        f"Or `hrseg predict street.jpg --model hf:{name}`; to train from it, `model.weights=hf:{name}`.",
        _network(card),
        _score(card.get("score") or {}),
        f"## Terms\n\nWeights: {licence_of(card)}. Data they learned from: {card.get('data_terms')}.",
        _origin(card),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def _front(card: Mapping[str, Any], name: str) -> dict[str, Any]:
    licence, spec = licence_of(card), card["network"]
    known = licence.lower() in HUB_LICENCES
    front: dict[str, Any] = {"license": licence.lower() if known else "other"}
    if not known:
        front["license_name"] = licence or "unknown"
    front |= {
        "library_name": "hrseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "hrnet", str(spec["backbone"])],
        "datasets": [_data(card)],
        "metrics": ["mean_iou"],
    }
    score = card.get("score") or {}
    if score.get("miou") is not None:
        metric = {"type": "mean_iou", "name": "mIoU", "value": score["miou"]}
        dataset = {"name": _data(card), "type": _data(card), "split": score.get("split", "val")}
        result = {"task": {"type": "image-segmentation"}, "dataset": dataset, "metrics": [metric]}
        front["model-index"] = [{"name": name.partition("/")[2] or name, "results": [result]}]
    return front


def _data(card: Mapping[str, Any]) -> str:
    return str((card.get("labels") or {}).get("name", "unknown"))


def _network(card: Mapping[str, Any]) -> str:
    spec = card["network"]
    rows = {
        "backbone": spec["backbone"],
        "head": spec["head"],
        "resize policy": f"{spec['resize']}; under another one the same weights compute something else",
        "padding": spec.get("padding", "symmetric"),
        "mean": " ".join(map(str, card["mean"])),
        "std": " ".join(map(str, card["std"])) + " (RGB, 0 to 1)",
        "classes": ", ".join(map(_cell, LabelSet.from_dict(card["labels"]).names)),
    }
    return "## Network\n\n| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def _score(score: Mapping[str, Any]) -> str:
    if score.get("miou") is None:
        return "## Score\n\nNone was measured for this card."
    text = f"## Score\n\nmIoU **{score['miou']:.2f}** on {score.get('split', 'val')}"
    text += f" ({score['protocol']})" if score.get("protocol") else ""
    if score.get("pixel_accuracy") is not None:
        text += f", pixel accuracy {score['pixel_accuracy']:.2f}"
    if score.get("iou"):
        figures = {  # None or NaN for a class that does not occur
            name: "-" if value is None or value != value else f"{value:.2f}" for name, value in score["iou"].items()
        }
        rows = (f"| {_cell(name)} | {figure} |" for name, figure in figures.items())
        return text + ".\n\n| class | IoU |\n| --- | ---: |\n" + "\n".join(rows)
    return f"{text}."


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _origin(card: Mapping[str, Any]) -> str:
    origin, trained = card.get("origin") or {}, card.get("trained") or {}
    lines = []
    if origin.get("source"):
        files = ", ".join(f"`{name}`" for name in origin.get("files", {}))
        lines.append(f"Imported from a file of {origin['source']} ({files}). Resize policy: {origin['resize']}.")
    commit = (trained.get("git") or {}).get("commit")
    if commit:
        lines.append(f"Trained by hrseg at commit {str(commit)[:12]}.")
    if card.get("config"):
        lines.append("The whole recipe is in `config.json` under `config`.")
    return "## Origin\n\n" + " ".join(lines) if lines else ""
