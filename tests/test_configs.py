"""Every recipe builds and takes one step, on scenes drawn into the layout it reads."""

from pathlib import Path

import pytest

from hrseg.build import build_run
from hrseg.config import PACKAGED_CONFIGS, load_config
from hrseg.data.labels import load_labels
from hrseg.data.synthetic import write_scenes

RECIPES = sorted(path.stem for path in PACKAGED_CONFIGS.glob("*.yaml"))
WORDS = (
    *("data.crop=[64,64]", "data.scenes=4", "data.scene_size=[64,64]", "data.batch_size=2"),
    *("data.workers=0", "model.weights=null", "optim.warmup_steps=0", "evaluation.precision=fp32"),
    *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.strategy=auto"),
    *("trainer.precision=fp32", "trainer.max_epochs=null", "trainer.max_steps=1"),
    *("trainer.loggers=[]", "trainer.accumulate=1", "trainer.picture_every_epochs=0"),
    "trainer.options={num_sanity_val_steps: 0, limit_val_batches: 1}",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four scenes of 64x64 in each layout, drawn when first asked for."""
    roots: dict[str, Path] = {}

    def find(layout: str) -> Path:
        if layout not in roots:
            roots[layout] = tmp_path_factory.mktemp(layout)
            write_scenes(roots[layout], layout, {"train": 3, "val": 1}, size=(64, 64))
        return roots[layout]

    return find


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_takes_one_step(name, tree, tmp_path):
    layout = load_config(name).data.layout
    words = [*WORDS, f"run.dir={tmp_path}"]
    if layout != "synthetic":
        words.append(f"data.root={tree(layout)}")
    if load_config(name).data.base_size is not None:
        words.append("data.base_size=64")
    run = build_run(load_config(name, words), tmp_path / "run")
    before = next(run.task.network.parameters()).detach().clone()
    run.trainer.fit(run.task, datamodule=run.data)
    assert run.trainer.global_step == 1
    assert not before.equal(next(run.task.network.parameters()))
    classes = run.data.labels.num_classes
    assert run.task.network.num_classes == classes
    if layout != "folder":
        assert classes == load_labels(layout).num_classes
