"""Every recipe builds and takes one step, on scenes drawn into the layout it reads."""

from pathlib import Path

import pytest
import torch

from hrseg.config import PACKAGED_CONFIGS, load_config
from hrseg.data.layouts import LAYOUTS
from hrseg.data.synthetic import write_scenes
from hrseg.labels import load_labels
from hrseg.training.build import build_network, build_run

RECIPES = sorted(path.stem for path in PACKAGED_CONFIGS.glob("*.yaml"))
SMALL = "hrnet_w18_small_v1"
WORDS = (
    *("data.crop=[64,64]", "data.scenes=4", "data.scene_size=[64,64]", "data.batch_size=2"),
    *("data.workers=0", "model.weights=null", "optim.warmup_steps=0", "evaluation.precision=fp32"),
    *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.strategy=auto"),
    *("trainer.precision=fp32", "trainer.max_epochs=null", "trainer.max_steps=1"),
    *("trainer.loggers=[]", "trainer.accumulate=1", "trainer.picture_every_epochs=0"),
    # the published protocols enlarge; they are tested where they live
    *("evaluation.protocol=whole", "evaluation.window=null"),
    "trainer.options={num_sanity_val_steps: 0, limit_val_batches: 1}",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four scenes of 64x64 in each layout, drawn when first asked for."""
    roots: dict[str, Path] = {}

    def find(layout: str) -> Path:
        if layout not in roots:
            root = roots[layout] = tmp_path_factory.mktemp(layout)
            write_scenes(root, layout, {"train": 3, "val": 1}, size=(64, 64))
            if layout == "voc2012":  # SBD's part of trainaug: one more name, its mask in another folder
                (root / "SegmentationClassAug").mkdir()
                last = root / "SegmentationClass/2008_000002.png"
                last.rename(root / "SegmentationClassAug/2008_000002.png")
                lists = root / "ImageSets/Segmentation"
                (lists / "train.txt").write_text("2008_000000\n2008_000001\n")
                (lists / "aug.txt").write_text("2008_000002\n")
        return roots[layout]

    return find


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_takes_one_step(name, tree, tmp_path):
    recipe = load_config(name)
    words = [*WORDS, f"run.dir={tmp_path}"]
    if recipe.data.layout != "synthetic":
        words.append(f"data.root={tree(recipe.data.layout)}")
    if recipe.data.layout == "coco_stuff":
        words.append("data.labels=coco_stuff")  # four scenes hold too few ids to tell
    for side in ("base_size", "base_short_side"):
        if getattr(recipe.data, side) is not None:
            words.append(f"data.{side}=64")
    if recipe.model.backbone.startswith("hrnet_"):
        words.append(f"model.backbone={SMALL}")
    run = build_run(load_config(name, words), tmp_path / "run")
    before = next(run.task.network.parameters()).detach().clone()
    run.trainer.fit(run.task, datamodule=run.data)
    assert run.trainer.global_step == 1
    assert not before.equal(next(run.task.network.parameters()))
    classes = run.data.labels.num_classes
    assert run.task.network.num_classes == classes
    table = recipe.data.labels or LAYOUTS[recipe.data.layout].table if recipe.data.root else None
    if table and recipe.data.layout != "folder":
        assert classes == load_labels(table).num_classes


@pytest.mark.slow
def test_every_declared_network_can_be_built():
    networks = {(c.model.backbone, c.model.head, c.model.resize): c for c in map(load_config, RECIPES)}
    assert len(networks) > 5
    for config in networks.values():
        with torch.device("meta"):  # shapes only: W48 with OCR is 280 MB
            network = build_network(config, load_labels("cityscapes"), load=False)
        assert network.num_classes == 19
        assert config.model.resize == network.resize
