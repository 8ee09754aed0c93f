"""Files for other programs: ONNX, OpenVINO, torch.export, Triton."""

import argparse
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import add_model, add_verb, positive
from hrseg.errors import ConfigError

_TARGETS = ("onnx", "openvino", "torch", "triton")
_EXAMPLES = {
    "python": "segment.py",
    "openvino": "segment_openvino.py",
    "c++": "segment.cpp",
    "node": "segment.mjs",
}


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "export", _export)
    add_model(verb)
    verb.add_argument("--to", choices=_TARGETS, default="onnx", help="kind of file (onnx)")
    text = "the file: .onnx, .xml or .pt2; for triton the model's folder"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    text = "of the convolutions (fp32); bf16 for torch only, int8 for all others"
    verb.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32", help=text
    )
    outputs, text = ("labels", "logits", "probability"), "what the file gives (labels)"
    verb.add_argument(
        "--outputs", choices=outputs, nargs="+", default=["labels"], metavar="NAME", help=text
    )
    text = "images that int8 takes its ranges from"
    verb.add_argument("--calibrate", metavar="FOLDER", help=text)
    text = "images that the file is checked on (drawn streets)"
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

    The whole way lies inside the file: uint8 RGB images (N, H, W, 3) of any size in, label maps
    (N, H, W) out. Before anything is written, its answers are compared with the network's under
    every runtime that is installed; if too many pixels change, nothing is written and the exit code
    is 2. FILE.certificate.json tells what was measured. predict and validate take such files as
    --model.

      hrseg export --out street.onnx
      hrseg export --model runs/demo --to openvino --out demo.xml --outputs labels probability
      hrseg export --precision int8 --calibrate photos/ --out small.onnx
      hrseg export --to triton --out models/street
      hrseg export --example c++ > segment.cpp
    """
    if arguments.example is not None:
        from importlib.resources import files

        name = _EXAMPLES[arguments.example]
        return say((files("hrseg.export") / "examples" / name).read_text(encoding="utf-8"))
    if arguments.out is None:
        raise ConfigError("No file named. Such as: hrseg export --to onnx --out street.onnx")
    from hrseg.export.write import export_model

    done = export_model(
        arguments.model,
        arguments.to,
        arguments.out,
        precision=arguments.precision,
        outputs=arguments.outputs,
        images=arguments.images,
        masks=arguments.masks,
        calibrate=arguments.calibrate,
        most=arguments.most,
        tolerance=arguments.tolerance,
    )
    lines = [f"{path}  {max(1, round(path.stat().st_size / 1e3)):,} kB" for path in done.files]
    return say("\n".join([done.certificate.text(), *lines]))
