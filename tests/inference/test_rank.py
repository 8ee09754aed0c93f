"""Rankings of drawn images whose uncertainty and features are known."""

import json
import math

import numpy as np
import pytest
import torch

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.cli.console import EXIT_PARTIAL
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import write_image
from hrseg.inference.predictor import Predictor
from hrseg.inference.rank import features, rank_images
from hrseg.inference.sources import open_sources
from hrseg.labels import Label, LabelSet

TWO = LabelSet("t", (Label(0, 0, "a", (0, 0, 0)), Label(1, 1, "b", (9, 9, 9))))


class Known(torch.nn.Module):
    """Red is the probability of class 0; green and blue are the features of all branches."""

    num_classes = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image):
        red = image[:, :1].clamp(1e-4, 1 - 1e-4)
        return torch.cat([red.log(), (1 - red).log()], dim=1)

    def forward_branches(self, image):
        return [image[:, 1:]] * 4


def open_known(measure="margin"):
    return Predictor(
        Known(), TWO, device="cpu", precision="fp32", engine="torch", mean=(0, 0, 0), std=(1, 1, 1), keep=(measure,)
    )


def draw(path, red, angle, seed):
    """An image of mean red, whose green and blue point to an angle; noise tells it from others."""
    pixels = np.zeros((64, 64, 3))
    pixels += [red * 255, 120 * math.cos(angle), 120 * math.sin(angle)]
    pixels += np.random.default_rng(seed).normal(0, 1, (16, 16, 1)).repeat(4, 0).repeat(4, 1) * [0, 20, 20]
    write_image(path, pixels.round().clip(0, 255).astype(np.uint8))


def names(rows):
    return [row.path.stem for row in rows]


def ranked(folder, count=100, measure="margin", labeled=()):
    return rank_images(open_known(measure), open_sources([folder]), count, labeled=labeled)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for seed, (name, red, angle) in enumerate(
        [("sure", 0.95, 0.8), ("unsure", 0.5, 0.8), ("near", 0.55, 0.78), ("far", 0.7, 0.1)]
    ):
        draw(folder / f"{name}.png", red, angle, seed)
    return folder


def test_unsure_and_different_images_come_first(photos):
    ranking = ranked(photos)
    # 1 - margin of "far" is 0.6 and its angle 0.7; "near" has 0.9, but looks like the first
    assert names(ranking.rows) == ["unsure", "far", "near", "sure"]
    by_name = {row.path.stem: row for row in ranking.rows}
    assert by_name["unsure"].uncertainty == pytest.approx(1, abs=0.02)
    assert by_name["far"].uncertainty == pytest.approx(0.6, abs=0.02)
    assert by_name["far"].distance == pytest.approx(2 * math.sin(0.35), abs=0.05)  # chord of 0.7
    assert math.isnan(by_name["unsure"].distance)
    assert names(ranked(photos, 2).rows) == ["unsure", "far"]


def test_entropy_is_another_measure(photos):
    by_name = {row.path.stem: row.uncertainty for row in ranked(photos, measure="entropy").rows}
    share = round(0.7 * 255) / 255
    bits = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert by_name["far"] == pytest.approx(bits, abs=0.01)


def test_copies_are_left_out_and_named(photos, tmp_path):
    draw(photos / "copy.png", 0.52, 0.8, 1)  # of "unsure", a little surer
    (photos / "again.png").write_bytes((photos / "far.png").read_bytes())
    ranking = ranked(photos)
    assert ranking.images == 6
    assert {names([row])[0]: [path.stem for path in row.copies] for row in ranking.rows if row.copies} == {
        "unsure": ["copy"],
        "again": ["far"],
    }
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "x.png").write_bytes((photos / "unsure.png").read_bytes())
    ranking = ranked(photos, labeled=open_sources([tmp_path / "known"]))
    assert sorted(path.stem for path in ranking.covered) == ["copy", "unsure"]
    assert names(ranking.rows)[0] == "again"  # the farthest from what is labeled


def test_features_have_length_one_and_do_not_follow_the_size(photos):
    predictor = open_known()
    pixels = np.full((64, 96, 3), (9, 30, 40), np.uint8)
    vector = features(predictor, pixels)
    assert vector.tolist() == pytest.approx([0.3, 0.4] * 4)
    assert features(predictor, pixels.repeat(8, 0).repeat(8, 1)).tolist() == pytest.approx(vector.tolist())


def test_broken_images_are_named_and_the_others_ranked(photos, tmp_path, monkeypatch, capsys, release):
    monkeypatch.chdir(tmp_path)
    (photos / "broken.png").write_bytes(b"x")
    words = ["data", "rank", str(photos), "--model", str(release), "--count", "2", "--out", "next.txt"]
    assert main(words) == EXIT_PARTIAL
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    lines = (tmp_path / "next.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all(line in captured.out for line in lines)
    assert [picture.origin for picture in open_sources(["@next.txt"])] == lines
    (photos / "broken.png").unlink()
    assert main([*words, "--json"]) == EXIT_OK
    assert [row["path"] for row in json.loads(capsys.readouterr().out)["ranked"]] == lines


def test_what_cannot_be_ranked_is_refused(photos, tmp_path, capsys):
    assert main(["data", "rank", "gone"]) == EXIT_USAGE
    assert "gone" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no image that can be read"):
        ranked(tmp_path / "empty")
    with pytest.raises(ConfigError, match="keep="):
        rank_images(Predictor(Known(), TWO, device="cpu"), open_sources([photos]))
    predictor = open_known()
    predictor.network = torch.nn.Identity()
    with pytest.raises(ConfigError, match="shows no branches"):
        rank_images(predictor, open_sources([photos]))
