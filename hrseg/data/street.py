"""A street that never was: scenes drawn from a number, with exact masks, for the demo and for tests.

A pinhole camera looks along a street of houses with trees, lamps, signs, people and cars, in sun or under clouds.
The same index, seed and size give the same scene. Ours; no data of others went into it.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hrseg.errors import ConfigError

NAMES = ("road", "pavement", "building", "pole", "sign", "tree", "sky", "person", "car")
ROAD, PAVEMENT, BUILDING, POLE, SIGN, TREE, SKY, PERSON, CAR = range(len(NAMES))
Color = tuple[int, int, int]
Point = tuple[float, float]
Corner = tuple[float, float, float]
Brush = Callable[[float, float], None]
_FARTHEST = 10.0
"""Metres to the last thing on the pavement: farther ones would be smaller than a small network can see."""
_PAINTS: tuple[Color, ...] = (
    *((235, 235, 235), (35, 37, 42), (140, 145, 150)),
    *((165, 30, 35), (35, 70, 140), (90, 100, 75)),
)
_TEXTURE = np.array([3.5, 4, 3, 2, 1, 11, 0.4, 4, 1.5], dtype=np.float32)
"""How rough each class is, in per cent of its brightness."""


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


class _Street:
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

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        self.sky()
        self.ground()
        for left_right in (-1, 1):
            self.houses(left_right)
        if self.sunny:
            self.shadow_of_houses()
        things: list[tuple[float, Brush, float]] = list(self.traffic())
        kinds: tuple[tuple[Brush, int, float], ...] = (
            *((self.tree, 5, 9.0), (self.lamp, 4, 7.0)),
            *((self.sign, 4, 6.0), (self.person, 6, 4.0)),
        )
        for paint, most, nearest in kinds:  # at most so many, no nearer than so many metres
            for _ in range(self.rng.randint(1, most + 1)):
                z = nearest * (_FARTHEST / nearest) ** self.rng.uniform(0, 1)
                things.append((z, paint, float(self.rng.choice((-1, 1)))))
        for z, brush, side in sorted(things, key=lambda thing: -thing[0]):
            brush(z, side)
        return self.light(), np.array(self.mask)

    # camera and brushes

    def at(self, x: float, y: float, z: float) -> Point:
        return self.vanish + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def color(self, low: int, high: int, grey: float = 0.0) -> Color:
        value = self.rng.randint(low, high, 3)
        return _color(value * (1 - grey) + value.mean() * grey)

    def far(self, color: Color, z: float, light: float = 1.0) -> Color:
        """A color in this light, through the air between."""
        air = 0.6 * (1 - np.exp(-z / 110))
        return _color(np.array(color) * light * (1 - air) + np.array(self.haze) * air)

    def polygon(self, points: list[Point], color: Color, label: int | None) -> None:
        self.on_image.polygon(points, fill=color)
        if label is not None:
            self.on_mask.polygon(points, fill=label)

    def plane(self, corners: Iterable[Corner], color: Color, label: int | None) -> None:
        """A flat piece in space."""
        self.polygon([self.at(*corner) for corner in corners], color, label)

    def box(self, a: Point, b: Point, color: Color, label: int | None) -> None:
        place = [(min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))]
        self.on_image.rectangle(place, fill=color)
        if label is not None:
            self.on_mask.rectangle(place, fill=label)

    def disc(self, at: Point, rx: float, ry: float, color: Color, label: int | None) -> None:
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

    # the street

    def sky(self) -> None:
        blue = np.array([self.rng.uniform(60, 120), self.rng.uniform(110, 165), 215.0])
        top = blue if self.sunny else np.array(self.color(150, 205, grey=0.9), dtype=float)
        fall = np.linspace(0, 1, self.h)[:, None, None] ** 0.8 * (self.h / self.horizon)
        picture = top + (np.array(self.haze) - top) * fall.clip(0, 1)
        cells = ((2.5, 1.0), (6, 0.5), (14, 0.25))
        layers = [self._grain(self.h / n, stretch=2.5) * part for n, part in cells]
        clouds = np.sum(layers, axis=0)
        cover = ((clouds - self.rng.uniform(-0.2, 1.0)) * 0.8).clip(0, 0.85)[..., None]
        picture = picture * (1 - cover) + self.rng.uniform(215, 250) * cover
        self.image.paste(Image.fromarray(picture.clip(0, 255).astype(np.uint8)))

    def ground(self) -> None:
        asphalt, stone = self.color(70, 115, grey=0.9), self.color(135, 185, grey=0.8)
        here, end = self.near * 0.9, 400.0
        # beyond the houses' line and at the far end of the street
        self.box((0, self.horizon), (self.w, self.h), self.far(stone, 90), PAVEMENT)
        self._skyline()
        self.strip((-self.front - 9, self.front + 9), (here, end), stone, PAVEMENT)
        joints = self.far(stone, 5, 0.82)
        for z in np.arange(np.ceil(here), 25, 1.5):
            for side in (-1, 1):
                line = [self.at(side * self.front, 0, z), self.at(side * self.kerb, 0, z)]
                self.on_image.line(line, fill=joints)
        self.strip((-self.kerb - 0.2, self.kerb + 0.2), (here, end), _lit(stone, 1.15), PAVEMENT)
        self.strip((-self.kerb, self.kerb), (here, end), asphalt, ROAD)
        for _ in range(self.rng.randint(0, 4)):  # mended places
            x, z = self.rng.uniform(-self.kerb, self.kerb - 1), self.rng.uniform(here, 30)
            color = _lit(asphalt, self.rng.uniform(0.82, 1.12))
            self.strip((x, x + 1), (z, z + self.rng.uniform(1, 6)), color, None)
        paint = self.color(195, 235, grey=0.9)
        for z in np.arange(self.rng.uniform(1, 9), 90, 7.0):
            self.strip((-0.09, 0.09), (max(z, here), max(z + 3.5, here)), self.far(paint, z), None)
        if self.rng.rand() < 0.3:  # a crossing
            z = self.rng.uniform(here + 1, 22)
            for x in np.arange(-self.kerb + 0.4, self.kerb - 0.4, 1.0):
                self.strip((x, x + 0.5), (z, z + 3), paint, None)

    def _skyline(self) -> None:
        x, unit = 0.0, self.h / 100
        while x < self.w:
            wide, tall = self.rng.uniform(4, 14) * unit, self.rng.uniform(1, 9) * unit
            color = self.far(self.color(90, 170, grey=0.7), 90)
            place = (x, self.horizon - tall), (x + wide, self.horizon + unit)
            self.box(*place, color, BUILDING)
            x += wide

    def houses(self, side: int) -> None:
        row, z = [], self.near * 0.6
        while z < 140:
            deep = self.rng.uniform(9, 20)
            row.append((z, z + deep))
            z += deep + (self.rng.uniform(3, 8) if self.rng.rand() < 0.25 else 0)
        for first, last in reversed(row):
            self._house(side, (first, last))

    def _house(self, side: int, z: tuple[float, float]) -> None:
        x, floors = side * self.front, self.rng.randint(1, 6)
        tall = 3.1 * floors + self.rng.uniform(0.3, 1.5)
        roof = _lit(
            ((118, 82, 70), (92, 94, 102))[self.rng.randint(2)], self.rng.uniform(0.7, 1.15)
        )
        plaster = self.color(120, 225, grey=0.75)
        if self.rng.rand() < 0.6:  # warm, as most walls are
            plaster = _color(np.array(plaster) * (1.06, 0.99, 0.86))
        elif self.rng.rand() < 0.5:  # brick
            plaster = _lit((142, 94, 78), self.rng.uniform(0.75, 1.2))
        light = 1.08 if self.sunny and side != self.sun else 0.85 if self.sunny else 0.97
        middle = (z[0] + z[1]) / 2
        wall = self.far(plaster, middle, light)
        gable = self.far(plaster, z[0], 0.78)
        out = x + side * 11
        if self.rng.rand() < 0.6:  # a pitched roof, its ridge four metres behind the front
            ridge = (x + side * 4, tall + self.rng.uniform(2, 3.5))
            slope = [(x, tall, z[0]), (x, tall, z[1]), (*ridge, z[1]), (*ridge, z[0])]
            self.plane(slope, self.far(roof, middle, light), BUILDING)
            self.plane([(x, tall, z[0]), (*ridge, z[0]), (out, tall, z[0])], gable, BUILDING)
        self.box(self.at(x, tall, z[0]), self.at(out, 0, z[0]), gable, BUILDING)
        self.wall(x, (0, tall), z, wall, BUILDING)
        self.wall(x, (tall - 0.35, tall), z, self.far(roof, middle, 0.9), None)
        self.wall(x, (0, 0.6), z, self.far(plaster, middle, light * 0.75), None)
        self._windows(x, z, floors, wall)

    def _windows(self, x: float, z: tuple[float, float], floors: int, wall: Color) -> None:
        glass, frame = self.color(45, 110, grey=0.5), _lit(wall, 1.2)
        step = self.rng.uniform(2.2, 3.4)
        shop = self.rng.rand() < 0.4
        for a in np.arange(z[0] + 0.6, z[1] - 1.6, step):
            if abs(self.at(x, 0, a)[0] - self.at(x, 0, a + 1.2)[0]) < 1.5:
                break  # too far to be seen
            pane = self.far(glass, a, self.rng.uniform(0.7, 1.5))
            for floor in range(floors):
                y = 3.1 * floor + (0.5 if shop and floor == 0 else 1.1)
                wide = step - 0.4 if shop and floor == 0 else 1.2
                self.wall(x, (y - 0.12, y + 1.6), (a - 0.1, a + wide + 0.1), frame, None)
                self.wall(x, (y, y + 1.5), (a, a + wide), pane, None)

    def shadow_of_houses(self) -> None:
        reach = self.sun * (self.front - self.rng.uniform(1.5, 6))
        corners = [(self.sun * self.front, 400.0), (reach, 400.0), (reach, self.near * 0.9)]
        corners.append((self.sun * self.front, self.near * 0.9))
        self.veil.polygon([self.at(x, 0, z) for x, z in corners], fill=(10, 15, 40, 70))

    # things

    def traffic(self) -> Iterator[tuple[float, Brush, float]]:
        for side in (-1.0, 1.0):
            z = self.rng.uniform(6, 18)
            while z < 40 and self.rng.rand() < 0.75:
                yield z, self.car, side
                z += self.rng.uniform(7, 18)

    def foot(self, side: float, margin: float = 0.4) -> float:
        """A place on the pavement."""
        return side * self.rng.uniform(self.kerb + margin, self.front - margin)

    def tree(self, z: float, side: float) -> None:
        x, tall = side * (self.kerb + 0.9), self.rng.uniform(4.5, 8)
        unit = self.focal / z
        self.shadow(x, z, 2.2, tall * 0.7)
        bark = self.far(self.color(60, 100, grey=0.4), z)
        self.box(self.at(x - 0.16, tall * 0.6, z), self.at(x + 0.16, 0, z), bark, TREE)
        leaf = np.array([self.rng.uniform(45, 105), self.rng.uniform(85, 135), 45.0])
        crown = tall * 0.27
        for i in range(26):  # dark ones first, the lit side of the crown last
            turn, far = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0, 1) ** 0.5
            dx, dy = np.cos(turn) * far, np.sin(turn) * far
            light = 0.62 + 0.016 * i + (0.16 * dy + 0.12 * self.sun * dx) * (1 + self.sunny)
            at = self.at(x + dx * crown, tall * 0.7 + dy * crown * 0.95, z)
            size = self.rng.uniform(0.28, 0.5) * crown * unit
            self.disc(at, size, size * 0.9, self.far(_color(leaf), z, light), TREE)

    def _post(self, x: float, z: float, tall: float, thick: float, color: Color) -> None:
        half = max(
            thick / 2, 0.009 * self.h * z / self.focal
        )  # never thinner than 2 % of the height
        self.shadow(x, z, 0.3, tall * 0.5)
        self.box(self.at(x - half, tall, z), self.at(x + half, 0, z), self.far(color, z), POLE)
        shine = self.far(color, z, 1.35)
        self.box(
            self.at(x + self.sun * half, tall, z),
            self.at(x + self.sun * half * 0.4, 0, z),
            shine,
            None,
        )

    def lamp(self, z: float, side: float) -> None:
        x, tall = side * (self.kerb + 0.5), self.rng.uniform(4.5, 6.5)
        grey = self.color(60, 130, grey=0.9)
        self._post(x, z, tall, 0.32, grey)
        arm = x - side * self.rng.uniform(0.8, 1.6)
        self.box(self.at(x, tall, z), self.at(arm, tall - 0.26, z), self.far(grey, z), POLE)
        bulb = self.far((235, 232, 205), z)
        low = self.at(arm + side * 0.7, tall - 0.45, z)
        self.box(self.at(arm, tall - 0.22, z), low, bulb, POLE)

    def sign(self, z: float, side: float) -> None:
        x, tall, unit = side * (self.kerb + 0.45), self.rng.uniform(2.2, 3.0), self.focal / z
        self._post(x, z, tall, 0.2, self.color(110, 165, grey=0.9))
        white = self.far((238, 238, 235), z)
        red, blue, yellow = (self.far(c, z) for c in ((195, 28, 34), (28, 70, 170), (228, 180, 35)))
        at, size = self.at(x, tall, z), max(0.55 * unit, 1.5)
        kind = self.rng.randint(4)
        if kind == 0:  # a ban
            self.disc(at, size, size, red, SIGN)
            self.disc(at, size * 0.68, size * 0.68, white, None)
        elif kind == 1:  # a duty
            self.disc(at, size, size, blue, SIGN)
            self._plate(at, size * 0.15, size * 0.6, white, None)
        elif kind == 2:  # a warning
            for part, color, label in ((1.2, red, SIGN), (0.7, white, None)):
                s = size * part
                points = [(at[0], at[1] - s), (at[0] + s * 0.95, at[1] + s * 0.65)]
                self.polygon([*points, (at[0] - s * 0.95, at[1] + s * 0.65)], color, label)
        else:  # the way
            for part, color, label in ((1.0, blue, SIGN), (0.8, yellow, None)):
                self._plate(at, size * part * 1.25, size * part * 0.85, color, label)

    def _plate(self, at: Point, rx: float, ry: float, color: Color, label: int | None) -> None:
        self.box((at[0] - rx, at[1] - ry), (at[0] + rx, at[1] + ry), color, label)

    def person(self, z: float, side: float) -> None:
        crossing = self.rng.rand() < 0.15
        x = self.rng.uniform(-self.kerb, self.kerb) if crossing else self.foot(side)
        tall, unit = self.rng.uniform(1.5, 1.9), self.focal / z
        self.shadow(x, z, 0.5, tall)
        coat, legs = self.color(30, 215, grey=0.3), self.color(25, 100, grey=0.5)
        skin = _color(np.array((224, 178, 148)) * self.rng.uniform(0.45, 1.05))
        coat, legs, skin = (self.far(color, z) for color in (coat, legs, skin))
        hair = self.far(self.color(25, 90, grey=0.6), z)
        s = tall / 1.75
        step = self.rng.uniform(0.02, 0.22)

        def spot(dx: float, y: float) -> Point:
            return self.at(x + dx * s, y * s, z)

        for way in (-1, 1):
            hip, heel = way * 0.07, way * step
            leg = [(hip - 0.09, 0.85), (hip + 0.09, 0.85), (heel + 0.07, 0), (heel - 0.08, 0)]
            self.polygon([spot(*p) for p in leg], _lit(legs, 1 + 0.1 * way), PERSON)
        for way in (-1, 1):
            arm = [(way * 0.2, 1.42), (way * 0.29, 1.36), (way * 0.31, 0.85), (way * 0.22, 0.85)]
            self.polygon([spot(*p) for p in arm], _lit(coat, 0.85), PERSON)
        body = [(-0.2, 1.45), (0.2, 1.45), (0.2, 0.75), (-0.2, 0.75)]
        self.polygon([spot(*p) for p in body], coat, PERSON)
        size = 0.13 * s * unit
        self.disc(spot(0, 1.62), size * 0.9, size * 1.15, skin, PERSON)
        top = spot(0, 1.7)
        self.disc(top, size * 0.9, size * 0.6, hair, PERSON)

    def car(self, z: float, side: float) -> None:
        """Seen from behind on our side of the road, from ahead on the other."""
        ours = side > 0
        paint = _lit(_PAINTS[self.rng.randint(len(_PAINTS))], self.rng.uniform(0.85, 1.1))
        x = side * self.kerb * self.rng.uniform(0.42, 0.58)
        half, tall = self.rng.uniform(0.85, 0.98), self.rng.uniform(1.4, 1.75)
        waist, end, roof = tall * 0.6, z + self.rng.uniform(3.6, 4.6), half * 0.8
        first, last = z + (0.5 if ours else 1.3), end - (1.4 if ours else 0.7)  # the cabin
        inner = half if x < 0 else -half  # the flank we see
        lit = 0.72 if self.sunny and inner * self.sun < 0 else 1.0
        flank, top, back = (self.far(paint, z, light) for light in (lit * 0.85, 1.15, 0.95))
        glass, tyre = self.far((48, 56, 66), z), self.far((26, 26, 28), z)

        under = [(-half, z - 0.2), (half, z - 0.2), (half, end), (-half, end)]
        self.veil.polygon([self.at(x + a * 1.15, 0, b) for a, b in under], fill=(8, 10, 16, 150))
        if self.sunny:
            self.shadow(x - self.sun * 0.6, z + 1.4, 2.2, tall)
        for axle in (z + 0.35, end - 1.0):
            self.wall(x + inner, (0, 0.5), (axle, axle + 0.62), tyre, CAR)
        for way in (-half, half):
            self.box(self.at(x + way, 0.5, z), self.at(x + way * 0.76, 0, z), tyre, CAR)
        self.wall(x + inner, (0.28, waist), (z, end), flank, CAR)

        def level(y: float, wide: float, ends: tuple[float, float]) -> list[Corner]:
            (a, b) = ends
            return [(x - wide, y, a), (x + wide, y, a), (x + wide, y, b), (x - wide, y, b)]

        lid = level(waist, half, (z, end))
        foot, head = level(waist, half, (first, last)), level(tall, roof, (first + 0.4, last - 0.5))
        self.plane(lid, top, CAR)
        seen = (1, 2) if inner > 0 else (0, 3)
        sides = [foot[seen[0]], foot[seen[1]], head[seen[1]], head[seen[0]]]
        self.plane(sides, _lit(glass, 0.8), CAR)
        self.plane(head, top, CAR)
        self.plane([foot[0], foot[1], head[1], head[0]], back, CAR)
        pane = [*level(waist + 0.06, half * 0.84, (first, last))[:2]]
        pane += level(tall - 0.08, roof * 0.88, (first + 0.4, last))[1::-1]
        self.plane(pane, glass, None)

        def mark(a: Point, b: Point, color: Color, label: int | None = None) -> None:
            self.box(self.at(x + a[0], a[1], z), self.at(x + b[0], b[1], z), color, label)

        mark((-half, waist), (half, 0.28), back, CAR)
        mark((-half, 0.45), (half, 0.28), self.far(paint, z, 0.55))
        lamp = self.far((190, 25, 25) if ours else (245, 243, 225), z)
        for way in (-half, half):
            mark((way * 0.95, waist - 0.06), (way * 0.62, waist - 0.26), lamp)
        mark((-0.26, 0.62), (0.26, 0.5), self.far((225, 225, 215), z))

    # the photograph

    def _grain(self, cell: float, stretch: float = 1.0) -> np.ndarray:
        """Smooth noise with blobs of a size in pixels. Shape: (H, W)."""
        rows, columns = int(self.h / cell) + 2, int(self.w / (cell * stretch)) + 2
        small = self.rng.standard_normal((rows, columns)).astype(np.float32)
        return np.array(Image.fromarray(small).resize((self.w, self.h), Image.Resampling.BICUBIC))

    def light(self) -> np.ndarray:
        """Give things a texture, then a lens and a sensor, so that colour alone does not tell classes."""
        fine = self.rng.standard_normal((self.h, self.w)).astype(np.float32)
        rough = fine + 0.8 * self._grain(max(1.5, self.h / 64)) + 0.8 * self._grain(self.h / 12)
        texture = rough * _TEXTURE[np.array(self.mask)]
        blur = ImageFilter.GaussianBlur(self.rng.uniform(0.25, 0.55) * self.h / 128)
        pixels = np.array(self.image.filter(blur), dtype=np.float32)
        pixels *= 1 + texture[..., None] / 100
        across = np.linspace(-1, 1, self.w, dtype=np.float32)[None, :, None]
        down = np.linspace(-1, 1, self.h, dtype=np.float32)[:, None, None]
        pixels *= self.rng.uniform(0.75, 1.12) + self.rng.uniform(-0.12, 0.12) * across
        pixels *= 1 - 0.1 * (across**2 + down**2)
        pixels *= self.rng.uniform(0.94, 1.06, 3).astype(np.float32)
        noise = self.rng.standard_normal((self.h, self.w, 1)).astype(np.float32)
        pixels += self.rng.uniform(1, 5) * noise
        return pixels.clip(0, 255).astype(np.uint8)


def _color(value: np.ndarray) -> Color:
    r, g, b = (int(v) for v in value.clip(0, 255))
    return r, g, b


def _lit(color: Color, light: float) -> Color:
    return _color(np.array(color) * light)
