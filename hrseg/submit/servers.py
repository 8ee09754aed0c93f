"""Evaluation servers: one row of SERVERS says what an archive for each must hold."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Server:
    """One row of SERVERS.

    Attributes:
        title: What people call it.
        layout: Row of `data.layouts.LAYOUTS` whose split lists the images; its class table has the same name.
        counts: Split → how many images it has.
        key: Matches the part of a file's name that says which image it belongs to.
        endings: What may follow the key in the name of a prediction; other files are no predictions.
        ending: What follows it in the archive.
        halves: Whether the server ranks by the mean of pixel accuracy and mIoU.
    """

    title: str
    layout: str
    counts: dict[str, int]
    key: re.Pattern[str]
    endings: tuple[str, ...]
    ending: str
    halves: bool = False


SERVERS = {
    # The server's rules are those of getPrediction in cityscapesscripts: CITY_SEQUENCE_FRAME*.png, labelIds, one file
    # for each image, in any folder; sizes are compared, and void ids count as wrong.
    "cityscapes": Server(
        "Cityscapes pixel-level semantic labelling",
        "cityscapes",
        {"test": 1525, "val": 500, "train": 2975},
        re.compile(r"[a-zA-Z-]+_\d+_\d+(?=_|\.)"),
        (
            *("", "_mask", "_leftImg8bit", "_leftImg8bit_mask", "_labelIds", "_pred_labelIds"),
            *("_gtFine_labelIds", "_trainids", "_leftImg8bit_trainids"),
        ),
        "_labelIds",
    ),
    # As the development kit of the challenge says: a zip of files called like the images, but .png; ids 1 to 150.
    "ade20k": Server(
        "ADE20K scene parsing",
        "ade20k",
        {"test": 3352, "val": 2000, "train": 20210},
        re.compile(r"ADE_(?:train|val|test)_\d+(?=_|\.)"),
        ("", "_mask", "_trainids"),
        "",
        halves=True,
    ),
}
"""Name → row."""
