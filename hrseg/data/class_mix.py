"""Mixing of the images of a batch: classes of one are pasted on another, with their pixels and labels.

A class then is seen before other surroundings, and under other light, than in its own photograph.
"""

import torch

from hrseg.labels import IGNORE_INDEX


def mix_classes(
    image: torch.Tensor, mask: torch.Tensor, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste half of the classes of the next image of the batch, at their places, on a share of the images.

    Args:
        image: float.
        mask: trainIds; pixels of 255 are not pasted.
        share: Of the images that change, 0 … 1, on average.
        generator: Of the CPU. It draws the images and the classes, which are half of those in sight, rounded up.

    Source:
        ClassMix, Olsson et al., arXiv 2007.07936, here between labeled images.

    Shape:
        (N, C, H, W), (N, H, W) → the same
    """
    mixed, labels = image.clone(), mask.clone()
    for i in torch.rand(len(image), generator=generator).lt(share).nonzero().flatten().tolist():
        other = (i + 1) % len(image)
        present = mask[other].unique()
        present = present[present != IGNORE_INDEX]
        order = torch.randperm(len(present), generator=generator)[: (len(present) + 1) // 2]
        pasted = torch.isin(mask[other], present[order.to(present.device)])  # (H, W)
        mixed[i] = torch.where(pasted, image[other], image[i])
        labels[i] = torch.where(pasted, mask[other], mask[i])
    return mixed, labels
