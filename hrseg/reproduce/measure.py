"""From a recipe to a plan, and from a plan to a score.

A plan is made without data and without weights; only `reproduce` computes. Nothing is printed here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from hrseg.building.data import build_data
from hrseg.building.network import build_network
from hrseg.config import Config, find_config, list_recipes, load_config, published_recipes
from hrseg.data.archives import ARCHIVES
from hrseg.data.datamodule import SegmentationData
from hrseg.errors import ConfigError, DataError, did_you_mean
from hrseg.inference.protocol import Protocol, Size
from hrseg.inference.protocols import choose_protocol
from hrseg.inference.tta import Scorer
from hrseg.models import summary
from hrseg.reproduce.claims import Outcome, Plan
from hrseg.train.evaluation import evaluate
from hrseg.weights.catalog import is_tag, row_of

_PROBE = (256, 256)


def plan_reproduction(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    protocol: str | None = None,
    model: str | None = None,
) -> Plan:
    """Say what a recipe claims and what measuring it again takes.

    Args:
        recipe: File or name of a recipe with a section `published`.
        overrides: Words such as "data.root=/data/cityscapes".
        protocol: Which of its scores; None is the first.
        model: Other weights than the published, such as one's own run's.

    Raises:
        ConfigError: Unknown recipe, one without a published score, or no score for that protocol.
        WeightsError: An unknown tag.
    """
    config = load_config(recipe, overrides)
    published = config.published
    name = find_config(recipe).stem
    chosen = _choose_score(recipe, config, protocol)
    words = [f"evaluation.protocol={chosen}", *overrides]
    split = published.split
    if split not in (config.data.val_split, "test"):
        words.insert(1, f"data.val_split={split}")
    config = replace(config, evaluation=replace(config.evaluation, protocol=chosen))
    options = {**vars(config.evaluation)}
    del options["precision"]
    row = choose_protocol(**options)
    model = model or published.weights
    weights = row_of(model) if model and is_tag(model) else None
    data = build_data(config)
    where, images, missing = _find_data(config, data, split)
    if model is None:
        train = (
            f"{name} names no weights that could be fetched. Train them (hrseg fit --config {name}), then: "
            f"hrseg reproduce {name} --model runs/{name}/best.ckpt"
        )
        missing = f"{missing}. {train}" if missing else train
    archives = ARCHIVES.get(config.data.layout)
    passes = tuple(_passes(row, archives.size if archives else config.data.crop))
    with torch.device("meta"):  # counted, never run
        network = build_network(config, data.labels, load=False)
    probe = summary(network, _PROBE).multiply_adds / (_PROBE[0] * _PROBE[1])
    return Plan(
        recipe=name if recipe == name else str(recipe),
        title=list_recipes().get(name, ""),
        score=published.scores[chosen],
        tolerance=published.tolerance,
        source=published.source,
        split=split,
        protocol=row,
        model=model,
        weights=weights,
        config=config,
        words=tuple(words),
        images=images
        if images is not None
        else (archives.images if archives and split == "val" else None),
        passes=passes,
        multiply_adds=round(probe * sum(h * w for h, w in passes)),
        data=where,
        missing=missing,
    )


def reproduce(plan: Plan) -> Outcome:
    """Measure what a plan says; fetches the weights where they are not here.

    Raises:
        HrsegError: The plan has something missing, or the weights or data cannot be read.
    """
    if plan.missing is not None:
        raise DataError(plan.missing)
    split = "test" if plan.split == "test" else "val"
    result = evaluate(plan.model, split, plan.words, recipe=plan.recipe)
    return Outcome(plan, 100 * result.metrics["miou"], result)


def _choose_score(recipe: str, config: Config, protocol: str | None) -> str:
    scores = config.published.scores
    if not scores:
        have = published_recipes()
        raise ConfigError(
            f"Recipe {recipe} names no published score. Recipes that do: {', '.join(have)}. To add one, write "
            "published.scores={PROTOCOL: mIoU} into it."
        )
    if protocol is None:
        return next(iter(scores))
    if protocol not in scores:
        raise ConfigError(
            f"Recipe {recipe} has no score for protocol '{protocol}'. It has: {', '.join(scores)}."
            f"{did_you_mean(protocol, scores)}"
        )
    return protocol


def _find_data(
    config: Config, data: SegmentationData, split: str
) -> tuple[str | None, int | None, str | None]:
    """Return where the images are, how many, and why they cannot be scored."""
    layout, root = config.data.layout, config.data.root
    data.splits["val"] = split if split != "test" else data.splits["val"]
    try:
        pairs = data.test_pairs if split == "test" else data.val_pairs
    except DataError as error:
        archives = ARCHIVES.get(layout)
        if archives is None:
            return None, None, str(error)
        then = f" {archives.then}" if archives.then else ""
        advice = (
            f"Put {' and '.join(archives.files)} from {archives.page} there, unpacked.{then} Another folder: "
            "data.root=FOLDER"
        )
        return None, None, f"{str(error).split('. ')[0].rstrip('.')}. {advice}"
    where = str(Path(root).expanduser()) if root else layout
    if all(pair.mask is None for pair in pairs):
        text = (
            f"Split '{split}' of {layout} has no masks here; its server keeps them. hrseg test --out writes what it "
            "takes."
        )
        return where, len(pairs), text
    return where, len(pairs), None


def _passes(protocol: Protocol, size: Size) -> list[Size]:
    """Return the size of each pass through the network for one image, by looking at a black one."""
    seen: list[Size] = []

    def spy(image: torch.Tensor) -> torch.Tensor:
        seen.extend([(int(image.shape[-2]), int(image.shape[-1]))] * len(image))
        return image[:, :1]

    Scorer(spy, protocol)(torch.zeros(1, 3, *size))
    return seen
