import json

import numpy as np
import pytest

from hrseg.data.stats import stats
from hrseg.data.synthetic import write_scenes
from hrseg.imaging import write_image, write_mask


@pytest.fixture
def root(tmp_path):
    for split, values in (("train", (0, 255)), ("val", (51,))):
        for number, value in enumerate(values):
            image = np.full((4, 6, 3), value, np.uint8)
            image[..., 2] = 0
            write_image(tmp_path / f"images/{split}/{number}.png", image)
            mask = np.zeros((4, 6), np.uint8)
            mask[0] = 2 if number else 255
            write_mask(tmp_path / f"masks/{split}/{number}.png", mask)
    (tmp_path / "labels.yaml").write_text("classes: [road, tree, car]\n")
    return tmp_path


def test_numbers_worked_out_by_hand(root):
    found = stats(root)
    train = found.splits["train"]
    assert train.mean == [0.5, 0.5, 0.0]
    assert train.std == [0.5, 0.5, 0.0]
    assert found.splits["val"].mean == pytest.approx([0.2, 0.2, 0.0])
    assert train.pixels == {"road": 36, "car": 6, "ignored": 6}
    assert train.holding == {"road": 2, "car": 1, "ignored": 1}
    assert train.sizes == {(4, 6): 2}


def test_json_and_text(root):
    found = stats(root)
    content = json.loads(json.dumps(found.to_dict()))
    train = content["splits"]["train"]
    assert train["classes"][0] == {"name": "road", "pixels": 36, "share": 0.75, "images": 2}
    assert train["classes"][1]["images"] == 0
    assert train["sizes"] == [{"height": 4, "width": 6, "images": 2}]
    text = found.text()
    assert "train: 2 images, 4x6" in text
    assert "mean 0.5000 0.5000 0.0000  std 0.5000 0.5000 0.0000" in text
    (row,) = (line for line in text.splitlines() if line.strip().startswith("car"))
    assert row.split() == ["car", "12.5", "%", "1", "0", "%", "0"]


def test_values_stand_for_themselves_without_a_table(root):
    (root / "labels.yaml").unlink()
    assert set(stats(root).splits["train"].pixels) == {"0", "2", "ignored"}


def test_a_known_layout_brings_its_classes(tmp_path):
    write_scenes(tmp_path, "camvid", {"train": 2, "val": 1}, (16, 24))
    found = stats(tmp_path, layout="camvid")
    assert found.labels is not None
    assert found.splits["train"].pixels["road"] > 0
