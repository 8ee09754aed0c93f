"""The schema of a run: every option with its type, default, doc and limits.

Dataclasses are the schema; what they say is checked by `load` and told by `show`. Only choices are
options: class counts, widths and step counts follow from the others.
"""
# ruff: noqa: RUF009 (option() builds a dataclass field, as field() does)

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING

LIMITS = {
    "low": (lambda value, bound: value >= bound, "at least {}"),
    "above": (lambda value, bound: value > bound, "above {}"),
    "high": (lambda value, bound: value <= bound, "at most {}"),
    "below": (lambda value, bound: value < bound, "below {}"),
}


def option(default: Any, doc: str, **limits: float) -> Any:
    """Describe one option: a dataclass field with its doc and limits in the metadata.

    Args:
        default: The value when nobody sets it; lists and mappings are copied for each Config.
        doc: One or two sentences: what it does, in which unit, why one would change it.
        limits: low, high (both inclusive), above, below (both exclusive), for each number in it.
    """
    metadata = {"doc": doc, **limits}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and what it starts from."""

    backbone: str = option(
        "hrnet_w18_small_v2",
        "HRNet of a given width, or an smp encoder (resnet18, ...) for baselines. `hrseg models` lists them.",
    )
    head: str = option(
        "v2",
        "From the branches to logits: v2, ocr (object context, with auxiliary logits), v1 (finest branch "
        "alone), c1 (CSAILVision's), or a baseline's such as unet, simple or deeplabv3.",
    )
    resize: Literal["bilinear", "bilinear_aligned", "bilinear_scaled", "nearest"] = option(
        "bilinear",
        "Interpolation inside the network. Weights only mean something under the policy they were "
        "trained with; bilinear_aligned is align_corners=True, bilinear_scaled is mmsegmentation's, "
        "which differs from bilinear where 32 does not divide the image.",
    )
    padding: Literal["symmetric", "same"] = option(
        "symmetric",
        "Padding of stride-2 convolutions: one pixel on each side, or same, PaddleSeg's, which pads even "
        "sizes behind only. Set it as the weights were trained.",
    )
    exchange: Literal["full", "between_stages", "final"] = option(
        "full",
        "Where branches exchange: at the end of every module, of every stage, or once at the very end. "
        "The last two are the paper's ablation.",
    )
    branches_from_start: bool = option(
        False, "All four branches from stage 2 on instead of one more per stage: another ablation."
    )
    activation: Literal["relu", "leaky_relu"] = option(
        "relu", "Activation of the backbone; leaky_relu has slope 0.2 below zero."
    )
    downsample: Literal["conv", "max_pool"] = option(
        "conv",
        "From a finer branch to a coarser one: a stride-2 convolution per octave, or one max pooling and "
        "a 1x1 convolution, which is cheaper.",
    )
    input_scale: float = option(
        1.0,
        "The network sees every image enlarged by this factor and answers at the image's own size: small "
        "things become visible, time grows with its square.",
        low=1,
        high=4,
    )
    weights: str | None = option(
        None,
        "What to start from: a checkpoint, a .safetensors file, or a tag such as hrnet_w48.ms_in1k "
        "(ImageNet, fetched once when the run starts). null starts from random weights.",
    )
    new_head: bool = option(
        False,
        "Take only the backbone from model.weights and start a fresh head, for another set of "
        "classes. ImageNet files have no head and need no word.",
    )
    encoder_weights: str | None = option(
        None,
        "For baselines: what the encoder starts from, such as imagenet, which smp fetches when the run "
        "starts. An HRNet takes model.weights.",
    )
    init: Literal["auto", "official", "kaiming"] = option(
        "auto",
        "Random initialization. official is normal with std 0.001, good under ImageNet weights; "
        "kaiming trains from scratch. auto picks by model.weights.",
    )


@dataclass(frozen=True)
class DataConfig:
    """Which images and masks, and how they are cut and varied."""

    layout: str = option(
        MISSING,
        "How the dataset lies on disk: cityscapes, ade20k, pascal_context, lip, coco_stuff, "
        "voc2012, camvid, loveda, potsdam, vaihingen, isaid, folder; or synthetic, scenes drawn on "
        "the fly that need no files.",
    )
    root: str | None = option(
        None,
        "Folder of the dataset, relative to where you run; zip archives in it are read as they are, and "
        "it may itself be one. Not needed for synthetic.",
    )
    labels: str | None = option(
        None,
        "Class table: a name (cityscapes, ade20k, pascal_context_60, ...) or a file of classes. null takes "
        "the layout's, and finds out how the masks are numbered where a dataset is around in several "
        "forms; with layout folder it takes the file of classes that lies in the root.",
    )
    masks: str | None = option(
        None,
        "Where layout folder finds the mask of an image, below data.root, such as 'masks/{stem}.jpg.png': "
        "{stem} is the image's name without suffix, {name} with it, {folder} its folders below the root, {1} "
        "the first of them. null takes the file of the same name.",
    )
    unmasked: str | None = option(
        None,
        "Class of every pixel of training and validation images without a mask, such as background; layout "
        "folder. null refuses such images.",
    )
    train_split: str = option(
        "train",
        "Split to learn from; cityscapes also has trainval and coarse, voc2012 trainval and trainaug.",
    )
    val_split: str = option("val", "Split for the score after each epoch and for `hrseg validate`.")
    test_split: str = option("test", "Split for `hrseg test`.")
    crop: tuple[int, int] = option(
        (512, 1024),
        "Training cut-out (height, width), in pixels; smaller images are padded.",
        above=0,
    )
    base_size: int | None = option(
        None, "Long side of the image at scale 1, in pixels. null keeps the native size.", above=0
    )
    base_short_side: int | None = option(
        None,
        "Short side of the image at scale 1, in pixels. With data.base_size too, the image fits into "
        "both, as mmsegmentation's (2048, 512) does.",
        above=0,
    )
    first_resize: Literal["none", "short_side", "squash"] = option(
        "none",
        "A resize before the random scale. short_side brings the short side to data.base_size; squash "
        "makes the image data.crop whatever its shape. Official recipes do either for some datasets.",
    )
    scale_min: float = option(0.5, "Smallest random scale.", above=0)
    scale_max: float = option(2.1, "Largest random scale, included.", above=0)
    scale_step: float = option(
        0.1,
        "Distance between the random scales; both ends can occur. 0 draws any number between them.",
        low=0,
    )
    pad: Literal["black", "mean"] = option(
        "black",
        "Color right of and below an image smaller than the crop: black before normalization, or "
        "data.mean, which is zero after it.",
    )
    flip: float = option(
        0.5,
        "Probability of a mirrored image. Classes whose table says so change places, such as left and "
        "right arm.",
        low=0,
        high=1,
    )
    flip_first: bool = option(
        False,
        "Mirror the image before it is scaled and padded, so that the padding stays right and below; "
        "by default the padded crop is mirrored.",
    )
    brightness_shift: int = option(
        0,
        "Half of the images get brighter or darker by up to this many of 255 steps, all channels alike.",
        low=0,
        high=255,
    )
    photometric: float = option(
        0.0,
        "Strength of random brightness, contrast, saturation and hue; 0 is none, 1 is strong. "
        "The official recipes use none.",
        low=0,
        high=1,
    )
    photometric_rule: Literal["jitter", "mmseg"] = option(
        "jitter",
        "How data.photometric varies: jitter multiplies, all four at once for 80 % of the images; mmseg "
        "is mmsegmentation's PhotoMetricDistortion, each of the four by a coin of its own.",
    )
    max_class_share: float = option(
        1.0,
        "Draw a crop again (up to 10 times) if one class fills more than this share of it.",
        above=0,
        high=1,
    )
    sampling: Literal["uniform", "rare"] = option(
        "uniform",
        "uniform shows every image once an epoch; rare shows images with rare classes more often.",
    )
    batch_size: int = option(
        3, "Images per device and step. The total is devices x batch_size x accumulate.", above=0
    )
    workers: int | None = option(
        None,
        "Loader processes per device; null looks at the machine, 0 loads in the main process.",
        low=0,
    )
    cache: str | None = option(
        None,
        "Folder that keeps decoded images, for the second epoch and all later runs: 8 MB for a pair of "
        "1024x2048. null decodes each time.",
    )
    cache_gb: float = option(
        20.0,
        "Most that data.cache may hold, in 10^9 bytes; what is beyond is decoded each time.",
        above=0,
    )
    bands: list[int] | None = option(
        None,
        "Bands of each image file that the network sees, counted from 0, such as [0, 1, 2, 3]. Values stay as "
        "they are stored, 8 or 16 bits or float. null makes every image RGB of 8 bits.",
        low=0,
    )
    bits: int | None = option(
        None,
        "Significant bits of 16-bit images that become RGB of 8 bits, such as 12 for values to 4095; larger values "
        "become white. null takes what each file says, else all 16.",
        low=8,
        high=16,
    )
    value_range: float | None = option(
        None,
        "With data.bands: the stored value that becomes 1 before data.mean is subtracted, such as 10000 for "
        "reflectances. null takes the type's: 255, 65535, or 1 for float.",
        above=0,
    )
    statistics: Literal["given", "compute"] = option(
        "given",
        "Where data.mean and data.std come from: given here, or computed over the training images when the run "
        "starts, and kept in its config and checkpoints.",
    )
    mean: tuple[float, ...] = option(
        (0.485, 0.456, 0.406),
        "Mean of each band in 0..1, subtracted; ImageNet's RGB by default.",
    )
    std: tuple[float, ...] = option(
        (0.229, 0.224, 0.225), "Standard deviation of each band in 0..1, divided by.", above=0
    )
    scenes: int = option(240, "Training scenes of the synthetic layout.", above=0)
    scene_size: tuple[int, int] = option(
        (128, 256), "Scene (height, width) of the synthetic layout, in pixels.", above=0
    )


@dataclass(frozen=True)
class LossConfig:
    """What the network is punished for."""

    terms: dict[str, float] = option(
        {},
        "Losses by name and weight: cross_entropy, ohem, dice, lovasz, focal. Empty means "
        "{cross_entropy: 1}. A weight of 0 removes a term that a recipe sets.",
        low=0,
    )
    class_weights: Literal["none", "inverse", "median_frequency", "enet", "official"] = option(
        "none",
        "Weight of each class: a formula applied to the pixel counts of the training masks, or the "
        "official list for Cityscapes.",
    )
    class_weight_values: list[float] = option(
        [], "Your own weights, one per class in trainId order, instead of a formula.", low=0
    )
    average: Literal["valid", "all"] = option(
        "valid",
        "Cross-entropy is averaged over the pixels that have a class, OHEM over those it keeps; or both over "
        "all. With all, ignored and easy pixels make the loss smaller, as in mmsegmentation. The auxiliary "
        "loss beside OHEM is always averaged over all, as in the official code.",
    )
    ohem_threshold: float = option(
        0.9,
        "OHEM keeps pixels whose true class has a lower probability than this; 0 keeps the hardest "
        "ohem_min_kept alone.",
        low=0,
        high=1,
    )
    ohem_min_kept: float = option(
        131072,
        "OHEM keeps at least this many pixels per device; below 1, a share of the valid.",
        above=0,
    )
    focal_gamma: float = option(2.0, "Focal loss: how much easy pixels fade.", low=0)
    aux_weight: float = option(
        0.4, "Weight of the cross-entropy on auxiliary logits, for heads that have them.", low=0
    )


@dataclass(frozen=True)
class OptimConfig:
    """How the weights move. Every schedule counts optimizer steps."""

    name: Literal["sgd", "adamw"] = option("sgd", "Optimizer.")
    lr: float = option(
        0.01, "Learning rate after the warm-up; scale it with the total batch.", above=0
    )
    momentum: float = option(
        0.9, "SGD momentum, without Nesterov. AdamW has its own betas.", low=0, below=1
    )
    weight_decay: float = option(5e-4, "Weight decay.", low=0)
    head_lr_factor: float = option(
        1.0, "Learning rate of the head relative to the backbone.", above=0
    )
    no_decay_norms: bool = option(
        False,
        "Leave norms and biases out of the weight decay. The official recipes decay everything.",
    )
    poly_power: float = option(0.9, "The rate falls as (1 - step / steps) to this power.", low=0)
    lag_steps: int = option(
        0,
        "Steps by which the schedule comes late. The official code sets the rate after a step, so its "
        "first two steps share the base rate: 1.",
        low=0,
    )
    warmup_steps: int = option(0, "Optimizer steps of linear warm-up.", low=0)
    min_lr: float = option(0.0, "Learning rate at the end of the schedule.", low=0)
    ema_decay: float | None = option(
        None,
        "Keep a moving average of the weights with this decay (0.999) and validate with it.",
        above=0,
        below=1,
    )


@dataclass(frozen=True)
class TrainerConfig:
    """How long, on what, and what is written on the way."""

    max_epochs: int | None = option(
        None, "Passes over the training set. Set this or max_steps.", above=0
    )
    max_steps: int | None = option(None, "Optimizer steps. Set this or max_epochs.", above=0)
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = option("auto", "Kind of device.")
    devices: int | str = option("auto", "Number of devices on each node: a whole number, or auto.")
    num_nodes: int = option(1, "Number of machines.", above=0)
    strategy: str = option(
        "auto", "auto, ddp or fsdp; auto is ddp as soon as there is more than one device."
    )
    strategy_options: dict[str, Any] = option(
        {}, "Arguments for that Lightning strategy, such as {find_unused_parameters: true}."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "Arithmetic. auto is bf16 where the device is quick at it, fp32 elsewhere."
    )
    sync_batchnorm: bool = option(
        True, "Batch norm statistics over all devices. Without effect on a single device."
    )
    accumulate: int = option(1, "Batches per optimizer step.", above=0)
    clip_norm: float | None = option(None, "Largest gradient norm; null does not clip.", above=0)
    channels_last: bool = option(True, "Memory order that convolutions like, on CPU and GPU.")
    compile: bool = option(False, "torch.compile the network; worth it for long runs on a GPU.")
    checkpointing: Literal["none", "blocks", "modules"] = option(
        "none",
        "Compute parts of the network again for the backward pass instead of keeping their maps: about a "
        "quarter of the memory for about a third more time, the same numbers. blocks keeps what lies "
        "between residual blocks; modules less.",
    )
    val_every_epochs: int = option(1, "Epochs between two validations.", above=0)
    early_stop_patience: int | None = option(
        None,
        "Stop after this many validations without a better mIoU; null never stops early.",
        above=0,
    )
    log_every_steps: int = option(10, "Optimizer steps between two log lines.", above=0)
    deterministic: bool = option(
        False,
        "Only algorithms that repeat to the bit; slower. The run ends with a hash of its weights, "
        "the same for the same recipe, seed and machine.",
    )
    save_every_steps: int | None = option(
        None,
        "Write last.ckpt also inside an epoch, after each this many optimizer steps. null writes it "
        "at the end of an epoch and when the run is stopped.",
        above=0,
    )
    non_finite: Literal["stop", "skip"] = option(
        "stop",
        "What a loss that is not a finite number does: stop the run and name the images, or skip "
        "the batch and count it.",
    )
    loggers: list[str] = option(
        ["csv", "tensorboard"], "Where numbers go: csv, tensorboard, wandb, mlflow."
    )
    picture_every_epochs: int = option(
        10, "Epochs between two overlay pictures; 0 draws none.", low=0
    )
    pictures: int = option(4, "How many validation images are drawn; always the same ones.", low=0)
    options: dict[str, Any] = option(
        {}, "Anything else lightning.pytorch.Trainer takes, such as {limit_train_batches: 10}."
    )


@dataclass(frozen=True)
class EvaluationConfig:
    """How validation and test look at an image."""

    protocol: str = option(
        "whole",
        "Named way to look: whole (one pass at native size), tta (several scales and a mirror), or what "
        "a published score was measured with, such as official_cityscapes_ms, official_crop, lip, "
        "mmseg_slide. The options below change parts of it; `hrseg reproduce` compares with a paper.",
    )
    scales: list[float] = option(
        [],
        "Scales whose results are merged, such as [0.75, 1, 1.25]. Empty takes the protocol's.",
        above=0,
    )
    flip: bool | None = option(
        None, "Look at the mirrored image too, at each scale. null takes the protocol's."
    )
    merge: Literal["logits", "softmax", "exp"] | None = option(
        None,
        "What is averaged over scales and mirrors: logits, probabilities (softmax), or exp(logits), "
        "which the official code averages. null takes the protocol's.",
    )
    window: tuple[int, int] | None = option(
        None,
        "Sliding window (height, width) in pixels of the scaled image; null takes the protocol's, which "
        "looks at the whole image at once unless it says otherwise.",
        above=0,
    )
    overlap: float | None = option(
        None,
        "Shared fraction of neighboring windows. null takes the protocol's; without one, 0.25.",
        low=0,
        high=0.9,
    )
    stride: tuple[int, int] | None = option(
        None,
        "Distance (height, width) between windows in pixels, instead of evaluation.overlap.",
        above=0,
    )
    blend: Literal["ramp", "cosine", "gaussian", "equal"] | None = option(
        None,
        "How windows share a pixel: ramp and cosine fade over the overlap, gaussian over the whole window, "
        "which comes nearest to the image in one piece; equal averages. null takes the protocol's.",
    )
    base_size: int | None = option(
        None,
        "Long side of the image at scale 1, in pixels. null takes the protocol's; without one, the "
        "native size.",
        above=0,
    )
    base_short_side: int | None = option(
        None,
        "Short side at scale 1, in pixels. With evaluation.base_size too, the image fits into both.",
        above=0,
    )
    absent: Literal["skip", "zero"] | None = option(
        None,
        "What a class in neither masks nor predictions does to mIoU: skip leaves it out, zero counts it "
        "as 0, as the official code does. null takes the protocol's.",
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "Arithmetic of the forward pass. auto is bf16 where the device is quick at it."
    )


@dataclass(frozen=True)
class PublishedConfig:
    """What somebody reported for this recipe; `hrseg reproduce` measures it again."""

    scores: dict[str, float] = option(
        {},
        "Evaluation protocol and the mIoU in per cent it gave, such as {official_cityscapes: 80.9, "
        "official_cityscapes_ms: 81.9}. The first is compared unless another is asked for. 0 removes "
        "a score that an extended recipe sets.",
        low=0,
        high=100,
    )
    weights: str | None = option(
        None, "Tag or file of the finished network that has these scores; null if none can be had."
    )
    split: str = option("val", "Split they were measured on.")
    source: str | None = option(None, "Where the scores are written.")
    tolerance: float = option(0.3, "How far, in points of mIoU, a repetition may be off.", above=0)


@dataclass(frozen=True)
class RunConfig:
    """What the run is called and where it is kept."""

    name: str | None = option(None, "Name of the run's folder; null takes the config file's name.")
    dir: str = option("runs", "Folder that holds the runs.")
    seed: int = option(0, "Seed of weights, order and augmentation.", low=0)


@dataclass(frozen=True)
class Config:
    """One run, complete: eight sections of plain values."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Option:
    """One row of the schema, as `hrseg config explain` and the checks see it."""

    key: str
    type: Any
    default: Any
    doc: str
    limits: Mapping[str, float]

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed words, empty where any value of the type will do."""
        for kind in (self.type, *typing.get_args(self.type)):
            if typing.get_origin(kind) is Literal:
                return typing.get_args(kind)
        return ()

    @property
    def kind(self) -> str:
        """The type in words."""
        return _in_words(self.type)

    @property
    def range(self) -> str:
        """The limits in words, or an empty string."""
        return ", ".join(LIMITS[name][1].format(bound) for name, bound in self.limits.items())


def _in_words(kind: Any, plural: bool = False) -> str:
    """Name a type for people: int → "a whole number"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _in_words(part) for part in inner)
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} {_in_words(inner[0], plural=True)}"
    if origin in (list, tuple):
        return f"a list of {_in_words(inner[0], plural=True)}"
    if origin is dict:
        return f"a mapping from names to {_in_words(inner[1], plural=True)}"
    one, many = {
        int: ("a whole number", "whole numbers"),
        float: ("a number", "numbers"),
        bool: ("true or false", "true or false"),
        str: ("text", "words"),
    }.get(kind, ("any value", "values"))
    return many if plural else one


def _schema() -> dict[str, Option]:
    rows = {}
    for section in dataclasses.fields(Config):
        hints = typing.get_type_hints(section.type)
        for item in dataclasses.fields(typing.cast(Any, section.type)):
            made = item.default_factory is not dataclasses.MISSING
            default = typing.cast(Any, item.default_factory)() if made else item.default
            limits = {name: item.metadata[name] for name in LIMITS if name in item.metadata}
            key = f"{section.name}.{item.name}"
            rows[key] = Option(key, hints[item.name], default, item.metadata["doc"], limits)
    return rows


OPTIONS = _schema()
"""Every option by its dotted key, in the order of the schema."""
SECTIONS = {item.name: item.type.__doc__ or "" for item in dataclasses.fields(Config)}
"""Section name → its one-line doc."""
