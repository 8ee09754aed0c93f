"""Entry points for torch.hub: hrseg's networks from a clone, without an installation.

torch.hub.load("PATH/TO/CLONE", "hrseg_network", source="local", backbone="hrnet_w48", num_classes=19)
torch.hub.load("PATH/TO/CLONE", "hrseg_pretrained", source="local")
torch.hub.load("PATH/TO/CLONE", "hrseg_predictor", source="local")("street.jpg").save("out")
"""

from typing import Any

dependencies = ["torch", "numpy", "PIL", "safetensors", "yaml", "filelock"]


def hrseg_network(
    backbone: str = "hrnet_w48", weights: str | None = None, new_head: bool = False, **options: Any
) -> Any:
    """Build a network, and load weights into it where asked.

    Args:
        backbone: A name of `hrseg.list_models()`.
        weights: A weight file, a tag of `hrseg.list_weights()`, or hf:org/name.
        new_head: Take the backbone of the weights only; ImageNet weights imply it.
        options: Of `hrseg.create_model`: head, num_classes, resize, ...
    """
    import hrseg

    network = hrseg.create_model(backbone, **options)
    if weights is not None:
        hrseg.load_weights(network, weights, new_head=new_head)
    return network


def hrseg_pretrained(model: str | None = None) -> Any:
    """Open a trained network in evaluation mode: normalized images (N, 3, H, W) in, logits (N, K, H, W) out.

    Args:
        model: A checkpoint, a release, a tag, hf:org/name, or None for the model that ships.
    """
    from hrseg.inference.load_model import open_model

    return open_model(model).network


def hrseg_predictor(model: str | None = None, **options: Any) -> Any:
    """Open a trained model with its classes and normalization: an image in, a Prediction out.

    Args:
        model: As for hrseg_pretrained.
        options: Of `hrseg.open_predictor`: device, precision, window, ...
    """
    import hrseg

    return hrseg.open_predictor(model, **options)
