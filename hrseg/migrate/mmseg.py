"""mmsegmentation's HRNet configs (0.x and 1.x) as recipes.

Both versions hold the same facts in different places, which `mmseg_versions` knows.

Source: the configs, dataset classes and loss functions of mmsegmentation 0.30 and 1.2.2.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from hrseg.config.values import flow, plain
from hrseg.errors import ConfigError
from hrseg.migrate.mmseg_versions import Entries, MMSegConfig, MMSegV0, MMSegV1, frozen_part
from hrseg.migrate.recipe import Recipe, Stage, backbone_of

DATASETS = {
    "CityscapesDataset": ("cityscapes", None),
    "ADE20KDataset": ("ade20k", None),
    "PascalContextDataset": ("pascal_context", "pascal_context_60"),
    "PascalContextDataset59": ("pascal_context", "pascal_context_59"),
    "PascalVOCDataset": ("voc2012", None),
    "COCOStuffDataset": ("coco_stuff", None),
    "LoveDADataset": ("loveda", None),
    "PotsdamDataset": ("potsdam", None),
    "ISPRSDataset": ("vaihingen", None),
    "iSAIDDataset": ("isaid", None),
}
"""Dataset class → layout and, where it has several, label table."""

_SMALL = {"hrnetv2_w18_small": "hrnet_w18_small_v2"}
"""Pretrained file → backbone, where the names differ."""

IGNORED_KEYS = {
    # About logs, processes and files, which a run sets itself.
    *("_base_", "default_scope", "env_cfg", "vis_backends", "visualizer", "log_processor"),
    *("log_level", "resume", "tta_model", "tta_pipeline", "img_ratios", "dist_params", "workflow"),
    *("cudnn_benchmark", "log_config", "checkpoint_config", "evaluation", "val_cfg", "work_dir"),
    *("val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator", "default_hooks"),
    *("train_pipeline", "test_pipeline", "img_norm_cfg", "norm_cfg", "data_preprocessor"),
    *("crop_size", "img_scale", "dataset_type", "data_root", "optimizer", "launcher", "gpu_ids"),
    *("resume_from", "auto_resume", "seed", "randomness", "device", "opencv_num_threads"),
    *("mp_start_method", "auto_scale_lr", "find_unused_parameters"),
}
TRANSLATED_KEYS = {
    *("model", "data", "train_dataloader", "optim_wrapper", "param_scheduler", "train_cfg"),
    *("runner", "lr_config", "optimizer_config", "load_from", "test_cfg", "fp16"),
}


def recognizes(content: Mapping[str, Any]) -> bool:
    """Return whether a mapping is an mmsegmentation config."""
    model = content.get("model")
    return isinstance(model, Mapping) and "decode_head" in model and "backbone" in model


def translate(content: Mapping[str, Any], source: str) -> Recipe:
    """Translate an mmsegmentation HRNet config.

    Args:
        content: The config, merged with its bases.
        source: Its file name; "4xb2" in it gives devices and batch.

    Raises:
        ConfigError: The network or a value has no counterpart.
    """
    recipe = Recipe(source, "an mmsegmentation config")
    entries = Entries(content)
    version = MMSegV1 if "train_dataloader" in content else MMSegV0
    config: MMSegV0 | MMSegV1 = version(entries, source)
    _network(config.model, config, recipe)
    _data(config, recipe)
    _augmentation(config, recipe)
    _loss(config, recipe)
    _optim(config, recipe)
    _trainer(config, recipe)
    _evaluation(config, recipe)
    _left_out(entries, config, recipe)
    return recipe


_OURS = re.compile(
    r"(model\.(backbone|decode_head|auxiliary_head)(\.\d+)?|model)\.(in_channels|num_classes|norm_cfg\..*|pretrained"
    r"|init_cfg\.type)"
    r"|model\.data_preprocessor\.(size|type)|(model\.)?(train_cfg|test_cfg|runner)\.(type|val_\w+|crop_size|stride)"
    r"|(train_dataloader|data\.train)(\.dataset|\.datasets\.\d+)*\.((ann|img|seg)_\w+|data_prefix\.\w+|split|times"
    r"|pipeline\.\d+\.(keys|size|size_divisor))"
    r"|train_dataloader\.(sampler\..*|persistent_workers|pin_memory|dataset\.type)|data\.(val|test)\..*|data\.train\.type"
    r"|fp16\..*|optim_wrapper\.loss_scale"
)
"""Values that a run here sets itself: by the class table, the layout, the backbone or the number of devices."""
IMPLIED: dict[str, tuple[Any, ...]] = {
    r"model\.type": ("EncoderDecoder", "CascadeEncoderDecoder"),
    r"model\.num_stages": (1, 2),
    r"model\.backbone\.extra\.stage1\.block": ("BOTTLENECK",),
    r"model\.backbone\.extra\.stage[234]\.block": ("BASIC",),
    **{rf"model\.backbone\.extra\.stage{n}\.num_branches": (n,) for n in (1, 2, 3, 4)},
    r"model\.backbone\.norm_eval": (False,),
    r"model\.backbone\.frozen_stages": (-1,),
    r".*norm_cfg\.type": ("SyncBN", "BN"),
    r".*norm_cfg\.requires_grad": (True,),
    r"model\.decode_head.*\.in_index": ([0, 1, 2, 3],),
    r"model\.decode_head.*\.ocr_channels": (256,),
    r"model\.decode_head.*\.use_sigmoid": (False,),
    r".*\.(bgr_to_rgb|to_rgb)": (True,),
    r".*\.pad_val": (0,),
    r".*\.seg_pad_val": (255,),
    r"optim_wrapper\.type": ("OptimWrapper", "AmpOptimWrapper"),
    r"optimizer_config\.type": ("Fp16OptimizerHook",),
    r".*\.norm_type": (2,),
    r"(param_scheduler.*|lr_config)\.by_epoch": (False,),
    r"lr_config\.warmup": ("linear",),
    r"(model\.)?test_cfg\.mode": ("whole", "slide"),
    r"model\.decode_head.*\.dropout_ratio": (-1, 0, None),
}
"""Dotted name → values that say what hrseg does anyway; any other is listed as left out."""


def _left_out(entries: Entries, config: MMSegConfig, recipe: Recipe) -> None:
    """List each value that nothing above has read, unless it says what hrseg does anyway."""
    nested = [part for value in entries.values() for part in _parts(value)]
    channels = list(config.channels)
    implied = {
        r"model\.decode_head.*\.in_channels": (channels,),
        r"model\.decode_head.*\.channels": (sum(channels), 512),
        r"model\.decode_head\.0\.align_corners": (dict.get(config.heads[-1], "align_corners"),),
        r"param_scheduler.*\.begin": (0, config.warmup_steps),
        r"param_scheduler.*\.end": (config.steps, config.warmup_steps),
        **IMPLIED,
    }
    for name, value in entries.unread():
        top = name.partition(".")[0]
        usual = [v for key, values in implied.items() if re.fullmatch(key, name) for v in values]
        # a variable of the file, used elsewhere in it
        helper = top not in TRANSLATED_KEYS and entries[top] in nested
        if helper or plain(value) in map(plain, usual):
            continue
        ours = top in IGNORED_KEYS or _OURS.fullmatch(name)
        (recipe.own if ours else recipe.unknown).append(f"{name} {flow(value)}")


def _parts(value: Any) -> Iterator[Any]:
    """Yield what is inside a value, at any depth."""
    inside = value.values() if isinstance(value, Mapping) else value
    for part in inside if isinstance(value, (Mapping, list, tuple)) else ():
        yield part
        yield from _parts(part)


def _network(model: Mapping[str, Any], config: MMSegConfig, recipe: Recipe) -> None:
    source = config.source
    backbone = model["backbone"]
    if backbone.get("type") != "HRNet" or "extra" not in backbone:
        raise ConfigError(
            f"{source} has the backbone {backbone.get('type')}; hrseg translates HRNet. For others, start from "
            "configs/baseline_unet.yaml."
        )
    stages = [_stage(backbone["extra"], number, source) for number in (1, 2, 3, 4)]
    name = backbone_of(stages, source)
    config.channels = stages[-1].channels
    heads = config.heads
    kinds = tuple(head.get("type") for head in heads)
    if kinds not in (("FCNHead",), ("FCNHead", "OCRHead")):
        raise ConfigError(
            f"{source} has the heads {', '.join(map(str, kinds))}; HRNet's are FCNHead, or FCNHead and OCRHead."
        )
    _check_fcn(heads[0], source)
    recipe.set("model.backbone", name)
    recipe.set("model.head", "ocr" if len(heads) == 2 else "v2")
    recipe.set("model.resize", *_resize(heads[-1]))
    file = model.get("pretrained") or (backbone.get("init_cfg") or {}).get("checkpoint")
    if file:
        recipe.set("model.weights", *_weights(str(file), name))
    if config.content.get("load_from"):
        recipe.set("model.weights", str(config.content["load_from"]), "load_from of the source.")
    if "model.weights" in recipe.values and (part := frozen_part(backbone)):
        recipe.set("model.freeze", part)
    recipe.remarks.append(
        "The first convolution of the source's head has no bias; hrseg's has one, as in the official code. Imported "
        "weights get a zero there."
    )
    ratios = [dict.get(head, "dropout_ratio") or 0 for head in heads]
    if max(ratios) > 0:
        recipe.remarks.append(
            f"The source drops channels before the classifier (dropout_ratio {', '.join(map(str, ratios))}); hrseg's "
            "head does not."
        )


def _stage(extra: Mapping[str, Any], number: int, source: str) -> Stage:
    try:
        row = extra[f"stage{number}"]
        return Stage(row["num_modules"], tuple(row["num_blocks"]), tuple(row["num_channels"]))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{source}: the backbone's stage{number} is not complete ({error}).") from error


def _check_fcn(head: Mapping[str, Any], source: str) -> None:
    asked = {
        "kernel_size": 1,
        "num_convs": 1,
        "concat_input": False,
        "input_transform": "resize_concat",
    }
    given = {key: head.get(key) for key in asked}
    if given != asked:
        odd = ", ".join(f"{key}={given[key]!r}" for key in asked if given[key] != asked[key])
        raise ConfigError(
            f"{source}: the FCNHead has {odd}; HRNetV2's concatenates all branches and has one 1x1 convolution before "
            "the classifier."
        )


def _resize(head: Mapping[str, Any]) -> tuple[str, str]:
    if head.get("align_corners"):
        return "bilinear_aligned", (
            "The source aligns corners in the head only, its backbone never does; hrseg has one policy for both."
        )
    return "bilinear_scaled", (
        "The source enlarges twice inside its fusions: by the whole factor, then to the size that is wanted. Where 32 "
        "divides the size that equals bilinear."
    )


def _weights(file: str, backbone: str) -> tuple[str, str]:
    name = file.rsplit("/", 1)[-1]
    if file.startswith("open-mmlab://"):
        ours = _SMALL.get(name, name.replace("hrnetv2_", "hrnet_"))
        return f"{ours}.ms_in1k", (
            f"Theirs: {file}, converted from the official ImageNet file; this is the same network at timm."
        )
    return file, "A file of the source; hrseg recognizes official and mmsegmentation checkpoints."


def _data(config: MMSegConfig, recipe: Recipe) -> None:
    kind = config.dataset.get("type") or config.content.get("dataset_type")
    if kind not in DATASETS:
        recipe.set(
            "data.layout",
            "folder",
            f"The source's {kind} has no layout here; `hrseg config explain data.layout` tells what folder expects.",
        )
        recipe.set("data.labels", "labels.yaml", "Write your classes there, or name a table.")
    else:
        layout, labels = DATASETS[kind]
        recipe.set("data.layout", layout)
        if labels:
            recipe.set("data.labels", labels)
        if "aug" in str(config.lists):
            recipe.set("data.train_split", "trainaug")
    root = config.dataset.get("data_root") or config.content.get("data_root") or ""
    recipe.set("data.root", str(root).rstrip("/") or f"datasets/{recipe.values['data.layout']}")
    load = config.step("LoadAnnotations") or {}
    if load.get("reduce_zero_label"):
        recipe.remarks.append(
            "reduce_zero_label: the label table says which id is ignored and which class each other id is; nothing is "
            "subtracted here."
        )
    recipe.set("data.batch_size", config.batch_size, "Per device.")
    if config.workers is not None:
        recipe.set("data.workers", config.workers)
    if config.mean_std:
        mean, std = (tuple(round(v / 255, 6) for v in values) for values in config.mean_std)
        if not (_near(mean, (0.485, 0.456, 0.406)) and _near(std, (0.229, 0.224, 0.225))):
            recipe.set("data.mean", mean, "In 0..1; the source counts to 255.")
            recipe.set("data.std", std)


def _near(values: Sequence[float], others: Sequence[float]) -> bool:
    return len(values) == len(others) and all(abs(a - b) < 1e-3 for a, b in zip(values, others, strict=True))


def _augmentation(config: MMSegConfig, recipe: Recipe) -> None:
    resize = config.step(config.resize_name)
    if resize:
        _scales(resize, recipe)
    crop = config.step("RandomCrop")
    if crop:
        size = crop["crop_size"]
        recipe.set("data.crop", (size, size) if isinstance(size, int) else tuple(size))
        recipe.set("data.max_class_share", float(crop.get("cat_max_ratio", 1.0)))
    for option, chance in config.flips().items():
        recipe.set(option, chance)
    recipe.set("data.flip_first", True)
    recipe.set("data.pad", config.padding, "Where the source pads: before or after it normalizes.")
    if config.step("PhotoMetricDistortion"):
        recipe.set("data.photometric", 1.0)
        recipe.set("data.photometric_rule", "mmseg", "PhotoMetricDistortion, rule for rule.")
    known = {
        *("LoadImageFromFile", "LoadAnnotations", config.resize_name, "RandomCrop", "RandomFlip"),
        *("PhotoMetricDistortion", "PackSegInputs", "Normalize", "Pad"),
        *("DefaultFormatBundle", "Collect"),
    }
    recipe.unknown += [f"transform {step.get('type')}" for step in config.pipeline() if step.get("type") not in known]


def _scales(resize: Mapping[str, Any], recipe: Recipe) -> None:
    scale = resize.get("scale", resize.get("img_scale"))
    low, high = resize.get("ratio_range", (1.0, 1.0))
    recipe.set("data.scale_min", float(low))
    recipe.set("data.scale_max", float(high))
    recipe.set("data.scale_step", 0.0, "The source draws any scale in between, not steps.")
    if scale:
        recipe.set("data.base_size", max(scale))
        if min(scale) != max(scale):
            recipe.set("data.base_short_side", min(scale), "The image fits into both at scale 1.")
    if resize.get("keep_ratio") is False:
        recipe.remarks.append("The source stretches images to the scale (keep_ratio=False).")


def _loss(config: MMSegConfig, recipe: Recipe) -> None:
    heads = config.heads
    main = heads[-1]
    losses = main.get("loss_decode", {"type": "CrossEntropyLoss"})
    losses = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    names = {
        "CrossEntropyLoss": "cross_entropy",
        "DiceLoss": "dice",
        "LovaszLoss": "lovasz",
        "FocalLoss": "focal",
    }
    terms: dict[str, float] = {}
    for row in losses:
        kind = row.get("type")
        if kind not in names:
            recipe.unknown.append(f"loss {kind}")
            continue
        terms[names[kind]] = float(row.get("loss_weight", 1.0))
        if row.get("class_weight"):
            recipe.set("loss.class_weight_values", [float(v) for v in row["class_weight"]])
    sampler = main.get("sampler") or {}
    if sampler.get("type") == "OHEMPixelSampler" and "cross_entropy" in terms:
        terms = {("ohem" if name == "cross_entropy" else name): weight for name, weight in terms.items()}
        recipe.set("loss.ohem_threshold", float(sampler.get("thresh") or 0.0))
        recipe.set(
            "loss.ohem_min_kept",
            int(sampler.get("min_kept", 100000)) * config.batch_size,
            "The source's number for each image, times the images of a device.",
        )
    recipe.set("loss.terms", terms)
    if {"cross_entropy", "ohem"} & terms.keys() and not any(row.get("avg_non_ignore") for row in losses):
        recipe.set(
            "loss.average",
            "all",
            "The source divides by all pixels, ignored ones as well (avg_non_ignore is false).",
        )
    if len(heads) == 2:
        weight = heads[0].get("loss_decode", {}).get("loss_weight", 1.0)
        recipe.set("loss.aux_weight", float(weight) / (sum(terms.values()) or 1.0))


def _optim(config: MMSegConfig, recipe: Recipe) -> None:
    row = config.optimizer
    kinds = {"SGD": "sgd", "AdamW": "adamw"}
    if row.get("type") not in kinds:
        raise ConfigError(
            f"{config.source} trains with {row.get('type')}; hrseg has {', '.join(kinds)}. Choose one of them there."
        )
    recipe.set("optim.name", kinds[row["type"]])
    recipe.set("optim.lr", float(row["lr"]))
    if row["type"] == "SGD":
        recipe.set("optim.momentum", float(row.get("momentum", 0.0)))
        if row.get("nesterov"):
            recipe.remarks.append("The source uses Nesterov momentum; hrseg's SGD has plain momentum.")
    recipe.set("optim.weight_decay", float(row.get("weight_decay", 0.0)))
    if not config.poly:
        recipe.remarks.append("The source's learning rate is not polynomial; hrseg's is. Look at optim.poly_power.")
    recipe.set("optim.poly_power", float(config.poly.get("power", 1.0 if config.poly else 0.9)))
    recipe.set("optim.min_lr", config.min_lr)
    recipe.set("optim.warmup_steps", config.warmup_steps)
    head = (config.paramwise.get("custom_keys") or {}).get("head") or {}
    if head.get("lr_mult"):
        recipe.set("optim.head_lr_factor", float(head["lr_mult"]))
    if config.paramwise.get("norm_decay_mult") == 0:
        recipe.set("optim.no_decay_norms", True)


def _trainer(config: MMSegConfig, recipe: Recipe) -> None:
    if config.steps:
        recipe.set("trainer.max_steps", int(config.steps))
    elif config.epochs:
        recipe.set("trainer.max_epochs", int(config.epochs))
    else:
        raise ConfigError(
            f"{config.source} has neither max_iters nor max_epochs. Give the whole config, with its schedule."
        )
    found = re.search(r"(\d+)xb(\d+)", PurePosixPath(config.source).name)
    devices = int(found[1]) if found else 4
    total = devices * config.batch_size
    recipe.set(
        "trainer.devices",
        devices,
        f"{'From the file name' if found else 'The usual number; the file does not say'}: {total} images a step.",
    )
    if devices > 1:
        recipe.set("trainer.strategy", "ddp")
    recipe.set("trainer.precision", "fp16" if config.half else "fp32")
    if config.clip:
        recipe.set("trainer.clip_norm", float(config.clip.get("max_norm", 1.0)))


def _evaluation(config: MMSegConfig, recipe: Recipe) -> None:
    test = config.model.get("test_cfg") or config.content.get("test_cfg") or {}
    if dict.get(test, "mode") == "slide":
        recipe.set("evaluation.protocol", "mmseg_slide")
        window, stride = tuple(test["crop_size"]), tuple(test["stride"])
        if (window, stride) != ((480, 480), (320, 320)):
            recipe.set("evaluation.window", window)
            recipe.set("evaluation.stride", stride)
        return
    sides = config.test_size()
    layout = recipe.values.get("data.layout")
    if sides is None or sides == _NATIVE.get(str(layout)):
        recipe.set("evaluation.protocol", "mmseg_whole")
        return
    recipe.set("evaluation.protocol", "mmseg_short512", "The Resize of the source's test pipeline.")
    if sides != (2048, 512):
        recipe.set("evaluation.base_size", sides[0])
        recipe.set("evaluation.base_short_side", sides[1])


_NATIVE = {
    "cityscapes": (2048, 1024),
    "loveda": (1024, 1024),
    "potsdam": (512, 512),
    "vaihingen": (512, 512),
    "isaid": (896, 896),
}
"""Layout → (long, short side) of its images, which a Resize to that size leaves as they are."""
