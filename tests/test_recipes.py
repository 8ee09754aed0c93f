"""Every number of the published recipes, as their own files give it, against what ours resolve to."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from hrseg.config import PACKAGED_CONFIGS, Config, config_to_dict, list_recipes, load_config
from hrseg.data.layouts import LAYOUTS
from hrseg.data.transforms import scales
from hrseg.inference.protocols import PROTOCOLS
from hrseg.labels import load_labels
from hrseg.training.build import build_data
from hrseg.weights.catalog import rows
from tools.recipes_page import PAGE, page

RECIPES = sorted(path.stem for path in PACKAGED_CONFIGS.glob("*.yaml"))
PIECES = sorted(PACKAGED_CONFIGS.glob("base/*.yaml"))


class Official(NamedTuple):
    """One yaml of the official repository, in its own words where it has them."""

    crop: tuple[int, int]
    base_size: int
    scale_factor: int  # scales are 0.5 + integer(0..scale_factor) / 10
    batch: int  # of all devices
    epochs: int
    lr: float
    wd: float
    classes: int
    ohem: bool
    align: bool
    head: str = "v2"
    head_factor: float = 1
    first_resize: str = "none"
    backbone: str = "hrnet_w48"


CITY: tuple[Any, ...] = ((512, 1024), 2048, 16, 12, 484, 0.01, 5e-4, 19)
ADE: tuple[Any, ...] = ((520, 520), 520, 11, 16, 120, 0.02, 1e-4, 150)
PASCAL: tuple[Any, ...] = ((480, 480), 520, 16, 16, 200, 0.004, 1e-4)
PASCAL_520: tuple[Any, ...] = ((520, 520), 520, 16, 16, 200, 0.001, 1e-4)
COCO: tuple[Any, ...] = ((520, 520), 520, 16, 16, 110, 0.001, 1e-4, 171)
LIP: tuple[Any, ...] = ((473, 473), 473, 11, 40, 150, 0.007, 5e-4, 20)
SHORT = "short_side"
OFFICIAL = {
    "cityscapes_w18_small_v1": Official(*CITY, False, False, backbone="hrnet_w18_small_v1"),
    "cityscapes_w18_small_v2": Official(*CITY, False, False, backbone="hrnet_w18_small_v2"),
    "cityscapes_w48": Official(*CITY, False, False),
    "cityscapes_w48_ohem": Official(*CITY, True, False),
    "cityscapes_w48_trainval": Official(*CITY, False, False)._replace(lr=0.001),
    "cityscapes_w48_ohem_trainval": Official(*CITY, True, False)._replace(lr=0.001),
    "cityscapes_w48_ocr": Official(*CITY, False, True, "ocr"),
    "cityscapes_w48_ocr_trainval": Official(*CITY, False, True, "ocr"),
    "cityscapes_w48_ssld": Official(*CITY, False, False),
    "cityscapes_w48_ocr_ssld": Official(*CITY, False, True, "ocr")._replace(batch=16),
    "ade20k_w48": Official(*ADE, False, True, "v2", 1, SHORT),
    "ade20k_w48_ohem": Official(*ADE, True, True, "v2", 1, SHORT),
    "ade20k_w48_ocr": Official(*ADE, True, True, "ocr", 1, SHORT)._replace(scale_factor=16),
    "pascal_context_59_w48": Official(*PASCAL, 59, False, False),
    "pascal_context_60_w48": Official(*PASCAL, 60, False, False),
    "pascal_context_59_w48_520": Official(*PASCAL_520, 59, False, False, "v2", 10, SHORT),
    "pascal_context_59_w48_ocr": Official(*PASCAL_520, 59, False, True, "ocr", 10, SHORT),
    "pascal_context_60_w48_ocr": Official(*PASCAL_520, 60, False, True, "ocr", 10, SHORT),
    "lip_w48": Official(*LIP, False, False, "v2", 1, "squash"),
    "lip_w48_ocr": Official(*LIP, False, True, "ocr", 1, "squash"),
    "coco_stuff_w48": Official(*COCO, False, True, "v2", 10, SHORT),
    "coco_stuff_w48_ohem": Official(*COCO, True, True, "v2", 10, SHORT),
    "coco_stuff_w48_ocr": Official(*COCO, True, True, "ocr", 10, SHORT),
}


class Mmseg(NamedTuple):
    """One HRNet config of mmsegmentation."""

    crop: tuple[int, int]
    limits: tuple[int | None, int | None]  # long and short side at ratio 1
    batch: int
    schedules: tuple[int, ...]  # thousands of steps
    classes: int
    lr: float = 0.01
    wd: float = 5e-4
    ocr: bool = False


MMSEG = {
    "cityscapes": Mmseg((512, 1024), (2048, 1024), 8, (40, 80, 160), 19, ocr=True),
    "ade20k": Mmseg((512, 512), (2048, 512), 16, (80, 160), 150, ocr=True),
    "voc2012": Mmseg((512, 512), (2048, 512), 16, (20, 40), 21, ocr=True),
    "pascal_context_60": Mmseg((480, 480), (520, None), 16, (40, 80), 60, 0.004, 1e-4),
    "pascal_context_59": Mmseg((480, 480), (520, None), 16, (40, 80), 59, 0.004, 1e-4),
    "loveda": Mmseg((512, 512), (2048, 512), 16, (80,), 7),
    "potsdam": Mmseg((512, 512), (512, None), 16, (80,), 6),
    "vaihingen": Mmseg((512, 512), (512, None), 16, (80,), 6),
    "isaid": Mmseg((896, 896), (896, None), 16, (80,), 16),
}
OWN = {
    *(
        "baseline_unet",
        "camvid_w18_small_v1",
        "camvid_w18_small_v2",
        "camvid_w18_small_v2_enlarged",
        "camvid_w18_small_v2_release",
    ),
    *("cityscapes_w18", "demo", "folder_w18"),
}


def mmseg_names() -> dict[str, tuple[str, int, str]]:
    """Return recipe → dataset, steps and head."""
    return {
        f"{dataset}_w48{end}_mmseg_{k}k": (dataset, k * 1000, head)
        for dataset, row in MMSEG.items()
        for k in row.schedules
        for end, head in (("", "v2"), ("_ocr", "ocr"))[: 1 + row.ocr]
    }


def images_per_step(config: Config) -> int:
    assert isinstance(config.trainer.devices, int)
    return config.trainer.devices * config.data.batch_size * config.trainer.accumulate


def classes(config: Config) -> int:
    table = config.data.labels or LAYOUTS[config.data.layout].table
    return load_labels(str(table)).num_classes


def test_every_published_recipe_is_there_and_tested() -> None:
    known = {*OFFICIAL, *mmseg_names(), *OWN}
    assert known <= set(RECIPES)
    assert set(RECIPES) - known == {name for name in RECIPES if name.startswith("baseline_")} - OWN


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_recipe(name: str) -> None:
    config, theirs = load_config(name), OFFICIAL[name]
    data, loss, optim = config.data, config.loss, config.optim
    assert (data.crop, data.base_size, data.base_short_side) == (
        theirs.crop,
        theirs.base_size,
        None,
    )
    drawn = scales(data.scale_min, data.scale_max, data.scale_step)
    assert drawn == pytest.approx([0.5 + i / 10 for i in range(theirs.scale_factor + 1)])
    assert images_per_step(config) == theirs.batch
    assert (config.trainer.max_epochs, config.trainer.max_steps) == (theirs.epochs, None)
    assert (optim.name, optim.lr, optim.weight_decay) == ("sgd", theirs.lr, theirs.wd)
    assert (optim.momentum, optim.poly_power, optim.min_lr) == (0.9, 0.9, 0)
    assert (optim.warmup_steps, optim.lag_steps, optim.no_decay_norms) == (0, 1, False)
    assert optim.head_lr_factor == theirs.head_factor
    assert classes(config) == theirs.classes
    assert loss.terms == ({"ohem": 1.0} if theirs.ohem else {})
    assert (loss.ohem_threshold, loss.ohem_min_kept) == (0.9, 131072)
    assert (loss.aux_weight, loss.average) == (0.4, "valid")
    assert loss.class_weights == ("official" if theirs.classes == 19 else "none")
    assert config.model.resize == ("bilinear_aligned" if theirs.align else "bilinear")
    assert (config.model.backbone, config.model.head) == (theirs.backbone, theirs.head)
    assert (data.first_resize, data.flip, data.pad) == (theirs.first_resize, 0.5, "black")
    assert data.flip_first == (theirs.first_resize == "squash")
    assert (data.photometric, data.brightness_shift, data.max_class_share) == (0, 0, 1)
    assert (config.trainer.sync_batchnorm, config.trainer.clip_norm) == (True, None)


@pytest.mark.parametrize("name", mmseg_names())
def test_mmsegmentation_recipe(name: str) -> None:
    dataset, steps, head = mmseg_names()[name]
    config, theirs = load_config(name), MMSEG[dataset]
    data, loss, optim = config.data, config.loss, config.optim
    assert (data.crop, (data.base_size, data.base_short_side)) == (theirs.crop, theirs.limits)
    assert (data.scale_min, data.scale_max, data.scale_step) == (0.5, 2.0, 0)
    assert (data.max_class_share, data.flip, data.first_resize) == (0.75, 0.5, "none")
    assert (data.photometric, data.photometric_rule, data.flip_first) == (1, "mmseg", True)
    assert data.pad == ("black" if dataset == "voc2012" else "mean")
    assert images_per_step(config) == theirs.batch
    assert (config.trainer.max_epochs, config.trainer.max_steps) == (None, steps)
    assert (optim.name, optim.lr, optim.weight_decay) == ("sgd", theirs.lr, theirs.wd)
    assert (optim.momentum, optim.poly_power, optim.min_lr) == (0.9, 0.9, 1e-4)
    assert (optim.warmup_steps, optim.lag_steps, optim.head_lr_factor) == (0, 0, 1)
    assert (loss.terms, loss.class_weights, loss.average) == ({}, "none", "all")
    assert loss.aux_weight == 0.4
    assert classes(config) == theirs.classes
    assert (config.model.resize, config.model.padding) == ("bilinear_scaled", "symmetric")
    assert (config.model.backbone, config.model.head) == ("hrnet_w48", head)
    assert config.model.weights == "hrnet_w48.ms_in1k"


def test_other_widths_of_mmsegmentation_are_a_word_away() -> None:
    for width in ("hrnet_w18", "hrnet_w18_small_v2"):
        model = load_config("ade20k_w48_mmseg_80k", [f"model.backbone={width}"]).model
        assert (model.backbone, model.weights) == (width, f"{width}.ms_in1k")
    one, other = (config_to_dict(load_config(n)) for n in ("cityscapes_w48_mmseg_80k", "cityscapes_w18"))
    changed = {f"{s}.{k}" for s, kept in one.items() for k in kept if kept[k] != other[s][k]}
    assert {key for key in changed if not key.startswith("published.")} == {
        *("model.backbone", "model.weights", "data.batch_size", "trainer.devices", "run.name"),
        "trainer.val_every_epochs",
    }
    assert images_per_step(load_config("cityscapes_w18")) == 8


def test_the_second_half_goes_on_from_the_first() -> None:
    for end in ("", "_ohem"):
        first, second = f"cityscapes_w48{end}", load_config(f"cityscapes_w48{end}_trainval")
        assert second.model.weights == f"{load_config(first).run.dir}/{first}/last.ckpt"
        assert second.data.train_split == "trainval"
    whole = load_config("cityscapes_w48_ocr_trainval")
    assert (whole.data.train_split, whole.model.weights) == ("trainval", "hrnet_w48.ms_in1k")


def test_distilled_starts() -> None:
    for name in ("cityscapes_w48_ssld", "cityscapes_w48_ocr_ssld"):
        assert load_config(name).model.weights == "hrnet_w48_ssld.paddle_in1k"
    devices = load_config("cityscapes_w48_ocr_ssld").trainer.devices
    assert (devices, load_config("cityscapes_w48_ssld").trainer.devices) == (8, 4)


@pytest.mark.parametrize(
    ("name", "images", "steps"),
    [
        *(("cityscapes_w48", 2975, 119_548), ("cityscapes_w48_trainval", 3475, 139_876)),
        *(("pascal_context_59_w48", 4998, 62_400), ("lip_w48", 30_462, 114_150)),
        *(("ade20k_w48", 20_210, 151_560), ("coco_stuff_w48", 9000, 61_820)),
        ("cityscapes_w48_ocr_ssld", 2975, 89_540),
    ],
)
def test_steps_in_the_headers_follow_from_images_and_batch(name: str, images: int, steps: int) -> None:
    config = load_config(name)
    assert config.trainer.max_epochs is not None
    assert images // images_per_step(config) * config.trainer.max_epochs == steps
    assert f"{steps:,} steps" in (PACKAGED_CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_loads(name: str) -> None:
    config = load_config(PACKAGED_CONFIGS / f"{name}.yaml")
    assert config.run.name == name
    assert config_to_dict(config)["model"]["backbone"]


@pytest.mark.parametrize("name", RECIPES)
def test_header_is_a_letter_to_a_stranger(name: str) -> None:
    text = (PACKAGED_CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    header = "\n".join(line for line in text.split("\n") if line.startswith("#"))
    assert text.startswith("# ")
    assert list_recipes()[name]
    assert re.search(r"^# Source: ", header, re.M)
    assert re.search(r"^# (Published|Expects): ", header, re.M)
    assert re.search(r"^# Cost: ", header, re.M)


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.stem)
def test_pieces_extend_nothing_and_are_used(piece: object) -> None:
    tree = yaml.safe_load(PACKAGED_CONFIGS.joinpath(str(piece)).read_text(encoding="utf-8"))
    assert "extends" not in tree
    name = f"base/{PACKAGED_CONFIGS.joinpath(str(piece)).name}"
    users = [r for r in RECIPES if name in (PACKAGED_CONFIGS / f"{r}.yaml").read_text("utf-8")]
    assert len(users) > 1


def test_ohem_changes_only_the_loss() -> None:
    for name in ("cityscapes_w48", "ade20k_w48", "coco_stuff_w48"):
        plain, ohem = (config_to_dict(load_config(f"{name}{end}")) for end in ("", "_ohem"))
        assert ohem["loss"]["terms"] == {"ohem": 1.0}
        changed = {key for key in plain if plain[key] != ohem[key]}
        assert changed - {"published"} == {"loss", "run"}


def test_baseline_differs_from_camvid_in_the_network_only() -> None:
    one, other = (config_to_dict(load_config(n)) for n in ("camvid_w18_small_v1", "baseline_unet"))
    assert {key for key in one if one[key] != other[key]} <= {"model", "run", "published"}


def test_class_table_of_the_folder_recipe_follows_its_root(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_text("road:1,2,3::\ncar:4,5,6::\n")
    assert build_data(load_config("folder_w18", [f"data.root={tmp_path}"])).labels.names == [
        "road",
        "car",
    ]


@pytest.mark.slow
def test_the_page_of_recipes_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.recipes_page"


@pytest.mark.parametrize("name", RECIPES)
def test_published_weights_are_in_the_catalog_and_of_the_recipes_kind(name: str) -> None:
    config = load_config(name)
    tag = config.published.weights
    row = next((row for row in rows() if row.tag == tag), None)
    if tag is not None:
        assert row is not None
        assert (row.backbone, row.head) == (config.model.backbone, config.model.head)
        assert (row.resize, row.padding) == (config.model.resize, config.model.padding)
        assert row.num_classes == classes(config)
        assert row.score in config.published.scores.values()
    assert set(config.published.scores) <= set(PROTOCOLS)
    assert config.evaluation.protocol in PROTOCOLS
