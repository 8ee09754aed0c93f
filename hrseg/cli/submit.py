"""Archives for evaluation servers."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import add_model, add_size, add_verb
from hrseg.errors import ConfigError

_SERVERS = ("cityscapes", "ade20k")


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "submit", _submit)
    verb.add_argument("server", choices=_SERVERS, help="whose archive")
    verb.add_argument("--root", type=Path, metavar="DIR", help="folder of the dataset")
    add_model(verb)
    text = "a folder of PNG files instead of a model, such as one of hrseg predict"
    verb.add_argument("--predictions", type=Path, metavar="DIR", help=text)
    text = "test, or val to see the score first (test)"
    verb.add_argument("--split", choices=("test", "val", "train"), default="test", help=text)
    text = "the archive (SERVER_SPLIT.zip)"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    text = "the files hold trainIds instead of the dataset's ids"
    verb.add_argument("--trainids", action="store_true", help=text)
    text = "take a split that lacks images"
    verb.add_argument("--partial", action="store_true", help=text)
    devices, text = ("auto", "cpu", "cuda"), "where to compute (auto)"
    verb.add_argument("--device", choices=devices, default="auto", help=text)
    precisions, text = ("auto", "fp32", "bf16"), "auto: bf16 where the device is quick at it (auto)"
    verb.add_argument("--precision", choices=precisions, default="auto", help=text)
    text = "a named way to look, such as official_cityscapes_ms (whole)"
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
    from hrseg.runtime import open_predictor
    from hrseg.submit import submit

    predictor = None
    if arguments.model is not None:
        predictor = open_predictor(
            arguments.model,
            device=arguments.device,
            precision=arguments.precision,
            protocol=arguments.protocol,
            window=arguments.window and tuple(arguments.window),
        )
    done = submit(
        arguments.server,
        arguments.root,
        arguments.out or Path(f"{arguments.server}_{arguments.split}.zip"),
        predictor=predictor,
        predictions=arguments.predictions,
        split=arguments.split,
        train_ids=arguments.trainids,
        partial=arguments.partial,
        tell=_tell if sys.stderr.isatty() else None,
    )
    return say(done.text())


def _tell(done: int, count: int) -> None:
    print(f"\r{done} of {count}", end="\n" if done == count else "", file=sys.stderr, flush=True)
