"""torch.hub opens the networks from a clone that nobody installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hrseg.weights import DEFAULT_TAG

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
import torch
where = sys.argv[1]

def load(name, **options):
    return torch.hub.load(where, name, source="local", **options)

network = load("hrseg_network", backbone="hrnet_w18_small_v1", num_classes=3).eval()
print(tuple(network(torch.zeros(1, 3, 64, 96)).shape))
trained = load("hrseg_pretrained")
print(tuple(trained(torch.zeros(1, 3, 64, 96)).shape), trained.training)
again = load("hrseg_network", backbone="hrnet_w18_small_v2", num_classes=11, weights=sys.argv[2])
print(torch.equal(again.backbone.conv1.weight, trained.backbone.conv1.weight))
prediction = load("hrseg_predictor", device="cpu")(sys.argv[3])
print(prediction.mask.shape, prediction.labels.name)
import hrseg
print(hrseg.__file__)
"""


@pytest.fixture
def clone(tmp_path):
    """The files of a fresh clone, at a place Python does not know."""
    where = tmp_path / "clone"
    where.mkdir()
    shutil.copy(ROOT / "hubconf.py", where)
    skip = shutil.ignore_patterns("__pycache__", "*.ckpt")
    for folder in ("hrseg", "configs"):
        shutil.copytree(ROOT / folder, where / folder, ignore=skip)
    return where


@pytest.mark.slow
def test_every_entry_point_works_from_a_clone(clone, tmp_path):
    weights = clone / "hrseg" / "weights" / "packaged" / f"{DEFAULT_TAG}.safetensors"
    image = ROOT / "docs" / "images" / "street.jpg"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:hrseg", "-c", SCRIPT, clone, weights, image],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.split("\n")
    assert "(1, 3, 64, 96)" in lines
    assert "(1, 11, 64, 96) False" in lines
    assert "True" in lines
    assert any(line.endswith(" camvid") for line in lines)
    assert str(clone) in done.stdout  # the clone's own hrseg, not an installed one
