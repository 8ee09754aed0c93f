import pytest
import torch

from hrseg.errors import ConfigError, WeightsError
from hrseg.labels import load_labels
from hrseg.models import create_model
from hrseg.training.build import build_data, build_loss, build_network
from hrseg.training.trainer import (
    quiet_lightning,
)
from hrseg.weights import write_release
from tests.small import small


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


def test_classes_come_from_the_label_table(tmp_path):
    config = small(tmp_path)
    labels = build_data(config).labels
    assert build_network(config, labels).num_classes == labels.num_classes


def test_weights_are_loaded_unless_told(tmp_path):
    config = small(tmp_path)
    labels = build_data(config).labels
    there = create_model("hrnet_w18_small_v1", num_classes=labels.num_classes)
    card = {"network": there.spec, "labels": labels.to_dict(), "mean": [0.0] * 3, "std": [1.0] * 3}
    write_release(tmp_path / "there.safetensors", there.state_dict(), card)
    config = small(tmp_path, f"model.weights={tmp_path / 'there.safetensors'}")
    key = "head.last_layer.3.weight"
    assert torch.equal(build_network(config, labels).state_dict()[key], there.state_dict()[key])
    fresh = build_network(config, labels, load=False)
    assert not torch.equal(fresh.state_dict()[key], there.state_dict()[key])


def test_initialization_follows_the_weights(tmp_path):
    labels = build_data(small(tmp_path)).labels
    scratch = build_network(small(tmp_path), labels)
    tuned = build_network(small(tmp_path, "model.weights=some.ckpt"), labels, load=False)
    assert scratch.backbone.conv1.weight.std() > 0.02
    assert tuned.backbone.conv1.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_class_weights_from_a_list_or_from_the_data(tmp_path):
    data = build_data(small(tmp_path))
    count = data.labels.num_classes
    values = [float(i + 1) for i in range(count)]
    config = small(tmp_path, f"loss.class_weight_values={values}")
    assert build_loss(config, data).class_weights.tolist() == values
    counted = build_loss(small(tmp_path, "loss.class_weights=enet"), data).class_weights
    pixels = torch.as_tensor(data.count_classes()).double()
    assert counted.double() == pytest.approx((1 / (1.02 + pixels / pixels.sum()).log()), rel=1e-5)


def test_wrong_number_of_class_weights(tmp_path):
    config = small(tmp_path, "loss.class_weight_values=[1, 2]")
    with pytest.raises(ConfigError, match="has 2 numbers, the label table has"):
        build_loss(config, build_data(config))


def test_new_head_keeps_the_backbone_of_a_model_with_other_classes(tmp_path):
    source = create_model("hrnet_w18_small_v1", num_classes=4)
    torch.save(source.state_dict(), tmp_path / "four.pth")
    words = (f"model.weights={tmp_path / 'four.pth'}", "model.init=kaiming")
    labels = load_labels("synthetic")
    with pytest.raises(WeightsError, match=r"model\.new_head=true"):
        build_network(small(tmp_path, *words), labels)
    network = build_network(small(tmp_path, *words, "model.new_head=true"), labels)
    assert torch.equal(network.backbone.conv1.weight, source.backbone.conv1.weight)
    assert network.num_classes == labels.num_classes


def test_options_of_the_model_section_reach_the_network(tmp_path):
    words = (
        "model.head=ocr",
        "model.resize=bilinear_scaled",
        "model.padding=same",
        "model.exchange=final",
    )
    more = (
        "model.branches_from_start=true",
        "model.activation=leaky_relu",
        "model.downsample=max_pool",
    )
    spec = build_network(small(tmp_path, *words, *more), load_labels("synthetic")).spec
    assert {word: str(spec[word.split(".")[1].split("=")[0]]).lower() for word in (*words, *more)} == {
        word: word.split("=")[1] for word in (*words, *more)
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.head=classification"], "gives classes of whole images, no logits per pixel"),
        (["model.head=v2p"], r"gives a pyramid.* Heads that can: v1, v2, ocr, c1"),
        (["model.encoder_weights=imagenet"], r"stands on an HRNet\. Set model\.weights"),
        (
            [
                "model.backbone=resnet18",
                "model.head=unet",
                "model.encoder_weights=imagenet",
                "model.weights=a.ckpt",
            ],
            "Keep one of them",
        ),
        (
            ["model.backbone=resnet18", "model.head=unet", "model.padding=same"],
            "stands on no HRNet",
        ),
    ],
)
@pytest.mark.parametrize("load", [False, True])
def test_models_that_cannot_learn_masks_are_refused_in_a_dry_run_too(tmp_path, words, message, load):
    with pytest.raises(ConfigError, match=message):
        build_network(small(tmp_path, *words), load_labels("synthetic"), load=load)


@pytest.mark.parametrize(("load", "asked"), [(True, "imagenet"), (False, None)])
def test_a_dry_run_fetches_no_encoder(tmp_path, monkeypatch, load, asked):
    seen = {}
    monkeypatch.setattr("hrseg.training.build.create_model", lambda *_, **options: seen.update(options))
    words = ("model.backbone=resnet18", "model.head=unet", "model.encoder_weights=imagenet")
    build_network(small(tmp_path, *words), load_labels("synthetic"), load=load)
    assert seen["encoder_weights"] == asked
