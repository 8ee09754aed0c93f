"""Synthetic street scenes with exact masks, for the demo and the tests; deterministic in (seed, index, size)."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hrseg.errors import ConfigError

NAMES = ("road", "pavement", "building", "pole", "sign", "tree", "sky", "person", "car")
ROAD, PAVEMENT, BUILDING, POLE, SIGN, TREE, SKY, PERSON, CAR = range(len(NAMES))
_TEXTURE = np.array([4, 4, 3, 2, 1, 11, 0.5, 4, 1.5], np.float32)
"""Standard deviation of each class's texture, in per cent of its brightness."""
Point = tuple[float, float, float]
_MIN_SIDE = 16


def sample() -> np.ndarray:
    """Return the photograph that comes with hrseg: a street (Greg Zaal, CC0). Shape: uint8 RGB (320, 512, 3).

    Example:
        >>> sample().shape
        (320, 512, 3)
    """
    package = Path(__file__).parents[1]
    path = package / "data" / "street.jpg"  # a wheel; a clone has it among the pictures of its pages
    with Image.open(path if path.exists() else package.parent / "docs/images/street.jpg") as image:
        return np.asarray(image.convert("RGB"))


def scene(index: int, size: tuple[int, int] = (128, 256), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street: uint8 RGB image and its uint8 mask in the ids of table "synthetic".

    Args:
        index: Number of the scene.
        size: (height, width), at least 16 x 16.
        seed: Of all scenes; those of two seeds have nothing in common.

    Raises:
        ConfigError: The size is too small to hold a street.

    Shape:
        image (H, W, 3), mask (H, W)

    Example:
        >>> image, mask = scene(3)
        >>> image.shape, mask.shape, bool((scene(3)[0] == image).all())
        ((128, 256, 3), (128, 256), True)
    """
    if min(size) < _MIN_SIDE:
        raise ConfigError(
            f"A scene of {size[0]} x {size[1]} pixels is too small; use at least {_MIN_SIDE} x {_MIN_SIDE}."
        )
    street = _Street(np.random.RandomState([seed & 0x7FFFFFFF, index]), size)
    street.background()
    street.objects()
    return street.photograph(), np.array(street.mask)


class _Street:
    """Image and mask of one street under a pinhole camera: x right, y up, z ahead, in meters.

    Every shape is drawn on both with one outline, far shapes first, so that the mask is exact under occlusion.
    """

    def __init__(self, rng: np.random.RandomState, size: tuple[int, int]) -> None:
        self.rng, (self.h, self.w) = rng, size
        self.image, self.mask = Image.new("RGB", (self.w, self.h)), Image.new("L", (self.w, self.h))
        self.canvases = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.horizon, self.vanish = self.h * rng.uniform(0.4, 0.5), self.w * rng.uniform(0.4, 0.6)
        self.focal, self.eye = self.h * rng.uniform(1.1, 1.5), rng.uniform(1.8, 2.6)
        self.curb = rng.uniform(3.2, 4.6)  # half the width of the road
        self.front = self.curb + rng.uniform(2.4, 4.0)  # where the buildings begin

    def at(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return the (column, row) of a point."""
        return self.vanish + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def paint(self, label: int | None, color: tuple[int, ...], *corners: tuple[float, float]) -> None:
        """Fill a polygon, or the ellipse in a box of two corners; without a label on the image alone."""
        points = [(round(x), round(y)) for x, y in corners]  # or the two canvases round differently
        for canvas, fill in zip(self.canvases, (color, label), strict=True):
            if fill is None:
                continue
            if len(points) == 2:
                (x0, y0), (x1, y1) = points
                canvas.ellipse([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], fill=fill)
            else:
                canvas.polygon(points, fill=fill)

    def upright(self, label: int | None, color: tuple[int, ...], foot: Point, wide: float, tall: float) -> None:
        """Fill a rectangle that faces the camera; `foot` is the middle of its lower edge."""
        x, y, z = foot
        left, top = self.at(x - wide / 2, y + tall, z)
        right, bottom = self.at(x + wide / 2, y, z)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        self.paint(label, color, (left, top), (right, top), (right, bottom), (left, bottom))

    def color(self, low: int, high: int, tint: float = 0.1) -> tuple[int, ...]:
        """Draw a color of some brightness; `tint` 0 is gray, 1 any hue."""
        values = self.rng.randint(low, high, 3)
        return tuple(int(v) for v in values * tint + values.mean() * (1 - tint))

    def background(self) -> None:
        """Sky, pavement, road with its markings, and two rows of buildings."""
        below = [(0, self.horizon), (self.w, self.horizon), (self.w, self.h), (0, self.h)]
        zenith = self.rng.randint((70, 120, 190), (190, 200, 225))
        sky = np.linspace(zenith, (225, 228, 232), self.h)[:, None]  # (H, 1, 3)
        self.image.paste(Image.fromarray(np.repeat(sky, self.w, axis=1).astype(np.uint8)))
        self.mask.paste(SKY, (0, 0, self.w, self.h))
        self.paint(PAVEMENT, self.color(135, 185), *below)
        edges = (self.at(side * self.curb, 0, 0.5) for side in (1, -1))  # below the picture
        self.paint(ROAD, self.color(60, 110), self.at(0, 0, 400), *edges)
        for z in np.arange(self.rng.uniform(3, 8), 60, 6.0):  # lane marks
            mark = ((-0.1, z), (0.1, z), (0.1, z + 3), (-0.1, z + 3))
            self.paint(None, self.color(200, 235), *(self.at(x, 0, d) for x, d in mark))
        for side in (-1, 1):
            depths = np.concatenate([[1.2], 4 + np.cumsum(self.rng.uniform(6, 16, 9))])
            for near, far in reversed(list(itertools.pairwise(depths))):
                self.building(side * self.front, near, far)

    def building(self, x: float, near: float, far: float) -> None:
        """Front wall along the street with windows, and the gable that faces the camera."""
        floors = self.rng.randint(2, 6)
        tall, wall = 3.0 * floors, self.color(110, 225, 0.35)
        gable = tuple(int(0.8 * v) for v in wall)
        corners = [self.at(x, 0, near), self.at(x, tall, near)]
        outer = corners[0][0] + np.sign(x) * self.w  # the gable reaches out of the picture
        self.paint(BUILDING, gable, *corners, (outer, corners[1][1]), (outer, corners[0][1]))
        self.paint(BUILDING, wall, *corners, self.at(x, tall, far), self.at(x, 0, far))
        glass = self.color(40, 110, 0.4)
        for z in np.arange(near + 1, min(far, 40) - 1.5, 2.5):
            for y in np.arange(1, tall - 1, 3.0):
                pane = ((z, y), (z + 1.2, y), (z + 1.2, y + 1.5), (z, y + 1.5))
                self.paint(None, glass, *(self.at(x, b, a) for a, b in pane))

    def objects(self) -> None:
        """Trees, lamps, signs and people on the pavements, cars on the road, far ones first."""
        rng = self.rng
        kinds = (
            (self.tree, 4, 8.0),
            (self.lamp, 3, 7.0),
            (self.sign, 3, 6.0),
            (self.person, 5, 4.5),
        )
        placed = [
            (float(rng.uniform(nearest, 14)), draw, float(rng.choice((-1, 1))))
            for draw, most, nearest in kinds
            for _ in range(rng.randint(1, most + 1))
        ]
        placed += [(float(rng.uniform(7, 25)), self.car, 1.0) for _ in range(rng.randint(1, 4))]
        for z, draw, side in sorted(placed, key=lambda one: -one[0]):
            draw(side * self.rng.uniform(self.curb + 0.4, self.front - 0.6), z)

    def tree(self, x: float, z: float) -> None:
        """Trunk and crown."""
        self.upright(TREE, self.color(60, 100, 0.3), (x, 0, z), 0.3, 2.5)
        wide, green = self.rng.uniform(1, 1.6), self.rng.randint(70, 130)
        crown = (int(0.6 * green), green, int(0.4 * green))
        self.paint(TREE, crown, self.at(x - wide, 2, z), self.at(x + wide, 2 + 2.4 * wide, z))

    def lamp(self, x: float, z: float) -> None:
        """Post with an arm over the road."""
        gray = self.color(40, 120)
        self.upright(POLE, gray, (x, 0, z), 0.22, 5.5)
        self.upright(POLE, gray, (x - np.sign(x) * 0.6, 5.3, z), 1.4, 0.2)

    def sign(self, x: float, z: float) -> None:
        """Post with a round or square plate."""
        self.upright(POLE, self.color(90, 150), (x, 0, z), 0.16, 2.2)
        hue = ((205, 40, 40), (30, 80, 190), (235, 200, 40))[self.rng.randint(3)]
        if self.rng.rand() < 0.5:
            self.upright(SIGN, hue, (x, 2, z), 0.9, 0.9)
        else:
            self.paint(SIGN, hue, self.at(x - 0.5, 1.9, z), self.at(x + 0.5, 2.9, z))

    def person(self, x: float, z: float) -> None:
        """Legs, body and head."""
        self.upright(PERSON, self.color(20, 120, 0.6), (x, 0, z), 0.42, 0.9)
        self.upright(PERSON, self.color(30, 230, 1.0), (x, 0.8, z), 0.56, 0.7)
        self.paint(PERSON, (205, 165, 140), self.at(x - 0.16, 1.45, z), self.at(x + 0.16, 1.8, z))

    def car(self, x: float, z: float) -> None:
        """Seen from behind or ahead: wheels, body, cabin and its window."""
        lane, paint = self.rng.choice((-0.5, 0.5)) * self.curb, self.color(30, 235, 0.8)
        for side in (-0.65, 0.65):
            self.upright(CAR, (25, 25, 25), (lane + side, 0, z), 0.3, 0.5)
        self.upright(CAR, paint, (lane, 0.3, z), 1.8, 0.65)
        self.upright(CAR, tuple(int(0.85 * v) for v in paint), (lane, 0.9, z), 1.5, 0.6)
        self.upright(None, self.color(50, 110, 0.3), (lane, 1.0, z), 1.3, 0.4)

    def photograph(self) -> np.ndarray:
        """Add texture, blur, light and noise, so that color alone does not separate the classes."""
        rng, size = self.rng, (self.h, self.w, 1)
        blurred = self.image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.5) * self.h / 128))
        pixels = np.array(blurred, np.float32)  # (H, W, 3)
        grain = rng.standard_normal(size) * _TEXTURE[np.array(self.mask)][..., None] / 100
        left, right = rng.uniform(0.85, 1.15, 2)
        light = np.linspace(left, right, self.w)[None, :, None]  # (1, W, 1): brighter on one side
        pixels *= (1 + grain) * light * rng.uniform(0.75, 1.1) * rng.uniform(0.94, 1.06, 3)
        pixels += rng.uniform(1, 5) * rng.standard_normal(size)
        return pixels.clip(0, 255).astype(np.uint8)
