"""Official HRNet yaml files (branches master, pytorch-v1.1 and HRNet-OCR) as recipes.

Part of their meaning is only in the code that reads them: class weights that are always on for Cityscapes, a default
that differs between branches, keys that are never read. Those become comments.

Source: lib/config/default.py, lib/datasets and tools/train.py of HRNet-Semantic-Segmentation.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from hrseg.config.values import flow
from hrseg.errors import ConfigError
from hrseg.inference.protocols import PROTOCOLS as NAMED
from hrseg.labels import load_labels
from hrseg.migrate.recipe import Recipe, Stage, backbone_of

UNUSED_KEYS = {
    "LOSS.CLASS_BALANCE",
    "TRAIN.FREEZE_LAYERS",
    "TRAIN.FREEZE_EPOCHS",
    "TRAIN.LR_FACTOR",
    "TRAIN.LR_STEP",
    "AUTO_RESUME",
    "MODEL.EXTRA.PRETRAINED_LAYERS",
    "MODEL.EXTRA.WITH_HEAD",
    "MODEL.EXTRA.STEM_INPLANES",
    "MODEL.OCR.DROPOUT",
    "MODEL.OCR.SCALE",
    "DEBUG",
}
"""Keys that the official code never reads."""

IGNORED_KEYS = {
    # About files, logs and speed, which a run sets itself.
    *("OUTPUT_DIR", "LOG_DIR", "PRINT_FREQ", "PIN_MEMORY", "RANK"),
    *("CUDNN.BENCHMARK", "CUDNN.ENABLED", "TRAIN.RESUME", "TRAIN.BEGIN_EPOCH", "TRAIN.SHUFFLE"),
    *("TEST.BATCH_SIZE_PER_GPU", "TEST.MODEL_FILE", "TEST.NUM_SAMPLES", "TEST.OUTPUT_INDEX"),
    *("MODEL.NUM_OUTPUTS", "TRAIN.DOWNSAMPLERATE", "TRAIN.NUM_SAMPLES"),
}

DEFAULTS: dict[str, Any] = {
    "MODEL.NAME": "seg_hrnet",
    "TRAIN.IMAGE_SIZE": [1024, 512],
    "TEST.IMAGE_SIZE": [2048, 1024],
    "TRAIN.BASE_SIZE": 2048,
    "TRAIN.SCALE_FACTOR": 16,
    "TRAIN.MULTI_SCALE": True,
    "TRAIN.FLIP": True,
    "TRAIN.END_EPOCH": 484,
    "TRAIN.BATCH_SIZE_PER_GPU": 32,
    "TRAIN.LR": 0.01,
    "TRAIN.WD": 1e-4,
    "TRAIN.MOMENTUM": 0.9,
    "TRAIN.IGNORE_LABEL": -1,
    "TRAIN.OPTIMIZER": "sgd",
    "TRAIN.NONBACKBONE_MULT": 10,
    "LOSS.OHEMTHRES": 0.9,
    "LOSS.OHEMKEEP": 100000,
    "DATASET.DATASET": "cityscapes",
    "DATASET.TRAIN_SET": "train",
}
"""Defaults of the official code."""


class OfficialConfig:
    """The file's entries by dotted name; entries that are never read are reported."""

    def __init__(self, content: Mapping[str, Any], source: str) -> None:
        self.source = source
        self._values = dict(_flat(content, ""))
        self._used: set[str] = set()
        self.switched_off: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or its default in the official code."""
        self._used.add(name)
        return self._values.get(name, DEFAULTS.get(name, default))

    def need(self, name: str) -> Any:
        """Return a required entry, or raise ConfigError."""
        if name not in self._values:
            raise ConfigError(f"{self.source} has no {name}. Give a whole official yaml.")
        return self.get(name)

    def number(self, name: str) -> Any:
        """Return an entry that must be a number, or raise ConfigError."""
        value = self.get(name)
        if isinstance(value, str):  # yaml reads 1e-4 as text
            try:
                return float(value)
            except ValueError:
                pass
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{self.source}: {name} is '{value}'; it must be a number.")
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """Return an entry that must be [width, height], or raise ConfigError."""
        value = self.get(name)
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)):
            raise ConfigError(f"{self.source}: {name} is {value}; it must be [width, height].")
        return value[0], value[1]

    def leftovers(self) -> tuple[list[str], list[str]]:
        """Return the unused entries: those that the official code ignores, and those without a counterpart."""
        rest = [name for name in self._values if name not in self._used | IGNORED_KEYS | self.switched_off]
        dead = [name for name in rest if name in UNUSED_KEYS or name.startswith("DEBUG.")]
        unknown = [name for name in rest if name not in dead]
        return self._with_values(dead), self._with_values(unknown)

    def own_choices(self) -> list[str]:
        """Return the entries of WITHOUT_EFFECT, and those that other entries switch off."""
        names = [name for name in self._values if name in IGNORED_KEYS | self.switched_off]
        return self._with_values(names)

    def _with_values(self, names: Iterable[str]) -> list[str]:
        return [f"{name} {flow(self._values[name])}" for name in names]


def _flat(content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return rows


DATASETS = {
    "cityscapes": ("cityscapes", "none"),
    "pascal_ctx": ("pascal_context", "short_side"),
    "lip": ("lip", "squash"),
    "ade20k": ("ade20k", "short_side"),
    "cocostuff": ("coco_stuff", "short_side"),
}
"""Dataset of the source → layout, and the resize that its code does before the random scale."""

PROTOCOLS = {
    "cityscapes": "official_cityscapes",
    "pascal_ctx": "official_crop",
    "cocostuff": "official_crop",
    "ade20k": "official_ade20k",
    "lip": "lip",
}
"""Dataset of the source → protocol of its test."""


def recognizes(content: Mapping[str, Any]) -> bool:
    """Return whether a mapping is an official yaml."""
    return {"MODEL", "DATASET", "TRAIN"} <= content.keys()


def translate(content: Mapping[str, Any], source: str) -> Recipe:
    """Translate the parsed yaml of a file named `source`.

    Raises:
        ConfigError: The network or a value has no counterpart.
    """
    config = OfficialConfig(content, source)
    recipe = Recipe(source, "an official HRNet yaml")
    for part in (_network, _data, _loss, _optim, _trainer, _evaluation):
        part(config, recipe)
    recipe.remarks.append(
        "Batch norm: hrseg's momentum is 0.1, as on the HRNet-OCR branch; master and pytorch-v1.1 use 0.01."
    )
    recipe.unread, recipe.unknown = config.leftovers()
    recipe.own = config.own_choices()
    return recipe


def _network(config: OfficialConfig, recipe: Recipe) -> None:
    name = config.get("MODEL.NAME")
    heads = {"seg_hrnet": "v2", "seg_hrnet_ocr": "ocr"}
    if name not in heads:
        raise ConfigError(f"{config.source}: MODEL.NAME is '{name}'; segmentation networks are {', '.join(heads)}.")
    kernel = config.get("MODEL.EXTRA.FINAL_CONV_KERNEL", 1)
    if kernel != 1:
        raise ConfigError(
            f"{config.source}: FINAL_CONV_KERNEL is {kernel}; the heads of hrseg are 1x1, as in every published yaml."
        )
    backbone = backbone_of([_stage(config, number) for number in (1, 2, 3, 4)], config.source)
    recipe.set("model.backbone", backbone)
    recipe.set("model.head", heads[name])
    recipe.set("model.resize", *_resize(config))
    pretrained = str(config.get("MODEL.PRETRAINED", "") or "")
    if pretrained:
        recipe.set("model.weights", *_weights(backbone, pretrained))


def _stage(config: OfficialConfig, number: int) -> Stage:
    stage = f"MODEL.EXTRA.STAGE{number}"
    block = config.need(f"{stage}.BLOCK")
    expected = "BOTTLENECK" if number == 1 else "BASIC"
    if block != expected:
        raise ConfigError(f"{config.source}: {stage}.BLOCK is {block}; published HRNets have {expected} there.")
    branches = "NUM_RANCHES" if f"{stage}.NUM_RANCHES" in config else "NUM_BRANCHES"  # their slip
    for key, fixed in (("FUSE_METHOD", "SUM"), (branches, number)):
        if config.get(f"{stage}.{key}", fixed) != fixed:
            raise ConfigError(
                f"{config.source}: {stage}.{key} is {config.get(f'{stage}.{key}')}; HRNets have {fixed} there."
            )
    blocks, channels = config.need(f"{stage}.NUM_BLOCKS"), config.need(f"{stage}.NUM_CHANNELS")
    return Stage(config.need(f"{stage}.NUM_MODULES"), tuple(blocks), tuple(channels))


def _resize(config: OfficialConfig) -> tuple[str, str]:
    if "MODEL.ALIGN_CORNERS" in config:
        aligned = bool(config.get("MODEL.ALIGN_CORNERS"))
        return ("bilinear_aligned" if aligned else "bilinear"), "MODEL.ALIGN_CORNERS of the source."
    if _is_newest(config):
        return "bilinear_aligned", (
            "The source leaves MODEL.ALIGN_CORNERS out and is of the HRNet-OCR branch, where that means true. "
            "The flag changes the logits by 7 to 10 % of their spread."
        )
    return "bilinear", (
        "The source has no MODEL.ALIGN_CORNERS; on the branches master and pytorch-v1.1 corners are not aligned."
    )


def _is_newest(config: OfficialConfig) -> bool:
    """Tell the HRNet-OCR branch: it alone has these keys and these two datasets."""
    keys = ("MODEL.NUM_OUTPUTS", "LOSS.BALANCE_WEIGHTS", "MODEL.ALIGN_CORNERS")
    return any(key in config for key in keys) or config.get("DATASET.DATASET") in (
        "ade20k",
        "cocostuff",
    )


_IMAGENET_FILE = re.compile(r"imagenet|ssld|^hrnet_w\d+_(small_model_v\d|c[_.])", re.IGNORECASE)
"""Names under which the authors publish ImageNet weights, such as hrnet_w18_small_model_v1.pth."""


def _weights(backbone: str, file: str) -> tuple[str, str]:
    name = PurePosixPath(file).name
    if "ssld" in name.lower() and backbone in ("hrnet_w18", "hrnet_w48"):
        return f"{backbone}_ssld.paddle_in1k", f"Theirs: {name}, under the tag it has at timm."
    if _IMAGENET_FILE.search(name):
        tag = backbone.removesuffix("_v1") if backbone.endswith("small_v1") else backbone
        return f"{tag}.ms_in1k", (
            f"Theirs: {name}; the same network trained on ImageNet, under its tag at timm. It was trained with "
            "nearest resizing, as theirs was."
        )
    return file, "A file of the source; hrseg recognizes official checkpoints."


def _data(config: OfficialConfig, recipe: Recipe) -> None:
    dataset = config.get("DATASET.DATASET")
    if dataset not in DATASETS:
        raise ConfigError(
            f"{config.source}: DATASET.DATASET is '{dataset}'; the official code knows {', '.join(DATASETS)}."
        )
    classes = config.get("DATASET.NUM_CLASSES")
    layout, first = DATASETS[dataset]
    recipe.set("data.layout", layout)
    if first != "none" and (first == "squash" or _is_newest(config)):
        recipe.set("data.first_resize", first, f"In the source's code for {dataset}, not in its yaml.")
    recipe.set("data.flip_first", layout == "lip")
    if layout == "pascal_context" and classes in (59, 60):
        recipe.set("data.labels", f"pascal_context_{classes}")
    root = str(config.get("DATASET.ROOT", "") or "")
    recipe.set(
        "data.root",
        f"datasets/{layout}",
        f"Theirs: '{root}' and lists of files ({config.get('DATASET.TRAIN_SET')}, "
        f"{config.get('DATASET.TEST_SET')}); here the layout finds the pairs. Set it to your folder.",
    )
    table = load_labels(recipe.values.get("data.labels", layout))
    if classes is not None and classes != table.num_classes:
        recipe.remarks.append(
            f"The source has {classes} classes, table '{table.name}' {table.num_classes}: give data.labels a table of "
            "yours."
        )
    split = PurePosixPath(str(config.get("DATASET.TRAIN_SET"))).stem
    recipe.set("data.train_split", "trainval" if "trainval" in split.lower() else "train")
    width, height = config.pair("TRAIN.IMAGE_SIZE")
    why = "(height, width); the source writes [width, height]." if height != width else ""
    recipe.set("data.crop", (height, width), why)
    recipe.set("data.base_size", config.number("TRAIN.BASE_SIZE"))
    _scales(config, recipe)
    recipe.set("data.flip", 0.5 if config.get("TRAIN.FLIP") else 0.0)
    ignore = config.get("TRAIN.IGNORE_LABEL")
    if ignore != 255:
        recipe.remarks.append(
            f"Ignored pixels are {ignore} in the source and always 255 here."
            + (
                " On the HRNet-OCR branch the 59-class run meets the target 255, which its ignore label of -1 does not "
                "cover."
                if layout == "pascal_context" and classes == 59
                else ""
            )
        )
    shift = config.get("TRAIN.RANDOM_BRIGHTNESS_SHIFT_VALUE", 10)
    if config.get("TRAIN.RANDOM_BRIGHTNESS", False):
        recipe.set("data.brightness_shift", shift)
    workers = config.get("WORKERS")
    if workers is not None:
        recipe.set("data.workers", workers)


def _scales(config: OfficialConfig, recipe: Recipe) -> None:
    if not config.get("TRAIN.MULTI_SCALE"):
        config.switched_off.add("TRAIN.SCALE_FACTOR")
        recipe.set("data.scale_min", 1.0)
        recipe.set("data.scale_max", 1.0)
        return
    factor = config.number("TRAIN.SCALE_FACTOR")
    recipe.set("data.scale_min", 0.5)
    recipe.set(
        "data.scale_max",
        round(0.5 + factor / 10, 4),
        f"SCALE_FACTOR {factor} means 0.5 + integer(0..{factor}) / 10, both ends included.",
    )
    recipe.set("data.scale_step", 0.1)


def _loss(config: OfficialConfig, recipe: Recipe) -> None:
    if config.get("LOSS.USE_OHEM", False):
        recipe.set("loss.terms", {"ohem": 1.0})
        recipe.set("loss.ohem_threshold", config.number("LOSS.OHEMTHRES"))
        recipe.set("loss.ohem_min_kept", config.number("LOSS.OHEMKEEP"))
    else:
        config.switched_off |= {"LOSS.OHEMTHRES", "LOSS.OHEMKEEP"}
    if config.get("DATASET.DATASET") == "cityscapes":
        recipe.set(
            "loss.class_weights",
            "official",
            "Not in the source's yaml: its code always weights the Cityscapes classes.",
        )
    weights = config.get("LOSS.BALANCE_WEIGHTS")
    if recipe.values["model.head"] == "ocr":
        auxiliary, main = weights or (1, 1)
        recipe.set("loss.aux_weight", auxiliary / main)
        if main != 1:
            recipe.remarks.append(
                f"The source multiplies the main loss by {main}; here it counts once, so scale optim.lr if it matters."
            )


def _optim(config: OfficialConfig, recipe: Recipe) -> None:
    if config.get("TRAIN.OPTIMIZER") != "sgd":
        raise ConfigError(
            f"{config.source}: TRAIN.OPTIMIZER is '{config.get('TRAIN.OPTIMIZER')}'; the official code knows sgd."
        )
    if config.get("TRAIN.NESTEROV", False):
        recipe.remarks.append("TRAIN.NESTEROV is true in the source; hrseg's SGD has plain momentum.")
    recipe.set("optim.name", "sgd")
    recipe.set("optim.lr", config.number("TRAIN.LR"))
    recipe.set("optim.momentum", config.number("TRAIN.MOMENTUM"))
    recipe.set("optim.weight_decay", config.number("TRAIN.WD"))
    recipe.set("optim.poly_power", 0.9)
    recipe.set("optim.min_lr", 0.0)
    recipe.set(
        "optim.lag_steps",
        1,
        "The source sets the rate after each step, so the first two share one.",
    )
    words = config.get("TRAIN.NONBACKBONE_KEYWORDS", [])
    factor = config.number("TRAIN.NONBACKBONE_MULT")
    if words:
        recipe.set(
            "optim.head_lr_factor",
            float(factor),
            f"NONBACKBONE_KEYWORDS {', '.join(words)}: the head's parameters. In the OCR head the source leaves "
            "conv3x3_ocr in by its name as well, so the whole head is meant."
            if "ocr" in words
            else f"NONBACKBONE_KEYWORDS {', '.join(words)}: the head's parameters.",
        )


def _trainer(config: OfficialConfig, recipe: Recipe) -> None:
    recipe.set("trainer.max_epochs", config.number("TRAIN.END_EPOCH"))
    gpus = _gpus(config)
    batch = config.number("TRAIN.BATCH_SIZE_PER_GPU")
    recipe.set("data.batch_size", batch, f"Per device: {gpus} x {batch} = {gpus * batch} images a step.")
    recipe.set("trainer.devices", gpus)
    if gpus > 1:
        recipe.set("trainer.strategy", "ddp")
    recipe.set("trainer.precision", "fp32", "As the source; bf16 is quicker where the device has it.")
    if config.get("CUDNN.DETERMINISTIC", False):
        recipe.set("trainer.deterministic", True)
    extra = config.get("TRAIN.EXTRA_EPOCH", 0)
    rate, split = config.get("TRAIN.EXTRA_LR", 0.001), config.get("DATASET.EXTRA_TRAIN_SET", "")
    if extra:
        name = PurePosixPath(str(split)).stem or "trainval"
        recipe.remarks.append(
            f"The source goes on for {extra} epochs on '{name}' with lr {rate} and a schedule of its own. Here that is "
            f"a second run: hrseg fit --config THIS model.weights=runs/NAME/last.ckpt data.train_split={name} "
            f"optim.lr={rate} trainer.max_epochs={extra} run.name=NAME_x2"
        )


def _gpus(config: OfficialConfig) -> int:
    value = config.get("GPUS", (0,))
    if isinstance(value, str):  # yaml reads (0,1,2,3) as text
        return len([part for part in value.strip("()[] ").split(",") if part.strip()])
    return len(value) if isinstance(value, (list, tuple)) else 1


def _evaluation(config: OfficialConfig, recipe: Recipe) -> None:
    dataset = config.get("DATASET.DATASET")
    protocol = PROTOCOLS[dataset]
    if dataset == "pascal_ctx" and not _is_newest(config):
        protocol = "official_crop_v1"
    if config.get("TEST.MULTI_SCALE", False) and f"{protocol}_ms" in NAMED:
        protocol += "_ms"
    recipe.set("evaluation.protocol", protocol, f"What the source's code does for {dataset} in its test.")
    if config.get("TEST.FLIP_TEST", False):
        recipe.set("evaluation.flip", True)
    scales = config.get("TEST.SCALE_LIST", [1])
    if len(scales) > 1:
        recipe.set("evaluation.scales", [float(scale) for scale in scales])
    width, height = config.pair("TEST.IMAGE_SIZE")
    if (height, width) != NAMED[protocol].window:
        recipe.set("evaluation.window", (height, width))
        if isinstance(NAMED[protocol].stride, tuple):  # windows of Cityscapes touch
            recipe.set("evaluation.stride", (height, width))
    size = config.get("TEST.BASE_SIZE")
    if size is not None and size != NAMED[protocol].base_size:
        recipe.set("evaluation.base_size", size)
