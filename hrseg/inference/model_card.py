"""Model card of an exported file: classes, colors, statistics, size rule, version.

The card is one JSON object: in ONNX's metadata under "hrseg", in OpenVINO's rt_info under the same name, in
torch.export as an extra file. Programs without hrseg can read class names and colors from it.
"""

import contextlib
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from hrseg.errors import WeightsError, parse_json
from hrseg.labels import LabelSet
from hrseg.weights import check_card

INPUT = "image"
SMALLEST = 33
"""Smallest side for torch.export files; ONNX and OpenVINO files take any."""
KEY = "hrseg"
FORMAT = 2
"""Newest form of a card. Files of profile "pixels" keep form 1, so that older versions open them."""
OUTPUTS = ("labels", "logits", "probability", "probabilities")
"""Possible outputs of a file, in this order."""
PROFILES = {
    "pixels": "image: uint8 (N, H, W, 3), RGB",
    "plain": "image: float32 (N, 3, H, W), RGB, 0 to 1",
}
"""Profile of a file → its input. The file normalizes in both."""
SIZE_RULE = "any batch, height and width; no padding, the answer has the image's size"
_CONFIG = ("data", "evaluation", "model")
LONGEST = 2**14
"""Side of a fixed size at most: an edited card must not ask for all memory."""


def quiet() -> contextlib.AbstractContextManager[object]:
    """Suppress exporters' warnings about their own code."""
    return warnings.catch_warnings(action="ignore")


class Form(NamedTuple):
    """Input of an exported file.

    Attributes:
        profile: A key of PROFILES.
        size: Its fixed (height, width), or None for any.
    """

    profile: str = "pixels"
    size: tuple[int, int] | None = None


class CardFields(NamedTuple):
    """The fields of a card that are needed to run the file.

    Attributes:
        labels: The classes.
        mean: Per-band mean, in 0 … 1, that the file subtracts itself.
        std: Per-band standard deviation.
        outputs: Names of OUTPUTS.
        precision: "fp32", "fp16", "bf16" or "int8".
        config: Recipe of the model, without folders.
        network: The `create_model` arguments of the network that was exported, where the card names them.
        form: What the file takes.
    """

    labels: LabelSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: tuple[str, ...]
    precision: str
    config: dict[str, Any]
    network: dict[str, Any] | None = None
    form: Form = Form()


def make_card(
    name: str,
    spec: dict[str, Any],
    fields: CardFields,
) -> dict[str, Any]:
    """Return the card of a file.

    Args:
        name: Path or tag of the model.
        spec: The `create_model` arguments of its network.
        fields: Classes, statistics, outputs.
    """
    kinds = {
        "labels": "uint8 (N, H, W): class numbers, places in classes and palette",
        "logits": f"float32 (N, {fields.labels.num_classes}, H, W)",
        "probability": "float32 (N, H, W): of the chosen class",
        "probabilities": f"float32 (N, {fields.labels.num_classes}, H, W)",
    }
    profile, size = fields.form
    config = {section: dict(fields.config.get(section) or {}) for section in _CONFIG}
    config["evaluation"].pop("precision", None)  # the file has its own
    config["data"].pop("root", None)  # folders of the machine that trained
    return {
        "format": 1 if fields.form == Form() else FORMAT,
        "version": metadata.version("hrseg"),
        "model": Path(name).name,
        "network": spec,
        "precision": fields.precision,
        "profile": profile,
        "input": PROFILES[profile],
        "outputs": {output: kinds[output] for output in fields.outputs},
        "size": size,
        "size_rule": f"any batch; {size[0]} x {size[1]} pixels" if size else SIZE_RULE,
        "mean": list(fields.mean),
        "std": list(fields.std),
        "classes": fields.labels.names,
        "palette": fields.labels.palette.tolist(),
        "labels": fields.labels.to_dict(),
        "config": {section: values for section, values in config.items() if values},
    }


def read_card(text: str | None, path: Path) -> CardFields:
    """Parse a card.

    Raises:
        WeightsError: There is none, or it is of another program or a newer version.
    """
    if not text:
        raise WeightsError(
            f"{path} was not written by hrseg export: it holds no classes and statistics. Export the "
            "checkpoint with hrseg export, or run the file by its own runtime."
        )
    try:
        content = check_card(parse_json(text), path)
        if content["format"] > FORMAT:
            raise WeightsError(
                f"{path} was written by hrseg {content['version']}, in a form that this version does not know. "
                "Update hrseg, or export the checkpoint again."
            )
        if len(content["mean"]) != 3 or len(content["std"]) != 3:
            raise ValueError("mean and std should have 3 numbers, since it takes RGB images")
        form = Form(str(content.get("profile") or "pixels"), _size(content.get("size")))
        if form.profile not in PROFILES:
            raise ValueError(f"it has no profile '{form.profile}'")
        return CardFields(
            LabelSet.from_dict(content["labels"]),
            tuple(map(float, content["mean"])),
            tuple(map(float, content["std"])),
            tuple(output for output in OUTPUTS if output in content["outputs"]),
            str(content["precision"]),
            content.get("config") or {},
            content.get("network") or {},
            form,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"The card of {path} cannot be read ({error}). The file is damaged or was edited; export it again."
        ) from error


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = map(int, value)
    if not (0 < height <= LONGEST and 0 < width <= LONGEST):
        raise ValueError(f"its size is {height} x {width}")
    return height, width
