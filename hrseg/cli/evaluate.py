"""All there is to say about a model's predictions: hrseg evaluate."""

import argparse
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import OK, say
from hrseg.cli.words import WORDS, add_verb, add_words, positive


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "evaluate", _evaluate, WORDS)
    text = "a checkpoint, a run's folder, a tag, an exported file (the model that ships)"
    verb.add_argument("model", nargs="?", metavar="MODEL", help=text)
    out, text = Path("hrseg_report"), "the report's folder (hrseg_report)"
    verb.add_argument("-o", "--out", type=Path, default=out, metavar="DIR", help=text)
    text = "data and options of this recipe instead of the model's own"
    verb.add_argument("-c", "--config", metavar="FILE", help=text)
    verb.add_argument("--split", choices=("val", "test"), default="val", help="(val)")
    text = "worst images on the page (24)"
    verb.add_argument("--worst", type=_count, default=24, metavar="N", help=text)
    text = "width of Boundary IoU, a part of the diagonal (0.02)"
    verb.add_argument("--ratio", type=float, default=0.02, metavar="F", help=text)
    text = "distances at which contours are met (1 2 3 5 8)"
    verb.add_argument("--pixels", type=positive, nargs="+", metavar="K", help=text)
    text = "widths of the trimap curve (1 2 4 8 16 32)"
    verb.add_argument("--bands", type=positive, nargs="+", metavar="R", help=text)
    verb.add_argument("--bins", type=positive, default=15, metavar="N", help="of confidence (15)")
    add_words(verb)


def _evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a model, and write everything into one folder.

    One pass over the split gives mIoU with its interval, Boundary IoU, contours by distance, the
    trimap curve, calibration with its temperature, and the worst images. The folder gets report.html
    (one page, no other file needed), report.json, the figures as PNG, and ledger.npz with the counts
    of each image: hrseg compare takes it, and given as MODEL it makes the folder again without
    inference.

      hrseg evaluate runs/demo
      hrseg evaluate data.root=/data/camvid --out report
      hrseg evaluate hrnet_w48.official_cityscapes --config cityscapes_w48 --pixels 1 3 5
      hrseg evaluate report/ledger.npz --out again --bins 10
    """
    from hrseg.evaluation.evidence import Rulers
    from hrseg.evaluation.write import evaluate_model

    given: dict[str, Any] = {"ratio": arguments.ratio, "bins": arguments.bins}
    given |= {"distances": tuple(arguments.pixels)} if arguments.pixels else {}
    given |= {"bands": tuple(arguments.bands)} if arguments.bands else {}
    report = evaluate_model(
        arguments.model,
        arguments.out,
        arguments.split,
        arguments.overrides,
        recipe=arguments.config,
        rulers=Rulers(**given),
        worst=arguments.worst,
    )
    return OK if report is None else say(report.text())


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)
