"""Reading and writing of image and mask files, in order (height, width) everywhere.

`reading` opens images and masks, `writing` writes them, `values` converts between pixels and tensors.
"""

from hrseg.imaging.georeference import Georeference
from hrseg.imaging.image_file import ImageFile
from hrseg.imaging.reading import (
    ARRAY_SUFFIXES,
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    LOSSY_SUFFIXES,
    NAN_ID,
    LoadedImage,
    Stored,
    image_size,
    load_image,
    open_image,
    read_bands,
    read_georeference,
    read_image,
    read_mask,
    stored_form,
)
from hrseg.imaging.values import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    denormalize,
    stretched,
    to_tensor,
    value_range_of,
)
from hrseg.imaging.writing import (
    remove_abandoned,
    set_aside,
    temporary_folder,
    write_atomic,
    write_geotiff,
    write_image,
    write_mask,
    write_text,
)

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
    "remove_abandoned",
    "set_aside",
    "stored_form",
    "stretched",
    "temporary_folder",
    "to_tensor",
    "value_range_of",
    "write_atomic",
    "write_geotiff",
    "write_image",
    "write_mask",
    "write_text",
]
