"""A street that never was: scenes drawn from a number, with exact masks, for the demo and for tests.

One road runs to a vanishing point between pavements and houses, with trees, poles, signs, people and cars at
their depth. The same index and seed give the same pixels on every machine. `write_scenes` lays them down as a
dataset on disk in any layout, in that layout's own ids.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hrseg.data.labels import LabelSet, load_labels
from hrseg.errors import ConfigError, unknown_choice
from hrseg.imaging import write_atomic, write_image, write_mask

NAMES = ("road", "pavement", "building", "pole", "sign", "tree", "sky", "person", "car")
ROAD, PAVEMENT, BUILDING, POLE, SIGN, TREE, SKY, PERSON, CAR = range(len(NAMES))
Color = tuple[int, int, int]

SYNONYMS: dict[str, dict[str, str]] = {
    "cityscapes": {"pavement": "sidewalk", "sign": "traffic sign", "tree": "vegetation"},
    "ade20k": {"pavement": "sidewalk", "sign": "signboard"},
    "camvid": {"sign": "sign symbol", "person": "pedestrian"},
    "folder": {},
}
"""Layout → what its table calls our classes, where it differs."""


def scene(
    index: int, size: tuple[int, int] = (128, 256), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street.

    Args:
        index: Which one; each index is another street.
        size: (height, width), at least 16 x 16.
        seed: Another seed, another town.

    Returns:
        uint8 RGB image and its uint8 mask in the ids of table "synthetic".

    Raises:
        ConfigError: The size is too small to hold a street.

    Shape:
        image (H, W, 3), mask (H, W)

    Example:
        >>> image, mask = scene(3)
        >>> image.shape, mask.shape, bool((scene(3)[0] == image).all())
        ((128, 256, 3), (128, 256), True)
    """
    if min(size) < 16:
        raise ConfigError(
            f"A scene of {size[0]} x {size[1]} pixels is too small; use at least 16 x 16."
        )
    return _Street(np.random.RandomState([seed & 0x7FFFFFFF, index]), size).draw()


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
        layout: "camvid", "cityscapes", "ade20k" or "folder".
        splits: Split name → how many scenes. None: 40 to train, 10 to validate.
        size: (height, width) of every scene.
        seed: See `scene`.

    Raises:
        ConfigError: Unknown layout.
        DataError: A file cannot be written.
    """
    if layout not in _PLACES:
        raise ConfigError(unknown_choice("layout", layout, _PLACES))
    root = Path(root)
    labels = load_labels("synthetic" if layout == "folder" else layout)
    ids, palette = _translation(layout, labels), labels.id_palette()
    index = 0
    for split, count in (splits or {"train": 40, "val": 10}).items():
        for number in range(count):
            image, mask = scene(index, size, seed)
            image_file, mask_file = _PLACES[layout](split, number)
            write_image(root / image_file, image)
            write_mask(root / mask_file, ids[mask], palette)
            index += 1
    if layout == "folder":
        with write_atomic(root / "labels.yaml") as temporary:
            temporary.write_text(_yaml(labels), encoding="utf-8")


def _cityscapes_place(split: str, number: int) -> tuple[str, str]:
    name = f"synthville_{number:06d}_000019"
    return (
        f"leftImg8bit/{split}/synthville/{name}_leftImg8bit.png",
        f"gtFine/{split}/synthville/{name}_gtFine_labelIds.png",
    )


def _ade20k_place(split: str, number: int) -> tuple[str, str]:
    folder = {"train": "training", "val": "validation"}.get(split, split)
    name = f"ADE_{split}_{number + 1:08d}"
    return f"images/{folder}/{name}.jpg", f"annotations/{folder}/{name}.png"


_PLACES: dict[str, Callable[[str, int], tuple[str, str]]] = {
    "cityscapes": _cityscapes_place,
    "ade20k": _ade20k_place,
    "camvid": lambda s, n: (f"{s}/scene_{n:05d}.png", f"{s}annot/scene_{n:05d}.png"),
    "folder": lambda s, n: (f"images/{s}/scene_{n:05d}.png", f"masks/{s}/scene_{n:05d}.png"),
}


def _translation(layout: str, labels: LabelSet) -> np.ndarray:
    """Return a table from our ids to the layout's. Shape: (9,)."""
    by_name = {label.name: label.id for label in labels.labels}
    return np.array([by_name[SYNONYMS[layout].get(name, name)] for name in NAMES], dtype=np.uint8)


def _yaml(labels: LabelSet) -> str:
    rows = [f"  - {{id: {x.id}, name: {x.name}, color: {list(x.color)}}}" for x in labels.labels]
    return "\n".join(["# Classes of the synthetic street.", "classes:", *rows]) + "\n"


class _Street:
    """Paints far things before near ones, on the image and on the mask with the same outlines."""

    def __init__(self, rng: np.random.RandomState, size: tuple[int, int]) -> None:
        self.rng = rng
        self.h, self.w = size
        self.image = Image.new("RGB", (self.w, self.h))
        self.mask = Image.new("L", (self.w, self.h), SKY)
        self.on_image, self.on_mask = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.horizon = self.h * rng.uniform(0.38, 0.52)
        self.vanish = self.w * rng.uniform(0.35, 0.65)
        # where the two road edges and the two outer pavement edges meet the bottom of the picture
        left, right = self.w * rng.uniform(-0.1, 0.2), self.w * rng.uniform(0.8, 1.1)
        self.edges = (
            left - self.w * rng.uniform(0.3, 0.6),
            left,
            right,
            right + self.w * rng.uniform(0.3, 0.6),
        )

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        self.sky()
        self.ground()
        for side in (0, 1):
            self.houses(side)
        things: list[tuple[float, Callable[[float, int], None]]] = []
        for paint, most in (
            (self.tree, 4),
            (self.pole, 4),
            (self.sign, 3),
            (self.person, 5),
            (self.car, 4),
        ):
            things += [
                (self.rng.uniform(0.08, 0.85), paint) for _ in range(self.rng.randint(1, most + 1))
            ]
        for depth, paint in sorted(things, key=lambda thing: thing[0]):
            paint(depth, int(self.rng.randint(2)))
        return self.light(), np.array(self.mask)

    def shape(self, kind: str, place: list[tuple[float, float]], color: Color, label: int) -> None:
        getattr(self.on_image, kind)(place, fill=color)
        getattr(self.on_mask, kind)(place, fill=label)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Color, label: int) -> None:
        self.shape("rectangle", [(x0, y0), (max(x1, x0), max(y1, y0))], color, label)

    def disc(self, x: float, y: float, rx: float, ry: float, color: Color, label: int) -> None:
        self.shape("ellipse", [(x - rx, y - ry), (x + rx, y + ry)], color, label)

    def color(self, low: int, high: int, grey: float = 0.0) -> Color:
        value = self.rng.randint(low, high, 3)
        r, g, b = (value * (1 - grey) + value.mean() * grey).astype(int).tolist()
        return r, g, b

    def at(self, depth: float, edge: int) -> tuple[float, float]:
        """Where an edge of the ground lies at a depth, 0 at the vanishing point, 1 at our feet."""
        return (
            self.vanish + (self.edges[edge] - self.vanish) * depth,
            self.horizon + (self.h - self.horizon) * depth,
        )

    def sky(self) -> None:
        tops = ((70, 120, 200), (110, 150, 190), (150, 155, 165), (190, 150, 140), (60, 75, 120))
        lows = ((170, 205, 235), (215, 215, 210), (235, 200, 160), (150, 165, 185))
        top = np.array(tops[self.rng.randint(5)]) + self.rng.randint(-15, 16, 3)
        low = np.array(lows[self.rng.randint(4)]) + self.rng.randint(-15, 16, 3)
        steps = np.linspace(0, 1, self.h)[:, None, None]
        gradient = top * (1 - steps) + low * steps + np.zeros((1, self.w, 1))
        self.image.paste(Image.fromarray(gradient.astype(np.uint8)))
        for _ in range(self.rng.randint(0, 5)):
            x, y = self.rng.uniform(0, self.w), self.rng.uniform(0, self.horizon)
            rx = self.rng.uniform(0.05, 0.2) * self.w
            cloud = self.color(205, 250, grey=0.95)
            for dx in self.rng.uniform(-0.6, 0.6, 4):
                self.disc(
                    x + dx * rx, y - (0.6 - abs(dx)) * rx * 0.15, rx * 0.5, rx * 0.16, cloud, SKY
                )

    def ground(self) -> None:
        asphalt, stone = self.color(60, 110, grey=0.9), self.color(120, 185, grey=0.8)
        grass = self.color(90, 140, grey=0.6)
        self.box(0, self.horizon, self.w, self.h, grass, BUILDING)
        point = (self.vanish, self.horizon)
        foot = [self.at(1.6, edge) for edge in range(4)]
        self.shape("polygon", [point, foot[0], foot[3]], stone, PAVEMENT)
        self.shape("polygon", [point, foot[1], foot[2]], asphalt, ROAD)
        for depth in np.arange(0.05, 1.0, 0.12):  # the dashed line in the middle
            ends = [np.mean([self.at(d, 1), self.at(d, 2)], axis=0) for d in (depth, depth + 0.05)]
            half = 0.012 * self.w * depth
            (xa, ya), (xb, yb) = ends
            quad = [(xa - half, ya), (xa + half, ya), (xb + half, yb), (xb - half, yb)]
            self.shape("polygon", quad, (225, 225, 215), ROAD)

    def houses(self, side: int) -> None:
        edge = 3 * side
        depth = 0.03
        while depth < 1.2:
            deeper = depth * self.rng.uniform(1.4, 2.2)
            tall = self.h * self.rng.uniform(0.5, 1.3)
            wall = self.color(80, 215, grey=0.65)
            (xa, ya), (xb, yb) = self.at(depth, edge), self.at(deeper, edge)
            ta, tb = ya - tall * depth, yb - tall * deeper
            self.shape("polygon", [(xa, ya), (xb, yb), (xb, tb), (xa, ta)], wall, BUILDING)
            outside = 0.0 if side == 0 else float(self.w)
            if deeper >= 1.2:
                self.shape(
                    "polygon", [(xb, yb), (outside, yb), (outside, tb), (xb, tb)], wall, BUILDING
                )
            self._windows((xa, ya, ta), (xb, yb, tb), wall)
            depth = deeper

    def _windows(
        self, far: tuple[float, float, float], near: tuple[float, float, float], wall: Color
    ) -> None:
        glass = self.color(40, 130, grey=0.5)
        columns, floors = self.rng.randint(2, 5), self.rng.randint(2, 5)
        for c in range(columns):
            u0, u1 = (c + 0.25) / columns, (c + 0.7) / columns
            for f in range(floors):
                v0, v1 = (f + 0.3) / floors, (f + 0.75) / floors
                quad = []
                for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1)):
                    x, low, top = (a + (b - a) * u for a, b in zip(far, near, strict=True))
                    quad.append((x, low + (top - low) * v))
                if abs(quad[1][0] - quad[0][0]) >= 1.5:
                    self.shape("polygon", quad, glass, BUILDING)

    def kerb(self, depth: float, side: int) -> tuple[float, float]:
        """A place on the pavement at a depth."""
        inner, y = self.at(depth, 1 + side)
        outer, _ = self.at(depth, 3 * side)
        return inner + (outer - inner) * self.rng.uniform(0.25, 0.75), y

    def tree(self, depth: float, side: int) -> None:
        x, y = self.kerb(depth, side)
        tall = self.h * 0.75 * depth * self.rng.uniform(0.8, 1.3)
        trunk = self.color(60, 95, grey=0.4)
        self.box(x - 0.03 * tall, y - tall * 0.5, x + 0.03 * tall, y, trunk, TREE)
        leaf = np.array(
            [self.rng.randint(30, 90), self.rng.randint(80, 150), self.rng.randint(20, 70)]
        )
        for _ in range(9):
            dx, dy = self.rng.normal(0, 0.13, 2) * tall
            r, g, b = (leaf * self.rng.uniform(0.75, 1.25)).clip(0, 255).astype(int).tolist()
            self.disc(x + dx, y - tall * 0.72 + dy, 0.2 * tall, 0.18 * tall, (r, g, b), TREE)

    def pole(self, depth: float, side: int) -> None:
        x, y = self.at(depth, 1 + side)
        tall, half = self.h * 0.9 * depth, max(0.5, 0.012 * self.h * depth)
        grey = self.color(70, 150, grey=0.9)
        self.box(x - half, y - tall, x + half, y, grey, POLE)
        reach = (1 - 2 * side) * tall * 0.18
        self.box(min(x, x + reach), y - tall, max(x, x + reach), y - tall + 2 * half, grey, POLE)

    def sign(self, depth: float, side: int) -> None:
        x, y = self.at(depth, 1 + side)
        tall, half = self.h * 0.5 * depth, max(0.5, 0.009 * self.h * depth)
        self.box(x - half, y - tall, x + half, y, self.color(110, 160, grey=0.9), POLE)
        size = max(1.5, tall * 0.17)
        color = ((200, 30, 35), (30, 70, 180), (225, 190, 40))[self.rng.randint(3)]
        if self.rng.rand() < 0.5:
            self.disc(x, y - tall, size, size, color, SIGN)
            self.disc(x, y - tall, size * 0.55, size * 0.55, (240, 240, 240), SIGN)
        else:
            self.box(x - size, y - tall - size, x + size, y - tall + size, color, SIGN)

    def person(self, depth: float, side: int) -> None:
        x, y = self.kerb(depth, side)
        tall = self.h * 0.42 * depth * self.rng.uniform(0.85, 1.1)
        coat, legs, skin = self.color(30, 220), self.color(20, 110), (205, 165, 140)
        for leg in (-0.07, 0.07):
            self.box(
                x + (leg - 0.045) * tall, y - 0.48 * tall, x + (leg + 0.045) * tall, y, legs, PERSON
            )
        self.disc(x, y - 0.62 * tall, 0.15 * tall, 0.24 * tall, coat, PERSON)
        self.disc(x, y - 0.92 * tall, 0.075 * tall, 0.085 * tall, skin, PERSON)

    def car(self, depth: float, side: int) -> None:
        (x0, y), (x1, _) = self.at(depth, 1), self.at(depth, 2)
        lane = 0.28 if side == 0 else 0.72
        x, wide = x0 + (x1 - x0) * lane, (x1 - x0) * self.rng.uniform(0.24, 0.32)
        tall, half = wide * 0.7, wide / 2
        paint, glass, tyre = self.color(20, 235), self.color(40, 90, grey=0.5), (25, 25, 28)
        for wheel in (-0.78, 0.78):
            self.box(
                x + wheel * half - 0.12 * wide,
                y - 0.2 * tall,
                x + wheel * half + 0.12 * wide,
                y,
                tyre,
                CAR,
            )
        self.box(x - half, y - 0.62 * tall, x + half, y - 0.1 * tall, paint, CAR)
        roof = [(x - half * 0.9, y - 0.6 * tall), (x + half * 0.9, y - 0.6 * tall)]
        self.shape(
            "polygon", [*roof, (x + half * 0.68, y - tall), (x - half * 0.68, y - tall)], paint, CAR
        )
        pane = [(x - half * 0.74, y - 0.62 * tall), (x + half * 0.74, y - 0.62 * tall)]
        self.shape(
            "polygon",
            [*pane, (x + half * 0.58, y - 0.93 * tall), (x - half * 0.58, y - 0.93 * tall)],
            glass,
            CAR,
        )
        lamp = (235, 230, 200) if side else (190, 30, 30)
        for end in (-0.82, 0.82):
            self.disc(x + end * half, y - 0.42 * tall, 0.07 * wide, 0.06 * wide, lamp, CAR)

    def light(self) -> np.ndarray:
        """Soften, add grain in several sizes, and tilt the light, so colour alone does not tell classes."""
        pixels = np.array(self.image.filter(ImageFilter.GaussianBlur(0.5)), dtype=np.float32)
        for cell, strength in ((1, 6.0), (3, 6.0), (16, 4.0)):
            small = self.rng.normal(0, strength, (-(-self.h // cell), -(-self.w // cell), 1))
            grain = np.repeat(np.repeat(small, cell, axis=0), cell, axis=1)
            pixels += grain[: self.h, : self.w].astype(np.float32)
        across = np.linspace(-1, 1, self.w, dtype=np.float32)[None, :, None] * self.rng.uniform(
            -0.2, 0.2
        )
        pixels *= self.rng.uniform(0.7, 1.15) + across
        pixels *= self.rng.uniform(0.93, 1.07, 3).astype(np.float32)
        return pixels.clip(0, 255).astype(np.uint8)
