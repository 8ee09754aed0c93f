"""Write hrseg/weights/catalog.csv from what the publishers themselves wrote.

Give it checkouts (bare ones will do) of the repositories:

  python -m tools.make_catalog --official HRNet-Semantic-Segmentation --imagenet HRNet-Image-Classification \\
      --timm pytorch-image-models --mmseg mmsegmentation/configs --mmengine mmengine/hub/openmmlab.json \\
      --paddle PaddleSeg --csail semantic-segmentation-pytorch --openseg openseg.pytorch

Links to OneDrive, Baidu and Google Drive are left out: they have no stable address. So are networks that hrseg does
not build, such as those with a 3x3 auxiliary classifier (openseg) or a projection head (PaddleSeg's contrast).
"""

import argparse
import csv
from pathlib import Path

from hrseg.imaging import write_atomic
from hrseg.weights.catalog import COLUMNS
from tools import catalog_sources as read

OUT = Path(__file__).parents[1] / "hrseg" / "weights" / "catalog.csv"
SOURCES = {
    "official": read.official,
    "imagenet": read.imagenet,
    "timm": read.timm,
    "mmseg": read.mmseg,
    "mmengine": read.openmmlab,
    "paddle": read.paddle,
    "csail": read.csail,
    "openseg": read.openseg,
}


def main() -> None:
    """Write the catalog."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, reader in SOURCES.items():
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="PATH", help=reader.__doc__)
    given = vars(parser.parse_args())
    rows = [*read.packaged()]
    for name, reader in SOURCES.items():
        rows += sorted(reader(given[name]), key=lambda made: made["tag"])
    with write_atomic(OUT) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{OUT}: {len(rows)} rows")


if __name__ == "__main__":
    main()
