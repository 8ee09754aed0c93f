"""Weight files: safe reading, loading with a report, releases."""

from hrseg.weights.checkpoint_io import read_checkpoint
from hrseg.weights.foreign import state_dict_of
from hrseg.weights.load import LoadReport, load_weights
from hrseg.weights.release import (
    DEFAULT_TAG,
    STARTER_TAG,
    check_card,
    packaged_models,
    read_release,
    write_release,
)

__all__ = [
    "DEFAULT_TAG",
    "STARTER_TAG",
    "LoadReport",
    "check_card",
    "load_weights",
    "packaged_models",
    "read_checkpoint",
    "read_release",
    "state_dict_of",
    "write_release",
]
