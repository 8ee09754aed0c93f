import re

import pytest
import yaml

from hrseg.config import PACKAGED_CONFIGS, Config, config_to_dict, list_recipes, load_config

RECIPES = sorted(path.stem for path in PACKAGED_CONFIGS.glob("*.yaml"))
PIECES = sorted(PACKAGED_CONFIGS.glob("base/*.yaml"))
PROMISED = (
    "ade20k_w48 baseline_unet camvid_w18_small_v2 cityscapes_w18 cityscapes_w18_small_v1 "
    "cityscapes_w18_small_v2 cityscapes_w48 cityscapes_w48_ohem demo folder_w18"
)


def images_per_step(config: Config) -> int:
    assert isinstance(config.trainer.devices, int)
    return config.trainer.devices * config.data.batch_size * config.trainer.accumulate


def test_the_promised_recipes_are_there() -> None:
    assert set(PROMISED.split(" ")) <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_loads(name: str) -> None:
    config = load_config(PACKAGED_CONFIGS / f"{name}.yaml")
    assert config.run.name == name
    assert config_to_dict(config)["model"]["backbone"]


@pytest.mark.parametrize("name", RECIPES)
def test_header_is_a_letter_to_a_stranger(name: str) -> None:
    text = (PACKAGED_CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    header = text.split("\n\n")[0]
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


def test_official_cityscapes_values() -> None:
    config = load_config("cityscapes_w48")
    data, optim = config.data, config.optim
    assert (data.crop, data.base_size) == ((512, 1024), 2048)
    assert (data.scale_min, data.scale_max, data.scale_step, data.flip) == (0.5, 2.1, 0.1, 0.5)
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (optim.poly_power, optim.warmup_steps, optim.min_lr) == (0.9, 0, 0)
    assert images_per_step(config) == 12
    assert config.trainer.max_epochs == 484
    assert (config.model.resize, config.loss.class_weights) == ("bilinear", "official")
    assert config.loss.terms == {}


def test_official_ade20k_values() -> None:
    config = load_config("ade20k_w48")
    assert (config.data.crop, config.data.base_size) == ((520, 520), 520)
    assert (config.data.scale_min, config.data.scale_max) == (0.5, 1.6)
    assert (config.optim.lr, config.optim.weight_decay) == (0.02, 1e-4)
    assert images_per_step(config) == 16
    assert (config.trainer.max_epochs, config.model.resize) == (120, "bilinear_aligned")


def test_ohem_changes_only_the_loss() -> None:
    plain, ohem = (config_to_dict(load_config(f"cityscapes_w48{end}")) for end in ("", "_ohem"))
    assert ohem["loss"]["terms"] == {"ohem": 1.0}
    assert {key for key in plain if plain[key] != ohem[key]} == {"loss", "run"}


def test_small_recipes_use_twelve_images_a_step() -> None:
    for version in ("v1", "v2"):
        assert images_per_step(load_config(f"cityscapes_w18_small_{version}")) == 12


def test_baseline_differs_from_camvid_in_the_network_only() -> None:
    one, other = (config_to_dict(load_config(n)) for n in ("camvid_w18_small_v2", "baseline_unet"))
    assert {key for key in one if one[key] != other[key]} == {"model", "run"}


def test_class_table_of_the_folder_recipe_follows_its_root() -> None:
    assert load_config("folder_w18", ["data.root=/mine"]).data.labels == "/mine/labels.yaml"
