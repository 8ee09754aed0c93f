"""A pinhole camera in a street, and the brushes that paint on image and mask at once."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

NAMES = ("road", "pavement", "building", "pole", "sign", "tree", "sky", "person", "car")
ROAD, PAVEMENT, BUILDING, POLE, SIGN, TREE, SKY, PERSON, CAR = range(len(NAMES))
Color = tuple[int, int, int]
Point = tuple[float, float]
Corner = tuple[float, float, float]


class Street:
    """A pinhole camera in a street of boxes: x to the right and y up in metres, z metres ahead.

    Far things are painted before near ones, with the same outlines on the image and on the mask; shadows,
    windows and other markings touch the image alone. So the mask is exact, occlusion included.
    """

    def __init__(self, rng: np.random.RandomState, size: tuple[int, int]) -> None:
        self.rng = rng
        self.h, self.w = size
        self.image = Image.new("RGB", (self.w, self.h))
        self.mask = Image.new("L", (self.w, self.h), SKY)
        self.on_image, self.on_mask = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.veil = ImageDraw.Draw(self.image, "RGBA")  # blends, for shadows
        self.horizon = self.h * rng.uniform(0.4, 0.52)
        self.vanish = self.w * rng.uniform(0.38, 0.62)
        self.focal = self.h * rng.uniform(1.1, 1.5)
        self.eye = rng.uniform(1.8, 2.8)
        self.near = self.focal * self.eye / (self.h - self.horizon)  # z at the picture's lower rim
        self.kerb = rng.uniform(3.2, 5.0)  # half the road
        self.front = self.kerb + rng.uniform(2.4, 4.2)  # where the houses begin
        self.sunny = rng.rand() < 0.65
        self.sun = rng.choice((-1, 1))  # the side the light comes from
        self.haze = self.color(165, 235, grey=0.8)

    def at(self, x: float, y: float, z: float) -> Point:
        """Return where a place in the street appears, (column, row) in pixels."""
        return self.vanish + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def color(self, low: int, high: int, grey: float = 0.0) -> Color:
        """Draw a colour by lot; with `grey` 1 it has no hue."""
        value = self.rng.randint(low, high, 3)
        return rounded(value * (1 - grey) + value.mean() * grey)

    def far(self, color: Color, z: float, light: float = 1.0) -> Color:
        """A color in this light, through the air between."""
        air = 0.6 * (1 - np.exp(-z / 110))
        return rounded(np.array(color) * light * (1 - air) + np.array(self.haze) * air)

    def polygon(self, points: list[Point], color: Color, label: int | None) -> None:
        """Paint on the image and, with a label, on the mask; so do all brushes."""
        self.on_image.polygon(points, fill=color)
        if label is not None:
            self.on_mask.polygon(points, fill=label)

    def plane(self, corners: Iterable[Corner], color: Color, label: int | None) -> None:
        """A flat piece in space."""
        self.polygon([self.at(*corner) for corner in corners], color, label)

    def box(self, a: Point, b: Point, color: Color, label: int | None) -> None:
        """Paint a rectangle between two corners, in pixels."""
        place = [(min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))]
        self.on_image.rectangle(place, fill=color)
        if label is not None:
            self.on_mask.rectangle(place, fill=label)

    def disc(self, at: Point, rx: float, ry: float, color: Color, label: int | None) -> None:
        """Paint an ellipse, in pixels."""
        place = [(at[0] - rx, at[1] - ry), (at[0] + rx, at[1] + ry)]
        self.on_image.ellipse(place, fill=color)
        if label is not None:
            self.on_mask.ellipse(place, fill=label)

    def strip(
        self, x: tuple[float, float], z: tuple[float, float], color: Color, label: int | None
    ) -> None:
        """A piece of ground."""
        corners = [(x[0], z[0]), (x[1], z[0]), (x[1], z[1]), (x[0], z[1])]
        self.plane([(a, 0, b) for a, b in corners], color, label)

    def wall(
        self,
        x: float,
        y: tuple[float, float],
        z: tuple[float, float],
        color: Color,
        label: int | None,
    ) -> None:
        """An upright rectangle along the street."""
        corners = [(y[0], z[0]), (y[0], z[1]), (y[1], z[1]), (y[1], z[0])]
        self.plane([(x, a, b) for a, b in corners], color, label)

    def shadow(self, x: float, z: float, wide: float, tall: float) -> None:
        """What an upright thing throws on the ground; without sun only the dark under it."""
        reach = -self.sun * tall * 0.6 if self.sunny else 0.0
        ends = sorted((x - wide / 2, x + wide / 2, x - wide / 2 + reach, x + wide / 2 + reach))
        left, right = self.at(ends[0], 0, z)[0], self.at(ends[-1], 0, z)[0]
        top, low = self.at(0, 0, z + wide / 2)[1], self.at(0, 0, z - wide / 2)[1]
        self.veil.ellipse([(left, top), (right, low)], fill=(10, 12, 25, 95))


def rounded(value: np.ndarray) -> Color:
    """Return a colour in whole numbers from 0 to 255."""
    r, g, b = (int(v) for v in value.clip(0, 255))
    return r, g, b


def in_light(color: Color, light: float) -> Color:
    """Return a colour brightened or darkened by a factor."""
    return rounded(np.array(color) * light)
