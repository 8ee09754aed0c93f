"""From a file of any source to a release that hrseg predicts with: inferred, converted, accounted for."""

import json
import pickle

import numpy as np
import pytest
import torch

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.errors import ConfigError, WeightsError
from hrseg.inference.load_model import open_model
from hrseg.labels import LabelSet, load_labels
from hrseg.models import create_model
from hrseg.weights import load_weights
from hrseg.weights.catalog import row_of
from hrseg.weights.convert import import_weights, read_foreign
from tests.weights import bad_files, spellings
from tests.weights.test_load import logits, network, save

SMALL = "hrnet_w18_small_v1"


def official(tmp_path, name="official.pth", **more):
    source = network(**more)
    return source, save(spellings.as_official(source.state_dict()), tmp_path / name)


def paddle(state, path):
    with path.open("wb") as file:
        pickle.dump(spellings.as_paddle(state), file, protocol=2)
    return path


def card_of(path):
    return json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("backbone", ["hrnet_w18_small_v1", "hrnet_w18_small_v2", "hrnet_w18"])
def test_backbone_head_classes_and_bands_are_read_from_the_shapes(tmp_path, backbone):
    source = create_model(backbone, num_classes=5, in_channels=4)
    foreign = read_foreign(save(spellings.as_official(source.state_dict()), tmp_path / "a.pth"))
    assert foreign.spec == {
        "backbone": backbone,
        "head": "v2",
        "num_classes": 5,
        "in_channels": 4,
        "resize": "bilinear",
    }


@pytest.mark.slow
@pytest.mark.parametrize("head", ["v2", "ocr"])
def test_one_network_from_three_spellings_gives_the_same_logits(tmp_path, head):
    source = network(head=head, padding="same")
    state = source.state_dict()
    files = {
        "official": save(spellings.as_official(state), tmp_path / "a.pth"),
        "mmseg": save({"state_dict": spellings.as_mmseg(state)}, tmp_path / "b.pth"),
        "paddle": paddle(state, tmp_path / "c.pdparams"),
    }
    expected = logits(source, (61, 95))
    for name, path in files.items():
        out = tmp_path / f"{name}.safetensors"
        report = import_weights(path, out, resize="bilinear", padding="same")
        assert len(report.load.matched) == len(state), name
        got = logits(open_model(out).network, (61, 95))
        assert (got - expected).abs().max() / expected.std() < 1e-5, name


def test_what_a_source_needs_is_a_field_of_its_release(tmp_path):
    state = network().state_dict()
    cases = {
        "official": (
            save(spellings.as_official(state), tmp_path / "a.pth"),
            "bilinear",
            "symmetric",
        ),
        "mmseg": (
            save({"state_dict": spellings.as_mmseg(state)}, tmp_path / "b.pth"),
            "bilinear_scaled",
            "symmetric",
        ),
        "PaddleSeg": (paddle(state, tmp_path / "c.pdparams"), "bilinear", "same"),
    }
    for name, (path, resize, padding) in cases.items():
        out = tmp_path / f"{name}.safetensors"
        report = import_weights(path, out)
        built = open_model(out).network
        assert (built.spec["resize"], built.spec["padding"]) == (resize, padding)
        assert report.spec == card_of(out)["network"] == built.spec
    assert card_of(out)["mean"] == card_of(out)["std"] == [0.5, 0.5, 0.5]


def test_the_receipt_says_what_was_assumed_and_why(tmp_path):
    _, path = official(tmp_path, classes=19)
    text = str(import_weights(path, tmp_path / "m.safetensors"))
    for line in (
        "matched     435 of 435 tensors",
        "missing     0",
        "unexpected  0",
        "mis-shaped  0",
        "network     hrnet_w18_small_v1, head v2, 19 classes, 3 bands",
        "resize      bilinear: assumed, since keys cannot show it",
        "padding     symmetric",
        "labels      cityscapes, assumed from its 19 classes",
    ):
        assert line in text
    assert "resize      nearest: as asked for" in str(
        import_weights(path, tmp_path / "m.safetensors", resize="nearest")
    )


def test_a_release_remembers_where_it_came_from(tmp_path):
    _, path = official(tmp_path)
    import_weights(path, tmp_path / "mine.safetensors")
    card = card_of(tmp_path / "mine.safetensors")
    assert card["tag"] == "mine"
    assert card["origin"]["source"] == "official HRNetV2"
    assert len(card["origin"]["files"]["official.pth"]) == 64


def test_a_release_loads_into_a_network_and_defends_its_policy(tmp_path):
    _, path = official(tmp_path)
    import_weights(path, out := tmp_path / "m.safetensors", resize="nearest")
    assert load_weights(network(resize="nearest"), out).notes == ()
    with pytest.raises(WeightsError, match="finished network with resize 'nearest'"):
        load_weights(network(), out)


def test_class_names_of_mmsegmentation_are_kept(tmp_path):
    state = spellings.as_mmseg(network().state_dict())
    meta = {"CLASSES": ("sky", "roof", "wall"), "PALETTE": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}
    path = save({"meta": meta, "state_dict": state}, tmp_path / "a.pth")
    import_weights(path, tmp_path / "a.safetensors", resize="bilinear")
    labels = open_model(tmp_path / "a.safetensors").labels
    assert labels.names == ["sky", "roof", "wall"]
    assert labels.palette.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_class_names_of_a_known_dataset_become_its_table_with_its_ids(tmp_path):
    names = load_labels("cityscapes").names
    state = spellings.as_mmseg(network(classes=19).state_dict())
    meta = {"dataset_meta": {"classes": names}}
    path = save({"meta": meta, "state_dict": state}, tmp_path / "a.pth")
    import_weights(path, tmp_path / "a.safetensors", resize="bilinear")
    labels = open_model(tmp_path / "a.safetensors").labels
    assert labels.decode(np.array([[0]], np.uint8))[0, 0] == 7


def test_unknown_class_counts_are_numbered(tmp_path):
    _, path = official(tmp_path)
    text = str(import_weights(path, tmp_path / "a.safetensors"))
    assert "numbered: no names are known for 3 classes" in text
    assert open_model(tmp_path / "a.safetensors").labels.names == ["class 0", "class 1", "class 2"]


def test_other_labels_need_a_new_classifier(tmp_path):
    _, path = official(tmp_path, classes=19)
    out = tmp_path / "a.safetensors"
    with pytest.raises(WeightsError, match=r"has 19 classes, the labels 'camvid' name 11"):
        import_weights(path, out, labels="camvid")
    assert not out.exists()
    report = import_weights(path, out, labels="camvid", new_classifier=True)
    assert report.load.new == ("head.last_layer.3.weight", "head.last_layer.3.bias")
    assert "433 of 435 tensors" in str(report)
    assert open_model(out).network.num_classes == 11


def test_a_file_without_its_classifier_needs_labels_and_permission(tmp_path):
    state = spellings.as_official(network().state_dict())
    del state["last_layer.3.weight"], state["last_layer.3.bias"]
    path = save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="has no classifier"):
        import_weights(path, tmp_path / "a.safetensors")
    import_weights(path, tmp_path / "a.safetensors", labels="camvid", new_classifier=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda s: s.pop("stage4.0.fuse_layers.3.0.2.1.bias"),
            r"1 missing \(such as backbone\.stage4",
        ),
        (lambda s: s.update(extra=torch.zeros(2)), r"1 unexpected \(such as extra\)"),
        (
            lambda s: s.update({"bn1.bias": torch.zeros(3)}),
            r"1 of another shape .*\(3,\) in the file",
        ),
    ],
    ids=["missing", "unexpected", "mis-shaped"],
)
def test_anything_under_100_per_cent_is_refused_and_nothing_is_written(tmp_path, change, text):
    state = spellings.as_official(network().state_dict())
    change(state)
    with pytest.raises(WeightsError, match=text):
        import_weights(save(state, tmp_path / "a.pth"), tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_an_hrnet_of_a_shape_nobody_published_is_described(tmp_path):
    state = spellings.as_official(network().state_dict())
    state = {k: v for k, v in state.items() if "branches.0.1." not in k}
    with pytest.raises(WeightsError, match=r"another shape: width 16, .* blocks 1"):
        import_weights(save(state, tmp_path / "a.pth"), tmp_path / "a.safetensors")


@pytest.mark.slow
def test_an_imagenet_file_starts_the_official_recipe(tmp_path):
    source = create_model(SMALL, head="classification", num_classes=1000, resize="nearest")
    path = save(spellings.as_official(source.state_dict()), tmp_path / "imagenet.pth")
    target = network(classes=19)
    report = load_weights(target, path)
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)
    assert all(key.startswith("head.last_layer.") for key in report.new)
    assert "trained with resize 'nearest', this network resizes 'bilinear'" in str(report)
    report = import_weights(path, tmp_path / "imagenet.safetensors")
    assert report.spec["head"] == "classification"
    assert report.spec["num_classes"] == 1000
    again = load_weights(network(classes=19), tmp_path / "imagenet.safetensors")
    assert again.new == load_weights(network(classes=19), path).new
    with pytest.raises(WeightsError, match="without a segmentation head"):
        open_model(tmp_path / "imagenet.safetensors")


def test_an_ssld_file_lacks_four_biases_which_are_zero(tmp_path):
    source = create_model(SMALL, head="classification", num_classes=10, resize="nearest").eval()
    bare = ["final_layer.0.bias", *(f"downsamp_modules.{i}.0.bias" for i in range(3))]
    state = spellings.as_official(source.state_dict())
    for key in bare:
        state.pop(key)
    report = import_weights(save(state, tmp_path / "a.pth"), tmp_path / "a.safetensors")
    assert "zero bias for head.downsamp_modules.0.0" in str(report)
    target = create_model(SMALL, head="classification", num_classes=10, resize="nearest").eval()
    assert not load_weights(target, tmp_path / "a.safetensors").new
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(target(image), source(image))  # ours start at zero


def test_a_backbone_alone_is_a_release_for_training(tmp_path):
    source, path = official(tmp_path)
    report = import_weights(path, tmp_path / "b.safetensors", new_head=True)
    assert report.spec["head"] == "none"
    assert "no head" in str(report)
    target = network(classes=19)
    load_weights(target, tmp_path / "b.safetensors")
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)
    with pytest.raises(WeightsError, match=r"model\.weights="):
        open_model(tmp_path / "b.safetensors")


def test_csailvision_comes_as_a_pair(tmp_path):
    source = network(head="c1")
    state = source.state_dict()
    encoder = {spellings.official(k): v for k, v in state.items() if k.startswith("backbone.")}
    decoder = {spellings.official(k): v for k, v in state.items() if k.startswith("head.")}
    pair = [save(encoder, tmp_path / "encoder.pth"), save(decoder, tmp_path / "decoder.pth")]
    report = import_weights(pair, tmp_path / "c.safetensors")
    assert report.spec["head"] == "c1"
    assert torch.equal(logits(open_model(tmp_path / "c.safetensors").network), logits(source))
    with pytest.raises(WeightsError, match="Give the encoder's file too"):
        import_weights(pair[1], tmp_path / "d.safetensors")
    with pytest.raises(WeightsError, match=r"both hold conv1\.weight"):
        import_weights([pair[0], pair[0]], tmp_path / "d.safetensors")


def test_a_checkpoint_of_a_run_becomes_a_release_with_its_labels(tmp_path):
    source = network()
    labels = LabelSet.from_dict({"name": "mine", "labels": [[i, i, n, i, 0, 0] for i, n in enumerate("abc")]})
    entry = {
        "labels": labels.to_dict(),
        "network": source.spec,
        "mean": [0.1] * 3,
        "std": [0.2] * 3,
    }
    state = {f"network.{k}": torch.zeros_like(v) for k, v in source.state_dict().items()}
    state |= {f"ema.module.{k}": v for k, v in source.state_dict().items()}
    path = save({"state_dict": state, "hrseg": entry}, tmp_path / "best.ckpt")
    import_weights(path, tmp_path / "m.safetensors")
    opened = open_model(tmp_path / "m.safetensors")
    assert opened.labels.names == ["a", "b", "c"]
    assert opened.mean == (0.1, 0.1, 0.1)
    assert torch.equal(logits(opened.network), logits(source))


def test_a_baseline_of_a_run_becomes_a_release_too(tmp_path):
    source = create_model("resnet18", head="fpn", num_classes=3)
    labels = {"name": "mine", "labels": [[i, i, n, i, 0, 0] for i, n in enumerate("abc")]}
    entry = {"labels": labels, "network": source.spec, "mean": [0.1] * 3, "std": [0.2] * 3}
    state = {f"network.{k}": v for k, v in source.state_dict().items()}
    path = save({"state_dict": state, "hrseg": entry}, tmp_path / "best.ckpt")
    import_weights(path, tmp_path / "m.safetensors")
    assert open_model(tmp_path / "m.safetensors").network.spec == source.spec


def test_a_release_has_to_be_called_safetensors(tmp_path):
    _, path = official(tmp_path)
    with pytest.raises(ConfigError, match=r"Write it to .*m\.safetensors"):
        import_weights(path, tmp_path / "m.pth")


def test_the_command_prints_the_receipt_and_says_what_next(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    _, path = official(tmp_path, classes=19)
    out = tmp_path / "m.safetensors"
    assert main(["weights", "import", str(path), "--out", str(out)]) == EXIT_OK
    text = capsys.readouterr().out
    assert "matched     435 of 435 tensors" in text
    assert f"hrseg predict IMAGE --model {out}" in text
    assert main(["weights", "import", str(path), "--out", str(out), "--labels", "camvid"]) == EXIT_USAGE
    assert "--new-classifier" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bad_file_is_one_paragraph_and_exit_code_2(tmp_path, capsys):
    _, cut = official(tmp_path)
    cut.write_bytes(cut.read_bytes()[:5000])
    out = tmp_path / "m.safetensors"
    (folder := tmp_path / "bad").mkdir()
    for path in [cut, *map(folder.joinpath, list(bad_files.write_all(folder))[::3])]:
        assert main(["weights", "import", str(path), "--out", str(out)]) == EXIT_USAGE, path
        said = capsys.readouterr()
        assert said.err.startswith("hrseg:"), path
        assert bad_files.MARK not in said.out + said.err
        assert "Traceback" not in said.err
        assert not out.exists()


def test_the_file_itself_is_never_overwritten(tmp_path):
    _, path = official(tmp_path)
    import_weights(path, out := tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="is the file to import"):
        import_weights(out, out)


def test_a_tag_of_the_catalog_opens_as_its_row_says(tmp_path, monkeypatch):
    """Stands in for the download; everything after it is real."""
    source = network(classes=19, backbone="hrnet_w18_small_v2", resize="bilinear")
    path = save({"state_dict": spellings.as_mmseg(source.state_dict())}, tmp_path / "file.pth")
    row = row_of("hrnet_w18_small_v2.mmseg_cityscapes_160k")
    for module in ("foreign", "convert"):
        monkeypatch.setattr(f"hrseg.weights.{module}.resolve_all", lambda _: (path,))
    monkeypatch.setattr("hrseg.inference.load_model.resolve_all", lambda _: (path,))
    opened = open_model(row.tag)
    assert opened.network.spec["resize"] == row.resize == "bilinear_scaled"
    assert opened.labels.name == "cityscapes"
    assert torch.allclose(logits(opened.network), logits(source), atol=1e-5)
    foreign = read_foreign(row.tag)
    assert foreign.policy_reason == "the catalog states it"
    with pytest.raises(WeightsError, match="without a segmentation head"):
        open_model("hrnet_w48.ms_in1k")
    with pytest.raises(WeightsError, match="are for hrnet_w18_small_v2; this network is hrnet_w18_s"):
        load_weights(network(), row.tag)


def test_v1_and_v2_are_told_by_what_their_head_reads(tmp_path):
    source = network(head="v1")
    path = save(source.state_dict(), tmp_path / "v1.pth")
    assert read_foreign(path).spec["head"] == "v1"
    import_weights(path, tmp_path / "v1.safetensors")
    assert torch.equal(logits(open_model(tmp_path / "v1.safetensors").network), logits(source))
    with pytest.raises(WeightsError, match="Only the head differs"):
        load_weights(network(), path)


def test_padding_is_compared_like_the_policy(tmp_path):
    path = paddle(network().state_dict(), tmp_path / "a.pdparams")
    with pytest.raises(WeightsError, match=r"with padding 'same'.*Set model\.padding=same"):
        load_weights(network(), path)
    assert "7 biases" not in str(load_weights(network(padding="same"), path))
    text = str(load_weights(network(), path, new_head=True))
    assert "trained with padding 'same', this network has 'symmetric'" in text
    ocr = paddle(network(head="ocr").state_dict(), tmp_path / "b.pdparams")
    report = load_weights(network(head="ocr", padding="same"), ocr)
    assert "7 biases folded into the norms behind them" in str(report)
