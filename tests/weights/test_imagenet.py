"""An ImageNet backbone by its tag, from a stand-in of the hub on loopback."""

import os

import pytest
import torch
from safetensors.torch import save

from hrseg.errors import WeightsError
from hrseg.models import create_model
from hrseg.weights import load_weights
from tests.weights import server as serve

TAG = "hrnet_w18_small.ms_in1k"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("HRSEG_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name)
    backbone = create_model("hrnet_w18_small_v1", num_classes=2).backbone.state_dict()
    backbone = {key: torch.ones_like(v) if key == "conv1.weight" else v for key, v in backbone.items()}
    backbone = {key: value.contiguous() for key, value in backbone.items()}
    with serve.serving(save({**backbone, "classifier.weight": torch.zeros(1000, 2048)})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HRSEG_CACHE", str(tmp_path / "cache"))
        yield server


def test_a_tag_is_downloaded_once_and_loaded_into_the_backbone(hub):
    for _ in range(2):
        network = create_model("hrnet_w18_small_v1", num_classes=2)
        text = str(load_weights(network, TAG))
        # 64 x 3 x 3 x 3 ones: the served file, not another, is in the stem
        assert network.backbone.conv1.weight.sum().item() == 1728
        assert text.startswith(f"{TAG} (")
        assert "start fresh" in text
        assert "'nearest'" in text
    paths = [request["path"] for request in hub.asked]
    assert paths == [f"/timm/{TAG}/resolve/main/model.safetensors"]


def test_without_a_connection_it_says_what_to_fetch_and_where(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        load_weights(create_model("hrnet_w18_small_v1", num_classes=2), TAG)
    assert f"/timm/{TAG}/resolve/main/model.safetensors" in str(caught.value)
    assert str(tmp_path / "cache" / "weights" / TAG / "model.safetensors") in str(caught.value)


def test_another_backbone_is_refused_before_anything_is_fetched(hub):
    network = create_model("hrnet_w18_small_v2", num_classes=2)
    message = "are for hrnet_w18_small_v1; this network is hrnet_w18_small_v2"
    with pytest.raises(WeightsError, match=message):
        load_weights(network, TAG)
    with pytest.raises(WeightsError, match="Did you mean 'hrnet_w"):
        load_weights(network, "hrnet_w18_smal.ms_in1k")
    assert hub.asked == []
