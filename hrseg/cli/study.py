"""Verb study: training of several variants of one recipe."""

import argparse
from dataclasses import replace
from typing import Any

from hrseg.cli.args import OVERRIDES_HELP, add_overrides, add_verb, positive
from hrseg.cli.console import EXIT_OK, EXIT_PARTIAL, print_error, print_result
from hrseg.errors import ConfigError


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "study", _study, OVERRIDES_HELP)
    text = "a study file or its name; with --variant a recipe"
    verb.add_argument("study", metavar="STUDY", help=text)
    text = "name and overrides of a variant in one argument; may be given again"
    verb.add_argument("--variant", action="append", metavar="'NAME WORDS'", help=text)
    verb.add_argument("--seeds", metavar="N,N", help="train each variant with each of these seeds")
    text = "train each variant once for each fold of hrseg data split --folds, on the others"
    verb.add_argument("--folds", type=positive, metavar="N", help=text)
    verb.add_argument("--name", help="of its folder (the file's name)")
    verb.add_argument("--dry-run", action="store_true", help="print what would be trained, stop")
    add_overrides(verb)


def _study(arguments: argparse.Namespace) -> int:
    """Train variants of one recipe and print one table.

    Each variant is a run in runs/STUDY/VARIANT. The same command resumes a study that was
    stopped; finished runs are not trained again. A variant that fails is reported, the others go on,
    and the exit code is 1. The table is also saved as table.md, table.csv and table.json. With folds
    the score of a variant is its mean over them, with its interval and IoU by class.

      hrseg study family
      hrseg study exchange --seeds 0,1,2 --dry-run
      hrseg study demo --variant plain --variant 'unet model.backbone=resnet18 model.head=unet'
      hrseg study mine.yaml --variant plain --variant 'light data.photometric=1' --folds 5
    """
    from hrseg.config import find_config
    from hrseg.study import Study, parse_variants, plan_study, read_study, train_study
    from hrseg.training.trainer import quiet_lightning

    if arguments.variant:
        recipe = find_config(arguments.study)
        study = Study(f"{recipe.stem}_study", recipe, parse_variants(arguments.variant))
    else:
        study = read_study(arguments.study)
    if arguments.seeds is not None:
        study = replace(study, seeds=_numbers(arguments.seeds))
    if arguments.folds is not None:
        study = replace(study, folds=arguments.folds)
    if arguments.name is not None:
        study = replace(study, name=arguments.name)
    quiet_lightning()
    plan = plan_study(study, arguments.overrides)
    if arguments.dry_run:
        return print_result(arguments, plan.to_dict(), plan.text())
    table = train_study(plan)
    print_result(arguments, table.to_dict(), table.text())
    if table.failures:
        print_error(f"{len(table.failures)} of {len(plan.runs)} runs failed; the same command tries them again")
    return EXIT_PARTIAL if table.failures else EXIT_OK


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds is '{text}'. It must be whole numbers with commas between, such as 0,1,2.")
    return tuple(map(int, parts))
