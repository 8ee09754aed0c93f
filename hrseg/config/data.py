"""Data section of the schema: dataset, crop, augmentation, loading and normalization."""
# ruff: noqa: RUF009 (option() builds a dataclass field, as field() does)

from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import MISSING

from hrseg.config.options import option


@dataclass(frozen=True)
class DataConfig:
    """Images and masks, crop and augmentation."""

    layout: str = option(
        MISSING,
        "Folder layout of the dataset: cityscapes, ade20k, pascal_context, lip, coco_stuff, voc2012, camvid, "
        "loveda, potsdam, vaihingen, isaid, folder; or synthetic, scenes drawn on the fly without files.",
    )
    root: str | None = option(
        None,
        "Folder of the dataset, relative to where you run; zip archives in it are read as they are, and "
        "it may itself be one. Not needed for synthetic.",
    )
    labels: str | None = option(
        None,
        "Class table: a name (cityscapes, ade20k, pascal_context_60, ...) or a file of classes. null takes "
        "the layout's, and detects the numbering of the masks where a dataset is published in several; with "
        "layout folder it takes the file of classes in the root.",
    )
    masks: str | None = option(
        None,
        "Path of an image's mask below data.root, for layout folder, such as 'masks/{stem}.jpg.png': {stem} is "
        "the image's name without suffix, {name} with it, {folder} its folders below the root, {1} the first "
        "of them. null takes the file of the same name.",
    )
    unmasked: str | None = option(
        None,
        "Class of every pixel of training and validation images without a mask, such as background; layout "
        "folder. null refuses such images.",
    )
    train_split: str = option(
        "train",
        "Training split; cityscapes also has trainval and coarse, voc2012 trainval and trainaug.",
    )
    val_split: str = option("val", "Split of the score after each epoch and of `hrseg validate`.")
    test_split: str = option("test", "Split of `hrseg test`.")
    crop: tuple[int, int] = option(
        (512, 1024),
        "Training crop (height, width), in pixels; smaller images are padded.",
        above=0,
    )
    base_size: int | None = option(
        None, "Long side of the image at scale 1, in pixels. null is the native size.", above=0
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
        "resizes to data.crop, whatever the aspect ratio. Official recipes do either for some datasets.",
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
        "Probability of a mirrored image. Classes that the label table pairs change places, such as left "
        "and right arm.",
        low=0,
        high=1,
    )
    vflip: float = option(
        0.0,
        "Probability of an image turned upside down, for images without an up such as aerial ones. It mirrors, so "
        "paired classes change places here too.",
        low=0,
        high=1,
    )
    rotate90: float = option(
        0.0,
        "Probability of one, two or three quarter turns of the whole image, before it is scaled and cropped.",
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
        "Form of data.photometric: jitter multiplies, all four at once for 80 % of the images; mmseg is "
        "mmsegmentation's PhotoMetricDistortion, each of the four with probability 0.5.",
    )
    transforms: list[dict[str, Any]] = option(
        [],
        "Further albumentations transforms of crop and mask after all others, each with its name and arguments, such "
        "as [{name: GaussNoise, p: 0.2}]. They keep the crop's size, and masks are filled with 255.",
    )
    max_class_share: float = option(
        1.0,
        "Largest share of a crop that one class may fill; others are drawn again, up to 10 times.",
        above=0,
        high=1,
    )
    sampling: Literal["uniform", "rare"] = option(
        "uniform",
        "uniform draws every image once an epoch; rare draws images with rare classes more often.",
    )
    batch_size: int = option(3, "Images per device and step. The total is devices x batch_size x accumulate.", above=0)
    workers: int | None = option(
        None,
        "Loader processes per device; null depends on the cores, 0 loads in the main process.",
        low=0,
    )
    cache: str | None = option(
        None,
        "Folder of a cache of decoded images, for the second epoch and all later runs: 8 MB for a pair of "
        "1024x2048. null decodes each time.",
    )
    cache_gb: float = option(
        20.0,
        "Largest size of data.cache, in 10^9 bytes; images beyond it are decoded each time.",
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
        "become white. null takes what each file declares, else all 16.",
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
        "Source of data.mean and data.std: given here, or computed over the training images when the run starts, "
        "and stored in its config and checkpoints.",
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

    @property
    def num_bands(self) -> int:
        """Bands that the network sees."""
        return 3 if self.bands is None else len(self.bands)
