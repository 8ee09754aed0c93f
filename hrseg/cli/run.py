"""Training and measuring: fit, validate, test."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import WORDS, add_model, add_verb, add_words
from hrseg.errors import ConfigError


def add(verbs: Any) -> None:
    """Add the verbs of this page."""
    verb = add_verb(verbs, "fit", _fit, WORDS)
    verb.add_argument("-c", "--config", metavar="FILE", help="a YAML file or a recipe's name")
    verb.add_argument("--resume", metavar="last|FILE", help="go on from a checkpoint of this run")
    text = "repeat to the bit, and end with a hash of the weights"
    verb.add_argument("--deterministic", action="store_true", help=text)
    verb.add_argument("--dry-run", action="store_true", help="print sizes, steps and memory, stop")
    add_words(verb, print_config=True)

    verb = add_verb(verbs, "validate", _validate, WORDS)
    add_model(verb)
    _add_recipe(verb)
    _add_ledger(verb)
    add_words(verb, print_config=True)
    verb.set_defaults(split="val", out=None)

    verb = add_verb(verbs, "test", _test, WORDS)
    add_model(verb)
    _add_recipe(verb)
    _add_ledger(verb)
    verb.add_argument("-o", "--out", type=Path, metavar="DIR", help="also write masks here")
    add_words(verb, print_config=True)
    verb.set_defaults(split="test")


def _add_recipe(verb: argparse.ArgumentParser) -> None:
    text = "data and options of this recipe instead of the model's own"
    verb.add_argument("-c", "--config", metavar="FILE", help=text)


def _add_ledger(verb: argparse.ArgumentParser) -> None:
    text = "also keep the confusion matrix of each image, for hrseg compare"
    verb.add_argument("--ledger", type=Path, metavar="FILE.npz", help=text)


def _fit(arguments: argparse.Namespace) -> int:
    """Train a network by a recipe.

    The run folder (runs/NAME) keeps the best and the last checkpoint, the resolved config, scores and
    pictures. A recipe is a YAML file or the name of one that ships; `hrseg config list` shows them.

      hrseg fit --config camvid_w18_small_v2 data.root=/data/camvid
      hrseg fit --config my.yaml trainer.devices=2 trainer.strategy=ddp
      hrseg fit --config my.yaml --resume last
    """
    from hrseg.config import list_recipes, load_config_with_origins, to_yaml

    if arguments.config is None:
        raise ConfigError(
            "No recipe given, try: hrseg fit --config demo. A file of your own does as well; hrseg data check FOLDER "
            f"--write mine.yaml makes one. All {len(list_recipes())} recipes that ship: hrseg config list"
        )
    words = ["trainer.deterministic=true"] if arguments.deterministic else []
    config, origins = load_config_with_origins(arguments.config, [*words, *arguments.overrides])
    if arguments.print_config:
        return say(to_yaml(config))
    if arguments.dry_run:
        from hrseg.train.planning import plan

        return say(plan(config).text())
    from hrseg.train import fit

    text = f"# {shlex.join(['hrseg', *arguments.words])}\n{to_yaml(config, origins)}"
    result = fit(config, resume=arguments.resume, config_text=text)
    use = shlex.join(["hrseg", "predict", "IMAGE", "--model", str(result.run_dir / "best.ckpt")])
    best = f"{100 * result.best_score:.2f} %"
    text = f"{result.table}\nThe table is of the best weights, mIoU {best}. To use them: {use}"
    if config.trainer.deterministic:
        text += f"\nWeights sha256 {result.digest}"
    return say(text)


def _validate(arguments: argparse.Namespace) -> int:
    """Measure a model on the validation split.

    Prints mIoU, the IoU of each class and pixel accuracy, at the size the masks have on disk. Data and
    options come from the model's own config; words change them.

      hrseg validate --model runs/demo/best.ckpt
      hrseg validate data.root=/data/camvid evaluation.window=[256,320]
      hrseg validate data.root=/data/camvid evaluation.protocol=tta
      hrseg validate --model hrnet_w48.official_cityscapes --config cityscapes_w48
    """
    from hrseg.config import to_yaml
    from hrseg.train.evaluation import evaluate, evaluation_config

    if arguments.print_config:
        config = evaluation_config(arguments.model, arguments.overrides, arguments.config)
        return say(to_yaml(config))
    result = evaluate(
        arguments.model,
        arguments.split,
        arguments.overrides,
        arguments.out,
        arguments.config,
    )
    if arguments.ledger is not None:
        result.ledger.save(arguments.ledger)
    return say(result.text)


def _test(arguments: argparse.Namespace) -> int:
    """Measure a model on the test split, or write masks for a benchmark.

    Like validate, on data.test_split. With --out it also writes every mask as a PNG of dataset ids,
    as benchmark servers want them; images without masks are predicted and not scored.

      hrseg test --model runs/cityscapes_w48/best.ckpt --out submission
    """
    return _validate(arguments)
