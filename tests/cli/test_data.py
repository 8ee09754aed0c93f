import json

import numpy as np

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.data.layouts import find_pairs
from hrseg.data.synthetic import write_scenes
from hrseg.imaging import read_mask, write_image, write_mask
from tests.convert import sources as s


def test_convert_prints_the_mapping_and_the_next_step(here, capsys):
    s.cvat_xml(here / "export")
    assert main(["data", "convert", "export", "--out", "mine", "--merge", "car=vehicle"]) == EXIT_OK
    page = capsys.readouterr().out
    assert "vehicle" in page
    assert "hrseg data split mine --val 0.2" in page
    assert len(find_pairs("folder", here / "mine", "train")) == 1
    assert main(["data", "convert", "export", "--out", "other", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["tool"] == "cvat"


def test_a_mistake_is_one_paragraph_and_leaves_nothing(here, capsys):
    s.cvat_xml(here / "export", '<polygon label="car" points="1,1;2,2" z_order="0"/>')
    for words in (
        ["export"],
        ["export", "--tolerance", "2"],
        ["export", "--merge", "car"],
        ["gone"],
        ["export", "--to", "coco"],
    ):
        assert main(["data", "convert", *words, "--out", "mine"]) == EXIT_USAGE
        error = capsys.readouterr().err
        assert error.startswith("hrseg: ")
        assert "Traceback" not in error
    assert [path.name for path in here.iterdir()] == ["export"]


def test_predictions_go_out_and_come_back(here, capsys):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 11, (20, 30)).astype(np.uint8)
    write_image(here / "photos/a.png", np.zeros((20, 30, 3), np.uint8))
    write_mask(here / "hrseg_out/a_mask.png", mask)
    out = ["--images", "photos", "--labels", "camvid"]
    for to, file in (("coco", "c.json"), ("cvat", "c.xml"), ("labelme", "c")):
        assert main(["data", "convert", "hrseg_out", "--to", to, "--out", file, *out]) == EXIT_OK
        assert "1 image as" in capsys.readouterr().out
        assert main(["data", "convert", file, "--out", f"back_{to}", *out]) == EXIT_OK
        assert (read_mask(here / f"back_{to}/masks/train/a.png") == mask).all()


def test_split_stats_and_browse(here, capsys):
    write_scenes(here / "d", "folder", {"train": 8, "val": 2}, (32, 48))
    assert main(["data", "split", "d", "--val", "0.25"]) == EXIT_USAGE
    assert main(["data", "split", "d", "--val", "0.25", "--from", "all"]) == EXIT_OK
    assert "train" in capsys.readouterr().out
    assert len(find_pairs("folder", here / "d", "val")) >= 1
    assert main(["data", "split", "d", "--val", "2"]) == EXIT_USAGE
    assert main(["data", "stats", "d", "--json"]) == EXIT_OK
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"train", "val"}
    words = ["data.crop=[16,32]", "model.weights=null"]
    assert main(["data", "browse", "d", "--images", "2", "--variants", "1", *words]) == EXIT_OK
    assert "<canvas" in (here / "samples.html").read_text()
