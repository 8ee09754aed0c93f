"""Arrays in one .npz file: compressed at the quick end of zlib, and the same bytes for the same arrays."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

LEVEL = 1
"""Of zlib; level 6, numpy's, takes several times as long for a few per cent."""


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what `numpy.load` reads; the file bears no date, so that its hash tells whether it changed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name, values in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(values), allow_pickle=False)
