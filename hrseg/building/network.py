"""The network of a run with its first weights, and the models that cannot learn masks."""

import logging

import torch

from hrseg.building.data import bands_of
from hrseg.config import Config, ModelConfig
from hrseg.data.labels import LabelSet
from hrseg.errors import ConfigError
from hrseg.models import FORM, HEADS, create_model
from hrseg.weights import load_weights

log = logging.getLogger(__name__)

GIVES = {"pyramid": "a pyramid of feature maps", "image": "classes of whole images"}


def build_network(config: Config, labels: LabelSet, *, load: bool = True) -> torch.nn.Module:
    """Build the network of the model section, with its first weights.

    Args:
        config: The run.
        labels: Gives the number of classes.
        load: Whether model.weights is loaded, which may download; a dry run does not.

    Raises:
        ConfigError: A name that is in no table, a head that gives no pixels, or options that exclude each other.
        WeightsError: The weights do not fit.
    """
    model = config.model
    init = model.init
    if init == "auto":
        init = "kaiming" if model.weights is None else "official"
    _check_head(model)
    network: torch.nn.Module = create_model(
        model.backbone,
        model.head,
        labels.num_classes,
        model.resize,
        in_channels=bands_of(config),
        **{name: getattr(model, name) for name in FORM},
        init=init,
        encoder_weights=model.encoder_weights if load else None,
    )
    if model.weights is not None and load:
        report = load_weights(
            network,
            model.weights,
            new_head=model.new_head,
            inflate_stem=config.data.bands is not None,
        )
        log.info("%s", report)
    return network


def _check_head(model: ModelConfig) -> None:
    row = HEADS.get(model.head)
    if row is None:
        return  # create_model names the heads there are
    if row.gives != "pixels":
        pixels = ", ".join(name for name, other in HEADS.items() if other.gives == "pixels")
        raise ConfigError(
            f"model.head={model.head} gives {GIVES[row.gives]}, no logits per pixel, so it cannot learn masks. Heads "
            f"that can: {pixels}. To use it by itself: hrseg.create_model(backbone, '{model.head}')."
        )
    if model.encoder_weights is not None and row.family == "hrnet":
        raise ConfigError(
            f"model.encoder_weights={model.encoder_weights} is for baselines, and head {model.head} stands on an "
            f"HRNet. Set model.weights instead, such as model.weights={model.backbone}.ms_in1k."
        )
    if model.encoder_weights is not None and model.weights is not None:
        raise ConfigError(
            f"Both model.encoder_weights={model.encoder_weights} and model.weights={model.weights} say what the "
            "encoder starts from. Keep one of them."
        )
