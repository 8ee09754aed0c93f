"""The entries of an official HRNet yaml, with what its code assumes where the file is silent.

Source: lib/config/default.py of HRNet-Semantic-Segmentation, and a search for what reads each key.
"""

from collections.abc import Mapping
from typing import Any

from hrseg.errors import ConfigError

READ_NOWHERE = {
    "LOSS.CLASS_BALANCE",
    "TRAIN.FREEZE_LAYERS",
    "TRAIN.FREEZE_EPOCHS",
    "TRAIN.LR_FACTOR",
    "TRAIN.LR_STEP",
    "AUTO_RESUME",
    "MODEL.EXTRA.PRETRAINED_LAYERS",
    "MODEL.EXTRA.WITH_HEAD",
    "MODEL.EXTRA.STEM_INPLANES",
    "MODEL.OCR.DROPOUT",
    "MODEL.OCR.SCALE",
    "DEBUG",
}
"""Keys that the official code never looks at."""

WITHOUT_EFFECT = {
    # About files, logs and speed: a run here answers them itself.
    *("OUTPUT_DIR", "LOG_DIR", "PRINT_FREQ", "PIN_MEMORY", "RANK"),
    *("CUDNN.BENCHMARK", "CUDNN.ENABLED", "TRAIN.RESUME", "TRAIN.BEGIN_EPOCH", "TRAIN.SHUFFLE"),
    *("TEST.BATCH_SIZE_PER_GPU", "TEST.MODEL_FILE", "TEST.NUM_SAMPLES", "TEST.OUTPUT_INDEX"),
    *("MODEL.NUM_OUTPUTS", "TRAIN.DOWNSAMPLERATE", "TRAIN.NUM_SAMPLES", "DATASET.TEST_SET"),
}

DEFAULTS: dict[str, Any] = {
    "MODEL.NAME": "seg_hrnet",
    "TRAIN.IMAGE_SIZE": [1024, 512],
    "TEST.IMAGE_SIZE": [2048, 1024],
    "TRAIN.BASE_SIZE": 2048,
    "TRAIN.SCALE_FACTOR": 16,
    "TRAIN.MULTI_SCALE": True,
    "TRAIN.FLIP": True,
    "TRAIN.END_EPOCH": 484,
    "TRAIN.BATCH_SIZE_PER_GPU": 32,
    "TRAIN.LR": 0.01,
    "TRAIN.WD": 1e-4,
    "TRAIN.MOMENTUM": 0.9,
    "TRAIN.IGNORE_LABEL": -1,
    "TRAIN.OPTIMIZER": "sgd",
    "TRAIN.NONBACKBONE_MULT": 10,
    "LOSS.OHEMTHRES": 0.9,
    "LOSS.OHEMKEEP": 100000,
    "DATASET.DATASET": "cityscapes",
    "DATASET.TRAIN_SET": "train",
}
"""What the official code assumes where the file is silent."""


class Entries:
    """The file's entries by dotted name, which remembers the ones that were asked for."""

    def __init__(self, content: Mapping[str, Any], source: str) -> None:
        self.source = source
        self._values = dict(_flat(content, ""))
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or what the official code assumes."""
        self._asked.add(name)
        return self._values.get(name, DEFAULTS.get(name, default))

    def need(self, name: str) -> Any:
        """Return an entry that must be there.

        Raises:
            ConfigError: It is not.
        """
        if name not in self._values:
            raise ConfigError(f"{self.source} has no {name}. Give a whole official yaml.")
        return self.get(name)

    def number(self, name: str) -> Any:
        """Return an entry that must be a number.

        Raises:
            ConfigError: It is none.
        """
        value = self.get(name)
        if isinstance(value, str):  # yaml reads 1e-4 as text
            try:
                return float(value)
            except ValueError:
                pass
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{self.source}: {name} is '{value}'; it must be a number.")
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """Return an entry that must be [width, height].

        Raises:
            ConfigError: It is not.
        """
        value = self.get(name)
        if not (
            isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)
        ):
            raise ConfigError(f"{self.source}: {name} is {value}; it must be [width, height].")
        return value[0], value[1]

    def leftovers(self) -> tuple[list[str], list[str]]:
        """Return the entries nobody asked for: those nothing reads, and those without a counterpart."""
        rest = [
            name
            for name in self._values
            if name not in self._asked | WITHOUT_EFFECT and not name.startswith("MODEL.EXTRA.STAGE")
        ]
        dead = [name for name in rest if name in READ_NOWHERE or name.startswith("DEBUG.")]
        return dead, [name for name in rest if name not in dead]


def _flat(content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return rows
