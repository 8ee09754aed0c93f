import json
import shutil

import pytest
import torch

from hrseg.errors import WeightsError
from hrseg.weights import read_release, write_release
from tests.weights.test_weights import network


def test_a_release_round_trips_and_a_damaged_one_is_noticed(tmp_path):
    source = network()
    card = {"network": source.spec, "labels": {}, "mean": [0, 0, 0], "std": [1, 1, 1]}
    write_release(tmp_path / "m.safetensors", source.state_dict(), card)
    state, back = read_release(tmp_path / "m.safetensors")
    assert back["network"] == source.spec
    assert torch.equal(state["backbone.conv1.weight"], source.backbone.conv1.weight)
    shutil.copy(tmp_path / "m.json", tmp_path / "other.json")
    write_release(tmp_path / "m.safetensors", network().state_dict(), card)
    shutil.copy(tmp_path / "other.json", tmp_path / "m.json")
    with pytest.raises(WeightsError, match="sha256 differs"):
        read_release(tmp_path / "m.safetensors")
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(WeightsError, match="not readable JSON"):
        read_release(tmp_path / "m.safetensors")
    (tmp_path / "m.json").write_text(json.dumps({"labels": {}}))
    with pytest.raises(WeightsError, match="lacks network"):
        read_release(tmp_path / "m.safetensors")
    (tmp_path / "m.json").unlink()
    with pytest.raises(WeightsError, match="has no card"):
        read_release(tmp_path / "m.safetensors")
