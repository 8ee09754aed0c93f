import pytest
import torch

from hrseg.errors import ConfigError
from hrseg.inference.prepare import prepare, resolve_device, resolve_precision
from hrseg.models import create_model


def test_fp32_gives_the_networks_own_logits(tiny_network):
    image = torch.rand(1, 3, 65, 70)
    with torch.no_grad():
        expected = tiny_network(image)
    difference = prepare(tiny_network, "cpu", "fp32")(image) - expected
    assert difference.abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("hrnet_w18_small_v1", "v2"), ("hrnet_w18_small_v1", "ocr"), ("mit_b0", "segformer")],
)
def test_bf16_stays_close_gives_float32_and_leaves_the_network_alone(backbone, head):
    network = create_model(backbone, head, num_classes=3).train()
    image = torch.rand(1, 3, 64, 64)
    logits = prepare(network, "cpu", "bf16")(image)
    with torch.no_grad():
        exact = network.eval()(image)
    assert logits.dtype == torch.float32
    assert (logits - exact).abs().max() < 0.1 * exact.std() + 0.05
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_preparing_sets_evaluation_mode_on_the_copy_only(tiny_network):
    tiny_network.train()
    logits = prepare(tiny_network, "cpu", "fp32")
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(logits(image), logits(image))
    assert tiny_network.training


def test_names_are_checked():
    with pytest.raises(ConfigError, match="Unknown precision 'fp64'"):
        resolve_precision("fp64", torch.device("cpu"))
    for name in ("tpu", "cpu:x", "cuda:-1", "cuda:1:2", "", True, -1):
        with pytest.raises(ConfigError, match="Unknown device"):
            resolve_device(name)
    assert resolve_device("cpu").type == resolve_device(torch.device("cpu")).type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "gpu", "cuda:1", "gpu:1", 1, "1", torch.device("cuda", 1)])
def test_a_gpu_has_the_names_that_people_give_it(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device(name) == torch.device("cuda" if name in ("cuda", "gpu") else "cuda:1")
    with pytest.raises(ConfigError, match="torch finds 2 GPUs, counted from 0"):
        resolve_device(2)


def test_apples_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="Apple's GPU, and torch finds none"):
        resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == torch.device("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_explained():
    with pytest.raises(ConfigError, match="finds no GPU"):
        resolve_device("cuda")
