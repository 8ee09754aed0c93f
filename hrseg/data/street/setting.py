"""What a street has at all times: sky, ground, houses, and the shadow these throw."""

import numpy as np
from PIL import Image

from hrseg.data.street.camera import BUILDING, PAVEMENT, ROAD, Color, Street, in_light, rounded
from hrseg.data.street.photograph import grain


def sky(street: Street) -> None:
    """Paint blue or grey with clouds, paler towards the horizon."""
    blue = np.array([street.rng.uniform(60, 120), street.rng.uniform(110, 165), 215.0])
    top = blue if street.sunny else np.array(street.color(150, 205, grey=0.9), dtype=float)
    fall = np.linspace(0, 1, street.h)[:, None, None] ** 0.8 * (street.h / street.horizon)
    picture = top + (np.array(street.haze) - top) * fall.clip(0, 1)
    cells = ((2.5, 1.0), (6, 0.5), (14, 0.25))
    layers = [grain(street, street.h / n, stretch=2.5) * part for n, part in cells]
    clouds = np.sum(layers, axis=0)
    cover = ((clouds - street.rng.uniform(-0.2, 1.0)) * 0.8).clip(0, 0.85)[..., None]
    picture = picture * (1 - cover) + street.rng.uniform(215, 250) * cover
    street.image.paste(Image.fromarray(picture.clip(0, 255).astype(np.uint8)))


def ground(street: Street) -> None:
    """Paint pavement and road, their joints, marks and mended places."""
    asphalt, stone = street.color(70, 115, grey=0.9), street.color(135, 185, grey=0.8)
    here, end = street.near * 0.9, 400.0
    # beyond the houses' line and at the far end of the street
    street.box((0, street.horizon), (street.w, street.h), street.far(stone, 90), PAVEMENT)
    _skyline(street)
    street.strip((-street.front - 9, street.front + 9), (here, end), stone, PAVEMENT)
    joints = street.far(stone, 5, 0.82)
    for z in np.arange(np.ceil(here), 25, 1.5):
        for side in (-1, 1):
            line = [street.at(side * street.front, 0, z), street.at(side * street.kerb, 0, z)]
            street.on_image.line(line, fill=joints)
    street.strip(
        (-street.kerb - 0.2, street.kerb + 0.2), (here, end), in_light(stone, 1.15), PAVEMENT
    )
    street.strip((-street.kerb, street.kerb), (here, end), asphalt, ROAD)
    for _ in range(street.rng.randint(0, 4)):  # mended places
        x, z = street.rng.uniform(-street.kerb, street.kerb - 1), street.rng.uniform(here, 30)
        color = in_light(asphalt, street.rng.uniform(0.82, 1.12))
        street.strip((x, x + 1), (z, z + street.rng.uniform(1, 6)), color, None)
    paint = street.color(195, 235, grey=0.9)
    for z in np.arange(street.rng.uniform(1, 9), 90, 7.0):
        street.strip((-0.09, 0.09), (max(z, here), max(z + 3.5, here)), street.far(paint, z), None)
    if street.rng.rand() < 0.3:  # a crossing
        z = street.rng.uniform(here + 1, 22)
        for x in np.arange(-street.kerb + 0.4, street.kerb - 0.4, 1.0):
            street.strip((x, x + 0.5), (z, z + 3), paint, None)


def _skyline(street: Street) -> None:
    x, unit = 0.0, street.h / 100
    while x < street.w:
        wide, tall = street.rng.uniform(4, 14) * unit, street.rng.uniform(1, 9) * unit
        color = street.far(street.color(90, 170, grey=0.7), 90)
        place = (x, street.horizon - tall), (x + wide, street.horizon + unit)
        street.box(*place, color, BUILDING)
        x += wide


def houses(street: Street, side: int) -> None:
    """Paint a row of houses on one side, the far ones first."""
    row, z = [], street.near * 0.6
    while z < 140:
        deep = street.rng.uniform(9, 20)
        row.append((z, z + deep))
        z += deep + (street.rng.uniform(3, 8) if street.rng.rand() < 0.25 else 0)
    for first, last in reversed(row):
        _house(street, side, (first, last))


def _house(street: Street, side: int, z: tuple[float, float]) -> None:
    x, floors = side * street.front, street.rng.randint(1, 6)
    tall = 3.1 * floors + street.rng.uniform(0.3, 1.5)
    roof = in_light(
        ((118, 82, 70), (92, 94, 102))[street.rng.randint(2)], street.rng.uniform(0.7, 1.15)
    )
    plaster = street.color(120, 225, grey=0.75)
    if street.rng.rand() < 0.6:  # warm, as most walls are
        plaster = rounded(np.array(plaster) * (1.06, 0.99, 0.86))
    elif street.rng.rand() < 0.5:  # brick
        plaster = in_light((142, 94, 78), street.rng.uniform(0.75, 1.2))
    light = 1.08 if street.sunny and side != street.sun else 0.85 if street.sunny else 0.97
    middle = (z[0] + z[1]) / 2
    wall = street.far(plaster, middle, light)
    gable = street.far(plaster, z[0], 0.78)
    out = x + side * 11
    if street.rng.rand() < 0.6:  # a pitched roof, its ridge four metres behind the front
        ridge = (x + side * 4, tall + street.rng.uniform(2, 3.5))
        slope = [(x, tall, z[0]), (x, tall, z[1]), (*ridge, z[1]), (*ridge, z[0])]
        street.plane(slope, street.far(roof, middle, light), BUILDING)
        street.plane([(x, tall, z[0]), (*ridge, z[0]), (out, tall, z[0])], gable, BUILDING)
    street.box(street.at(x, tall, z[0]), street.at(out, 0, z[0]), gable, BUILDING)
    street.wall(x, (0, tall), z, wall, BUILDING)
    street.wall(x, (tall - 0.35, tall), z, street.far(roof, middle, 0.9), None)
    street.wall(x, (0, 0.6), z, street.far(plaster, middle, light * 0.75), None)
    _windows(street, x, z, floors, wall)


def _windows(street: Street, x: float, z: tuple[float, float], floors: int, wall: Color) -> None:
    glass, frame = street.color(45, 110, grey=0.5), in_light(wall, 1.2)
    step = street.rng.uniform(2.2, 3.4)
    shop = street.rng.rand() < 0.4
    for a in np.arange(z[0] + 0.6, z[1] - 1.6, step):
        if abs(street.at(x, 0, a)[0] - street.at(x, 0, a + 1.2)[0]) < 1.5:
            break  # too far to be seen
        pane = street.far(glass, a, street.rng.uniform(0.7, 1.5))
        for floor in range(floors):
            y = 3.1 * floor + (0.5 if shop and floor == 0 else 1.1)
            wide = step - 0.4 if shop and floor == 0 else 1.2
            street.wall(x, (y - 0.12, y + 1.6), (a - 0.1, a + wide + 0.1), frame, None)
            street.wall(x, (y, y + 1.5), (a, a + wide), pane, None)


def shadow_of_houses(street: Street) -> None:
    """Darken the ground beside the row that stands before the sun."""
    reach = street.sun * (street.front - street.rng.uniform(1.5, 6))
    corners = [(street.sun * street.front, 400.0), (reach, 400.0), (reach, street.near * 0.9)]
    corners.append((street.sun * street.front, street.near * 0.9))
    street.veil.polygon([street.at(x, 0, z) for x, z in corners], fill=(10, 15, 40, 70))
