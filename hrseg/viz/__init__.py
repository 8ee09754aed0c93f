"""Pictures: masks in color, overlays with a legend, grids of panels, and maps of features as images.

Everything takes and gives uint8 RGB arrays (H, W, 3), so it can be shown, written or put into a grid. Nothing
here needs a screen or a plotting library.
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
