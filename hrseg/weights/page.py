"""The page of a shared model: what it is, how to use it, what it scored, and on which terms.

Front matter as the hub reads it, then sections for people. Everything comes from the release's card; what the card
does not say is not made up.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from hrseg.data.labels import LabelSet
from hrseg.errors import WeightsError

HUB_LICENCES = frozenset(
    [
        *(
            "apache-2.0",
            "mit",
            "bsd",
            "bsd-2-clause",
            "bsd-3-clause",
            "bsl-1.0",
            "isc",
            "unlicense",
        ),
        *("cc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-3.0", "cc-by-sa-3.0", "cc-by-nc-3.0"),
        *("gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "openrail"),
        *("afl-3.0", "artistic-2.0", "ecl-2.0", "epl-2.0", "eupl-1.1", "ms-pl", "wtfpl", "zlib"),
    ]
)
"""Licences that the hub knows by name; others are shown as "other" with the name beside."""


def check_terms(card: Mapping[str, Any], name: str) -> None:
    """Refuse to publish a model whose terms nobody wrote down.

    Args:
        card: Of the release.
        name: What is to be shared, for the message.

    Raises:
        WeightsError: Licence or terms of the data are missing.
    """
    lacking = [
        words
        for words, known in (
            ("a licence for the weights", licence_of(card)),
            ("the terms of the data they learned from", card.get("data_terms")),
        )
        if not known
    ]
    if lacking:
        raise WeightsError(
            f"The card of {name} lacks {' and '.join(lacking)}, and others cannot use a model without knowing. Say it "
            'with --licence and --data-terms, such as: --licence mit --data-terms "CamVid, free for research".'
        )


def licence_of(card: Mapping[str, Any]) -> str:
    """Return the licence, however the card spells the word."""
    return str(card.get("licence") or card.get("license") or "")


def page(card: Mapping[str, Any], name: str) -> str:
    """Write the README.md of a repository.

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
    parts = [
        _title(card, name),
        _use(name),
        _network(card),
        _score(card),
        _terms(card),
        _trained(card),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


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


def _title(card: Mapping[str, Any], name: str) -> str:
    spec = card["network"]
    kind = "v2" if spec["head"] == "v2" else f"{spec['head']} head"
    return (
        f"# {name.partition('/')[2] or name}\n\nSemantic segmentation into the {spec['num_classes']} classes of "
        f"{_data(card)}: {spec['backbone']}, {kind}, a network of hrseg."
    )


def _use(name: str) -> str:
    return (
        "## Use\n\n```python\n"
        "import hrseg  # pip install 'hrseg[hub]'\n"
        f'predictor = hrseg.from_pretrained("{name}")\n'
        'predictor("street.jpg").save("out")  # mask and overlay\n'
        f"```\n\nOr `hrseg predict street.jpg --model hf:{name}`; to train from it, `model.weights=hf:{name}`."
    )


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
    return "## Network\n\n| | |\n| --- | --- |\n" + "\n".join(
        f"| {key} | {value} |" for key, value in rows.items()
    )


def _score(card: Mapping[str, Any]) -> str:
    score = card.get("score") or {}
    if score.get("miou") is None:
        return "## Score\n\nNone was measured for this card."
    text = f"## Score\n\nmIoU **{score['miou']:.2f}** on {score.get('split', 'val')}"
    text += f" ({score['protocol']})" if score.get("protocol") else ""
    if score.get("pixel_accuracy") is not None:
        text += f", pixel accuracy {score['pixel_accuracy']:.2f}"
    if score.get("iou"):
        rows = (f"| {_cell(name)} | {_figure(value)} |" for name, value in score["iou"].items())
        text += ".\n\n| class | IoU |\n| --- | ---: |\n" + "\n".join(rows)
    else:
        text += "."
    return text


def _figure(value: Any) -> str:
    return "-" if value is None or value != value else f"{value:.2f}"


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _terms(card: Mapping[str, Any]) -> str:
    return f"## Terms\n\nWeights: {licence_of(card)}. Data they learned from: {card.get('data_terms')}."


def _trained(card: Mapping[str, Any]) -> str:
    origin, trained = card.get("origin") or {}, card.get("trained") or {}
    lines = []
    if origin.get("source"):
        files = ", ".join(f"`{name}`" for name in origin.get("files", {}))
        lines.append(
            f"Imported from a file of {origin['source']} ({files}). Resize policy: {origin['resize']}."
        )
    commit = (trained.get("git") or {}).get("commit")
    if commit:
        lines.append(f"Trained by hrseg at commit {str(commit)[:12]}.")
    if card.get("config"):
        lines.append("The whole recipe is in `config.json` under `config`.")
    return "## Origin\n\n" + " ".join(lines) if lines else ""
