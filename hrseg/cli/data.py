"""Verbs of `hrseg data`: check, convert, split, stats, browse, demo."""

import argparse
import json
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrseg.cli import labeling
from hrseg.cli.args import (
    add_group,
    add_overrides,
    add_pattern,
    add_size,
    add_verb,
    options_of,
    positive,
)
from hrseg.cli.console import BOLD, EXIT_OK, EXIT_USAGE, print_out, print_result, styled
from hrseg.errors import ConfigError, HrsegError

if TYPE_CHECKING:
    from hrseg.data.check.findings import Result

IMAGENET_START = "hrnet_w18.ms_in1k"
"""Default start for images other than streets, trainable on one GPU."""


def add(verbs: Any) -> None:
    """Add the verbs of this module."""
    nouns = add_group(verbs, "data", "Check, convert, divide and browse datasets; generate one for tests.")
    _add_check(nouns)
    add_data_convert(nouns)
    labeling.add(nouns)
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
    verb.add_argument("--train", type=positive, default=40, metavar="N", help="training scenes (40)")
    verb.add_argument("--val", type=positive, default=10, metavar="N", help="validation scenes (10)")
    add_size(verb, "--size", (128, 256), "scene size")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="other scenes (0)")


def _add_check(nouns: Any) -> None:
    verb = add_verb(nouns, "check", _data_check)
    verb.add_argument("root", type=Path, metavar="ROOT", help="the folder of the dataset")
    verb.add_argument("--labels", metavar="TABLE", help="class table to check the masks against")
    text = "layout, where it is not recognized: cityscapes, ade20k, ..., folder"
    verb.add_argument("--layout", metavar="NAME", help=text)
    add_pattern(verb)
    text = "class of images without a mask, such as background; they are left out otherwise"
    verb.add_argument("--unmasked", metavar="CLASS", help=text)
    text = "what a new division does not cut apart: none, folder, or a regular expression"
    verb.add_argument("--by", metavar="GROUP", help=text)
    text = "save a training recipe, and the files that it needs beside it"
    verb.add_argument("--write", type=Path, metavar="YAML", help=text)
    text = "save a page with the findings and pictures"
    verb.add_argument("--html", type=Path, metavar="HTML", help=text)
    text = "per cent of the images for validation, where there are no splits (20)"
    verb.add_argument("--val", type=positive, default=20, metavar="N", help=text)
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="another division (0)")
    verb.add_argument("--workers", type=positive, metavar="N", help="processes (one per core)")


def _data_check(arguments: argparse.Namespace) -> int:
    """Check a dataset, report its errors, and suggest a recipe.

    Reads any tree: a known dataset, or images and masks in folders of the usual names, with splits or
    without, masks of ids, of colors, of 0 and 255. Nothing in it is changed. The exit status is 2 if
    an error was found that would stop a training. Names that differ by a constant, and lists of images
    and masks, are recognized; --masks names any other place of the masks.

      hrseg data check datasets/mine
      hrseg data check datasets/mine --masks 'masks/{stem}.jpg.png'
      hrseg data check datasets/mine --write mine.yaml --html mine.html
      hrseg fit --config mine.yaml
    """
    from hrseg.cli.progress import counting
    from hrseg.data.check import Start, check, write_recipe
    from hrseg.data.check.page import write_page
    from hrseg.data.check.report import report
    from hrseg.weights import STARTER_TAG
    from hrseg.weights.catalog import row_of

    if arguments.val > 90:
        raise ConfigError(f"--val {arguments.val} leaves too little to learn from. Give 1 to 90.")
    imagenet = row_of(IMAGENET_START)
    tag = imagenet.tag if imagenet.files() else STARTER_TAG
    start = Start(row_of(tag).backbone, tag)
    with counting("checking") as progress:
        result = check(
            arguments.root,
            start=start,
            workers=arguments.workers or 0,
            val_share=arguments.val / 100,
            progress=progress,
            **options_of(arguments, "labels", "layout", "masks", "unmasked", "by", "seed"),
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
    except HrsegError as error:  # the findings are printed first
        trouble = error
    print_out(json.dumps(result.to_dict(), indent=1) if arguments.json else report(result, written, styled))
    if trouble is not None:
        raise trouble
    if result.recipe is not None and not arguments.json:
        print_out(_other_starts(result, written, tag))
    if arguments.html is not None and not arguments.json:
        print_out(f"\nThe page: {arguments.html}")
    return EXIT_USAGE if result.errors else EXIT_OK


def _other_starts(result: "Result", written: Path | None, tag: str) -> str:
    """Return the way to a better start: published recipes of a known data set, and ImageNet weights."""
    from hrseg.config import list_recipes
    from hrseg.weights.catalog import row_of

    names = [name for name in list_recipes() if name.startswith(f"{result.layout}_")]
    if names and result.layout != "folder":
        usual = f"{result.layout}_w48" if f"{result.layout}_w48" in names else names[0]
        few = [name for name in names if "_mmseg_" not in name and name != usual]
        return "\n".join(
            [
                f"\n{styled('Published recipes of this data set', BOLD)}",
                f"  hrseg fit --config {usual} data.root={shlex.quote(str(result.root))}",
                textwrap.fill(
                    f"also: {', '.join(few)}; all: hrseg config list",
                    100,
                    initial_indent="  ",
                    subsequent_indent="  ",
                ),
            ]
        )
    if tag == IMAGENET_START:
        return ""
    row = row_of(IMAGENET_START)
    text = (
        f"{tag} has seen streets only. For other images {row.tag} ({row.megabytes} MB, fetched once) usually is the "
        "better start, above all with few images:"
    )
    options = f"model.backbone={row.backbone} model.weights={row.tag}"
    return "\n".join(
        [
            f"\n{styled('A start from ImageNet', BOLD)}",
            textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  "),
            f"  hrseg fit --config {shlex.quote(str(written or 'mine.yaml'))} {options}",
        ]
    )


def _data_demo(arguments: argparse.Namespace) -> int:
    """Write generated street scenes as a dataset.

    The scenes have exact masks, and are stored in one of the layouts that hrseg reads.

      hrseg data demo datasets/scenes --train 40 --val 10
    """
    from hrseg.data.synthetic import write_scenes

    splits = {"train": arguments.train, "val": arguments.val}
    size = (arguments.size[0], arguments.size[1])
    write_scenes(arguments.out, arguments.layout, splits, size=size, seed=arguments.seed)
    words = [f"data.layout={arguments.layout}", f"data.root={arguments.out}"]
    if arguments.layout == "folder":
        words.append(f"data.labels={arguments.out / 'labels.yaml'}")
    return print_result(
        arguments,
        {"root": arguments.out, "layout": arguments.layout, **splits},
        f"{arguments.train} train and {arguments.val} val scenes are in {arguments.out}\n"
        f"Train on them: hrseg fit --config demo {shlex.join(words)}",
    )


_TOOLS = (
    *("cvat", "cityscapes", "labelbox", "superannotate", "via", "isat", "geojson", "kaggle"),
    *("label_studio", "supervisely", "datumaro", "darwin", "segments_ai", "labelme", "coco"),
    *("yolo", "binary", "voc", "colors"),
)
_FORMATS = ("coco", "cvat", "labelme", "label_studio", "datumaro")


def add_data_convert(nouns: Any) -> None:
    """Add the verbs of this module."""
    _add_convert(nouns)
    _add_split(nouns)
    verb = add_verb(nouns, "stats", _data_stats)
    verb.add_argument("root", type=Path, metavar="ROOT", help="the folder of the dataset")
    verb.add_argument("--labels", metavar="TABLE", help="its class table (the one that belongs to it)")
    verb.add_argument("--layout", metavar="NAME", help="its layout, where it is not recognized")
    verb.add_argument("--workers", type=positive, metavar="N", help="processes (one per core)")
    verb = add_verb(nouns, "browse", _data_browse)
    text = "a folder with images/, masks/ and labels.yaml (the recipe's)"
    verb.add_argument("root", type=Path, nargs="?", metavar="ROOT", help=text)
    verb.add_argument("--config", metavar="RECIPE", help="a recipe (folder_w18)")
    out, text = Path("samples.html"), "the page (samples.html)"
    verb.add_argument("-o", "--out", type=Path, default=out, metavar="FILE.html", help=text)
    verb.add_argument("--images", type=positive, default=8, metavar="N", help="images shown (8)")
    text = "augmented samples of each (3)"
    verb.add_argument("--variants", type=positive, default=3, metavar="N", help=text)
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="other images (0)")
    add_overrides(verb)


def _add_convert(nouns: Any) -> None:
    verb = add_verb(nouns, "convert", _data_convert)
    text = "an export of a tool, or its folder; with --to a folder of masks"
    verb.add_argument("source", type=Path, metavar="SOURCE", help=text)
    text = "the folder to make; with --to the file"
    verb.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=text)
    text = f"what SOURCE is, where it is not recognized: {', '.join(_TOOLS)}"
    verb.add_argument("--from", dest="tool", choices=(*_TOOLS, "colours"), metavar="TOOL", help=text)
    text = f"write masks for correction by hand as: {', '.join(_FORMATS)}"
    verb.add_argument("--to", choices=_FORMATS, metavar="FORMAT", help=text)
    verb.add_argument("--images", type=Path, metavar="DIR", help="the folder of the images")
    text = "what the masks' colors or numbers mean: a table's name, .csv, .yaml, or text"
    verb.add_argument("--classes", metavar="TABLE", help=text)
    text = "our classes and their ids, such as the labels.yaml of another conversion"
    verb.add_argument("--labels", metavar="TABLE", help=text)
    text = "rules such as 'car,truck=vehicle', 'sky=ignore', '*=drop', or a .yaml or .csv of them"
    verb.add_argument("--merge", nargs="+", default=[], metavar="RULE", help=text)
    text = "what pixels of no object become (class, with id 0; ignore for Cityscapes)"
    verb.add_argument("--background", choices=("class", "ignore"), help=text)
    text = "object on top where two overlap: the later or the smaller one (as in the tool)"
    verb.add_argument("--order", choices=("file", "area"), help=text)
    text = "split of images for which the tool has none (train)"
    verb.add_argument("--split", default="train", metavar="NAME", help=text)
    verb.add_argument("--link", action="store_true", help="link the images instead of copying them")
    verb.add_argument("--shapes", choices=("masks", "polygons"), help="how --to writes them")
    text = "with polygons: leave out corners, moving no border farther than this (0, exact)"
    verb.add_argument("--tolerance", type=float, default=0.0, metavar="PIXELS", help=text)
    text = "with polygons: leave out parts with fewer pixels (1)"
    verb.add_argument("--smallest", type=positive, default=1, metavar="PIXELS", help=text)


def _data_convert(arguments: argparse.Namespace) -> int:
    """Turn annotations of other tools into images, masks and labels.yaml, or masks back into theirs.

    Reads CVAT, Label Studio, LabelMe, COCO, Datumaro, Supervisely, V7 Darwin, Segments.ai, Labelbox,
    SuperAnnotate, VIA, ISAT, VOC, YOLO, Cityscapes, GeoJSON, run lengths of Kaggle, binary masks and
    masks of colors; prints what each class became. The folder appears whole or not at all, and
    nothing is overwritten. Each image is decoded: those that cannot be read, truncated ones too, are
    left out and named, and the exit code is 1 then.

      hrseg data convert export/annotations.xml --images photos --out datasets/mine
      hrseg data convert coco/ --out datasets/mine --merge 'car,truck,bus=vehicle' '*=drop'
      hrseg data convert hrseg_out --to cvat --images photos --labels camvid --out correct.xml
    """
    from hrseg.cli.progress import counting
    from hrseg.convert.convert import ConvertOptions, convert
    from hrseg.labels import load_labels

    if arguments.to is not None:
        return _convert_back(arguments)
    for name, usual in (("shapes", None), ("tolerance", 0), ("smallest", 1)):
        if getattr(arguments, name) != usual:
            raise ConfigError(f"--{name} belongs to --to, which writes masks for another tool.")
    names = ("tool", "images", "classes", "merge", "background", "order", "split", "link")
    labels = load_labels(arguments.labels) if arguments.labels else None
    options = ConvertOptions(labels=labels, **options_of(arguments, *names))
    with counting("converting") as progress:
        report = convert(arguments.source, arguments.out, options, progress)
    code = 1 if report.source.broken else 0
    if arguments.json:
        return print_out(json.dumps(report.to_dict(), indent=1, ensure_ascii=False)) or code
    step = (
        f"Divide it: hrseg data split {shlex.quote(str(arguments.out))} --val 0.2"
        if "val" not in report.splits
        else f"Train: hrseg fit --config folder_w18 {shlex.quote(f'data.root={arguments.out}')}"
    )
    return print_out(f"{report.text()}\n\n{step}") or code


def _convert_back(arguments: argparse.Namespace) -> int:
    from hrseg.cli.progress import counting
    from hrseg.convert.writers import export
    from hrseg.errors import list_unreadable
    from hrseg.labels import find_classes, read_classes

    found = read_classes(arguments.labels) if arguments.labels else find_classes(arguments.source)
    if found is None:
        raise ConfigError(
            f"There is no class table in {arguments.source}. Give that of the model or dataset: --labels "
            "camvid, or a .yaml or .csv."
        )
    with counting("converting") as progress:
        count, broken = export(
            arguments.source,
            arguments.out,
            arguments.to,
            found.labels,
            progress=progress,
            **options_of(arguments, "images", "shapes", "tolerance", "smallest"),
        )
    text = f"{count:,} image{'s' * (count != 1)} as {arguments.to} in {arguments.out}"
    written = {"images": count, "broken": broken}
    return print_result(arguments, written, "\n".join([text, *list_unreadable(broken)])) or int(bool(broken))


def _add_split(nouns: Any) -> None:
    verb = add_verb(nouns, "split", _data_split)
    verb.add_argument("root", type=Path, metavar="ROOT", help="the folder of images and masks")
    share: Callable[[str], float] = _share
    verb.add_argument("--val", type=share, metavar="F", help="share for validation (0.2)")
    verb.add_argument("--test", type=share, metavar="F", help="share for the test (0)")
    text = "folds that validate in turn, instead of shares; without a number each group is one"
    verb.add_argument("--folds", type=int, nargs="?", const=0, metavar="N", help=text)
    add_pattern(verb)
    text = "groups that are not divided: none, folder, or a regular expression on the path (none)"
    verb.add_argument("--by", default="none", metavar="GROUP", help=text)
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="another division (0)")
    text = "splits to divide, where there are some already: train, or train,val, or all"
    verb.add_argument("--from", dest="pool", metavar="SPLIT", help=text)
    verb.add_argument("--replace", action="store_true", help="replace lists that are there")


def _data_split(arguments: argparse.Namespace) -> int:
    """Divide images into train, val and test, or into folds: lists that layout folder reads.

    The hash of its name assigns a group to a split, so adding images later moves no other image.
    Images of one video or place belong in one split, since a score on near copies of training images
    is too high: name the group with --by. Groups move only where a split would lack a class.
    Of folds each validates once; hrseg study trains on all of them and takes the mean.

      hrseg data split datasets/mine --val 0.2
      hrseg data split datasets/mine --val 0.2 --test 0.1 --by '([^/]+)_[0-9]+$'
      hrseg data split datasets/mine --by folder --seed 3 --replace
      hrseg data split datasets/mine --by '([^/]+)_[0-9]+$' --folds
    """
    from hrseg.cli.progress import counting
    from hrseg.data.split import divide, write_lists

    with counting("reading masks") as progress:
        options = options_of(arguments, "val", "test", "folds", "by", "seed", "pool", "masks")
        division = divide(arguments.root, progress=progress, **options)
    paths = write_lists(division, arguments.replace)
    return print_result(arguments, division.to_dict() | {"lists": paths}, division.text(paths))


def _data_stats(arguments: argparse.Namespace) -> int:
    """Count a dataset: sizes, mean and deviation of each band, pixels and images of each class.

    Mean and deviation are in 0 to 1, as data.mean and data.std take them. A share is of all pixels of
    the split's masks, ignored ones included. Files that cannot be read are named, and the exit code is
    1 then.

      hrseg data stats datasets/mine
      hrseg data stats datasets/mine --json | jq .splits.train.mean
    """
    from hrseg.cli.progress import counting
    from hrseg.data.stats import stats

    with counting("counting") as progress:
        options = options_of(arguments, "layout", "labels")
        found = stats(arguments.root, workers=arguments.workers or 0, progress=progress, **options)
    return print_result(arguments, found.to_dict(), found.text()) or int(bool(found.broken))


def _data_browse(arguments: argparse.Namespace) -> int:
    """Show training samples with their masks on one page, as the network would see them.

    Each image is shown whole, and several times through the recipe's own augmentation. Masks fade,
    classes can be seen alone, and pointing at a pixel names its class.

      hrseg data browse datasets/mine --out samples.html
      hrseg data browse --config cityscapes_w48 data.root=datasets/cityscapes
      hrseg data browse --config demo data.photometric=1 --images 4 --variants 6
    """
    from hrseg.config import load_config
    from hrseg.data.browse import recipe_facts, write_samples
    from hrseg.labels import find_classes
    from hrseg.training.build import build_data

    words = [] if arguments.root is None else ["data.layout=folder", f"data.root={arguments.root}"]
    table = None if arguments.root is None else find_classes(arguments.root)
    if table is not None:
        words.append(f"data.labels={table.path}")
    name = arguments.config or "folder_w18"
    config = load_config(name, [*words, *arguments.overrides])
    data = build_data(config)
    write_samples(
        data.train_set,
        arguments.out,
        title=Path(config.data.root).name if config.data.root else config.data.layout,
        facts=recipe_facts(Path(name).stem, config.data),
        **options_of(arguments, "images", "variants", "seed"),
    )
    return print_result(arguments, {"page": arguments.out}, f"Open {arguments.out} in a browser.")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share from 0 to 1")
    return value
