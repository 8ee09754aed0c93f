"""Feature maps as pictures: mean activation, principal components, single channels, all branches in a grid."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from hrseg.errors import DataError
from hrseg.viz.masks import grid
from hrseg.viz.text import PAPER

_HEAT = ((9, 9, 30), (67, 18, 112), (152, 39, 124), (224, 74, 85), (251, 150, 60), (252, 246, 190))


def mean_map(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    """Show the mean over channels at each place, dark to bright.

    Shape:
        (C, h, w) or (1, C, h, w) → uint8 (h, w, 3)
    """
    return heat(_channels(maps).mean(axis=0))


def pca_rgb(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    """Show the first three principal components of the channels as red, green and blue.

    Places with similar features get similar colors. Signs are fixed, so the same maps give the same picture.

    Shape:
        (C, h, w) or (1, C, h, w) → uint8 (h, w, 3)
    """
    values = _channels(maps)
    channels, height, width = values.shape
    points = values.reshape(channels, -1)  # (C, h w)
    points = points - points.mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(points @ points.T)  # ascending
    directions = directions[:, ::-1][:, :3]  # (C, 3), the strongest first
    largest = np.abs(directions).argmax(axis=0)  # (3,): its sign is made positive
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    colors = np.zeros((3, height * width))
    colors[: directions.shape[1]] = directions.T @ points  # (3, h w)
    planes = [_stretched(plane) for plane in colors]  # (h w,) each
    return (np.stack(planes, axis=-1) * 255).round().astype(np.uint8).reshape(height, width, 3)


def top_channels(maps: torch.Tensor | np.ndarray, count: int = 4) -> dict[int, np.ndarray]:
    """Show the channels that vary most over the image.

    Args:
        maps: Features of one image.
        count: How many channels.

    Returns:
        Channel index → picture, most varied first.

    Shape:
        (C, h, w) or (1, C, h, w) → uint8 (h, w, 3) each
    """
    values = _channels(maps)
    order = np.argsort(-values.reshape(len(values), -1).std(axis=1), kind="stable")
    return {int(channel): heat(values[channel]) for channel in order[:count]}


def feature_grid(
    branches: Sequence[torch.Tensor | np.ndarray],
    image: np.ndarray | None = None,
    channels: int = 3,
    width: int = 1600,
) -> np.ndarray:
    """Show every branch in a row: mean, PCA and the channels that vary most.

    Args:
        branches: Feature maps of one image, finest first, as `forward_branches` gives them.
        image: RGB picture; its size gives the proportions of the panels.
        channels: Single channels in a row.
        width: Width of the whole in pixels, to a few per cent.

    Shape:
        branch i (1, C, h, w) or (C, h, w) → uint8 (H, W, 3)
    """
    columns = 2 + channels + (image is not None)
    cell = max(16, round(width / (columns + 0.1)))  # some of the width goes into gaps
    shape = _channels(branches[0]).shape[1:] if image is None else image.shape
    height = max(1, round(cell * shape[0] / shape[1]))
    panels: list[np.ndarray] = []
    titles: list[str] = []
    for index, branch in enumerate(branches):
        values = _channels(branch)
        singles = top_channels(values, channels)
        row = [mean_map(values), pca_rgb(values), *singles.values()]
        words = [f"branch {index}, mean", "PCA", *(f"channel {i}" for i in singles)]
        if image is not None:
            row.insert(0, image)
            words[:1] = [f"branch {index}, {len(values)} channels", "mean"]
        blank = columns - len(row)
        # A coarse map covers the whole image, though its own proportions are rounded: stretch it.
        panels += [_stretched_to(panel, cell, height) for panel in row]
        panels += [np.full((height, cell, 3), PAPER, dtype=np.uint8)] * blank
        titles += [*words, *[""] * blank]
    return grid(panels, titles, columns)


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Paint numbers from dark to bright.

    Args:
        values: One number for each pixel.
        low: Number that is darkest; None takes the 1st percentile.
        high: Number that is brightest; None takes the 99th percentile.

    Shape:
        (H, W) → uint8 (H, W, 3)

    Example:
        >>> heat(np.array([[0.0, 1.0]]), 0, 1).tolist()
        [[[9, 9, 30], [252, 246, 190]]]
    """
    place = (_stretched(np.asarray(values), low, high) * 255).round().astype(np.uint8)
    painted: np.ndarray = _heat_table()[place]
    return painted


def _stretched_to(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    coarse = width >= 2 * picture.shape[1]
    resampling = Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(picture).resize((width, height), resampling))


def _channels(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    values = maps.detach().float().cpu().numpy() if isinstance(maps, torch.Tensor) else maps
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim != 3:
        raise DataError(
            f"Feature maps of shape {tuple(values.shape)} are not those of one image. Give (C, h, w) or (1, C, h, w)."
        )
    return np.nan_to_num(values.astype(np.float32, copy=False))


def _stretched(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Spread numbers over 0 … 1; outliers beyond the percentiles are clipped."""
    values = np.nan_to_num(values)
    bottom, top = np.percentile(values, (1, 99))
    bottom, top = bottom if low is None else low, top if high is None else high
    spread = max(float(top - bottom), 1e-12)
    return np.clip((values - bottom) / spread, 0.0, 1.0)


@functools.cache
def _heat_table() -> np.ndarray:
    stops = np.array(_HEAT, dtype=np.float64)  # (6, 3)
    place = np.linspace(0, len(stops) - 1, 256)  # (256,)
    planes = [np.interp(place, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)
