import pytest
import torch

from hrseg.errors import WeightsError
from hrseg.weights import load_weights
from tests.weights import spellings
from tests.weights.test_load import logits, network, save


def test_in_place_norms_of_torch_0_4_1_become_plain_ones(tmp_path):
    source = network()
    state = {k: v for k, v in spellings.as_official(source.state_dict()).items() if "num_batches" not in k}
    norms = [k.removesuffix("running_var") + "weight" for k in state if k.endswith("running_var")]
    for name in norms:
        state[name] = state[name] - 1e-5
        state[name][::3] *= -1
    report = load_weights(target := network(), save({"state_dict": state}, tmp_path / "old.pth"))
    assert torch.allclose(logits(target), logits(source), atol=1e-6)
    negative = sum(len(state[name][::3]) for name in norms)
    assert "72 norms of torch 0.4.1's in-place layer converted" in str(report)
    assert f"({negative:,} were negative)" in str(report)


@pytest.mark.parametrize("container", ["state_dict", "model_state_dict", "model", "state_dict_ema"])
def test_containers_and_stacked_wrappers_are_opened(tmp_path, container):
    source, target = network(), network(classes=3)
    state = {f"module.model.{k}": v for k, v in spellings.as_official(source.state_dict()).items()}
    torch.nn.init.zeros_(target.backbone.conv1.weight)
    load_weights(target, save({"epoch": 3, container: state}, tmp_path / "a.pth.tar"))
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)


def test_leftovers_of_csailvision_norms_are_no_part_of_the_network(tmp_path):
    state = spellings.as_official(network().state_dict())
    state |= {"bn1._tmp_running_mean": torch.zeros(64), "bn1._running_iter": torch.ones(1)}
    report = load_weights(network(), save(state, tmp_path / "a.pth"))
    assert report.left_out == ("bn1._tmp_running_mean", "bn1._running_iter")


def test_a_file_of_two_networks_is_refused(tmp_path):
    state = spellings.as_official(network().state_dict())
    path = save({**state, "module.conv1.weight": state["conv1.weight"]}, tmp_path / "two.pth")
    with pytest.raises(WeightsError, match=r"conv1\.weight twice, the second time as module\.conv1"):
        load_weights(network(), path)
