"""Write docs/recipes.md from configs/ and the table of layouts: python -m tools.recipes_page."""

import re
from collections.abc import Iterator
from pathlib import Path

from hrseg.config import PACKAGED_CONFIGS, Config, load_config
from hrseg.data.layouts import LAYOUTS
from hrseg.imaging import write_atomic
from hrseg.labels import load_labels

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
SOURCES = {
    "official": "The yaml files of HRNet-Semantic-Segmentation, all of its branches, number by number. They share SGD "
    "with momentum 0.9 and decay on everything, a poly schedule without warm-up, ImageNet weights, flips and no color "
    "changes. `_ohem` mines hard pixels, `_ocr` adds object-contextual representations, `_ssld` starts from distilled "
    "ImageNet weights, `_trainval` is for the test server. The source's `_paddle` files for other data differ from "
    "the plain ones in the start alone: `model.weights=hrnet_w48_ssld.paddle_in1k`.",
    "mmsegmentation": "The HRNet configs of mmsegmentation 1.2.2: schedules in steps, rates that end at 1e-4, scales "
    "drawn from a range, crops that no class may fill, color changes, and a loss averaged over ignored pixels as "
    "well. `model.backbone=hrnet_w18` and `model.backbone=hrnet_w18_small_v2` make their hr18 and hr18s; the header of "
    "each file has the scores of all three.",
    "ours": "Recipes of hrseg itself.",
}
HEAD = """# Recipes

<!-- Written by tools/recipes_page.py from configs/; change those. -->

`hrseg fit --config NAME data.root=FOLDER` runs one. `hrseg config show NAME --origin` prints every value with the file
and line it comes from. Scores are what the source publishes, mIoU in per cent on val, each after the name of its
protocol; the weights that have them, where they can be had, are a tag of [weights.md](weights.md).

"""
FOOT = """## Layouts

How the data lie on disk, `data.layout`. COCO-Stuff is around in four numberings (0 or 255 for unlabeled, with the
eleven unused ids or without) and PASCAL-Context in two (60 ids, or the released 459). hrseg reads up to a thousand
masks and takes the one numbering that explains all their ids; where none or several do, it says so instead of guessing,
and `data.labels` decides.

| layout | reads | classes | splits |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Return the text of docs/recipes.md."""
    parts = [HEAD]
    files = sorted(PACKAGED_CONFIGS.glob("*.yaml"))
    for source, said in SOURCES.items():
        parts.append(f"## {source}\n\n{said}\n\n")
        parts.append("| recipe | network | crop | images a step | length | rate | published | weights |\n")
        parts.append("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
        parts += [_line(load_config(file)) for file in files if _source(file) == source]
        parts.append("\n")
    return "".join([*parts, FOOT, *_layouts()])


def _source(file: Path) -> str:
    found = re.search(r"^# Source: +(\w+)", file.read_text(encoding="utf-8"), re.M)
    word = found.group(1) if found else ""
    return word if word in SOURCES else "ours"


def _line(config: Config) -> str:
    data, trainer, model = config.data, config.trainer, config.model
    alone = isinstance(trainer.devices, str)
    images = data.batch_size * trainer.accumulate * (1 if alone else int(trainer.devices))
    length = f"{trainer.max_epochs} epochs" if trainer.max_epochs else f"{trainer.max_steps:,} steps"
    head = {"v2": "", "ocr": " + OCR"}.get(model.head, f" {model.head}")
    scores = ", ".join(f"{name} {score:g}" for name, score in config.published.scores.items())
    where = config.published.study or config.published.split
    split = f" ({where})" if scores and where != "val" else ""
    tag = config.published.weights
    cells = (
        *(f"`{config.run.name}`", model.backbone.removeprefix("hrnet_") + head),
        *(f"{data.crop[0]}x{data.crop[1]}", f"{images}", length, f"{config.optim.lr:g}"),
        *(scores + split, f"`{tag}`" if tag else ""),
    )
    return f"| {' | '.join(cells)} |\n"


def _layouts() -> Iterator[str]:
    for name, row in LAYOUTS.items():
        says = (row.find.__doc__ or "").split("\n\n")[0].removeprefix("Pair ")
        classes = str(load_labels(row.table).num_classes) if row.table else "your own"
        splits = ", ".join(row.splits or ("any",))
        yield f"| `{name}` | {' '.join(says.split())} | {classes} | {splits} |\n"


if __name__ == "__main__":
    with write_atomic(PAGE) as temporary:
        temporary.write_text(page(), encoding="utf-8")
