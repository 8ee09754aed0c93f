"""Verbs that measure models: evaluate, compare, submit, reproduce."""

import argparse
import json
import shutil
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrseg.cli.args import (
    OVERRIDES_HELP,
    add_device,
    add_model,
    add_overrides,
    add_recipe,
    add_size,
    add_verb,
    options_of,
    positive,
)
from hrseg.cli.console import BOLD, EXIT_OK, EXIT_PARTIAL, print_out, print_result, styled
from hrseg.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from hrseg.evaluation.published import Plan


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "evaluate", _evaluate, OVERRIDES_HELP)
    text = "a checkpoint, a run's folder, a tag, an exported file (the model that ships)"
    verb.add_argument("model", nargs="?", metavar="MODEL", help=text)
    out, text = Path("hrseg_report"), "the report's folder (hrseg_report)"
    verb.add_argument("-o", "--out", type=Path, default=out, metavar="DIR", help=text)
    add_recipe(verb)
    verb.add_argument("--split", choices=("val", "test"), default="val", help="(val)")
    text = "worst images on the page (24)"
    verb.add_argument("--worst", type=_count, default=24, metavar="N", help=text)
    text = "width of Boundary IoU as a part of the diagonal (0.02)"
    verb.add_argument("--ratio", type=float, default=0.02, metavar="F", help=text)
    text = "distances in pixels at which contours are compared (1 2 3 5 8)"
    verb.add_argument("--pixels", type=positive, nargs="+", metavar="K", help=text)
    text = "widths of the trimap curve (1 2 4 8 16 32)"
    verb.add_argument("--bands", type=positive, nargs="+", metavar="R", help=text)
    verb.add_argument("--bins", type=positive, default=15, metavar="N", help="of confidence (15)")
    add_overrides(verb)


def _evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a model, and write everything into one folder.

    One pass over the split gives mIoU with its interval, Boundary IoU, contours by distance, the
    trimap curve, calibration with its temperature, and the worst images. The folder gets report.html
    (one page, no other file needed), report.json, the figures as PNG, and ledger.npz with the counts
    of each image: hrseg compare takes it, and given as MODEL it makes the folder again without
    inference.

      hrseg evaluate runs/demo
      hrseg evaluate hrnet_w18_small_v1.camvid data.root=/data/camvid --out report
      hrseg evaluate hrnet_w48.official_cityscapes --config cityscapes_w48 --pixels 1 3 5
      hrseg evaluate report/ledger.npz --out again --bins 10
    """
    from hrseg.evaluation.report import evaluate_model
    from hrseg.metrics.statistics import EvaluationSettings

    given: dict[str, Any] = {"ratio": arguments.ratio, "bins": arguments.bins}
    given |= {"distances": tuple(arguments.pixels)} if arguments.pixels else {}
    given |= {"bands": tuple(arguments.bands)} if arguments.bands else {}
    report = evaluate_model(
        arguments.model,
        arguments.out,
        arguments.split,
        arguments.overrides,
        recipe=arguments.config,
        settings=EvaluationSettings(**given),
        worst=arguments.worst,
    )
    if report is None:  # another process than the first
        return EXIT_OK
    return print_result(arguments, {"files": report.files, **report.results.to_dict()}, str(report))


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def add_compare(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "compare", _compare, OVERRIDES_HELP)
    text = "a checkpoint, a run's folder, a tag, or a ledger of hrseg validate"
    verb.add_argument("models", nargs="*", metavar="MODEL", help=text)
    verb.add_argument("--split", choices=("val", "test"), default="val", help="(val)")
    text = "bootstrap samples (2000)"
    verb.add_argument("--draws", type=positive, default=2000, metavar="N", help=text)
    text = "also save the ledgers here, one for each model"
    verb.add_argument("--out", "-o", type=Path, metavar="DIR", help=text)


def _compare(arguments: argparse.Namespace) -> int:
    """Compare models on the same images, with a confidence interval of the difference.

    Every model is scored on the split, then images are drawn anew with replacement, the same ones
    for all: of 100 such 95 % intervals about 95 hold the difference over all images like these, and
    p is how often models of equal skill differ as much. Where the interval leaves out 0, the
    difference is real for images like these; runs with other seeds may differ by more. Fewer than
    20 images carry no claim, which the table then says.

      hrseg compare runs/demo runs/demo-2
      hrseg compare first.npz second.npz --json
    """
    from hrseg.metrics.bootstrap import format_table, table

    if len(arguments.models) < 2:
        raise ConfigError(
            f"A comparison needs two models or more, {len(arguments.models)} given. Such as: "
            "hrseg compare runs/a runs/b"
        )
    ledgers = [_ledger(model, arguments.split, arguments.overrides) for model in arguments.models]
    if arguments.out is not None:
        for number, ledger in enumerate(ledgers, start=1):
            stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in ledger.model)
            ledger.save(arguments.out / f"{number}_{stem}.npz")
    rows = table(ledgers, draws=arguments.draws)
    return print_result(arguments, rows, format_table(rows))


def _ledger(model: str, split: str, words: list[str]) -> Any:
    from hrseg.metrics.records import read_records

    if model.endswith(".npz"):
        return read_records(model)
    from hrseg.evaluation.validate import evaluate

    return evaluate(model, split, words).records


_SERVERS = ("cityscapes", "ade20k")


def add_submit(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "submit", _submit)
    verb.add_argument("server", choices=_SERVERS, help="server that the archive is for")
    verb.add_argument("--root", type=Path, metavar="DIR", help="folder of the dataset")
    add_model(verb)
    text = "a folder of PNG files instead of a model, such as one of hrseg predict"
    verb.add_argument("--predictions", type=Path, metavar="DIR", help=text)
    text = "test, or val, which is scored too (test)"
    verb.add_argument("--split", choices=("test", "val", "train"), default="test", help=text)
    text = "the archive (SERVER_SPLIT.zip)"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    text = "the files hold trainIds instead of the dataset's ids"
    verb.add_argument("--trainids", action="store_true", help=text)
    text = "accept a split that lacks images"
    verb.add_argument("--partial", action="store_true", help=text)
    add_device(verb)
    text = "evaluation protocol, such as official_cityscapes_ms (whole)"
    verb.add_argument("--protocol", metavar="NAME", default="whole", help=text)
    add_size(verb, "--window", None, "slide a window of this size over the image")


def _submit(arguments: argparse.Namespace) -> int:
    """Write the archive that an evaluation server takes.

    Cityscapes takes labelIds, ADE20K ids from 1 to 150, both as PNG files in a zip. Names, sizes,
    ids and number are checked against the split's images; the archive is written whole or not at
    all. Where the split has masks, as val has, the score is printed too.

      hrseg submit cityscapes --root /data/cityscapes --model hrnet_w48.official_cityscapes
      hrseg submit cityscapes --root /data/cityscapes --predictions hrseg_out --split val
      hrseg submit ade20k --root /data/ADEChallengeData2016 --model runs/ade/best.ckpt -o ade.zip
    """
    if arguments.root is None:
        raise ConfigError("No dataset named. Give its folder: --root /data/" + arguments.server)
    if (arguments.model is None) == (arguments.predictions is None):
        raise ConfigError("Give either --model, which predicts, or --predictions, a folder.")
    from hrseg.evaluation.submission import submit
    from hrseg.inference.predict_files import open_predictor
    from hrseg.metrics.confusion import score_dict

    predictor = None
    if arguments.model is not None:
        options = options_of(arguments, "device", "precision", "protocol")
        options["window"] = arguments.window and tuple(arguments.window)
        predictor = open_predictor(arguments.model, **options)
    done = submit(
        arguments.server,
        arguments.root,
        arguments.out or Path(f"{arguments.server}_{arguments.split}.zip"),
        predictor=predictor,
        train_ids=arguments.trainids,
        **options_of(arguments, "predictions", "split", "partial"),
        progress=_print_progress if sys.stderr.isatty() else None,
    )
    found = {"archive": done.path, "split": done.split, "predictions": done.count, "ranked_by": done.final}
    scores = {} if done.scores is None else score_dict(done.scores, done.names)
    return print_result(arguments, found | scores, str(done))


def _print_progress(done: int, count: int) -> None:
    print(f"\r{done} of {count}", end="\n" if done == count else "", file=sys.stderr, flush=True)


def add_reproduce(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "reproduce", _reproduce, OVERRIDES_HELP)
    verb.add_argument("recipe", metavar="RECIPE", nargs="?", help="a YAML file or a recipe's name")
    text = "which of the recipe's scores (the first)"
    verb.add_argument("--protocol", metavar="NAME", help=text)
    text = "your own checkpoint or tag instead of the published weights"
    verb.add_argument("-m", "--model", metavar="MODEL", help=text)
    verb.add_argument("--plan", action="store_true", help="print the plan only")
    add_overrides(verb)


def _reproduce(arguments: argparse.Namespace) -> int:
    """Measure a published score again.

    Prints the published number, its protocol, the weights, the data and their terms, the cost and the
    command. Where the data are present, it fetches the weights once, runs, and prints the published
    and the measured score; the exit code is 1 if they differ by more than the recipe allows.
    Otherwise it prints which archives to download and where to put them, and the exit code is 0.
    A score of a study with folds is measured by training that study again.

      hrseg reproduce camvid_w18_small_v1 data.root=/data/camvid
      hrseg reproduce ade20k_w48_ohem --protocol official_ade20k_ms --plan
      hrseg reproduce cityscapes_w48 --model runs/cityscapes_w48/best.ckpt
    """
    if arguments.recipe is None:
        from hrseg.config import published_recipes

        names = ", ".join(published_recipes())
        raise ConfigError(f"No recipe given. Recipes with a published score: {names}.")
    from hrseg.config import load_config
    from hrseg.evaluation.published import plan_reproduction, reproduce

    study = load_config(arguments.recipe, arguments.overrides).published.study
    if study and not (arguments.model or arguments.protocol):
        return _reproduce_study(arguments)
    plan = plan_reproduction(arguments.recipe, arguments.overrides, protocol=arguments.protocol, model=arguments.model)
    if not arguments.json:
        print_out(_text(plan))
    if arguments.plan or plan.missing is not None:
        if arguments.json:
            return print_out(json.dumps(plan.to_dict(), ensure_ascii=False))
        return print_out(f"\n{_wrap(plan.missing)}") if plan.missing else EXIT_OK
    outcome = reproduce(plan)
    if arguments.json:
        print_out(json.dumps(outcome.to_dict(), ensure_ascii=False))
    else:
        print_out(f"\n{outcome.result.text}\n\n{styled(str(outcome), BOLD)}")
    return EXIT_OK if outcome.close else EXIT_PARTIAL


def _reproduce_study(arguments: argparse.Namespace) -> int:
    """Train the recipe's variant of a study with folds, and compare the mean over them."""
    from hrseg.config import find_config, load_config
    from hrseg.evaluation.published import difference_text, find_data
    from hrseg.study import plan_study, read_study, train_study
    from hrseg.training.build import build_data
    from hrseg.training.trainer import quiet_lightning

    config, name = load_config(arguments.recipe, arguments.overrides), find_config(arguments.recipe).stem
    published = config.published
    study, score = read_study(published.study or ""), next(iter(published.scores.values()))
    if name not in study.variants:
        raise ConfigError(f"Study '{study.name}' has no variant '{name}', so it has no score of that recipe.")
    claim = f"{name}: {score:g} mIoU, mean over the {study.folds} folds of the study {study.name}"
    values = {"recipe": name, "published": score, "tolerance": published.tolerance}
    missing = find_data(config, build_data(config), config.data.train_split)[2]
    if missing:
        return print_result(arguments, values | {"missing": missing}, f"{claim}\n\n{_wrap(missing)}")
    quiet_lightning()
    plan = plan_study(replace(study, variants={name: study.variants[name]}), arguments.overrides)
    values["plan"] = plan.to_dict()
    if arguments.plan:
        return print_result(arguments, values, f"{claim}\n\n{plan.text()}")
    table = train_study(plan)
    if table.failures:
        raise TrainingError(
            f"{len(table.failures)} of {len(plan.runs)} runs failed: {next(iter(table.failures.values()))}"
        )
    got = 100 * (table.rows[0].miou or 0)
    close = abs(got - score) <= published.tolerance
    values |= {"got": got, "difference": got - score, "within_tolerance": close, "table": table.to_dict()}
    verdict = styled(difference_text(score, got, published.tolerance), BOLD)
    print_result(arguments, values, f"{table.text()}\n\n{verdict}")
    return EXIT_OK if close else EXIT_PARTIAL


def _text(plan: "Plan") -> str:
    lines = [styled(f"{plan.recipe}: {plan.title}" if plan.title else plan.recipe, BOLD)]
    for name, value in plan.rows():
        for i, part in enumerate([value] if name == "command" else _wrap(value, 13).split("\n")):
            lines.append(f"  {'' if i else name:<10} {part}")
    return "\n".join(lines)


def _wrap(text: str, indent: int = 0) -> str:
    width = min(100, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 100
    return textwrap.fill(text, max(40, width - indent), break_long_words=False, break_on_hyphens=False)
