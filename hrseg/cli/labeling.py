"""Verbs of `hrseg data` for labeling with a model: rank, audit."""

import argparse
from pathlib import Path
from typing import Any

from hrseg.cli.args import OVERRIDES_HELP, add_device, add_model, add_overrides, add_verb, options_of, positive
from hrseg.cli.console import EXIT_OK, EXIT_PARTIAL, print_error, print_out, print_result
from hrseg.errors import ConfigError, printable


def add(nouns: Any) -> None:
    """Add the verbs of this module."""
    verb = add_verb(nouns, "rank", _rank)
    verb.add_argument(
        "images", nargs="+", metavar="FOLDER", help="images without labels: folders, files, globs, @lists"
    )
    add_model(verb)
    text = "length of the ranking (100)"
    verb.add_argument("--count", type=positive, default=100, metavar="N", help=text)
    text = "how unsure the model is: by the margin of its two best classes, or by entropy (margin)"
    verb.add_argument("--by", choices=("margin", "entropy"), default="margin", help=text)
    text = "images with labels: copies of them are left out, and what differs from them comes first"
    verb.add_argument("--labeled", nargs="+", default=[], metavar="FOLDER", help=text)
    text = "write the ranking as a list, one path a line"
    verb.add_argument("-o", "--out", type=Path, metavar="LIST.txt", help=text)
    add_device(verb)
    verb = add_verb(nouns, "audit", _audit, OVERRIDES_HELP)
    verb.add_argument("root", type=Path, metavar="DATASET", help="its folder")
    text = "recipe of the models (folder_w18)"
    verb.add_argument("-c", "--config", default="folder_w18", metavar="RECIPE", help=text)
    text = "fold models that are there: the folder of hrseg study --folds, or runs; nothing is trained then"
    verb.add_argument("--models", type=Path, nargs="+", default=[], metavar="RUN", help=text)
    text = "models, each trained without one part of the images (5)"
    verb.add_argument("--folds", type=positive, default=5, metavar="N", help=text)
    text = "what a fold does not cut apart: none, folder, or a regular expression (none)"
    verb.add_argument("--by", default="none", metavar="GROUP", help=text)
    text = "leave out regions of fewer pixels (100)"
    verb.add_argument("--smallest", type=positive, default=100, metavar="PIXELS", help=text)
    verb.add_argument("--count", type=positive, default=200, metavar="N", help="findings that are kept (200)")
    text = "the folder of the page and the list (audit); with --apply that of the corrected copy"
    verb.add_argument("-o", "--out", type=Path, metavar="FOLDER", help=text)
    verb.add_argument("--apply", type=Path, metavar="LIST.jsonl", help="write a copy with these corrections instead")
    text = "with --apply, link what stays the same instead of copying it"
    verb.add_argument("--link", action="store_true", help=text)
    text = "where to compute: auto, cpu, cuda, cuda:1, mps (auto)"
    verb.add_argument("--device", default="auto", metavar="DEVICE", help=text)
    add_overrides(verb)


def _rank(arguments: argparse.Namespace) -> int:
    """Rank unlabeled images by what a model would learn from them.

    Images of which the model is least sure come first, each as different as possible from those
    before it by the features of the network; near duplicates are left out. Label the first ones,
    train again, rank the rest again. A broken image is named, the others are ranked, and the exit
    code is 1.

      hrseg data rank photos/ --model runs/mine
      hrseg data rank photos/ --model runs/mine --labeled datasets/mine/images --count 50 --out next.txt
      hrseg predict @next.txt --model runs/mine --out to_correct
    """
    from hrseg.cli.progress import counting
    from hrseg.imaging import write_text
    from hrseg.inference.backends import set_threads
    from hrseg.inference.predictor import open_predictor
    from hrseg.inference.rank import rank_images
    from hrseg.inference.sources import open_sources

    pictures, labeled = open_sources(arguments.images), list(open_sources(arguments.labeled))
    set_threads()
    predictor = open_predictor(arguments.model, keep=(arguments.by,), **options_of(arguments, "device", "precision"))
    with counting("ranking") as progress:
        total = len(labeled) + sum(1 for _ in pictures)
        ranking = rank_images(predictor, pictures, arguments.count, labeled=labeled, advance=progress(total))
    if arguments.out is not None:
        write_text(arguments.out, ranking.list_text())
    print_result(arguments, ranking.to_dict(), ranking.text())
    for text in ranking.broken:
        print_error(printable(text))
    if arguments.out is not None and not arguments.json:
        print_out(f"{len(ranking.rows):,} of {ranking.images:,} images are listed in {arguments.out}")
    return EXIT_PARTIAL if ranking.broken else EXIT_OK


def _audit(arguments: argparse.Namespace) -> int:
    """Find masks that seem wrong, worst first, and apply corrections.

    A model is trained for each fold on the others (a study, which is resumed if it was stopped), and
    judges the masks that it has not seen. Writes audit.html, a page of image, mask and suggestion, and
    corrections.jsonl, one finding a line: delete the lines that are wrong, or tick the right ones on
    the page, and apply the list to a copy of the dataset. The dataset itself stays as it is, but for
    the lists of its folds. A broken image is named, and the exit code is 1.

      hrseg data audit datasets/mine --config mine.yaml
      hrseg data audit datasets/mine --models runs/mine_study/plain --smallest 400
      hrseg data audit datasets/mine --apply audit/corrections.jsonl --out datasets/corrected
    """
    from hrseg.cli.progress import counting
    from hrseg.study.audit import audit_folds, fold_checkpoints, train_folds
    from hrseg.study.corrections import CORRECTIONS, PAGE, apply_corrections, write_audit

    root, out = arguments.root, arguments.out or Path("audit")
    if arguments.apply is not None:
        if arguments.out is None:
            raise ConfigError("--apply writes a copy of the dataset. Name its folder: --out datasets/corrected")
        regions, masks = apply_corrections(root, arguments.apply, out, arguments.link)
        text = f"{regions:,} regions in {masks:,} masks are corrected in {out}\nTrain: data.root={out}"
        return print_result(arguments, {"regions": regions, "masks": masks, "root": out}, text)
    if (out / CORRECTIONS).exists():
        raise ConfigError(f"{out / CORRECTIONS} exists, and may be edited. Name another folder with --out.")
    models = arguments.models
    if not models:
        models = [train_folds(root, arguments.config, arguments.folds, arguments.by, arguments.overrides)]
    elif arguments.overrides:
        raise ConfigError(f"{arguments.overrides[0]} is for training, and --models are trained. Leave one out.")
    checkpoints = fold_checkpoints(models)
    with counting("judging") as progress:
        audit, labels = audit_folds(
            root, checkpoints, progress=progress, **options_of(arguments, "count", "smallest", "device")
        )
    write_audit(audit, labels, out)
    print_result(arguments, audit.to_dict(), audit.text())
    for text in audit.broken:
        print_error(printable(text))
    if not arguments.json:
        print_out(f"The page: {out / PAGE}; the list: {out / CORRECTIONS}")
    return EXIT_PARTIAL if audit.broken else EXIT_OK
