"""Schema of a run: eight sections of options, each with its type, default, doc and limits.

Only choices are options: class counts, widths and step counts follow from them.
"""
# ruff: noqa: RUF009 (option() builds a dataclass field, as field() does)

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from hrseg.config.data import DataConfig
from hrseg.config.options import list_options, option


@dataclass(frozen=True)
class ModelConfig:
    """Network and its initial weights."""

    backbone: str = option(
        "hrnet_w18_small_v2",
        "HRNet of a given width, or an smp encoder (resnet18, ...) for baselines. `hrseg models` lists them.",
    )
    head: str = option(
        "v2",
        "Segmentation head: v2, ocr (object context, with auxiliary logits), v1 (finest branch alone), c1 "
        "(CSAILVision's), or a baseline's such as unet, simple or deeplabv3.",
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
        "sizes behind only. It must be the one that the weights were trained with.",
    )
    exchange: Literal["full", "between_stages", "final"] = option(
        "full",
        "Where branches are fused: at the end of every module, of every stage, or once after the last stage. "
        "The latter two are the paper's ablation.",
    )
    style: Literal["hrnet", "tf_port"] = option(
        "hrnet",
        "hrnet is the published network; tf_port a pose network ported to TensorFlow (VXallset), with branches at "
        "strides 1 to 8, biases and leaky ReLU of slope 0.1: sixteen times the memory of an HRNet of that width.",
    )
    branches_from_start: bool = option(
        False, "All four branches from stage 2 on instead of one more per stage: another ablation."
    )
    activation: Literal["relu", "leaky_relu"] = option(
        "relu",
        "Activation of the backbone; leaky_relu has slope 0.2 below zero. A variant of ours, of no published network.",
    )
    downsample: Literal["conv", "max_pool"] = option(
        "conv",
        "Downsampling in the fusion: a stride-2 convolution per octave, or one max pooling and a 1x1 "
        "convolution, which is cheaper and of no published network.",
    )
    input_scale: float = option(
        1.0,
        "Factor by which every image is enlarged before the network; logits come back at the image's own "
        "size. Helps with small objects; time grows with its square.",
        low=1,
        high=4,
    )
    weights: str | None = option(
        None,
        "Initial weights: a checkpoint, a .safetensors file, or a tag such as hrnet_w48.ms_in1k "
        "(ImageNet, downloaded once when the run starts). null starts from random weights.",
    )
    freeze: Literal["none", "backbone", "norms"] = option(
        "none",
        "Part of the backbone (of a baseline: its encoder) that keeps the weights it starts from: all of it, or its "
        "norms, weights and statistics. Needs model.weights or model.encoder_weights.",
    )
    new_head: bool = option(
        False,
        "Take only the backbone from model.weights and start a new head, for another set of classes. "
        "ImageNet files have no head and do not need it.",
    )
    encoder_weights: str | None = option(
        None,
        "Initial weights of a baseline's encoder, such as imagenet, which smp downloads when the run "
        "starts. An HRNet takes model.weights.",
    )
    init: Literal["auto", "official", "kaiming"] = option(
        "auto",
        "Random initialization. official is normal with std 0.001, good under ImageNet weights; "
        "kaiming trains from scratch. auto picks by model.weights.",
    )


@dataclass(frozen=True)
class LossConfig:
    """Training loss."""

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
        [], "Explicit weights, one per class in trainId order, instead of a formula.", low=0
    )
    average: Literal["valid", "all"] = option(
        "valid",
        "Cross-entropy is averaged over the pixels that have a class, OHEM over the hard ones; or both over "
        "all. With all, ignored and easy pixels make the loss smaller, as in mmsegmentation. The auxiliary "
        "loss beside OHEM is always averaged over all, as in the official code.",
    )
    ohem_threshold: float = option(
        0.9,
        "OHEM takes pixels whose true class has a lower probability than this; 0 takes the hardest "
        "ohem_min_kept alone.",
        low=0,
        high=1,
    )
    ohem_min_kept: float = option(
        131072,
        "OHEM takes at least this many pixels per device; below 1, a share of the valid.",
        above=0,
    )
    focal_gamma: float = option(2.0, "Focal loss: exponent that weakens easy pixels.", low=0)
    aux_weight: float = option(0.4, "Weight of the cross-entropy on auxiliary logits, for heads that have them.", low=0)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning rate. Every schedule counts optimizer steps."""

    name: Literal["sgd", "adamw"] = option("sgd", "Optimizer.")
    lr: float = option(0.01, "Learning rate after the warm-up; scale it with the total batch.", above=0)
    momentum: float = option(0.9, "SGD momentum, without Nesterov. AdamW has its own betas.", low=0, below=1)
    weight_decay: float = option(5e-4, "Weight decay.", low=0)
    head_lr_factor: float = option(1.0, "Learning rate of the head relative to the backbone.", above=0)
    no_decay_norms: bool = option(
        False,
        "Leave norms and biases out of the weight decay. The official recipes decay everything.",
    )
    poly_power: float = option(0.9, "The rate falls as (1 - step / steps) to this power.", low=0)
    lag_steps: int = option(
        0,
        "Steps by which the schedule lags. The official code sets the rate after a step, so its first two "
        "steps share the base rate: 1.",
        low=0,
    )
    warmup_steps: int = option(0, "Optimizer steps of linear warm-up.", low=0)
    min_lr: float = option(0.0, "Learning rate at the end of the schedule.", low=0)
    ema_decay: float | None = option(
        None,
        "Decay of a moving average of the weights (0.999), which is then validated and saved; null for none.",
        above=0,
        below=1,
    )


@dataclass(frozen=True)
class TrainerConfig:
    """Duration, devices, precision, checkpoints and loggers."""

    max_epochs: int | None = option(None, "Passes over the training set. Set this or max_steps.", above=0)
    max_steps: int | None = option(None, "Optimizer steps. Set this or max_epochs.", above=0)
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = option("auto", "Kind of device.")
    devices: int | str = option("auto", "Number of devices on each node: a whole number, or auto.")
    num_nodes: int = option(1, "Number of machines.", above=0)
    strategy: str = option("auto", "auto, ddp or fsdp; auto is ddp as soon as there is more than one device.")
    strategy_options: dict[str, Any] = option(
        {}, "Arguments for that Lightning strategy, such as {find_unused_parameters: true}."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "Arithmetic. auto is bf16 where the device has fast bf16, fp32 elsewhere."
    )
    sync_batchnorm: bool = option(True, "Batch norm statistics over all devices. Without effect on a single device.")
    accumulate: int = option(1, "Batches per optimizer step.", above=0)
    clip_norm: float | None = option(None, "Largest gradient norm; null does not clip.", above=0)
    channels_last: bool = option(True, "Channels-last memory format, faster on CPU and GPU.")
    compile: bool = option(False, "torch.compile the network; worth it for long runs on a GPU.")
    checkpointing: Literal["none", "blocks", "modules"] = option(
        "none",
        "Activation checkpointing: recompute parts of the network in the backward pass. About a quarter of "
        "the memory for about a third more time, with the same numbers. blocks stores the activations "
        "between residual blocks; modules fewer.",
    )
    val_every_epochs: int = option(1, "Epochs between two validations.", above=0)
    best_by: Literal[
        "val/miou",
        "val/pixel_accuracy",
        "val/mean_accuracy",
        "val/frequency_weighted_iou",
        "train/epoch_loss",
    ] = option(
        "val/miou",
        "Logged number that decides which weights become best.ckpt: the highest score, or the lowest loss.",
    )
    early_stop_patience: int | None = option(
        None,
        "Stop after this many validations without a better trainer.best_by; null never stops early.",
        above=0,
    )
    log_every_steps: int = option(10, "Optimizer steps between two log lines.", above=0)
    deterministic: bool = option(
        False,
        "Deterministic algorithms only; slower. The run ends with a hash of its weights, the same for the "
        "same recipe, seed and machine.",
    )
    save_every_steps: int | None = option(
        None,
        "Optimizer steps between two writes of last.ckpt inside an epoch. null writes it at the end of an "
        "epoch and when the run is stopped.",
        above=0,
    )
    non_finite: Literal["stop", "skip"] = option(
        "stop",
        "Reaction to a loss that is not finite: stop the run and name the images, or skip the batch and count it.",
    )
    loggers: list[str] = option(["csv", "tensorboard"], "Loggers of the numbers: csv, tensorboard, wandb, mlflow.")
    picture_every_epochs: int = option(10, "Epochs between two overlay pictures; 0 draws none.", low=0)
    pictures: int = option(4, "Number of validation images drawn; always the same ones.", low=0)
    options: dict[str, Any] = option(
        {}, "Further arguments of lightning.pytorch.Trainer, such as {limit_train_batches: 10}."
    )


@dataclass(frozen=True)
class EvaluationConfig:
    """Inference in validation and test."""

    protocol: str = option(
        "whole",
        "Evaluation protocol: whole (one pass at native size), tta (several scales and a mirror), or that of "
        "a published score, such as official_cityscapes_ms, official_crop, lip, mmseg_slide. The options "
        "below change parts of it; `hrseg reproduce` compares with a paper.",
    )
    scales: list[float] = option(
        [],
        "Scales whose results are merged, such as [0.75, 1, 1.25]. Empty takes the protocol's.",
        above=0,
    )
    flip: bool | None = option(None, "Also predict the mirrored image, at each scale. null takes the protocol's.")
    merge: Literal["logits", "softmax", "exp"] | None = option(
        None,
        "Average over scales and mirrors: of logits, probabilities (softmax), or exp(logits), as in the "
        "official code. null takes the protocol's.",
    )
    window: tuple[int, int] | None = option(
        None,
        "Sliding window (height, width) in pixels of the scaled image; null takes the protocol's, which is "
        "the whole image at once for most.",
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
        "Weights of overlapping windows: ramp and cosine fade over the overlap, gaussian over the whole "
        "window, which is closest to one pass over the image; equal averages. null takes the protocol's.",
    )
    base_size: int | None = option(
        None,
        "Long side of the image at scale 1, in pixels. null takes the protocol's; without one, the native size.",
        above=0,
    )
    base_short_side: int | None = option(
        None,
        "Short side at scale 1, in pixels. With evaluation.base_size too, the image fits into both.",
        above=0,
    )
    absent: Literal["skip", "zero"] | None = option(
        None,
        "IoU of a class in neither masks nor predictions: skip leaves it out of mIoU, zero counts it as 0, as "
        "the official code does. null takes the protocol's.",
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "Arithmetic of the forward pass. auto is bf16 where the device has fast bf16."
    )


@dataclass(frozen=True)
class PublishedConfig:
    """Published scores of this recipe; `hrseg reproduce` measures them again."""

    scores: dict[str, float] = option(
        {},
        "Evaluation protocol → mIoU in per cent, such as {official_cityscapes: 80.9, official_cityscapes_ms: "
        "81.9}. The first is compared by default. 0 removes a score that an extended recipe sets.",
        low=0,
        high=100,
    )
    weights: str | None = option(
        None,
        "Tag or file of the trained network that has these scores, or of this recipe's network where they are those of "
        "a study; null if none is available.",
    )
    split: str = option("val", "Split they were measured on.")
    study: str | None = option(
        None,
        "Study with folds whose mean the first score is, that of the variant with this recipe's name; null if the "
        "score is that of the weights. `hrseg reproduce` then trains the study.",
    )
    source: str | None = option(None, "Publication of the scores.")
    tolerance: float = option(0.3, "Allowed difference of a repetition, in points of mIoU.", above=0)


@dataclass(frozen=True)
class RunConfig:
    """Name, folder and seed of the run."""

    name: str | None = option(None, "Name of the run's folder; null takes the config file's name.")
    dir: str = option("runs", "Parent folder of the runs.")
    seed: int = option(0, "Seed of weights, order and augmentation.", low=0)


@dataclass(frozen=True)
class Config:
    """Complete configuration of a run: eight sections of plain values."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)
    run: RunConfig = field(default_factory=RunConfig)


OPTIONS = list_options(Config)
"""Every option by its dotted key, in the order of the schema."""
SECTIONS = {item.name: item.type.__doc__ or "" for item in dataclasses.fields(Config)}
"""Section name → its one-line doc."""
