import re
from pathlib import Path

import pytest
import torch

import hrseg
from hrseg.data.synthetic import write_scenes
from hrseg.errors import ConfigError
from hrseg.evaluation.validate import evaluate, evaluation_config


def test_evaluate_repeats_the_score_of_the_run(finished):
    result = evaluate(str(finished.run_dir / "best.ckpt"))
    assert result.metrics["miou"] == pytest.approx(finished.best_score, abs=1e-7)
    assert result.text.startswith(finished.table)
    assert re.search(r"\nAll in per cent, over \d+ images of the split 'val'$", result.text)


def test_evaluation_config_forgets_the_devices_of_the_training(tmp_path, finished):
    path = tmp_path / "far.ckpt"
    content = torch.load(finished.run_dir / "best.ckpt", weights_only=True)
    content["hrseg"]["config"]["trainer"].update(devices=64, strategy="ddp")
    torch.save(content, path)
    config = evaluation_config(str(path), ["evaluation.overlap=0.25"])
    assert (config.trainer.devices, config.trainer.strategy) == ("auto", "auto")
    assert config.evaluation.overlap == 0.25
    assert config.data.scene_size == (32, 64)


def test_model_and_data_with_other_classes(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"has 9 classes .*, the data have 11"):
        evaluate(str(finished.run_dir / "best.ckpt"), overrides=["data.labels=camvid"])


def test_a_class_by_another_name_is_named(finished, tmp_path):
    rows = (Path(hrseg.__file__).parent / "labels/builtin/synthetic.csv").read_text(encoding="utf-8")
    table = tmp_path / "mine.csv"
    table.write_text(rows.replace("road", "street", 1), encoding="utf-8")
    expected = r"classes differently: 'road' there is 'street' here\. If it is the same class"
    with pytest.raises(ConfigError, match=expected):
        evaluate(str(finished.run_dir / "best.ckpt"), overrides=[f"data.labels={table}"])


def test_test_writes_predictions(finished, tmp_path):
    evaluate(str(finished.run_dir / "best.ckpt"), "test", out=tmp_path / "out")
    assert (tmp_path / "out" / "test" / "scene_00000.png").is_file()


def test_a_recipe_brings_data_and_options_and_the_model_its_mean(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "data: {layout: synthetic, scene_size: [64, 64]}\ntrainer: {max_epochs: 3}\n"
        "evaluation: {protocol: tta, precision: fp32}\n"
    )
    config = evaluation_config(None, ["data.scenes=8"], str(tmp_path / "mine.yaml"))
    assert (config.data.layout, config.data.scenes) == ("synthetic", 8)
    assert config.evaluation.protocol == "tta"
    assert config.data.mean == pytest.approx((0.485, 0.456, 0.406))
    assert evaluation_config(None).data.layout == "camvid"


def test_images_that_the_model_learned_from_are_told(tmp_path, caplog):
    write_scenes(tmp_path, "camvid", {"train": 2, "val": 1}, (32, 64))
    for split, told in (("val", False), ("train", True)):
        caplog.clear()
        evaluate("hrnet_w18_small_v1.camvid", "val", [f"data.root={tmp_path}", f"data.val_split={split}"])
        assert ("2 of 2 images of the split are training images" in caplog.text) is told
