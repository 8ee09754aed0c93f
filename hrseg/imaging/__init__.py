"""Image and mask files, in and out: the only place where PIL's (width, height) becomes (height, width).

`reading` and `writing` are the edge to the disk, `values` the way from pixels to tensors and back. All others
import from here.
"""

from hrseg.imaging.reading import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    NAN_ID,
    Stored,
    image_size,
    read_image,
    read_mask,
    stored_form,
)
from hrseg.imaging.values import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    denormalise,
    stretched,
    to_tensor,
    value_range_of,
)
from hrseg.imaging.writing import write_atomic, write_image, write_mask

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_SUFFIXES",
    "NAN_ID",
    "Stored",
    "denormalise",
    "image_size",
    "read_image",
    "read_mask",
    "stored_form",
    "stretched",
    "to_tensor",
    "value_range_of",
    "write_atomic",
    "write_image",
    "write_mask",
]
