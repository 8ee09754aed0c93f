"""What stands or drives in a street: trees, lamps, signs, people and cars."""

from collections.abc import Callable, Iterator

import numpy as np

from hrseg.data.street.camera import (
    CAR,
    PERSON,
    POLE,
    SIGN,
    TREE,
    Color,
    Corner,
    Point,
    Street,
    in_light,
    rounded,
)

Brush = Callable[[Street, float, float], None]
"""Paints one thing so many metres ahead, on the left (-1) or the right (1)."""
_PAINTS: tuple[Color, ...] = (
    *((235, 235, 235), (35, 37, 42), (140, 145, 150)),
    *((165, 30, 35), (35, 70, 140), (90, 100, 75)),
)


def traffic(street: Street) -> Iterator[tuple[float, Brush, float]]:
    """Say at which distance and on which side cars drive."""
    for side in (-1.0, 1.0):
        z = street.rng.uniform(6, 18)
        while z < 40 and street.rng.rand() < 0.75:
            yield z, car, side
            z += street.rng.uniform(7, 18)


def _foot(street: Street, side: float, margin: float = 0.4) -> float:
    """A place on the pavement."""
    return side * street.rng.uniform(street.kerb + margin, street.front - margin)


def tree(street: Street, z: float, side: float) -> None:
    """Paint a trunk and a crown of leaves."""
    x, tall = side * (street.kerb + 0.9), street.rng.uniform(4.5, 8)
    unit = street.focal / z
    street.shadow(x, z, 2.2, tall * 0.7)
    bark = street.far(street.color(60, 100, grey=0.4), z)
    street.box(street.at(x - 0.16, tall * 0.6, z), street.at(x + 0.16, 0, z), bark, TREE)
    leaf = np.array([street.rng.uniform(45, 105), street.rng.uniform(85, 135), 45.0])
    crown = tall * 0.27
    for i in range(26):  # dark ones first, the lit side of the crown last
        turn, far = street.rng.uniform(0, 2 * np.pi), street.rng.uniform(0, 1) ** 0.5
        dx, dy = np.cos(turn) * far, np.sin(turn) * far
        light = 0.62 + 0.016 * i + (0.16 * dy + 0.12 * street.sun * dx) * (1 + street.sunny)
        at = street.at(x + dx * crown, tall * 0.7 + dy * crown * 0.95, z)
        size = street.rng.uniform(0.28, 0.5) * crown * unit
        street.disc(at, size, size * 0.9, street.far(rounded(leaf), z, light), TREE)


def _post(street: Street, x: float, z: float, tall: float, thick: float, color: Color) -> None:
    half = max(
        thick / 2, 0.009 * street.h * z / street.focal
    )  # never thinner than 2 % of the height
    street.shadow(x, z, 0.3, tall * 0.5)
    street.box(street.at(x - half, tall, z), street.at(x + half, 0, z), street.far(color, z), POLE)
    shine = street.far(color, z, 1.35)
    street.box(
        street.at(x + street.sun * half, tall, z),
        street.at(x + street.sun * half * 0.4, 0, z),
        shine,
        None,
    )


def lamp(street: Street, z: float, side: float) -> None:
    """Paint a post with an arm over the road."""
    x, tall = side * (street.kerb + 0.5), street.rng.uniform(4.5, 6.5)
    grey = street.color(60, 130, grey=0.9)
    _post(street, x, z, tall, 0.32, grey)
    arm = x - side * street.rng.uniform(0.8, 1.6)
    street.box(street.at(x, tall, z), street.at(arm, tall - 0.26, z), street.far(grey, z), POLE)
    bulb = street.far((235, 232, 205), z)
    low = street.at(arm + side * 0.7, tall - 0.45, z)
    street.box(street.at(arm, tall - 0.22, z), low, bulb, POLE)


def sign(street: Street, z: float, side: float) -> None:
    """Paint a post with one of four kinds of traffic signs."""
    x, tall, unit = side * (street.kerb + 0.45), street.rng.uniform(2.2, 3.0), street.focal / z
    _post(street, x, z, tall, 0.2, street.color(110, 165, grey=0.9))
    white = street.far((238, 238, 235), z)
    red, blue, yellow = (street.far(c, z) for c in ((195, 28, 34), (28, 70, 170), (228, 180, 35)))
    at, size = street.at(x, tall, z), max(0.55 * unit, 1.5)
    kind = street.rng.randint(4)
    if kind == 0:  # a ban
        street.disc(at, size, size, red, SIGN)
        street.disc(at, size * 0.68, size * 0.68, white, None)
    elif kind == 1:  # a duty
        street.disc(at, size, size, blue, SIGN)
        _plate(street, at, size * 0.15, size * 0.6, white, None)
    elif kind == 2:  # a warning
        for part, color, label in ((1.2, red, SIGN), (0.7, white, None)):
            s = size * part
            points = [(at[0], at[1] - s), (at[0] + s * 0.95, at[1] + s * 0.65)]
            street.polygon([*points, (at[0] - s * 0.95, at[1] + s * 0.65)], color, label)
    else:  # the way
        for part, color, label in ((1.0, blue, SIGN), (0.8, yellow, None)):
            _plate(street, at, size * part * 1.25, size * part * 0.85, color, label)


def _plate(
    street: Street, at: Point, rx: float, ry: float, color: Color, label: int | None
) -> None:
    street.box((at[0] - rx, at[1] - ry), (at[0] + rx, at[1] + ry), color, label)


def person(street: Street, z: float, side: float) -> None:
    """Paint somebody on the pavement, now and then on the road."""
    crossing = street.rng.rand() < 0.15
    x = street.rng.uniform(-street.kerb, street.kerb) if crossing else _foot(street, side)
    tall, unit = street.rng.uniform(1.5, 1.9), street.focal / z
    street.shadow(x, z, 0.5, tall)
    coat, legs = street.color(30, 215, grey=0.3), street.color(25, 100, grey=0.5)
    skin = rounded(np.array((224, 178, 148)) * street.rng.uniform(0.45, 1.05))
    coat, legs, skin = (street.far(color, z) for color in (coat, legs, skin))
    hair = street.far(street.color(25, 90, grey=0.6), z)
    s = tall / 1.75
    step = street.rng.uniform(0.02, 0.22)

    def spot(dx: float, y: float) -> Point:
        return street.at(x + dx * s, y * s, z)

    for way in (-1, 1):
        hip, heel = way * 0.07, way * step
        leg = [(hip - 0.09, 0.85), (hip + 0.09, 0.85), (heel + 0.07, 0), (heel - 0.08, 0)]
        street.polygon([spot(*p) for p in leg], in_light(legs, 1 + 0.1 * way), PERSON)
    for way in (-1, 1):
        arm = [(way * 0.2, 1.42), (way * 0.29, 1.36), (way * 0.31, 0.85), (way * 0.22, 0.85)]
        street.polygon([spot(*p) for p in arm], in_light(coat, 0.85), PERSON)
    body = [(-0.2, 1.45), (0.2, 1.45), (0.2, 0.75), (-0.2, 0.75)]
    street.polygon([spot(*p) for p in body], coat, PERSON)
    size = 0.13 * s * unit
    street.disc(spot(0, 1.62), size * 0.9, size * 1.15, skin, PERSON)
    top = spot(0, 1.7)
    street.disc(top, size * 0.9, size * 0.6, hair, PERSON)


def car(street: Street, z: float, side: float) -> None:
    """Seen from behind on our side of the road, from ahead on the other."""
    ours = side > 0
    paint = in_light(_PAINTS[street.rng.randint(len(_PAINTS))], street.rng.uniform(0.85, 1.1))
    x = side * street.kerb * street.rng.uniform(0.42, 0.58)
    half, tall = street.rng.uniform(0.85, 0.98), street.rng.uniform(1.4, 1.75)
    waist, end, roof = tall * 0.6, z + street.rng.uniform(3.6, 4.6), half * 0.8
    first, last = z + (0.5 if ours else 1.3), end - (1.4 if ours else 0.7)  # the cabin
    inner = half if x < 0 else -half  # the flank we see
    lit = 0.72 if street.sunny and inner * street.sun < 0 else 1.0
    flank, top, back = (street.far(paint, z, light) for light in (lit * 0.85, 1.15, 0.95))
    glass, tyre = street.far((48, 56, 66), z), street.far((26, 26, 28), z)

    under = [(-half, z - 0.2), (half, z - 0.2), (half, end), (-half, end)]
    street.veil.polygon([street.at(x + a * 1.15, 0, b) for a, b in under], fill=(8, 10, 16, 150))
    if street.sunny:
        street.shadow(x - street.sun * 0.6, z + 1.4, 2.2, tall)
    for axle in (z + 0.35, end - 1.0):
        street.wall(x + inner, (0, 0.5), (axle, axle + 0.62), tyre, CAR)
    for way in (-half, half):
        street.box(street.at(x + way, 0.5, z), street.at(x + way * 0.76, 0, z), tyre, CAR)
    street.wall(x + inner, (0.28, waist), (z, end), flank, CAR)

    def level(y: float, wide: float, ends: tuple[float, float]) -> list[Corner]:
        (a, b) = ends
        return [(x - wide, y, a), (x + wide, y, a), (x + wide, y, b), (x - wide, y, b)]

    lid = level(waist, half, (z, end))
    foot, head = level(waist, half, (first, last)), level(tall, roof, (first + 0.4, last - 0.5))
    street.plane(lid, top, CAR)
    seen = (1, 2) if inner > 0 else (0, 3)
    sides = [foot[seen[0]], foot[seen[1]], head[seen[1]], head[seen[0]]]
    street.plane(sides, in_light(glass, 0.8), CAR)
    street.plane(head, top, CAR)
    street.plane([foot[0], foot[1], head[1], head[0]], back, CAR)
    pane = [*level(waist + 0.06, half * 0.84, (first, last))[:2]]
    pane += level(tall - 0.08, roof * 0.88, (first + 0.4, last))[1::-1]
    street.plane(pane, glass, None)

    def mark(a: Point, b: Point, color: Color, label: int | None = None) -> None:
        street.box(street.at(x + a[0], a[1], z), street.at(x + b[0], b[1], z), color, label)

    mark((-half, waist), (half, 0.28), back, CAR)
    mark((-half, 0.45), (half, 0.28), street.far(paint, z, 0.55))
    glow = street.far((190, 25, 25) if ours else (245, 243, 225), z)
    for way in (-half, half):
        mark((way * 0.95, waist - 0.06), (way * 0.62, waist - 0.26), glow)
    mark((-0.26, 0.62), (0.26, 0.5), street.far((225, 225, 215), z))
