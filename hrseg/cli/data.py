"""Datasets."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from hrseg.cli import data_convert
from hrseg.cli.terminal import OK, YOURS, say, styled
from hrseg.cli.words import add_group, add_pattern, add_size, add_verb, positive
from hrseg.errors import ConfigError, HrsegError


def add(verbs: Any) -> None:
    """Add the verbs of this page."""
    nouns = add_group(verbs, "data", "Look at datasets, and make one to try things on.")
    _add_check(nouns)
    data_convert.add(nouns)
    verb = add_verb(nouns, "demo", _data_demo)
    verb.add_argument("out", type=Path, metavar="OUT", help="the folder to create")
    layouts = (
        *("folder", "cityscapes", "ade20k", "pascal_context", "lip", "coco_stuff", "voc2012"),
        *("camvid", "loveda", "potsdam", "vaihingen", "isaid"),
    )
    verb.add_argument(
        "--layout",
        choices=layouts,
        default="folder",
        metavar="NAME",
        help=f"{', '.join(layouts)} (folder)",
    )
    verb.add_argument(
        "--train", type=positive, default=40, metavar="N", help="training scenes (40)"
    )
    verb.add_argument(
        "--val", type=positive, default=10, metavar="N", help="validation scenes (10)"
    )
    add_size(verb, "--size", (128, 256), "scene size")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="other scenes (0)")


def _add_check(nouns: Any) -> None:
    verb = add_verb(nouns, "check", _data_check)
    verb.add_argument("root", type=Path, metavar="ROOT", help="the folder of the dataset")
    verb.add_argument("--labels", metavar="TABLE", help="hold the masks against this class table")
    text = "what it is, where it is not recognised: cityscapes, ade20k, ..., folder"
    verb.add_argument("--layout", metavar="NAME", help=text)
    add_pattern(verb)
    text = "class of images without a mask, such as background; they are left out otherwise"
    verb.add_argument("--unmasked", metavar="CLASS", help=text)
    text = "what one split holds whole where there are none: none, folder, or a regular expression"
    verb.add_argument("--by", metavar="GROUP", help=text)
    text = "save a recipe that trains, and what it needs beside it"
    verb.add_argument("--write", type=Path, metavar="YAML", help=text)
    text = "save one page with pictures of everything found"
    verb.add_argument("--html", type=Path, metavar="HTML", help=text)
    verb.add_argument("--json", action="store_true", help="print everything as JSON instead")
    text = "per cent that validate where there are no splits (20)"
    verb.add_argument("--val", type=positive, default=20, metavar="N", help=text)
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="another division (0)")
    verb.add_argument("--workers", type=positive, metavar="N", help="processes (one per core)")


def _data_check(arguments: argparse.Namespace) -> int:
    """Look at a dataset, say what is wrong, and suggest a recipe.

    Any tree is welcome: a known dataset, or images and masks in folders of the usual names, with
    splits or without, masks of ids, of colours, of 0 and 255. Nothing in it is changed. The exit
    status is 2 if something was found that would stop a training. Names that differ by a constant, and
    lists of images and masks, are found out; --masks says where else a mask lies.

      hrseg data check datasets/mine
      hrseg data check datasets/mine --masks 'masks/{stem}.jpg.png'
      hrseg data check datasets/mine --write mine.yaml --html mine.html
      hrseg fit --config mine.yaml
    """
    import json

    from hrseg.cli.progress import counting
    from hrseg.data.check import Start, check, write_recipe
    from hrseg.data.check.page import write_page
    from hrseg.data.check.report import report
    from hrseg.weights import STARTER_TAG

    if arguments.val > 90:
        raise ConfigError(f"--val {arguments.val} leaves too little to learn from. Give 1 to 90.")
    with counting("looking") as progress:
        result = check(
            arguments.root,
            labels=arguments.labels,
            layout=arguments.layout,
            masks=arguments.masks,
            unmasked=arguments.unmasked,
            by=arguments.by,
            start=Start(STARTER_TAG.partition(".")[0], STARTER_TAG),
            workers=arguments.workers or 0,
            val_share=arguments.val / 100,
            seed=arguments.seed,
            progress=progress,
        )
    written, trouble = None, None
    try:
        if arguments.write is not None and result.recipe is not None:
            place: Path = arguments.write
            place = place if place.suffix else place.with_suffix(".yaml")
            write_recipe(result.recipe, place)
            written = place
        if arguments.html is not None:
            write_page(result, arguments.html)
    except HrsegError as error:  # what was found is told all the same
        trouble = error
    say(
        json.dumps(result.to_dict(), indent=1)
        if arguments.json
        else report(result, written, styled)
    )
    if trouble is not None:
        raise trouble
    if arguments.html is not None and not arguments.json:
        say(f"\nThe page: {arguments.html}")
    return YOURS if result.errors else OK


def _data_demo(arguments: argparse.Namespace) -> int:
    """Write generated street scenes as a dataset.

    The scenes have exact masks and lie in one of the layouts that hrseg reads.

      hrseg data demo datasets/scenes --train 40 --val 10
    """
    from hrseg.data.synthetic import write_scenes

    splits = {"train": arguments.train, "val": arguments.val}
    size = (arguments.size[0], arguments.size[1])
    write_scenes(arguments.out, arguments.layout, splits, size=size, seed=arguments.seed)
    words = [f"data.layout={arguments.layout}", f"data.root={arguments.out}"]
    if arguments.layout == "folder":
        words.append(f"data.labels={arguments.out / 'labels.yaml'}")
    return say(
        f"{arguments.train} train and {arguments.val} val scenes are in {arguments.out}\n"
        f"Train on them: hrseg fit --config demo {shlex.join(words)}"
    )
