"""The loss of a run; class weights come from the config or from the pixels of the training masks."""

import logging

import torch

from hrseg.config import Config
from hrseg.data.datamodule import SegmentationData
from hrseg.errors import ConfigError
from hrseg.losses import WeightedSum
from hrseg.losses.class_weights import class_weights_from_counts

log = logging.getLogger(__name__)


def build_loss(config: Config, data: SegmentationData) -> WeightedSum:
    """Build the loss; class weights by formula count the pixels of the training masks once."""
    loss = config.loss
    return WeightedSum(
        loss.terms,
        class_weights=_class_weights(config, data),
        average=loss.average,
        ohem_threshold=loss.ohem_threshold,
        ohem_min_kept=loss.ohem_min_kept,
        focal_gamma=loss.focal_gamma,
        aux_weight=loss.aux_weight,
    )


def _class_weights(config: Config, data: SegmentationData) -> torch.Tensor | None:
    loss, classes = config.loss, data.labels.num_classes
    if loss.class_weight_values:
        if len(loss.class_weight_values) != classes:
            raise ConfigError(
                f"loss.class_weight_values has {len(loss.class_weight_values)} numbers, the label "
                f"table has {classes} classes. Give one weight per class, in trainId order."
            )
        return torch.tensor(loss.class_weight_values)
    if loss.class_weights == "none":
        return None
    if loss.class_weights == "official":
        return class_weights_from_counts(torch.zeros(classes), "official")
    weights = class_weights_from_counts(torch.as_tensor(data.count_classes()), loss.class_weights)
    shown = ", ".join(f"{n} {w:.2f}" for n, w in zip(data.labels.names, weights, strict=True))
    log.info("class weights (%s): %s", loss.class_weights, shown)
    return weights
