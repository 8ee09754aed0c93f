"""How fast a model is on this machine."""

import argparse
import json
from dataclasses import asdict, fields
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import add_verb, positive
from hrseg.errors import ConfigError


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "benchmark", _benchmark)
    text = "a checkpoint, release, tag, exported file, recipe or network; may be given again"
    verb.add_argument("-m", "--model", action="append", metavar="MODEL", help=text)
    text = "a recipe, with random weights; may be given again"
    verb.add_argument("-c", "--config", action="append", metavar="NAME", help=text)
    text = "a network such as hrnet_w48 or hrnet_w48/ocr, with random weights; may be given again"
    verb.add_argument("--architecture", action="append", metavar="NAME", help=text)
    text = "classes of networks given by name (19)"
    verb.add_argument("--classes", type=positive, default=19, metavar="K", help=text)
    text = "one or more image sizes, height and width each (512 1024)"
    verb.add_argument(
        "--size", type=positive, nargs="+", default=[512, 1024], metavar="H W", help=text
    )
    text = "images at once (1)"
    verb.add_argument("--batch", type=positive, default=1, metavar="N", help=text)
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    text = "auto, fp32 or bf16 (auto: bf16 where the device computes in it)"
    verb.add_argument("--precision", default="auto", help=text)
    text = "auto, torch, openvino or compile, as for predict (auto)"
    verb.add_argument("--engine", default="auto", help=text)
    choices, text = ("labels", "logits", "head"), "where the timed work ends (labels)"
    verb.add_argument("--until", choices=choices, default="labels", help=text)
    text = "that compute (as many as predict takes)"
    verb.add_argument("--threads", type=positive, metavar="N", help=text)
    text = "for each row, or for a comparison (5)"
    verb.add_argument("--seconds", type=_seconds, default=5.0, metavar="S", help=text)
    text = "two in turns: each a model, a precision or an engine, or joined by +"
    verb.add_argument("--compare", nargs=2, metavar=("A", "B"), help=text)
    verb.add_argument("--json", action="store_true", help="print JSON")


def _benchmark(arguments: argparse.Namespace) -> int:
    """Time models on this machine.

    Prints for each model and size how long a run takes (median, 90th and 99th percentile), images
    and megapixels per second, peak memory, multiply-adds, and what share of the rate of a plain
    matrix product they are done at. --compare lets two take turns and prints the ratio of their
    times with its interval. A quiet machine tells more than many seconds.

      hrseg benchmark
      hrseg benchmark -m runs/mine -m street.onnx --size 512 1024 1024 2048
      hrseg benchmark --architecture hrnet_w48 --until head --precision fp32
      hrseg benchmark --compare fp32 bf16
      hrseg benchmark --compare torch openvino
      hrseg benchmark --compare hrnet_w48+torch hrnet_w48+compile
      hrseg benchmark --compare street.onnx street.xml --seconds 30 --json
    """
    heights, widths = arguments.size[::2], arguments.size[1::2]
    if len(heights) != len(widths):
        raise ConfigError(
            f"--size takes pairs of height and width, and got {len(arguments.size)} numbers. Such as: --size 512 1024 "
            "1024 2048"
        )
    sizes = list(zip(heights, widths, strict=True))
    from hrseg.benchmark.models import Choice, Settings, benchmark, compare, split_word
    from hrseg.benchmark.results import Comparison, Report

    given = (arguments.precision, arguments.engine)
    named: dict[str | None, list[str] | None] = {
        None: arguments.model,  # its words may be of any kind
        "config": arguments.config,
        "architecture": arguments.architecture,
    }
    choices = [Choice(word, kind, *given) for kind, words in named.items() for word in words or ()]
    choices = choices or [Choice(None, None, *given)]
    settings = Settings(**{one.name: getattr(arguments, one.name) for one in fields(Settings)})
    done: Report | Comparison
    if arguments.compare is None:
        done = benchmark(choices, sizes, settings)
    elif len(choices) > 1 or len(sizes) > 1:
        raise ConfigError(
            "--compare takes one model that its words change, and one size. Such as: hrseg benchmark --architecture "
            "hrnet_w48 --compare fp32 bf16"
        )
    else:
        one, other = (split_word(word, choices[0]) for word in arguments.compare)
        done = compare((one, other), sizes[0], settings)
    return say(json.dumps(asdict(done), indent=2) if arguments.json else str(done))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return value
