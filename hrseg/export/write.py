"""`export_model`: a trained model as a file, after comparison with its network (`hrseg export`)."""

import contextlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hrseg.errors import ConfigError, DataError, unknown_choice
from hrseg.export.graph import Pipeline, trace
from hrseg.export.onnx import load_onnx, quantize, save, select_outputs, to_half, to_onnx
from hrseg.export.parity import (
    TOLERANCE,
    ParityReport,
    VerificationImage,
    choose_verification_images,
    compare,
    read_calibration,
)
from hrseg.imaging import temporary_folder, write_atomic
from hrseg.inference.exported import (
    ExportedNetwork,
    OnnxRunner,
    OpenVinoRunner,
    Runner,
    TorchRunner,
)
from hrseg.inference.load_model import OpenedModel, open_model
from hrseg.inference.model_card import (
    INPUT,
    KEY,
    LONGEST,
    OUTPUTS,
    PROFILES,
    SMALLEST,
    CardFields,
    Form,
    make_card,
    quiet,
)
from hrseg.inference.openvino import load_openvino, to_openvino
from hrseg.inference.prepare import prepare
from hrseg.labels import LabelSet
from hrseg.weights.checkpoint_io import file_digest


class Target(NamedTuple):
    """A row of TARGETS: the suffix of its file ("" is a folder), and the precisions it can hold."""

    suffix: str
    precisions: tuple[str, ...]


TARGETS = {
    "onnx": Target(".onnx", ("fp32", "fp16", "int8")),
    "openvino": Target(".xml", ("fp32", "fp16", "int8")),
    "torch": Target(".pt2", ("fp32", "fp16", "bf16")),
    "triton": Target("", ("fp32", "fp16", "int8")),
}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_MAX_CLASSES = 256
_PIXELS = Form()
_COMPARED = ("labels", "logits")
Metadata = Callable[[LabelSet], Mapping[str, str]]


class Exported(NamedTuple):
    """Written files, the model first, and their parity with the network."""

    files: tuple[Path, ...]
    parity: ParityReport


def export_model(
    model: str | Path | None,
    to: str,
    out: str | Path,
    *,
    precision: str = "fp32",
    outputs: Sequence[str] | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    calibrate: str | Path | None = None,
    max_images: int = 20,
    tolerance: float | None = None,
    form: Form = _PIXELS,
    metadata: Metadata | None = None,
) -> Exported:
    """Write a model for other programs, after comparing its outputs with the network's.

    Args:
        model: A checkpoint, a release, a tag, or None for the model that ships.
        to: "onnx", "openvino", "torch" or "triton".
        out: The file, or for triton the folder of the model inside a model repository.
        precision: "fp32", "fp16", "bf16" (torch only) or "int8" (not torch).
        outputs: Any of OUTPUTS; None gives labels, or logits of the plain profile.
        images: Folder of images to compare on; None takes synthetic scenes.
        masks: Folder of their masks, for mIoU before and after.
        calibrate: Folder of images for int8 ranges.
        max_images: To compare on; for calibration five times as many.
        tolerance: Per cent of pixels that may change class; None takes that of the precision.
        form: Profile and fixed size.
        metadata: The classes → more entries of an ONNX file's metadata, for other programs.

    Raises:
        ConfigError: A combination that is not supported.
        MissingExtraError: A package of the extras "export" or "openvino" is missing.
        ExportError: The network cannot be exported, or the file differs too much; nothing is written.
    """
    out = Path(out)
    if outputs is None:
        outputs = ("labels",) if form.profile == "pixels" else ("logits",)
    outputs = _check_outputs(outputs)
    _check(to, out, precision, calibrate, form)
    if to != "torch":
        load_onnx()
    if to == "openvino":
        load_openvino()
    opened = open_model(model)
    _check_model(opened)
    calibration: list[np.ndarray] = []
    chosen: list[VerificationImage] = []
    if calibrate is not None:
        calibration, chosen = read_calibration(calibrate, max_images, form.size)
    if images is not None or masks is not None or not chosen:
        chosen = choose_verification_images(images, masks, opened.labels, max_images, form.size)
    if to == "torch":
        chosen = [one for one in chosen if min(one.image.shape[:2]) >= SMALLEST]
    fields = CardFields(opened.labels, opened.mean, opened.std, outputs, precision, opened.config, form=form)
    card = make_card(opened.name, dict(getattr(opened.network, "spec", {})), fields)
    with temporary_folder("hrseg-export") as folder:
        if to == "torch":
            draft = _write_torch(opened, fields, card, folder)
        else:
            entries = metadata(opened.labels) if metadata else {}
            draft = _write_onnx(opened, fields, (card, entries), to, folder, calibration)
        reference = prepare(opened.network, "cpu", "fp32")
        statistics = (opened.mean, opened.std)
        report = ParityReport(
            compare(reference, statistics, draft.runners, chosen, opened.labels),
            [(one.image.shape[0], one.image.shape[1]) for one in chosen],
            precision,
            TOLERANCE[precision] if tolerance is None else tolerance,
            _versions(opened, to, draft.files[0], calibration, images),
        )
        report.check()
        files = _publish(draft.files, to, out, fields, report)
    return Exported(files, report)


class _Draft(NamedTuple):
    """Files in a temporary folder, and runtime → opened files to compare."""

    files: tuple[Path, ...]
    runners: dict[str, Sequence[Runner]]


def _write_onnx(
    opened: OpenedModel,
    fields: CardFields,
    metadata: tuple[dict[str, Any], Mapping[str, str]],
    to: str,
    folder: Path,
    calibration: Sequence[np.ndarray],
) -> _Draft:
    """Write one file with labels and logits too for the comparison, and one with the outputs asked for."""
    profile, size = fields.form
    outputs = tuple(name for name in OUTPUTS if name in (*_COMPARED, *fields.outputs))
    program = trace(Pipeline(opened.network, opened.mean, opened.std, outputs, profile=profile), size)
    model = to_onnx(program, outputs)
    half = fields.precision == "fp16"
    if half and to != "openvino":  # OpenVINO halves weights itself
        model = to_half(model)
    full = save(model, folder / "full.onnx")
    if fields.precision == "int8":
        full = quantize(full, folder / "int8.onnx", calibration, plain=profile == "plain")
        model = load_onnx().load(str(full))
    selected = save(select_outputs(model, fields.outputs), folder / "selected.onnx", *metadata)
    if to == "openvino":
        full = to_openvino(full, folder / "full.xml", half)
        selected = to_openvino(selected, folder / "selected.xml", half, metadata[0])
        files: tuple[Path, ...] = (selected, selected.with_suffix(".bin"))
        runners: dict[str, Sequence[Runner]] = {}
    else:
        files = (selected,)
        runners = {"onnxruntime": [OnnxRunner(file, cpu=True) for file in (full, selected)]}
    if importlib.util.find_spec("openvino"):
        runners["openvino"] = [OpenVinoRunner(file) for file in (full, selected)]
    return _Draft(files, runners)


def _write_torch(
    opened: OpenedModel,
    fields: CardFields,
    card: dict[str, Any],
    folder: Path,
) -> _Draft:
    runners = []
    for name, outputs in (("full", _COMPARED), ("selected", fields.outputs)):
        dtype = _DTYPES[fields.precision]
        program = trace(Pipeline(opened.network, opened.mean, opened.std, outputs, dtype))
        own_card = {**card, "outputs": {output: card["outputs"].get(output) for output in outputs}}
        extra = {f"{KEY}.json": json.dumps(own_card, ensure_ascii=False)}
        with quiet():
            torch.export.save(program, str(folder / f"{name}.pt2"), extra_files=extra)
        runners.append(TorchRunner(folder / f"{name}.pt2"))
    return _Draft((folder / "selected.pt2",), {"torch": runners})


def _check_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs in the order of OUTPUTS."""
    for output in outputs:
        if output not in OUTPUTS:
            raise ConfigError(unknown_choice("output", output, OUTPUTS))
    if not outputs:
        raise ConfigError(f"A file needs at least one output. Outputs: {', '.join(OUTPUTS)}.")
    return tuple(output for output in OUTPUTS if output in outputs)


def _check(to: str, out: Path, precision: str, calibrate: str | Path | None, form: Form) -> None:
    """Refuse wrong options before anything slow begins."""
    if to not in TARGETS:
        raise ConfigError(unknown_choice("target", to, TARGETS))
    suffix, precisions = TARGETS[to]
    if precision not in precisions:
        raise ConfigError(f"--to {to} cannot hold {precision}; it holds {', '.join(precisions)}. {_ABOUT_BF16}")
    if form.profile not in PROFILES:
        raise ConfigError(unknown_choice("profile", form.profile, PROFILES))
    if to == "torch" and form != _PIXELS:
        raise ConfigError(
            "--to torch writes files of profile pixels for any size: programs that take other ones read ONNX. Use --to "
            "onnx."
        )
    if form.size and not all(SMALLEST <= side <= LONGEST for side in form.size):
        raise ConfigError(f"--size {form.size[0]} {form.size[1]} is outside {SMALLEST} to {LONGEST}. Such as: 512 512")
    if out.suffix != suffix and suffix:
        raise ConfigError(f"--to {to} writes {suffix} files, --out names {out}. Use {out.with_suffix(suffix)}.")
    if not suffix and not re.fullmatch(r"[\w.-]+", out.name):
        raise ConfigError(f"Triton names a model by its folder, and {out} is no name. Use letters, digits, . _ and -.")
    if (precision == "int8") != (calibrate is not None):
        raise ConfigError(
            "int8 needs --calibrate FOLDER: a few dozen images like those the network will meet."
            if precision == "int8"
            else f"--calibrate is for int8, and the precision is {precision}. Add --precision int8, or leave it out."
        )


_ABOUT_BF16 = (
    "bf16 is for --to torch: ONNX Runtime has no such convolution on a CPU, so that nothing could certify it; OpenVINO "
    "and TensorRT compute an fp32 file in bf16 where that is set."
)


def _check_model(opened: OpenedModel) -> None:
    if isinstance(opened.network, ExportedNetwork):
        raise ConfigError(
            f"{opened.source} is an exported file already, and cannot be exported again. Name its checkpoint."
        )
    bands = getattr(opened.network, "spec", {}).get("in_channels", 3)
    if opened.bands is not None or bands != 3:
        raise ConfigError(
            f"This network reads {bands} bands as stored; exported files take RGB of 8 bits. Use the checkpoint."
        )
    if opened.labels.num_classes > _MAX_CLASSES:
        raise ConfigError(f"{opened.labels.num_classes} classes do not fit into 8-bit labels; 256 do.")


def _versions(
    opened: OpenedModel, to: str, file: Path, calibration: Sequence[Any], images: str | Path | None
) -> dict[str, Any]:
    versions = {}
    for name in ("hrseg", "torch", "onnx", "onnxruntime", "openvino", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "model": Path(opened.name).name,
        "to": to,
        "sha256": file_digest(file),
        "images": "given" if images is not None or calibration else "drawn streets",
        **({"calibration_images": len(calibration)} if calibration else {}),
        "versions": versions,
    }


def _publish(
    draft: Sequence[Path],
    to: str,
    out: Path,
    fields: CardFields,
    report: ParityReport,
) -> tuple[Path, ...]:
    """Move files to their place, the model last, so that it never stands without its certificate."""
    if out.is_dir() != (to == "triton") and out.exists():
        raise DataError(f"{out} is in the way; choose another name with --out.")
    if to == "triton":
        config = config_text(out.name, fields)
        files = repository(draft[0].read_bytes(), config, fields.labels)
        certificate = out / "certificate.json"
        writers: dict[Path, Callable[[Path], object]] = {out / name: _bytes(content) for name, content in files.items()}
    else:
        certificate = out.with_name(f"{out.name}.certificate.json")
        writers = {out.with_suffix(f.suffix): partial(shutil.copyfile, f) for f in reversed(draft)}
    text = json.dumps(report.to_dict(), indent=2) + "\n"
    for path, write in {certificate: _bytes(text.encode()), **writers}.items():
        with write_atomic(path) as temporary:
            write(temporary)
    model, *rest = (out / "1/model.onnx", *writers) if to == "triton" else reversed([*writers])
    return (model, *(path for path in rest if path != model), certificate)


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def config_text(name: str, fields: CardFields) -> str:
    """Return config.pbtxt: requests with images of one size are batched; sizes may differ between requests."""
    profile, size = fields.form
    sides = "{}, {}".format(*(size or (-1, -1)))

    def row(tensor: str, kind: str, dims: str) -> str:
        return f'  {{ name: "{tensor}" data_type: TYPE_{kind} dims: [ {dims} ] }}'

    of_all = f"{fields.labels.num_classes}, {sides}"
    types = {
        "labels": ("UINT8", sides),
        "logits": ("FP32", of_all),
        "probability": ("FP32", sides),
        "probabilities": ("FP32", of_all),
    }
    image = ("UINT8", f"{sides}, 3") if profile == "pixels" else ("FP32", f"3, {sides}")
    return "\n".join(
        (
            f'name: "{name}"',
            'backend: "onnxruntime"',
            "max_batch_size: 8",
            f"input [\n{row(INPUT, *image)}\n]",
            "output [\n" + ",\n".join(row(output, *types[output]) for output in fields.outputs) + "\n]",
            "dynamic_batching { max_queue_delay_microseconds: 2000 }",
            "",
        )
    )


def repository(model: bytes, config: str, labels: LabelSet) -> Mapping[str, bytes]:
    """Return the files of the model's folder: config.pbtxt, labels.txt and 1/model.onnx."""
    return {
        "1/model.onnx": model,
        "labels.txt": "".join(f"{name}\n" for name in labels.names).encode(),
        "config.pbtxt": config.encode(),  # last: a server that polls begins with it
    }
