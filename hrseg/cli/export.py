"""Verbs export, benchmark and models."""

import argparse
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hrseg.cli.args import add_model, add_size, add_verb, options_of, positive
from hrseg.cli.console import BOLD, paragraph, print_out, print_result, styled
from hrseg.errors import ConfigError

_EXPORT_OPTIONS = ("precision", "images", "masks", "calibrate", "tolerance")
_TARGETS = ("onnx", "openvino", "torch", "triton", "web")
_EXAMPLES = {
    "python": "segment.py",
    "openvino": "segment_openvino.py",
    "c++": "segment.cpp",
    "node": "segment.mjs",
}


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "export", _export)
    add_model(verb)
    verb.add_argument("--to", choices=_TARGETS, default="onnx", help="kind of file (onnx)")
    text = "the file: .onnx, .xml or .pt2; for triton and web a folder"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    profiles, text = ("pixels", "plain"), "input: uint8 (N, H, W, 3), or float32 (N, 3, H, W) in 0 to 1 (pixels)"
    verb.add_argument("--profile", choices=profiles, help=text)
    add_size(verb, "--size", None, "the only image size that the file takes (any)")
    text = "write the ONNX file that a program opens: deepness is a plugin of QGIS"
    verb.add_argument("--for", dest="program", choices=("deepness",), help=text)
    text = "side of the tiles of deepness in pixels (512)"
    verb.add_argument("--tile", type=positive, metavar="N", help=text)
    text = "centimeters per pixel that deepness shows the model (the user's choice)"
    verb.add_argument("--resolution", type=float, metavar="CM", help=text)
    text = "onnxruntime-web's package for web, a .tgz or a folder (fetched from npm)"
    verb.add_argument("--runtime", type=Path, metavar="PATH", help=text)
    text = "of the convolutions (fp32); bf16 for torch only, int8 for all others"
    verb.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32", help=text)
    outputs = ("labels", "logits", "probability", "probabilities")
    text = "what the file gives: labels, logits, probability, probabilities (labels, or logits of plain)"
    verb.add_argument("--outputs", choices=outputs, nargs="+", metavar="NAME", help=text)
    text = "images that int8 takes its ranges from"
    verb.add_argument("--calibrate", metavar="FOLDER", help=text)
    text = "images that the file is checked on (synthetic street scenes)"
    verb.add_argument("--images", metavar="FOLDER", help=text)
    text = "their masks: mIoU before and after"
    verb.add_argument("--masks", metavar="FOLDER", help=text)
    text = "images to check on at most (20)"
    verb.add_argument("--most", type=positive, default=20, metavar="N", help=text)
    text = "pixels that may change class (fp32 0.01, fp16 0.5, bf16 2, int8 5)"
    verb.add_argument("--tolerance", type=float, metavar="PERCENT", help=text)
    text = "print a program that uses such a file without hrseg, and stop"
    verb.add_argument("--example", choices=tuple(_EXAMPLES), help=text)


def _export(arguments: argparse.Namespace) -> int:
    """Write a model as a file for other programs, with a certificate.

    The file contains the whole inference: uint8 RGB images (N, H, W, 3) of any size in, label maps
    (N, H, W) out; --profile plain takes float32 (N, 3, H, W) in 0 to 1 and normalizes it too. --to
    web writes a folder: a page that runs the model in the browser. Before anything is written, its
    outputs are compared with the network's under every runtime that is installed; if too many pixels
    change, nothing is written and the exit code is 2. FILE.certificate.json has the measurements.
    predict and validate take such files as --model.

      hrseg export --out street.onnx
      hrseg export --model runs/demo --to openvino --out demo.xml --outputs labels probability
      hrseg export --precision int8 --calibrate photos/ --out small.onnx
      hrseg export --to triton --out models/street
      hrseg export --profile plain --outputs probabilities --size 512 512 --out plain.onnx
      hrseg export --for deepness --resolution 10 --out map.onnx
      hrseg export --to web --out site
      hrseg export --example c++ > segment.cpp
    """
    if arguments.example is not None:
        from importlib.resources import files

        name = _EXAMPLES[arguments.example]
        return print_out((files("hrseg.export") / "examples" / name).read_text(encoding="utf-8"))
    if arguments.out is None:
        raise ConfigError("No file named. Such as: hrseg export --to onnx --out street.onnx")
    _check_kinds(arguments)
    model, out = arguments.model, arguments.out
    options = {"max_images": arguments.most, **options_of(arguments, *_EXPORT_OPTIONS)}
    if arguments.program == "deepness":
        from hrseg.integrations.deepness import TILE, export_for_deepness

        tile = arguments.tile or TILE
        done = export_for_deepness(model, out, tile=tile, resolution=arguments.resolution, **options)
    elif arguments.to == "web":
        from hrseg.integrations.web import export_site

        done = export_site(model, out, arguments.runtime, **options)
    else:
        from hrseg.export.write import export_model
        from hrseg.inference.model_card import Form

        size = arguments.size and tuple(arguments.size)
        form = Form(arguments.profile or "pixels", size)
        done = export_model(model, arguments.to, out, outputs=arguments.outputs, form=form, **options)
    lines = [f"{path}  {max(1, round(path.stat().st_size / 1e3)):,} kB" for path in done.files]
    found = {"files": done.files, "parity": done.parity.to_dict()}
    return print_result(arguments, found, "\n".join([str(done.parity), *lines]))


_FIXED = ("profile", "size", "outputs")
"""Options that --for and --to web choose themselves."""


def _check_kinds(arguments: argparse.Namespace) -> None:
    """Refuse options that another kind of file reads."""
    kind = f"--for {arguments.program}" if arguments.program else f"--to {arguments.to}"
    own = {"--for deepness": ("tile", "resolution"), "--to web": ("runtime",)}
    if arguments.program and arguments.to != "onnx":
        raise ConfigError(f"{kind} writes ONNX files, and --to is {arguments.to}. Leave --to out.")
    for owner, names in own.items():
        wrong = [name for name in names if getattr(arguments, name) is not None and kind != owner]
        if wrong:
            raise ConfigError(f"--{wrong[0]} is for {owner}, and this is {kind}. Leave it out, or add {owner}.")
    wrong = [name for name in _FIXED if getattr(arguments, name) is not None and kind in own]
    if wrong:
        raise ConfigError(f"{kind} chooses --{wrong[0]} itself. Leave it out.")


def add_benchmark(verbs: Any) -> None:
    """Add the verb to the parser."""
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
    verb.add_argument("--size", type=positive, nargs="+", default=[512, 1024], metavar="H W", help=text)
    text = "images at once (1)"
    verb.add_argument("--batch", type=positive, default=1, metavar="N", help=text)
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    text = "auto, fp32 or bf16 (auto: bf16 where the device computes in it)"
    verb.add_argument("--precision", default="auto", help=text)
    text = "auto, torch, openvino or compile, as for predict (auto)"
    verb.add_argument("--engine", default="auto", help=text)
    choices, text = ("labels", "logits", "head"), "last step that is timed (labels)"
    verb.add_argument("--until", choices=choices, default="labels", help=text)
    text = "number of threads (as for predict)"
    verb.add_argument("--threads", type=positive, metavar="N", help=text)
    text = "for each row, or for a comparison (5)"
    verb.add_argument("--seconds", type=_seconds, default=5.0, metavar="S", help=text)
    text = "time two alternately: each a model, a precision, an engine, or some joined by +"
    verb.add_argument("--compare", nargs=2, metavar=("A", "B"), help=text)


def _benchmark(arguments: argparse.Namespace) -> int:
    """Time models on this machine.

    Prints for each model and size how long a run takes (median, 90th and 99th percentile), images
    and megapixels per second, peak memory, multiply-adds, and what share of the rate of a plain
    matrix product they are done at. --compare times two alternately and prints the ratio of their
    times with its interval. Other load on the machine disturbs more than few seconds do.

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
    settings = Settings(**options_of(arguments, *(one.name for one in fields(Settings))))
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
    return print_result(arguments, asdict(done), str(done))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return value


COSTS = {"exchange": ("full", "between_stages", "final"), "downsample": ("conv", "max_pool")}
"""Options of the model section that change what an HRNet costs."""


def add_models(verbs: Any) -> None:
    """Add the verbs of this module."""
    verb = add_verb(verbs, "models", _models)
    verb.add_argument("backbone", nargs="?", metavar="BACKBONE", help="such as hrnet_w18_small_v2")
    verb.add_argument("--head", default="v2", help="(v2)")
    verb.add_argument("--classes", type=positive, default=19, metavar="K", help="(19)")
    add_size(verb, "--size", (512, 1024), "image size")
    for name, choices in COSTS.items():
        verb.add_argument(f"--{name}", choices=choices, default=choices[0], help=f"({choices[0]})")
    verb.add_argument("--branches-from-start", action="store_true", help="four from stage 2 on")


def _models(arguments: argparse.Namespace) -> int:
    """List networks and trained models, or the cost of one.

    With a backbone, it is built and its parameters and multiply-adds are counted.

      hrseg models
      hrseg models hrnet_w48 --size 1024 2048
      hrseg models hrnet_w48 --head ocr
      hrseg models hrnet_w32 --exchange final
    """
    from hrseg.models import FORM, HEADS, create_model, list_models, summary
    from hrseg.weights import packaged_models

    if arguments.backbone is None:
        tables = {
            "Backbones": list_models(),
            "Heads": list(HEADS),
            "Trained models": list(packaged_models()),
        }
        text = "\n\n".join(paragraph(title, names) for title, names in tables.items())
        return print_result(arguments, {title.lower().replace(" ", "_"): each for title, each in tables.items()}, text)
    form = options_of(arguments, *COSTS, "branches_from_start")
    network = create_model(arguments.backbone, arguments.head, arguments.classes, **form)
    height, width = arguments.size
    cost = summary(network, (height, width))
    changed = "".join(
        f", {name}" + ("" if value is True else f" {value}") for name, value in form.items() if value != FORM[name]
    )
    found = {"backbone": arguments.backbone, "head": arguments.head, "classes": arguments.classes, **form, **vars(cost)}
    return print_result(
        arguments,
        found,
        f"{styled(arguments.backbone, BOLD)} with head {arguments.head}, {arguments.classes} classes{changed}\n"
        f"  parameters     {cost.parameters:,}\n"
        f"  multiply-adds  {cost.multiply_adds / 1e9:,.2f} G for one {height}x{width} image",
    )
