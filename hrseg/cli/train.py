"""Verbs fit, validate, test and explain."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from hrseg.cli.args import (
    OVERRIDES_HELP,
    add_model,
    add_overrides,
    add_recipe,
    add_verb,
    options_of,
    positive,
)
from hrseg.cli.console import print_result
from hrseg.errors import ConfigError, score


def add(verbs: Any) -> None:
    """Add the verbs of this module."""
    verb = add_verb(verbs, "fit", _fit, OVERRIDES_HELP)
    verb.add_argument("-c", "--config", metavar="FILE", help="a YAML file or a recipe's name")
    verb.add_argument("--resume", metavar="last|FILE", help="resume from a checkpoint of this run")
    text = "bitwise repeatable; ends with a hash of the weights"
    verb.add_argument("--deterministic", action="store_true", help=text)
    verb.add_argument("--dry-run", action="store_true", help="print sizes, steps and memory, stop")
    text = "propose a learning rate (lr) or batch size (batch) for this recipe, stop"
    verb.add_argument("--find", choices=("lr", "batch"), help=text)
    add_overrides(verb, print_config=True)

    verb = add_verb(verbs, "validate", _validate, OVERRIDES_HELP)
    add_model(verb)
    add_recipe(verb)
    _add_ledger(verb)
    add_overrides(verb, print_config=True)
    verb.set_defaults(split="val", out=None)

    verb = add_verb(verbs, "test", _test, OVERRIDES_HELP)
    add_model(verb)
    add_recipe(verb)
    _add_ledger(verb)
    verb.add_argument("-o", "--out", type=Path, metavar="DIR", help="also write masks here")
    add_overrides(verb, print_config=True)
    verb.set_defaults(split="test")


def _add_ledger(verb: argparse.ArgumentParser) -> None:
    text = "also save the confusion matrix of each image, for hrseg compare"
    verb.add_argument("--ledger", type=Path, metavar="FILE.npz", help=text)


def _fit(arguments: argparse.Namespace) -> int:
    """Train a network by a recipe.

    The run folder (runs/NAME) has the best and the last checkpoint, the resolved config, scores and
    pictures. A recipe is a YAML file or the name of one that ships; `hrseg config list` shows them.

      hrseg fit --config camvid_w18_small_v2 data.root=/data/camvid
      hrseg fit --config my.yaml trainer.devices=2 trainer.strategy=ddp
      hrseg fit --config my.yaml --resume last
      hrseg fit --config my.yaml --find lr
    """
    from hrseg.config import config_to_dict, list_recipes, load_config_with_origins, to_yaml

    if arguments.config is None:
        raise ConfigError(
            "No recipe given, try: hrseg fit --config demo. Or pass a YAML file, such as one of hrseg data check "
            f"FOLDER --write mine.yaml. All {len(list_recipes())} recipes that ship: hrseg config list"
        )
    words = ["trainer.deterministic=true"] if arguments.deterministic else []
    config, origins = load_config_with_origins(arguments.config, [*words, *arguments.overrides])
    if arguments.print_config:
        return print_result(arguments, config_to_dict(config), to_yaml(config))
    if arguments.dry_run:
        from hrseg.training.dry_run import plan

        planned = plan(config)
        return print_result(arguments, planned.to_dict(), planned.text())
    if arguments.find:
        from hrseg.training.find import find

        proposal = find(config, arguments.find)
        return print_result(arguments, {"find": arguments.find, "proposal": proposal}, proposal)
    from hrseg.training.checkpoints import mode_of
    from hrseg.training.fit import fit

    text = f"# {shlex.join(['hrseg', *arguments.words])}\n{to_yaml(config, origins)}"
    result = fit(config, resume=arguments.resume, config_text=text)
    best, name = result.best_score, config.trainer.best_by
    file = result.run_dir / ("last.ckpt" if best is None else "best.ckpt")
    use = shlex.join(["hrseg", "predict", "IMAGE", "--model", str(file)])
    if best is None:
        text = f"Nothing was scored, so no weights are the best. To use the last: {use}"
    else:
        shown = f"{best:.4f}" if mode_of(name) == "min" else f"{score(best)} %"
        what = f"{'mIoU' if name == 'val/miou' else name} {shown}"
        text = f"{result.table}\nThe table is of the best weights, {what}. To use them: {use}"
    if config.trainer.deterministic:
        text += f"\nWeights sha256 {result.digest}"
    found = {"run": result.run_dir, "checkpoint": file, "best_by": name, "best": best, "sha256": result.digest}
    return print_result(arguments, found, text)


def _validate(arguments: argparse.Namespace) -> int:
    """Measure a model on the validation split.

    Prints mIoU, the IoU of each class and pixel accuracy, at the size the masks have on disk. Data and
    options come from the model's own config; overrides change them.

      hrseg validate --model runs/demo/best.ckpt
      hrseg validate --model runs/demo evaluation.window=[256,320]
      hrseg validate --model runs/demo evaluation.protocol=tta
      hrseg validate --model hrnet_w48.official_cityscapes --config cityscapes_w48
    """
    from hrseg.config import config_to_dict, to_yaml
    from hrseg.evaluation.validate import evaluate, evaluation_config
    from hrseg.metrics.confusion import score_dict

    if arguments.print_config:
        config = evaluation_config(arguments.model, arguments.overrides, arguments.config)
        return print_result(arguments, config_to_dict(config), to_yaml(config))
    words, out, recipe = arguments.overrides, arguments.out, arguments.config
    result = evaluate(arguments.model, arguments.split, words, out, recipe)
    if arguments.ledger is not None:
        result.records.save(arguments.ledger)
    found = {"model": result.records.model, "split": arguments.split, "images": len(result.records.names)}
    return print_result(arguments, found | score_dict(result.metrics, result.labels.names), result.text)


def _test(arguments: argparse.Namespace) -> int:
    """Measure a model on the test split, or write masks for a benchmark.

    Like validate, on data.test_split. With --out it also writes every mask as a PNG of dataset ids,
    as benchmark servers want them; images without masks are predicted and not scored.

      hrseg test --model runs/cityscapes_w48/best.ckpt --out submission
    """
    return _validate(arguments)


def add_explain(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "explain", _explain, OVERRIDES_HELP)
    verb.add_argument("image", type=Path, metavar="IMAGE", help="the image to explain")
    add_model(verb)
    text = "the page (IMAGE_inside.html, in this folder)"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE.html", help=text)
    text = "the image's mask in dataset ids: changes of IoU too"
    verb.add_argument("--mask", type=Path, metavar="FILE", help=text)
    text = "folder of the model's data: adds a linear probe of each branch"
    verb.add_argument("--data", metavar="ROOT", help=text)
    text = "take the data from this recipe instead of the model's own config"
    verb.add_argument("-c", "--config", metavar="FILE", help=text)
    text = "images to fit the probes on, and as many to score them (40)"
    verb.add_argument("--images", type=positive, default=40, metavar="N", help=text)
    add_overrides(verb)


def _explain(arguments: argparse.Namespace) -> int:
    """Explain a network's prediction for one image, on one page.

    Shows the feature maps of every stage and branch, how the prediction changes without each branch,
    the effective receptive field, and, with data, the score of a linear classifier on the features of
    each branch. The page needs no other file.

      hrseg explain street.png
      hrseg explain street.png --mask street_mask.png --model runs/demo
      hrseg explain street.png --data /data/camvid
    """
    from hrseg.explain.field import radius
    from hrseg.explain.report import explain

    out = arguments.out or Path(f"{arguments.image.stem}_inside.html")
    inside = explain(
        arguments.image,
        out,
        arguments.model,
        recipe=arguments.config,
        **options_of(arguments, "mask", "data", "overrides", "images"),
    )
    changed = inside.ablation.changed_in_all()
    radii = [radius(field) for field in inside.branch_fields]
    lines = [
        f"without branch {i}: {100 * share:.1f} % of the pixels change; receptive radius {reach:.0f} pixels"
        for i, (share, reach) in enumerate(zip(changed, radii, strict=True))
    ]
    lines += [
        f"a linear classifier on {probe.name}: mIoU {score(probe.miou, 1)}" for probe in inside.probes if probe.channels
    ]
    found = {
        "page": out,
        "branches": [{"changed": c, "radius": r} for c, r in zip(changed, radii, strict=True)],
        "probes": [{"features": probe.name, "miou": probe.miou} for probe in inside.probes if probe.channels],
    }
    return print_result(arguments, found, "\n".join([*lines, str(out)]))
