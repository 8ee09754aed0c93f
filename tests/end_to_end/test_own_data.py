"""From a folder of images and masks to a trained model by what `hrseg data check` printed, and nothing else."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from hrseg.cli import main
from hrseg.imaging import read_mask

COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 200, 80]], np.uint8)


def blobs(number, size):
    """Ids 0, 1, 2: one disc and one square."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]]
    y, x = (
        rng.integers(size[0] // 4, 3 * size[0] // 4),
        rng.integers(size[1] // 4, 3 * size[1] // 4),
    )
    ids = ((rows - y) ** 2 + (columns - x) ** 2 < (size[0] // 5) ** 2).astype(np.uint8)
    ids[: size[0] // 4, : rng.integers(8, size[1] // 2)] = 2
    return ids


def gray_and_0_255(root, size):
    for number in range(30):
        ids = blobs(number, size) == 1
        noise = np.random.default_rng(number).integers(0, 40, size)
        for folder, pixels in (("images", 60 + 120 * ids + noise), ("masks", 255 * ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"scan {number}.png")


def color_masks(root, size):
    root.mkdir(parents=True)
    for number in range(30):
        ids = blobs(number, size)
        noise = np.random.default_rng(number).integers(0, 40, (*size, 3))
        photo = (COLORS[ids] * 0.6 + noise).astype(np.uint8)
        Image.fromarray(photo).save(root / f"{number}.jpg")
        Image.fromarray(COLORS[ids]).save(root / f"{number}_mask.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "size", "values"),
    [(gray_and_0_255, (64, 64), {0, 255}), (color_masks, (64, 96), {0, 1, 2})],
)
def test_a_folder_becomes_a_model_by_pasting(tmp_path, monkeypatch, capsys, make, size, values):
    make(tmp_path / "my data", size)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", "my data"]) == 0
    printed = capsys.readouterr().out
    commands = [shlex.split(line)[1:] for line in printed.splitlines() if line.startswith("  hrseg ")]
    assert [words[:2] for words in commands] == [["data", "check"], ["fit", "--config"], ["fit", "--config"]]
    assert "model.weights=hrnet_w18.ms_in1k" in commands[2]  # the other start, by ImageNet

    assert main(commands[0]) == 0
    again = capsys.readouterr().out
    assert f"  hrseg {shlex.join(commands[1])}" in again.splitlines()

    quick = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "data.workers=0"]
    assert main([*commands[1], *quick]) == 0
    best = tmp_path / re.search(r"--model (\S+)", capsys.readouterr().out)[1]
    image = next(path for path in sorted((tmp_path / "my data").rglob("*")) if path.suffix in (".jpg", ".png"))
    assert main(["predict", str(image), "--model", str(best), "--out", "out"]) == 0
    mask = read_mask(next((tmp_path / "out").glob("*_mask.png")))
    assert mask.shape == size
    assert set(np.unique(mask).tolist()) <= values


def test_what_stops_a_training_is_told_by_the_exit_status(tmp_path, capsys):
    gray_and_0_255(tmp_path / "set", (48, 48))
    (tmp_path / "set" / "images" / "scan 3.png").write_bytes(b"\x89PNG")
    assert main(["data", "check", str(tmp_path / "set"), "--write", str(tmp_path / "mine")]) == 2
    printed = capsys.readouterr().out
    assert "scan 3.png" in printed
    assert (tmp_path / "mine.yaml").is_file()
    assert "scan 3" not in (tmp_path / "mine_data" / "train.txt").read_text()


def test_a_page_and_json(tmp_path, capsys):
    color_masks(tmp_path / "set", (48, 64))
    assert main(["data", "check", str(tmp_path / "set"), "--html", str(tmp_path / "a.html"), "--json"]) == 0
    assert '"layout": "folder"' in capsys.readouterr().out
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
