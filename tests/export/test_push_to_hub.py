import json

import pytest
import torch
from safetensors.torch import load

import hrseg
from hrseg.errors import WeightsError
from hrseg.export.push_to_hub import _without_paths, push_model
from tests.weights.hub_server import release


def test_a_model_without_terms_is_not_pushed(tmp_path):
    file = release(tmp_path)
    with pytest.raises(WeightsError, match=r"lacks a license for the weights and the terms of the"):
        push_model(file, "org/mine", send=False)
    with pytest.raises(WeightsError, match=r"lacks the terms of the data .* --data-terms"):
        push_model(file, "org/mine", licence="mit", send=False)
    shared = push_model(file, "org/mine", licence="Own-1.0", data_terms="mine", send=False)
    assert "license: other\nlicense_name: Own-1.0\n" in shared.page
    assert "None was measured" in shared.page
    assert "a\\|b" in shared.page
    assert shared.url == ""


def test_what_is_on_the_hub_is_not_pushed_again():
    with pytest.raises(WeightsError, match="is on the hub already"):
        push_model("hf:org/name", "org/other")


def test_a_run_becomes_a_release_with_its_own_scores(tmp_path):
    network = hrseg.create_model("hrnet_w18_small_v1", num_classes=2)
    labels = {"name": "mine", "labels": [[0, 0, "road", 1, 2, 3], [1, 1, "dark sky", 4, 5, 6]]}
    entry = {
        "config": {
            "data": {"root": "/home/me/secret/data", "crop": [1, 2]},
            "run": {"dir": "runs"},
        },
        "labels": labels,
        "network": dict(network.spec),
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "miou": 0.775,
        "version": "0.1.0",
    }
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "hrseg": entry, "epoch": 3}, tmp_path / "best.ckpt")
    table = (
        "class        IoU  precision  recall     F1  share\n"
        "road       75.00     100.00   75.00  85.71  50.00\n"
        "dark sky       -          -       -      -   0.00\n\n"
        "mIoU 77.50 % over 1 of 2 classes, pixel accuracy 87.50 %, mean accuracy 87.50 %\n"
    )
    (tmp_path / "per_class.txt").write_text(table)
    sent = {}

    def keep(files, to, **_):
        sent.update({name: c if isinstance(c, bytes) else c.read_bytes() for name, c in files.items()})
        return f"https://hub/{to}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hrseg.export.push_to_hub.push", keep)
        shared = push_model(tmp_path, "org/mine", licence="mit", data_terms="mine")
    assert shared.url == "https://hub/hf:org/mine"
    assert "| road | 75.00 |" in shared.page
    assert "| dark sky | - |" in shared.page
    assert "mIoU **77.50**" in shared.page
    card = json.loads(sent["config.json"])
    assert card["config"]["data"]["root"] == "data"
    assert "secret" not in sent["config.json"].decode()
    assert torch.equal(load(sent["model.safetensors"])["backbone.conv1.weight"], network.backbone.conv1.weight)
    (tmp_path / "per_class.txt").write_text(table.replace("77.50 % over", "70.00 % over"))  # of other weights
    assert "| road |" not in push_model(tmp_path, "o/m", licence="mit", data_terms="m", send=False).page


def test_paths_of_this_machine_stay_here():
    card = {
        "a": "/home/me/x.pth",
        "b": ["C:\\data\\y", "relative/z", "~/w/"],
        "c": {"d": "\\\\server\\v"},
    }
    expected = {"a": "x.pth", "b": ["y", "relative/z", "w"], "c": {"d": "v"}}
    assert _without_paths(card) == expected
