import re

import numpy as np
import pytest

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.errors import ConfigError
from hrseg.explain.report import _fitted, explain
from hrseg.imaging import write_image, write_mask
from hrseg.training.build import build_data, build_task
from hrseg.training.trainer import build_trainer, quiet_lightning
from tests.small import small


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint that knows its data, an image and its mask."""
    folder = tmp_path_factory.mktemp("explain")
    quiet_lightning()
    config = small(folder, "data.scenes=4")
    data = build_data(config)
    task = build_task(config, data)
    trainer = build_trainer(config, None, [])
    trainer.validate(task, datamodule=data, verbose=False)
    trainer.save_checkpoint(folder / "m.ckpt")
    draw = np.random.default_rng(0)
    write_image(folder / "i.png", draw.integers(0, 255, (48, 80, 3), dtype=np.uint8))
    mask = np.zeros((48, 80), np.uint8)
    mask[20:] = 1
    write_mask(folder / "i_mask.png", data.labels.decode(mask))
    return folder


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_shows_every_part(files, capsys):
    words = ["explain", str(files / "i.png"), "--model", str(files / "m.ckpt"), "--images", "2"]
    words += ["--mask", str(files / "i_mask.png"), "--out", str(files / "p.html")]
    assert main([*words, "data.layout=synthetic"]) == EXIT_OK
    said = capsys.readouterr().out
    assert "without branch 3" in said
    assert "linear classifier on all branches" in said
    page = (files / "p.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for title in (
        "The decision",
        "Stage 4",
        "Switching a branch off",
        "Receptive field",
        "Linear probes",
    ):
        assert title in page
    assert page.count("<img") == 1 + 4 + 1 + 1


def test_without_data_and_mask_the_page_is_shorter(files):
    content = explain(files / "i.png", files / "q.html", str(files / "m.ckpt"))
    assert not content.probes
    assert len(content.branch_fields) == len(content.ablation.without) == 4
    page = (files / "q.html").read_text()
    assert "Linear probes" not in page
    assert "the IoU with the mask" not in page
    assert content.field.sum() == pytest.approx(1)


def test_what_cannot_be_looked_into_is_refused(files, capsys):
    assert main(["explain", str(files / "none.png"), "--model", str(files / "m.ckpt")]) == EXIT_USAGE
    assert "none.png" in capsys.readouterr().err
    other = np.zeros((8, 8), np.uint8)
    write_mask(files / "other.png", other)
    words = ["explain", str(files / "i.png"), "--model", str(files / "m.ckpt")]
    assert main([*words, "--mask", str(files / "other.png")]) == EXIT_USAGE
    assert "mask of this image" in " ".join(capsys.readouterr().err.split())  # lines are wrapped


def test_a_whole_network_of_smp_is_refused():
    from hrseg.explain.ablation import check_branches
    from hrseg.models import create_model

    with pytest.raises(ConfigError, match="does not give its branches"):
        check_branches(create_model("resnet18", "unet", 2))


def test_large_images_are_reduced_and_the_page_says_so():
    pixels, truth, note = _fitted(np.zeros((10, 2048, 3), np.uint8), np.ones((10, 2048), np.uint8))
    assert pixels.shape == (5, 1024, 3)
    assert truth.shape == (5, 1024)
    assert note == "reduced from 10 × 2048"
    assert _fitted(np.zeros((4, 4, 3), np.uint8), None)[2] == ""
