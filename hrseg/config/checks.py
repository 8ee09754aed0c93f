"""Checks across options, and of the arguments passed through to Lightning's Trainer."""

from collections.abc import Iterable, Mapping
from typing import Any

from hrseg.config.data import DataConfig
from hrseg.config.schema import Config
from hrseg.config.values import closest
from hrseg.errors import ConfigError, did_you_mean

# Arguments of lightning's Trainer that hrseg sets, and the option for it.
_OWNED_BY_HRSEG = {
    "accelerator": "trainer.accelerator",
    "accumulate_grad_batches": "trainer.accumulate",
    "callbacks": "",
    "check_val_every_n_epoch": "trainer.val_every_epochs",
    "default_root_dir": "run.dir",
    "deterministic": "trainer.deterministic",
    "devices": "trainer.devices",
    "gradient_clip_val": "trainer.clip_norm",
    "log_every_n_steps": "trainer.log_every_steps",
    "logger": "trainer.loggers",
    "max_epochs": "trainer.max_epochs",
    "max_steps": "trainer.max_steps",
    "num_nodes": "trainer.num_nodes",
    "precision": "trainer.precision",
    "strategy": "trainer.strategy",
    "sync_batchnorm": "trainer.sync_batchnorm",
    "use_distributed_sampler": "",
}


def check_trainer_options(options: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Refuse names in `trainer.options` that Lightning's Trainer lacks or that hrseg sets.

    Args:
        options: `config.trainer.options`.
        allowed: Parameter names of `lightning.pytorch.Trainer`, from `inspect.signature`.

    Raises:
        ConfigError: For the first such name.
    """
    names = set(allowed) - {"self"}
    for name in options:
        if name in _OWNED_BY_HRSEG:
            key = _OWNED_BY_HRSEG[name]
            raise ConfigError(
                f"trainer.options.{name} is set by hrseg itself. "
                + (f"Use {key} instead." if key else "Remove it from the config.")
            )
        if name not in names:
            owned = _OWNED_BY_HRSEG.get(closest(name, names))
            hint = f" Did you mean '{owned}'?" if owned else did_you_mean(name, names)
            raise ConfigError(f"trainer.options.{name} is not an argument of lightning.pytorch.Trainer.{hint}")


def check_together(config: Config) -> None:
    """Refuse options that are valid alone but not together.

    Raises:
        ConfigError: For the first conflict, with its solution.
    """
    loss, optim, trainer = config.loss, config.optim, config.trainer
    devices = trainer.devices
    if not (devices == "auto" or (str(devices).isdigit() and int(devices) > 0)):
        raise ConfigError(f"trainer.devices is '{devices}'. It must be a whole number above 0, or auto.")
    if trainer.max_epochs is None and trainer.max_steps is None:
        raise ConfigError(
            "Neither trainer.max_epochs nor trainer.max_steps is set, so the run would never end. Set one of them."
        )
    check_data(config.data)
    model = config.model
    if model.freeze != "none" and model.weights is None and model.encoder_weights is None:
        raise ConfigError(
            f"model.freeze={model.freeze} would keep random weights. Set model.weights, such as "
            f"model.weights={model.backbone}.ms_in1k, or model.freeze=none."
        )
    if loss.class_weight_values and loss.class_weights != "none":
        raise ConfigError(
            f"Both loss.class_weight_values and loss.class_weights={loss.class_weights} are set. "
            "Keep the list and set loss.class_weights=none, or empty the list."
        )
    if config.evaluation.stride is not None and config.evaluation.overlap is not None:
        raise ConfigError(
            f"Both evaluation.stride={list(config.evaluation.stride)} and evaluation.overlap="
            f"{config.evaluation.overlap} are set, and they mean the same. Set only one of them."
        )
    if optim.min_lr > optim.lr:
        raise ConfigError(f"optim.min_lr {optim.min_lr} is larger than optim.lr {optim.lr}. Lower it.")
    if trainer.max_steps is not None and optim.warmup_steps >= trainer.max_steps:
        raise ConfigError(
            f"optim.warmup_steps {optim.warmup_steps} fills the whole run of trainer.max_steps "
            f"{trainer.max_steps}. Shorten the warm-up."
        )


def check_data(data: DataConfig) -> None:
    """Refuse options of the data section that are valid alone but not together.

    Raises:
        ConfigError: For the first conflict, with its solution.
    """
    if data.layout != "synthetic" and data.root is None:
        raise ConfigError(f"data.root is not set. Layout '{data.layout}' reads files: add data.root=FOLDER.")
    if data.scale_min > data.scale_max:
        raise ConfigError(f"data.scale_min {data.scale_min} is larger than data.scale_max {data.scale_max}.")
    if data.first_resize == "short_side" and data.base_size is None:
        raise ConfigError(
            "data.first_resize is short_side, and data.base_size, the length of that side, is not set. Set it, such as "
            "data.base_size=520."
        )
    _check_bands(data)


def _check_bands(data: DataConfig) -> None:
    """Refuse differing numbers of bands, and options that apply to 8-bit RGB only."""
    if data.bands is not None and not data.bands:
        raise ConfigError("data.bands is empty. Name bands, such as [0, 1, 2, 3], or set it to null for RGB.")
    bands = data.num_bands
    if data.statistics == "given" and not len(data.mean) == len(data.std) == bands:
        source = "RGB has 3 bands" if data.bands is None else f"data.bands names {bands}"
        raise ConfigError(
            f"data.mean has {len(data.mean)} numbers, data.std {len(data.std)}, and {source}. Give {bands} of each, "
            "or set data.statistics=compute."
        )
    if data.bands is None:
        if data.value_range is not None:
            raise ConfigError(
                f"data.value_range is {data.value_range:g}, but images become RGB of 8 bits. Name their bands with "
                "data.bands, or set data.value_range=null."
            )
        return
    if data.bits is not None:
        raise ConfigError(
            f"data.bits is {data.bits}, but data.bands takes values as stored. Set data.value_range="
            f"{2**data.bits - 1} instead."
        )
    if data.layout == "synthetic":
        raise ConfigError("data.bands is set, but synthetic scenes are RGB. Set data.bands=null.")
    for name in ("photometric", "brightness_shift"):
        if getattr(data, name):
            raise ConfigError(
                f"data.{name} is {getattr(data, name):g}, which changes colors of 8-bit RGB, and data.bands takes "
                f"bands as they are stored. Set data.{name}=0."
            )
