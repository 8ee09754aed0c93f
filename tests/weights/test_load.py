"""What load_weights accepts, converts, refuses and says."""

import pytest
import torch

from hrseg.errors import WeightsError
from hrseg.models import create_model
from hrseg.weights import load_weights
from tests.weights import spellings


def network(classes=3, backbone="hrnet_w18_small_v1", **more):
    torch.manual_seed(classes)
    built = create_model(backbone, num_classes=classes, **more)
    for module in built.modules():  # norms with a character, so that a swapped one shows
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return built.eval()


def save(state, path):
    torch.save(state, path)
    return path


def logits(built, size=(64, 96)):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return built.forward_all(image)["main"]


def test_official_and_mmseg_files_of_one_network_give_its_logits(tmp_path):
    source = network()
    files = {
        "official": save(spellings.as_official(source.state_dict()), tmp_path / "official.pth"),
        "mmseg": save({"state_dict": spellings.as_mmseg(source.state_dict())}, tmp_path / "mm.pth"),
    }
    expected = logits(source)
    for path in files.values():
        target = network(classes=3, backbone="hrnet_w18_small_v1")
        torch.nn.init.zeros_(target.backbone.conv1.weight)
        load_weights(target, path, resize="bilinear")
        assert (logits(target) - expected).abs().max() / expected.std() < 1e-5


def test_an_official_file_names_the_policy_it_assumes(tmp_path):
    path = save(spellings.as_official(network().state_dict()), tmp_path / "official.pth")
    assert "resize 'bilinear' is assumed, since keys cannot show it" in str(load_weights(network(), path))
    text = str(load_weights(network(resize="bilinear_aligned"), path))
    assert "and this network resizes 'bilinear_aligned'" in text
    assert "assumed" not in str(load_weights(network(), path, resize="bilinear"))


def test_a_finished_network_under_another_policy_is_refused_unless_told(tmp_path):
    card = {"network": network(resize="nearest").spec}
    state = {f"network.{k}": v for k, v in network().state_dict().items()}
    path = save({"state_dict": state, "hrseg": card}, tmp_path / "own.ckpt")
    with pytest.raises(WeightsError, match=r"with resize 'nearest' \(this network 'bilinear'\)"):
        load_weights(network(), path)
    assert load_weights(network(), path, resize="bilinear").notes == ()
    assert load_weights(network(resize="nearest"), path).notes == ()
    assert "was trained with resize 'nearest'" in str(load_weights(network(), path, new_head=True))
    with pytest.raises(WeightsError, match="Build it with create_model"):
        load_weights(network(), path, resize="bilinear_aligned")


def test_the_config_in_a_run_s_checkpoint_knows_its_policy_too(tmp_path):
    model = {"backbone": "hrnet_w18_small_v1", "head": "v2", "resize": "bilinear_aligned"}
    state = {f"network.{k}": v for k, v in network().state_dict().items()}
    path = save({"state_dict": state, "hrseg": {"config": {"model": model}}}, tmp_path / "run.ckpt")
    with pytest.raises(WeightsError, match=r"Set model\.resize=bilinear_aligned, or pass resize="):
        load_weights(network(), path)


def test_an_mmseg_file_knows_its_policy(tmp_path):
    path = save({"state_dict": spellings.as_mmseg(network().state_dict())}, tmp_path / "mm.pth")
    with pytest.raises(WeightsError, match=r"bilinear_scaled.*whole factors"):
        load_weights(network(), path)


def test_new_classifier_keeps_all_but_the_last_layer(tmp_path):
    source, target = network(classes=7), network(classes=3)
    path = save(spellings.as_official(source.state_dict()), tmp_path / "seven.pth")
    before = target.head.last_layer[3].weight.clone()
    with pytest.raises(WeightsError, match="new_classifier=True starts only its last layer"):
        load_weights(target, path)
    report = load_weights(target, path, new_classifier=True)
    assert report.new == ("head.last_layer.3.weight", "head.last_layer.3.bias")
    assert torch.equal(target.head.last_layer[3].weight, before)
    assert torch.equal(target.head.last_layer[0].weight, source.head.last_layer[0].weight)


def test_new_classifier_does_not_excuse_anything_else(tmp_path):
    state = spellings.as_official(network(classes=7).state_dict())
    del state["last_layer.0.weight"]
    path = save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"1 missing \(such as head.last_layer.0.weight\)"):
        load_weights(network(), path, new_classifier=True)


def test_an_smp_encoder_gives_its_backbone_and_its_decoder_is_explained(tmp_path):
    source, target = network(), network()
    state = {
        f"encoder.model.{k.split('.', 1)[1]}": v + 1
        for k, v in source.state_dict().items()
        if k.startswith("backbone.")
    }
    state["encoder.model.incre_modules.0.0.conv1.weight"] = torch.zeros(1)
    state["decoder.blocks.0.conv1.0.weight"] = torch.zeros(1)
    path = save(state, tmp_path / "unet.pth")
    with pytest.raises(WeightsError, match=r"another network than HRNetV2\. Its backbone fits"):
        load_weights(target, path)
    report = load_weights(target, path, new_head=True)
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight + 1)
    assert set(report.left_out) == {
        "encoder.model.incre_modules.0.0.conv1.weight",
        "decoder.blocks.0.conv1.0.weight",
    }


def test_timm_features_are_a_backbone_with_layers_nobody_needs(tmp_path):
    state = {k.split(".", 1)[1]: v for k, v in network().state_dict().items() if k.startswith("backbone.")}
    state["incre_modules.0.0.conv1.weight"] = torch.zeros(1)
    report = load_weights(network(), save(state, tmp_path / "timm.pth"))
    assert report.left_out == ("incre_modules.0.0.conv1.weight",)
    assert "'nearest', this network resizes 'bilinear', as the official recipes do" in str(report)


def test_an_unknown_key_is_refused_and_changes_nothing(tmp_path):
    state = spellings.as_official(network().state_dict())
    state["surprise.weight"] = torch.zeros(1)
    target = network()
    torch.nn.init.ones_(target.backbone.conv1.weight)
    with pytest.raises(WeightsError, match=r"1 unexpected \(such as surprise.weight\)"):
        load_weights(target, save(state, tmp_path / "a.pth"))
    assert (target.backbone.conv1.weight == 1).all()


def test_a_detector_gives_its_backbone_when_asked(tmp_path):
    source, target = network(), network()
    state = {k: v + 1 for k, v in source.state_dict().items() if k.startswith("backbone.")}
    path = save({"state_dict": {**state, "neck.fc.weight": torch.zeros(1)}}, tmp_path / "det.pth")
    with pytest.raises(WeightsError, match=r"neck\.fc\.weight\) are parts of a network"):
        load_weights(target, path)
    assert load_weights(target, path, new_head=True).left_out == ("neck.fc.weight",)
    assert torch.equal(target.backbone.conv1.weight, state["backbone.conv1.weight"])


def test_a_diverged_training_and_a_head_with_aligned_corners_are_mentioned(tmp_path):
    state = spellings.as_mmseg(network().state_dict())
    state["backbone.bn1.weight"][0] = float("nan")
    meta = {"config": "decode_head=dict(align_corners=True)"}
    path = save({"meta": meta, "state_dict": state}, tmp_path / "a.pth")
    text = str(load_weights(network(), path, resize="bilinear"))
    assert "1 tensors hold NaN or infinity (such as backbone.bn1.weight)" in text
    assert "aligns corners in the head" in text
