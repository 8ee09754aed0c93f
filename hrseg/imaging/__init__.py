"""Image and mask files, in and out: the only place where PIL's (width, height) becomes (height, width).

`reading` is the one door to image files, `masks` that to the ids of masks, `writing` the way out, `values` that from
pixels to tensors and back. All others import from here.
"""

from hrseg.imaging.georeference import Georeference
from hrseg.imaging.geotiff import write_geotiff
from hrseg.imaging.image_file import ImageFile
from hrseg.imaging.masks import NAN_ID, Stored, read_mask, stored_form
from hrseg.imaging.reading import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    LOSSY_SUFFIXES,
    LoadedImage,
    image_size,
    load_image,
    open_image,
    read_bands,
    read_georeference,
    read_image,
)
from hrseg.imaging.values import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    denormalize,
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
    "JPEG_SUFFIXES",
    "LOSSY_SUFFIXES",
    "NAN_ID",
    "Georeference",
    "ImageFile",
    "LoadedImage",
    "Stored",
    "denormalize",
    "image_size",
    "load_image",
    "open_image",
    "read_bands",
    "read_georeference",
    "read_image",
    "read_mask",
    "stored_form",
    "stretched",
    "to_tensor",
    "value_range_of",
    "write_atomic",
    "write_geotiff",
    "write_image",
    "write_mask",
]
