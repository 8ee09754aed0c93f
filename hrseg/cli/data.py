"""Datasets."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import add_group, add_size, add_verb, positive


def add(verbs: Any) -> None:
    """Add the verbs of this page."""
    nouns = add_group(verbs, "data", "Make a dataset to try things on.")
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
