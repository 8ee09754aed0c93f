"""Synthetic datasets on disk in the folders, names and ids of any layout, for the demo and for tests.

All layouts show street scenes but LIP, whose classes are parts of people.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hrseg.data.layouts import LAYOUTS
from hrseg.data.street import NAMES, scene
from hrseg.errors import ConfigError, unknown_choice
from hrseg.imaging import write_image, write_mask, write_text
from hrseg.labels import LabelSet, load_labels

PARTS = tuple(load_labels("lip").names)
"""Names of a figure's ids: LIP's twenty classes."""
_ID = {name: number for number, name in enumerate(PARTS)}


def figure(index: int, size: tuple[int, int] = (128, 256), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw one standing person, from the front or from behind.

    Args:
        index: Number of the figure.
        size: (height, width).
        seed: Of all figures.

    Returns:
        uint8 RGB image and its uint8 mask in the ids of table "lip".

    Shape:
        image (H, W, 3), mask (H, W)

    Example:
        >>> image, mask = figure(1)
        >>> image.shape, mask.shape
        ((128, 256, 3), (128, 256))
    """
    rng = np.random.RandomState([seed & 0x7FFFFFFF, index, 1])
    height, width = size
    image = Image.new("RGB", (width, height), tuple(rng.randint(90, 220, 3).tolist()))
    mask = Image.new("L", (width, height), _ID["background"])
    on_image, on_mask = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    middle = width * rng.uniform(0.4, 0.6)
    unit = min(height, 2 * width) / 10  # of the body's height
    top = (height - 9.2 * unit) * rng.uniform(0, 1) + 0.2 * unit
    faces_us = rng.rand() < 0.6
    skin, hair, shirt, trousers, shoes = (tuple(rng.randint(20, 240, 3).tolist()) for _ in range(5))

    def box(part: str, color: tuple[int, ...], x: tuple[float, float], y: tuple[float, float]) -> None:
        left, right = sorted(middle + side * unit for side in x)
        corners = [(left, top + y[0] * unit), (right, top + y[1] * unit)]
        shape = "ellipse" if part in ("face", "hair") else "rectangle"
        getattr(on_image, shape)(corners, fill=color)
        getattr(on_mask, shape)(corners, fill=_ID[part])

    box("hair", hair, (-0.75, 0.75), (0, 1.5))
    if faces_us:
        box("face", skin, (-0.55, 0.55), (0.35, 1.7))
    swing = rng.uniform(0, 0.6)
    for side in ("left", "right"):
        way = 1.0 if (side == "left") == faces_us else -1.0  # the picture's right is plus
        box(f"{side} arm", skin, (way * 0.9, way * (1.5 + swing)), (1.9, 4.9))
        box("pants", trousers, (way * 0.05, way * 0.8), (4.4, 7))
        box(f"{side} leg", skin, (way * 0.1, way * 0.75), (7, 8.5))
        box(f"{side} shoe", shoes, (way * 0.1, way * 1.1), (8.5, 9))
    box("upper clothes", shirt, (-0.95, 0.95), (1.7, 4.6))
    pixels = np.array(image, dtype=np.float32) + 6 * rng.standard_normal((height, width, 1))
    return pixels.clip(0, 255).astype(np.uint8), np.array(mask)


SYNONYMS: dict[str, dict[str, str]] = {
    "cityscapes": {"pavement": "sidewalk", "sign": "traffic sign", "tree": "vegetation"},
    "ade20k": {"pavement": "sidewalk", "sign": "signboard"},
    "pascal_context": {"pavement": "sidewalk", "pole": "light"},
    "coco_stuff": {
        "building": "building-other",
        "pole": "wood",
        "sign": "stop sign",
        "sky": "sky-other",
    },
    "voc2012": dict.fromkeys(NAMES, "background") | {"person": "person", "car": "car"},
    "camvid": {"sign": "sign symbol", "person": "pedestrian"},
    "loveda": dict.fromkeys(NAMES, "background") | {"road": "road", "building": "building", "tree": "forest"},
    "potsdam": dict.fromkeys(NAMES, "clutter")
    | dict.fromkeys(("road", "pavement"), "impervious surface")
    | {"building": "building", "tree": "tree", "car": "car"},
    "isaid": dict.fromkeys(NAMES, "background") | {"car": "small vehicle"},
}
"""Layout → the class of its table for a class of the scenes, where the names differ."""
SYNONYMS["vaihingen"] = SYNONYMS["potsdam"]

_IMG_DIR = ("img_dir/{s}/{n}.png", "ann_dir/{s}/{n}.png")
PATHS: dict[str, tuple[str, str]] = {
    "cityscapes": (
        "leftImg8bit/{s}/synthville/synthville_{n:06d}_000019_leftImg8bit.png",
        "gtFine/{s}/synthville/synthville_{n:06d}_000019_gtFine_labelIds.png",
    ),
    "ade20k": ("images/{ade}/ADE_{s}_{n1:08d}.jpg", "annotations/{ade}/ADE_{s}_{n1:08d}.png"),
    "pascal_context": (
        "JPEGImages/{year}_{n:06d}.jpg",
        "SegmentationClassContext/{year}_{n:06d}.png",
    ),
    "lip": ("{s}_images/{n:06d}_1.jpg", "{s}_segmentations/{n:06d}_1.png"),
    "coco_stuff": (
        "{s}/image/COCO_train2014_{n:012d}.jpg",
        "{s}/label/COCO_train2014_{n:012d}.png",
    ),
    "voc2012": ("JPEGImages/{year}_{n:06d}.jpg", "SegmentationClass/{year}_{n:06d}.png"),
    "camvid": ("{s}/scene_{n:05d}.png", "{s}annot/scene_{n:05d}.png"),
    "loveda": _IMG_DIR,
    "potsdam": _IMG_DIR,
    "vaihingen": _IMG_DIR,
    "isaid": ("img_dir/{s}/P{n:04d}.png", "ann_dir/{s}/P{n:04d}_instance_color_RGB.png"),
    "folder": ("images/{s}/scene_{n:05d}.png", "masks/{s}/scene_{n:05d}.png"),
}
"""Layout → image and mask of scene n of split s; n1 counts from 1."""
_LISTS = {
    "pascal_context": "ImageSets/SegmentationContext/{}.txt",
    "voc2012": "ImageSets/Segmentation/{}.txt",
}
"""Layout → list of the names of a split."""


def write_scenes(
    root: str | Path,
    layout: str = "folder",
    splits: Mapping[str, int] | None = None,
    size: tuple[int, int] = (128, 256),
    seed: int = 0,
) -> None:
    """Write scenes as a dataset on disk, in the folders, names and ids of a layout.

    Args:
        root: Folder of the dataset; it is made.
        layout: A row of LAYOUTS, such as "camvid" or "cityscapes".
        splits: Split → number of scenes. None: 40 for training, 10 for validation.
        size: (height, width) of every scene.
        seed: See `scene`.

    Raises:
        ConfigError: Unknown layout.
        DataError: A file cannot be written.
    """
    if layout not in PATHS:
        raise ConfigError(unknown_choice("layout", layout, PATHS))
    root = Path(root)
    labels = load_labels(LAYOUTS[layout].table or "synthetic")
    draw, names = (figure, PARTS) if layout == "lip" else (scene, NAMES)
    ids, palette = _translation(layout, names, labels), labels.id_palette()
    index = 0
    for split, count in (splits or {"train": 40, "val": 10}).items():
        stems = []
        ade = {"train": "training", "val": "validation"}.get(split, split)
        year = "2009" if split == "val" else "2008"
        for number in range(count):
            image, mask = draw(index, size, seed)
            fields = {"s": split, "n": number, "n1": number + 1, "ade": ade, "year": year}
            image_file, mask_file = (place.format(**fields) for place in PATHS[layout])
            write_image(root / image_file, image)
            write_mask(root / mask_file, ids[mask], palette)
            stems.append(Path(image_file).stem)
            index += 1
        if layout in _LISTS:
            write_text(root / _LISTS[layout].format(split), "".join(f"{stem}\n" for stem in stems))
    if layout == "folder":
        write_text(root / "labels.yaml", labels.to_yaml("Classes of the synthetic street."))


def _translation(layout: str, names: tuple[str, ...], labels: LabelSet) -> np.ndarray:
    """Return the layout's id of each id of the scenes. Shape: (number of names,)."""
    by_name, synonyms = {x.name: x.id for x in labels.labels}, SYNONYMS.get(layout, {})
    return np.array([by_name[synonyms.get(name, name)] for name in names], dtype=np.uint8)
