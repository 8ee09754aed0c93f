"""The whole road on drawn scenes: fit, validate, predict, and two processes instead of one."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hrseg
from hrseg.config import load_config
from hrseg.data.synthetic import write_scenes
from hrseg.evaluation.validate import evaluate
from hrseg.imaging import read_mask
from hrseg.inference.predictor import Predictor
from hrseg.training.fit import fit

SIZE = (48, 64)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Five validation scenes, so that two processes get unequal shares."""
    root = tmp_path_factory.mktemp("camvid")
    write_scenes(root, "camvid", {"train": 8, "val": 5}, size=SIZE)
    return root


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory):
    words = [
        *("data.layout=camvid", f"data.root={tree}", "data.crop=[48,64]", "data.batch_size=4"),
        *("data.workers=0", "trainer.accelerator=cpu", "trainer.max_epochs=4", "optim.lr=0.003"),
        *("optim.warmup_steps=0", "trainer.val_every_epochs=2", "trainer.picture_every_epochs=0"),
        f"run.dir={tmp_path_factory.mktemp('runs')}",
    ]
    return fit(load_config("demo", words))


def losses(run):
    lines = (run.run_dir / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/epoch_loss")
    return [float(cell) for line in lines[1:] if (cell := line.split(",")[column])]


@pytest.mark.slow
def test_loss_falls(run):
    assert losses(run)[-1] < 0.8 * losses(run)[0]


def test_validate_equals_a_script_over_predicted_masks(run, tree, tmp_path):
    score = evaluate(str(run.run_dir / "best.ckpt")).metrics["miou"]
    assert score == pytest.approx(run.best_score, abs=1e-7)
    predictor = Predictor(run.run_dir / "best.ckpt")
    matrix = np.zeros((11, 11), dtype=np.int64)
    for image in sorted((tree / "val").glob("*.png")):
        predictor(image).save(tmp_path)
        pred = read_mask(tmp_path / f"{image.stem}_mask.png")
        mask = read_mask(tree / "valannot" / image.name)
        valid = mask != 11
        np.add.at(matrix, (mask[valid], pred[valid]), 1)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    iou = matrix.diagonal()[union > 0] / union[union > 0]
    assert iou.mean() == pytest.approx(score, abs=1e-9)


@pytest.mark.slow
def test_two_processes_score_like_one(run, tree, tmp_path):
    """Five images on two processes: one of them counts a filler, which must count nowhere."""
    code = (
        "from hrseg.evaluation.validate import evaluate\n"
        f"r = evaluate({str(run.run_dir / 'best.ckpt')!r}, overrides=['trainer.devices=2', "
        "'trainer.strategy=ddp', 'trainer.accelerator=cpu', 'data.workers=0'])\n"
        "said = (r.metrics['matrix'].sum().item(), r.metrics['miou'])\n"
    )
    one = evaluate(str(run.run_dir / "best.ckpt")).metrics
    assert python(code, tmp_path) == [(one["matrix"].sum().item(), one["miou"])] * 2


@pytest.mark.slow
def test_two_processes_train_and_leave_one_run(tree, tmp_path):
    words = [
        *("data.layout=camvid", f"data.root={tree}", "data.crop=[48,64]", "data.batch_size=2"),
        *("data.workers=0", "trainer.accelerator=cpu", "trainer.max_epochs=1", "run.dir=runs"),
        *("optim.warmup_steps=0", "trainer.devices=2", "trainer.strategy=ddp"),
        *("trainer.val_every_epochs=1", "trainer.loggers=[csv]"),
    ]
    code = (
        "from hrseg.config import load_config\nfrom hrseg.training.fit import fit\n"
        f"r = fit(load_config('demo', {words!r}))\nsaid = (str(r.run_dir), r.best_score)\n"
    )
    ((folder, score),) = set(python(code, tmp_path))
    assert folder == "runs/demo"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["demo"]
    again = evaluate(str(tmp_path / "runs" / "demo" / "best.ckpt"), overrides=["data.workers=0"])
    assert score == pytest.approx(again.metrics["miou"], abs=1e-7)


def python(code: str, folder: Path) -> list[tuple]:
    """Run a script as a user would, and return what each of its two processes said.

    Lightning starts the second process from the same file.
    """
    script = folder / "script.py"
    script.write_text(f"import os\n{code}open('rank' + os.environ['LOCAL_RANK'], 'w').write(repr(said))\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(hrseg.__file__).parents[1])}
    environment |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return [ast.literal_eval((folder / f"rank{rank}").read_text()) for rank in range(2)]
