"""Verbs of `hrseg data` for labelling with a model: rank, audit."""

import argparse
import json
from pathlib import Path
from typing import Any

from hrseg.cli.args import add_device, add_model, add_verb, options_of, positive
from hrseg.cli.console import EXIT_OK, EXIT_PARTIAL, print_error, print_out
from hrseg.errors import printable


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
    verb.add_argument("--labelled", nargs="+", default=[], metavar="FOLDER", help=text)
    text = "write the ranking as a list, one path a line"
    verb.add_argument("-o", "--out", type=Path, metavar="LIST.txt", help=text)
    add_device(verb)


def _rank(arguments: argparse.Namespace) -> int:
    """Rank unlabelled images by what a model would learn from them.

    Images of which the model is least sure come first, each as different as possible from those
    before it by the features of the network; near duplicates are left out. Label the first ones,
    train again, rank the rest again. A broken image is named, the others are ranked, and the exit
    code is 1.

      hrseg data rank photos/ --model runs/mine
      hrseg data rank photos/ --model runs/mine --labelled datasets/mine/images --count 50 --out next.txt
      hrseg predict @next.txt --model runs/mine --out to_correct
    """
    from hrseg.cli.progress import counting
    from hrseg.imaging import write_text
    from hrseg.inference.backends import set_threads
    from hrseg.inference.predictor import open_predictor
    from hrseg.inference.rank import rank_images
    from hrseg.inference.sources import open_sources

    pictures, labelled = open_sources(arguments.images), list(open_sources(arguments.labelled))
    set_threads()
    predictor = open_predictor(arguments.model, keep=(arguments.by,), **options_of(arguments, "device", "precision"))
    with counting("ranking") as progress:
        total = len(labelled) + sum(1 for _ in pictures)
        ranking = rank_images(predictor, pictures, arguments.count, labelled=labelled, advance=progress(total))
    if arguments.out is not None:
        write_text(arguments.out, ranking.list_text())
    print_out(json.dumps(ranking.to_dict(), indent=1, ensure_ascii=False) if arguments.json else ranking.text())
    for text in ranking.broken:
        print_error(printable(text))
    if arguments.out is not None and not arguments.json:
        print_out(f"{len(ranking.rows):,} of {ranking.images:,} images are listed in {arguments.out}")
    return EXIT_PARTIAL if ranking.broken else EXIT_OK
