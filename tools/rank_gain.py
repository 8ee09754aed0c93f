"""What `hrseg data rank` gains over chance: the next images to label by rank, against as many at random.

Images of one group, such as a drive, are left out for the score. Of the others a random part is labeled; a model of
these ranks the rest. From its weights two models go on with that part and the next, one by rank and one at random.

    python -m tools.rank_gain /data/camvid gain --config camvid_w18_small_v2 --by '^([^_]+)_' --hold 0006R0
"""

import argparse
import json
import re
from pathlib import Path
from statistics import mean

import numpy as np

from hrseg.config import load_config
from hrseg.data.layouts import LAYOUTS, Pair, find_pairs
from hrseg.data.layouts.pairs import list_text, write_list
from hrseg.evaluation.validate import evaluate
from hrseg.inference.predictor import Predictor
from hrseg.inference.rank import rank_images
from hrseg.inference.sources import named_files
from hrseg.training.fit import fit


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pairs_of`, and a folder for what is made of them."""
    parser.add_argument("root", type=Path, help="the data set")
    parser.add_argument("out", type=Path, help="folder for lists, copies and runs")
    parser.add_argument("--config", required=True, help="recipe, which knows the layout")
    parser.add_argument("--splits", nargs="+", default=["train", "val"])
    parser.add_argument("--every", type=int, default=1, help="only every N-th image")
    parser.add_argument("overrides", nargs="*", help="key=value, of the recipe; set trainer.max_steps for equal steps")


def pairs_of(given: argparse.Namespace) -> list[Pair]:
    """Return the images and masks of the splits."""
    layout = load_config(given.config, given.overrides).data.layout
    return [pair for split in given.splits for pair in find_pairs(layout, given.root, split)][:: given.every]


class Trial:
    """One seed: trains on lists of pairs, and scores on those left out."""

    def __init__(self, given: argparse.Namespace, seed: int, held: list[Pair]) -> None:
        self.given, self.seed = given, seed
        self.folder = given.out.resolve() / f"seed_{seed}"
        self.folder.mkdir(parents=True)
        write_list(self.folder / "held.txt", list_text(held, given.root))

    def train(self, name: str, pairs: list[Pair], start: Path | None = None) -> tuple[Path, float]:
        """Return the run's last checkpoint and its mIoU on the images left out."""
        write_list(self.folder / f"{name}.txt", list_text(pairs, self.given.root))
        data = load_config(self.given.config, self.given.overrides).data
        labels = [f"data.labels={LAYOUTS[data.layout].table}"] if data.labels is None else []
        words = [
            *("data.layout=folder", f"data.root={self.given.root}", *labels, *self.given.overrides),
            *(f"data.train_split={self.folder / name}", f"data.val_split={self.folder / 'held'}"),
            *(f"run.dir={self.folder}", f"run.name=run_{name}", f"run.seed={self.seed}"),
            *([f"model.weights={start}"] if start else []),
        ]
        checkpoint = fit(load_config(self.given.config, words)).run_dir / "last.ckpt"
        return checkpoint, float(evaluate(str(checkpoint)).metrics["miou"])

    def run(self, pool: list[Pair]) -> dict[str, float]:
        """Return the mIoU of the first part alone, with the next by rank, and with the next at random."""
        order = np.random.default_rng(self.seed).permutation(len(pool))
        part = max(1, round(len(pool) * self.given.part))
        first, rest = [pool[i] for i in order[:part]], [pool[i] for i in order[part:]]
        checkpoint, alone = self.train("first", first)
        predictor = Predictor(str(checkpoint), keep=("margin",))
        ranking = rank_images(
            predictor,
            named_files(pair.image for pair in rest),
            part,
            labeled=named_files(pair.image for pair in first),
        )
        by_image = {pair.image: pair for pair in rest}
        ranked = [by_image[row.path] for row in ranking.rows]
        # as many as the ranking has: near duplicates may leave fewer than were asked for
        _, by_rank = self.train("ranked", [*first, *ranked], checkpoint)
        _, by_chance = self.train("chance", [*first, *rest[: len(ranked)]], checkpoint)
        return {"images": part, "next": len(ranked), "first": alone, "ranked": by_rank, "chance": by_chance}


def main() -> None:
    """Run the seeds, and print each and the mean gain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset(parser)
    parser.add_argument("--by", required=True, help="regular expression whose first group names an image's group")
    parser.add_argument("--hold", required=True, help="the group that is left out")
    parser.add_argument(
        "--part", type=float, default=0.2, help="share of the images that is labeled at first, and next"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_intermixed_args()
    given.root = given.root.resolve()
    pairs = pairs_of(given)
    groups = {pair.image: re.search(given.by, pair.image.stem) for pair in pairs}
    held = [pair for pair in pairs if (found := groups[pair.image]) and found[1] == given.hold]
    pool = [pair for pair in pairs if pair not in held]
    rows = []
    for seed in given.seeds:
        rows.append({"seed": seed, **Trial(given, seed, held).run(pool)})
        print(json.dumps(rows[-1]), flush=True)
    gains = [row["ranked"] - row["chance"] for row in rows]
    print(json.dumps({"pool": len(pool), "held": len(held), "mean_gain": mean(gains), "gains": gains}))


if __name__ == "__main__":
    main()
