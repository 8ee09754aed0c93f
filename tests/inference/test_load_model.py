import json
from pathlib import Path
from typing import Any

import pytest
import torch

import hubconf
from hrseg.errors import HrsegError, WeightsError
from hrseg.evaluation.validate import evaluation_config
from hrseg.inference import load_model
from hrseg.inference.load_model import open_model
from hrseg.inference.model_card import read_card
from hrseg.inference.predictor import from_pretrained
from hrseg.labels import load_labels
from hrseg.models import create_model
from hrseg.training.optim import Ema
from hrseg.weights import write_release
from hrseg.weights.convert import read_foreign
from tests.shapes import STRANGE, changed, nodes
from tests.weights.bad_files import MARK, write_all

LABELS = load_labels("camvid")


def entry(**changes: Any) -> dict[str, Any]:
    """What a run writes into its checkpoints."""
    model = {"backbone": "hrnet_w18_small_v1", "head": "v2", "resize": "bilinear_aligned"}
    content = {
        "version": "0",
        "config": {"model": {**model, "weights": None, "init": "auto"}},
        "labels": LABELS.to_dict(),
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }
    return {**content, **changes}


def network(backbone: str = "hrnet_w18_small_v1", head: str = "v2") -> torch.nn.Module:
    return create_model(backbone, head, 11, "bilinear_aligned").eval()


def save(path: Path, state: dict[str, torch.Tensor], **extra: Any) -> Path:
    torch.save({"state_dict": state, **extra}, path)
    return path


def prefixed(module: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in module.state_dict().items()}


@pytest.mark.parametrize(("backbone", "head"), [("hrnet_w18_small_v1", "v2"), ("resnet18", "unet")])
@pytest.mark.parametrize("averaged", [False, True])
def test_a_checkpoint_gives_back_the_network_that_was_scored(tmp_path, backbone, head, averaged):
    raw, scored = network(backbone, head), network(backbone, head)
    state = prefixed(raw if averaged else scored, "network.")
    if averaged:
        state |= prefixed(Ema(scored, 0.9), "ema.")
    card = entry()
    card["config"]["model"].update(backbone=backbone, head=head)
    opened = open_model(save(tmp_path / "best.ckpt", state, hrseg=card))
    image = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(opened.network(image), scored(image))
    assert opened.network.resize == "bilinear_aligned"
    assert (opened.mean, opened.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert opened.labels == LABELS
    assert opened.config["model"]["backbone"] == backbone


def test_the_folder_of_a_run_means_its_best_checkpoint(tmp_path):
    path = save(tmp_path / "best.ckpt", prefixed(network(), "network."), hrseg=entry())
    assert open_model(tmp_path).source == path


def test_a_release_opens_with_its_card(tmp_path):
    scored = network()
    card = {key: value for key, value in entry().items() if key != "config"}
    write_release(tmp_path / "m.safetensors", scored.state_dict(), {**card, "network": scored.spec})
    opened = open_model(tmp_path / "m.safetensors")
    assert torch.equal(opened.network.backbone.conv1.weight, scored.backbone.conv1.weight)
    assert opened.config == {}


def broken(folder: Path, how: str) -> Path:
    """Make one file of each kind that cannot be a model of ours."""
    path = folder / f"{how}.ckpt"
    state = prefixed(network(), "network.")
    if how == "truncated":
        save(path, state, hrseg=entry())
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "a_photograph":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    elif how == "of_another_program":
        save(path, state, epoch=3)
    elif how == "with_fewer_classes":
        save(path, prefixed(create_model("hrnet_w18_small_v1", "v2", 3), "network."), hrseg=entry())
    elif how == "without_a_mean":
        save(path, state, hrseg={k: v for k, v in entry().items() if k != "mean"})
    elif how == "without_a_card":
        path = folder / "m.safetensors"
        write_release(path, network().state_dict(), {})
        path.with_suffix(".json").unlink()
    elif how == "an_empty_folder":
        path = folder
    return path


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "does not exist"),
        ("truncated", "not a readable checkpoint"),
        ("a_photograph", "is a PNG image, not a checkpoint"),
        ("of_another_program", "was not written by hrseg"),
        ("with_fewer_classes", "size mismatch for head"),
        ("without_a_mean", "has no entry 'mean'"),
        ("without_a_card", "has no card"),
        ("an_empty_folder", "holds no best.ckpt"),
    ],
)
def test_a_file_that_is_no_model_gives_one_clear_paragraph(tmp_path, how, words):
    with pytest.raises(WeightsError) as error:
        open_model(broken(tmp_path, how))
    message = str(error.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 600


def test_an_unknown_tag_is_refused_with_what_there_is():
    with pytest.raises(WeightsError, match=r"Unknown tag 'hrnet_w18.camvit'\. Did you mean"):
        open_model("hrnet_w18.camvit")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["checkpoint", "exported file"])
def test_a_card_of_any_shape_opens_or_is_one_paragraph(tmp_path, monkeypatch, kind):
    scored = create_model("hrnet_w18_small_v1", num_classes=11).eval()
    monkeypatch.setattr(load_model, "create_model", lambda **spec: scored)
    (tmp_path / "m.ckpt").touch()
    card = {**entry(bands=[0, 1, 2], value_range=255.0), "network": dict(scored.spec)}
    card |= {"config": {"data": {"bits": 8}}, "format": 1, "precision": "fp32"}
    card |= {"outputs": {"labels": "uint8"}}
    messages = []
    for path in nodes(card):
        for value in STRANGE:
            content = changed(card, path, value)
            state = {"state_dict": prefixed(scored, "network."), "hrseg": content}
            monkeypatch.setattr(load_model, "read_checkpoint", lambda _, state=state: state)
            try:
                if kind == "checkpoint":
                    evaluation_config(tmp_path / "m.ckpt")
                else:
                    read_card(json.dumps(content), tmp_path / "m.onnx")
            except HrsegError as error:
                messages.append((path, str(error)))
    assert max(len(text) for _, text in messages) < 3000
    assert not any("\n" in text for _, text in messages)
    assert {(), ("labels",), ("mean",), ("std",), ("network",), ("config",)} <= {path[:1] for path, _ in messages}


@pytest.mark.parametrize("text", ["[" * 100_000, "[1, 2]", "3", '{"mean": 1}', "null", "\x00", "{"], ids=range(7))
def test_a_card_that_is_no_table_is_one_paragraph(tmp_path, text):
    write_release(tmp_path / "m.safetensors", network().state_dict(), {})
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(WeightsError, match=r"m\.json") as error:
        open_model(tmp_path / "m.safetensors")
    assert "\n" not in str(error.value)
    # beside weights of another library lies a config of its own, which is no card
    assert read_foreign(tmp_path / "m.safetensors").spec["backbone"] == "hrnet_w18_small_v1"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\0\0\0\x20ftypisom", "is a video"),
        (b"RIFF\0\0\0\0AVI ", "is a video"),
        (b"\x1a\x45\xdf\xa3webm", "is a video"),
    ],
)
def test_a_video_for_a_model_is_named_with_what_a_model_file_is(tmp_path, start, words):
    path = tmp_path / "x.mp4"
    path.write_bytes(start + bytes(2000))
    with pytest.raises(WeightsError, match=rf"x\.mp4 {words}.*\.ckpt, \.pth or \.safetensors"):
        open_model(path)
    with pytest.raises(WeightsError, match=r"No model .*Give a \.ckpt of a run"):
        open_model(tmp_path / "missing.mp4")


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_all(folder)
    return sorted(path for path in folder.iterdir() if path.is_file())


ENTRANCES = {
    "predict": open_model,
    "torch.hub": lambda path: hubconf.hrseg_pretrained(str(path)),
    "torch.hub weights": lambda path: hubconf.hrseg_network("hrnet_w18_small_v1", str(path), num_classes=11),
    "from_pretrained": lambda path: from_pretrained("org/name"),
}


@pytest.mark.slow
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_hostile_file_is_one_paragraph_at_every_entrance(bad, tmp_path, monkeypatch, entrance):
    monkeypatch.chdir(tmp_path)
    # tests/end_to_end/test_bad_weights.py has them all
    for path in bad[::6]:
        given = tmp_path / f"m{'.pdparams' if path.suffix == '.pth' else path.suffix}"
        given.write_bytes(path.read_bytes())
        given.with_suffix(".json").write_text('{"network": {}}')
        monkeypatch.setattr(load_model, "pull", lambda _, given=given: given)
        with pytest.raises(WeightsError) as error:
            ENTRANCES[entrance](given)
        assert "\n" not in str(error.value), path.name
        assert len(str(error.value)) < 1500, path.name
    assert not (tmp_path / MARK).exists()
