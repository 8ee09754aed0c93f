"""Turn a run's checkpoint into a release inside the package: weights and card, scored on the way.

    python -m tools.release_model runs/NAME/best.ckpt hrnet_w18_small_v1.camvid \
        --root datasets/camvid --terms "Brostow et al. 2008; research use"
    python -m tools.release_model runs/NAME/last.ckpt hrnet_w18_small_v2.camvid \
        --study runs/STUDY/table.json --terms "Brostow et al. 2008; research use"

The averaged weights (EMA) are the ones released: convolutions in float16, which halves the file, norms in float32.
The score on the card is what `hrseg validate` gives on val for the file as it is released; or, where the network has
learned val too, the mean over the folds of a study, that of the variant with the run's name.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrseg.evaluation.validate import evaluate
from hrseg.inference.load_model import open_model
from hrseg.weights import write_release

PACKAGED = Path(__file__).parents[1] / "hrseg" / "weights" / "packaged"


def main() -> None:
    """Score, write, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tag", help="architecture.data")
    score = parser.add_mutually_exclusive_group(required=True)
    score.add_argument("--root", help="the data's folder, for the score on val")
    score.add_argument("--study", type=Path, help="table.json of the study whose folds are the score")
    parser.add_argument("--terms", required=True, help="where the data come from and what they allow")
    words = parser.parse_args()
    opened = open_model(words.checkpoint)
    state = halved(opened.network)
    config = opened.config
    config["data"]["root"] = f"datasets/{config['data']['layout']}"  # no path of this machine
    card = {
        "tag": words.tag,
        "network": opened.network.spec,
        "labels": opened.labels.to_dict(),
        "mean": list(opened.mean),
        "std": list(opened.std),
        "data_terms": words.terms,
        "license": "MIT",
        "trained": _provenance(words.checkpoint),
        "config": config,
    }
    if words.study:
        table = json.loads(words.study.read_text(encoding="utf-8"))
        card["score"] = folds_score(table, config["run"]["name"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder) / f"{words.tag}.safetensors"
            write_release(trial, state, card)
            result = evaluate(str(trial), "val", [f"data.root={words.root}"])
        card["score"] = _score(result.metrics, opened.labels.names)
        print(result.text)
    target = PACKAGED / f"{words.tag}.safetensors"
    write_release(target, state, card)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def halved(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a network's state with the weights of its convolutions in float16."""
    state: dict[str, torch.Tensor] = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            state[f"{name}.weight"] = module.weight.detach().half()
    return state


def _score(metrics: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    iou = {name: round(100 * float(v), 2) for name, v in zip(names, metrics["iou"], strict=True)}
    return {
        "split": "val",
        "protocol": "whole images at native size, single scale, no flip",
        "miou": round(100 * float(metrics["miou"]), 2),
        "pixel_accuracy": round(100 * float(metrics["pixel_accuracy"]), 2),
        "iou": iou,
    }


def folds_score(table: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """Return a card's score from a study's table: means over the folds and runs, per cent."""
    row = next(row for row in table["rows"] if row["variant"] == variant)
    each = [(run["fold"], run["seed"], round(100 * run["miou"], 2)) for run in row["each_run"]]
    per_cent = {name: row[name] and round(100 * row[name], 2) for name in ("low", "high", "difference")}
    interval = [row["difference_low"] and round(100 * row[name], 2) for name in ("difference_low", "difference_high")]
    return {
        "split": "drives left out",
        "protocol": f"mean over the study {table['study']}, short training, so lower than scores on val; whole images, "
        "single scale, no flip",
        "miou": round(100 * row["miou"], 2),
        "interval": [per_cent["low"], per_cent["high"]],
        "better_than": {table["rows"][0]["variant"]: [per_cent["difference"], *interval]},
        "folds": [{"fold": fold, "seed": seed, "miou": miou} for fold, seed, miou in each],
        "iou": {name: round(100 * value, 2) for name, value in row["classes"].items()},
        "test_images": "not used, neither for training nor for any choice",
    }


def _provenance(checkpoint: Path) -> dict[str, Any]:
    """Take versions and commit from the run folder, without the machine's own names."""
    file = checkpoint.parent / "versions.json"
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    kept = ("python", "packages", "git")
    return {key: content[key] for key in kept if key in content}


if __name__ == "__main__":
    main()
