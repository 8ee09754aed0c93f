"""Visualization: colored masks, overlays with a legend, grids, feature maps, charts and page templates.

Pictures are uint8 RGB arrays (H, W, 3).
"""

from hrseg.viz.features import feature_grid, heat, mean_map, pca_rgb, top_channels
from hrseg.viz.masks import Share, class_shares, colorize, grid, overlay

__all__ = [
    "Share",
    "class_shares",
    "colorize",
    "feature_grid",
    "grid",
    "heat",
    "mean_map",
    "overlay",
    "pca_rgb",
    "top_channels",
]
