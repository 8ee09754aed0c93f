"""Precision of `hrseg data audit` on masks with planted errors.

A copy of a data set gets wrong classes in a share of its connected components, drawn by a seed; the audit trains its
folds on that copy. A finding is a hit where most of its pixels were planted, and a full hit where it also names the
true class.

    python -m tools.planted_noise /data/camvid noisy --config camvid_w18_small_v2 --folds 4 --by '^([^_]+)_'
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from hrseg.config import load_config
from hrseg.data.dataset import read_ids
from hrseg.data.layouts import Pair
from hrseg.imaging import read_mask, write_mask
from hrseg.imaging.rle import from_coco
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.study.audit import Audit, audit_folds, fold_checkpoints, train_folds
from hrseg.study.corrections import write_audit
from hrseg.training.build import build_data
from tools.rank_gain import add_dataset, pairs_of

FIRST = 100


def plant(
    mask: np.ndarray, classes: int, share: float, smallest: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return a mask of trainIds with wrong classes in a share of its components, and how many there are.

    Args:
        mask: trainIds.
        classes: Number of classes.
        share: Of the components.
        smallest: Components of fewer pixels stay, as the audit leaves them out.
        rng: Draws components and classes.

    Shape:
        (H, W) → (H, W)
    """
    wrong, count = mask.copy(), 0
    for train_id in np.unique(mask[mask != IGNORE_INDEX]).tolist():
        _, numbers, boxes, _ = cv2.connectedComponentsWithStats((mask == train_id).astype(np.uint8), connectivity=4)
        for number in range(1, len(boxes)):
            if boxes[number, cv2.CC_STAT_AREA] >= smallest and rng.random() < share:
                others = [i for i in range(classes) if i != train_id]
                wrong[numbers == number] = others[rng.integers(len(others))]
                count += 1
    return wrong, count


def write_noisy(pairs: list[Pair], labels: LabelSet, out: Path, share: float, smallest: int, seed: int) -> int:
    """Write images and wrong masks of ids in OUT/data, the true ones in OUT/true; return the planted components."""
    rng, total = np.random.default_rng(seed), 0
    for pair in pairs:
        ids = read_ids(pair)
        if ids is None:
            continue
        mask = labels.encode(ids, str(pair.mask))
        wrong, count = plant(mask, labels.num_classes, share, smallest, rng)
        total += count
        name = f"{pair.name.replace('/', '_')}.png"
        link = out / "data" / "images" / f"{pair.name.replace('/', '_')}{pair.image.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(pair.image.resolve())
        for folder, content in ((out / "data" / "masks", wrong), (out / "true", mask)):
            folder.mkdir(parents=True, exist_ok=True)
            write_mask(folder / name, labels.decode(content))
    return total


def hits(audit: Audit, labels: LabelSet, true: Path) -> list[tuple[bool, bool]]:
    """Return of each finding whether it was planted, and whether its suggestion is the true class."""
    found = []
    for finding in audit.findings:
        region = from_coco(finding.counts, finding.size)
        name = Path(finding.mask).name
        kept = labels.encode(read_mask(true / name))[region]
        planted = float((kept != labels.names.index(finding.given)).mean()) > 0.5
        right = float((kept == labels.names.index(finding.suggested)).mean()) > 0.5
        found.append((planted, planted and right))
    return found


def main() -> None:
    """Plant, train, audit and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset(parser)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--smallest", type=int, default=100)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--by", default="none")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_intermixed_args()
    config = load_config(given.config, [f"data.root={given.root}", *given.overrides])
    labels = build_data(config).labels
    data = given.out / "data"
    planted = write_noisy(pairs_of(given), labels, given.out, given.share, given.smallest, given.seed)
    variant = train_folds(data, given.config, given.folds, given.by, given.overrides)
    audit, _ = audit_folds(data, fold_checkpoints([variant]), count=FIRST, smallest=given.smallest)
    write_audit(audit, labels, given.out / "audit")
    counted = np.array(hits(audit, labels, given.out / "true"))
    result = {
        "images": audit.images,
        "planted": planted,
        "regions": audit.regions,
        "findings": len(counted),
        "hits": int(counted[:, 0].sum()),
        "with_true_class": int(counted[:, 1].sum()),
        "hits_in_first_20": int(counted[:20, 0].sum()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
