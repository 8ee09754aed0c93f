import pickle

import pytest
import torch

from hrseg.errors import WeightsError
from hrseg.models import create_model
from hrseg.weights import load_weights, read_checkpoint


class Evil:
    """Pickles into a call; opening it must not make that call."""

    def __reduce__(self):
        return (print, ("code ran",))


def network(classes=3, backbone="hrnet_w18_small_v1"):
    return create_model(backbone, num_classes=classes)


def test_own_checkpoint_loads_whole(tmp_path):
    source, target = network(), network()
    torch.save(
        {"state_dict": {f"network.{k}": v for k, v in source.state_dict().items()}},
        tmp_path / "a.ckpt",
    )
    report = load_weights(target, tmp_path / "a.ckpt")
    assert len(report.matched) == len(source.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_averaged_weights_win_over_raw_ones(tmp_path):
    raw, averaged, target = network(), network(), network()
    state = {f"network.{k}": v for k, v in raw.state_dict().items()}
    state |= {f"ema.module.{k}": v for k, v in averaged.state_dict().items()}
    state |= {"ema.steps": torch.tensor(3)}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    load_weights(target, tmp_path / "a.ckpt")
    assert torch.equal(target.backbone.conv1.weight, averaged.backbone.conv1.weight)


def test_official_names_with_their_wrapper_and_class_weights_load(tmp_path):
    source, target = network(), network()
    state = {f"model.{k.split('.', 1)[1]}": v for k, v in source.state_dict().items()}
    torch.save({**state, "loss.criterion.weight": torch.ones(3)}, tmp_path / "best.pth")
    report = load_weights(target, tmp_path / "best.pth")
    assert report.left_out == ("loss.criterion.weight",)
    assert torch.equal(target.head.last_layer[3].weight, source.head.last_layer[3].weight)


def test_imagenet_file_keeps_the_new_head_and_says_so(tmp_path):
    source, target = network(), network()
    head = target.head.last_layer[0].weight.clone()
    state = {k.split(".", 1)[1]: v for k, v in source.state_dict().items() if k.startswith("backbone.")}
    state["classifier.weight"] = torch.zeros(1000, 2048)
    torch.save(state, tmp_path / "imagenet.pth")
    text = str(load_weights(target, tmp_path / "imagenet.pth"))
    assert torch.equal(target.head.last_layer[0].weight, head)
    assert "start fresh" in text
    assert "'nearest'" in text


def test_other_class_count_is_refused_and_new_head_accepts_it(tmp_path):
    source, target = network(classes=7), network(classes=3)
    torch.save(source.state_dict(), tmp_path / "seven.pth")
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(WeightsError, match=r"Only the head differs: model\.new_head=true"):
        load_weights(target, tmp_path / "seven.pth")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())
    load_weights(target, tmp_path / "seven.pth", new_head=True)
    assert torch.equal(target.backbone.conv1.weight, source.backbone.conv1.weight)


def test_another_width_is_refused_with_counts(tmp_path):
    torch.save(network(backbone="hrnet_w18_small_v2").state_dict(), tmp_path / "v2.pth")
    with pytest.raises(WeightsError, match=r"of 435 tensors match; .* unexpected .* of another shape"):
        load_weights(network(), tmp_path / "v2.pth")


def test_files_without_batch_counters_are_refused(tmp_path):
    # torch 0.4.1 files with in-place norm use abs(weight); loading them as they are is silently wrong
    state = {k: v for k, v in network().state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "old.pth")
    with pytest.raises(WeightsError, match="72 missing"):
        load_weights(network(), tmp_path / "old.pth")


def test_bad_files_are_one_clear_error_each_and_run_no_code(tmp_path, capsys):
    whole = tmp_path / "whole.ckpt"
    torch.save({"state_dict": network().state_dict()}, whole)
    bad = {
        name: tmp_path / name
        for name in (
            "cut.ckpt",
            "text.ckpt",
            "empty.ckpt",
            "evil.ckpt",
            "evil2.ckpt",
            "cut.safetensors",
            "list.ckpt",
        )
    }
    bad["cut.ckpt"].write_bytes(whole.read_bytes()[:5000])
    bad["text.ckpt"].write_text("not a checkpoint")
    bad["empty.ckpt"].write_bytes(b"")
    torch.save({"state_dict": Evil()}, bad["evil.ckpt"])
    bad["evil2.ckpt"].write_bytes(pickle.dumps(Evil()))
    bad["cut.safetensors"].write_bytes(b"\xff" * 64)
    torch.save([1, 2], bad["list.ckpt"])
    for path in [*bad.values(), tmp_path / "missing.ckpt", tmp_path]:
        with pytest.raises(WeightsError) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_baseline_has_no_head_of_ours_and_loads_whole(tmp_path):
    source, target = (create_model("resnet18", head="fpn", num_classes=3) for _ in range(2))
    torch.save(
        {"state_dict": {f"network.{k}": v for k, v in source.state_dict().items()}},
        tmp_path / "b.ckpt",
    )
    report = load_weights(target, tmp_path / "b.ckpt")
    assert len(report.matched) == len(source.state_dict())
    assert not report.notes
