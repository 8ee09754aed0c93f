"""Masks in MATLAB files, as COCO-Stuff 10k and PASCAL-Context were released.

scipy reads them; it comes with albumentations.
"""

from pathlib import Path

import numpy as np

from hrseg.errors import DataError, MissingExtraError

VARIABLES = ("S", "LabelMap")
"""Name of the label map in COCO-Stuff 10k and in PASCAL-Context."""


def read_matlab_mask(path: Path) -> np.ndarray:
    """Read the label map of a .mat file.

    Returns:
        int32 ids.

    Raises:
        DataError: The file cannot be read, or holds none of the known label maps.
        MissingExtraError: scipy is not installed.

    Shape:
        (H, W)
    """
    try:
        from scipy.io import loadmat, whosmat
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path} is a MATLAB file, which needs scipy. Run: pip install scipy, or convert the masks to PNG."
        ) from error
    try:
        found = [name for name, *_ in whosmat(path)]
        name = next((name for name in VARIABLES if name in found), None)
        values = None if name is None else np.asarray(loadmat(path, variable_names=[name])[name])
    except Exception as error:  # scipy raises whatever the bytes lead it to
        raise DataError(
            f"{path} cannot be read as a MATLAB file: {error}. Unpack it again."
        ) from error
    if values is None or values.ndim != 2 or values.dtype.kind not in "ui":
        raise DataError(
            f"{path} holds {', '.join(found) or 'nothing'}; a mask should be a map of whole numbers called "
            f"{' or '.join(VARIABLES)}. Convert it to PNG."
        )
    return values.astype(np.int32)
