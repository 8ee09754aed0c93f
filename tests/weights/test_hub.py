"""Sharing through the hub's own client, against a stand-in of the hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load, save

import hrseg
from hrseg.errors import MissingExtraError, WeightsError
from hrseg.inference.load_model import open_model
from hrseg.inference.predict_files import from_pretrained
from hrseg.weights import hub as client
from hrseg.weights import read_release
from hrseg.weights.hub import check_terms, page
from tests.weights.hub_server import TOKEN, Hub, release, serving

pytest.importorskip("huggingface_hub")
SHIPPED = "hrnet_w18_small_v1.camvid"
# Tries each call and prints a line of JSON for it: what it gave, or what a user would read.
SCRIPT = """
import json, sys, time
import torch, hrseg
from hrseg.cli import main

time.sleep = lambda seconds: None  # the client waits for half a minute before it gives up

def logits(predictor):
    torch.manual_seed(0)
    with torch.inference_mode():
        return predictor.network(torch.randn(1, 3, 64, 96)).flatten()[:50].tolist()

def weights(name):
    network = hrseg.create_model("hrnet_w18_small_v1", num_classes=11)
    return str(hrseg.load_weights(network, name))

for call in sys.argv[1:]:
    try:
        print("@", json.dumps(eval(call)), flush=True)
    except hrseg.HrsegError as error:
        print("@", json.dumps(f"refused: {error}"), flush=True)
"""


def run(hub_url: str, home: Path, *calls: str, token: str = "", **more: str) -> list:
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_TOKEN": token} if token else {}
    environment |= {"HRSEG_CACHE": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *calls],
        env=environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line[2:] for line in done.stdout.splitlines() if line.startswith("@ ")]
    return [*map(json.loads, lines), done.stderr]


@pytest.fixture(scope="module")
def hub():
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def pushed(hub: Hub, tmp_path_factory):
    home = tmp_path_factory.mktemp("push") / "home"
    push = f"main(['weights', 'push', '{SHIPPED}', '--to', 'org/camvid'])"
    code, *_, said = run(hub.url, home, push, token=TOKEN)
    assert code == 0, said
    return hub


def files_of(hub: Hub, name: str) -> dict[str, bytes]:
    return hub.repositories[name][hub.refs[name]["main"]]


@pytest.mark.slow
def test_a_push_is_one_commit_of_weights_card_and_page(pushed):
    files = files_of(pushed, "org/camvid")
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert pushed.messages == ["hrnet_w18_small_v1 for camvid"]
    assert pushed.made["org/camvid"]["organization"] == "org"
    state, card = read_release(hrseg.weights.packaged_models()[SHIPPED])
    assert all(torch.equal(value, state[key]) for key, value in load(files["model.safetensors"]).items())
    shared = json.loads(files["config.json"])
    assert shared["network"] == card["network"]
    assert shared["sha256"] == card["sha256"]
    assert shared["tag"] == "camvid"


def test_the_page_has_terms_scores_and_three_lines_of_use(pushed):
    text = files_of(pushed, "org/camvid")["README.md"].decode()
    _, front, body = text.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "mit"
    assert front["datasets"] == ["camvid"]
    result = front["model-index"][0]["results"][0]
    assert result["metrics"] == [{"type": "mean_iou", "name": "mIoU", "value": 65.65}]
    assert 'hrseg.from_pretrained("org/camvid")' in body
    assert "| pole | 14.45 |" in body
    assert "resize policy | bilinear" in body
    assert "the images are free for research" in body


@pytest.mark.slow
def test_what_was_pushed_gives_the_same_logits(pushed, tmp_path):
    start = len(pushed.asked)
    first, cli, weights, pulled, again, _ = run(
        pushed.url,
        tmp_path / "home",
        "logits(hrseg.from_pretrained('org/camvid'))",
        "logits(hrseg.open_predictor('hf:org/camvid'))",
        "weights('hf:org/camvid')",
        "main(['weights', 'pull', 'hf:org/camvid'])",
        "logits(hrseg.from_pretrained('hf:org/camvid'))",
    )
    network = open_model(SHIPPED).network
    torch.manual_seed(0)
    with torch.inference_mode():
        own = network(torch.randn(1, 3, 64, 96)).flatten()[:50].tolist()
    assert first == cli == again
    assert torch.allclose(torch.tensor(first), torch.tensor(own), atol=1e-5)
    assert "hf:org/camvid: 435 tensors loaded" in weights
    assert pulled == 0
    fetched = [line for line in pushed.asked[start:] if line.startswith("GET")]
    assert sum("model.safetensors" in line for line in fetched) == 1


@pytest.mark.slow
def test_a_revision_stays_what_it_was(pushed, tmp_path):
    old = pushed.refs["org/camvid"]["main"]
    files = files_of(pushed, "org/camvid")
    pushed.put("org/other", files)
    kept = pushed.refs["org/other"]["main"]
    pushed.put("org/other", {"config.json": b"{}"})
    assert old
    new, before, none, _ = run(
        pushed.url,
        tmp_path / "home",
        "logits(hrseg.from_pretrained('org/other'))",
        f"len(logits(hrseg.from_pretrained('org/other', '{kept}'))) and 'same'",
        "logits(hrseg.from_pretrained('org/other', 'v9'))",
    )
    assert "config.json lacks network" in new
    assert before == "same"
    assert "org/other has no revision 'v9'" in none


@pytest.mark.slow
def test_without_a_connection_the_cache_answers_or_says_what_to_bring(pushed, tmp_path):
    home = tmp_path / "home"
    online, _ = run(pushed.url, home, "logits(hrseg.from_pretrained('org/camvid'))")
    for variable in ("HF_HUB_OFFLINE", "HRSEG_OFFLINE"):
        here, absent, push, _ = run(
            pushed.url,
            home,
            "logits(hrseg.from_pretrained('org/camvid'))",
            "logits(hrseg.from_pretrained('org/absent'))",
            f"__import__('importlib').import_module('hrseg.export.push_to_hub').push_model('{SHIPPED}', 'org/x')",
            **{variable: "1"},
        )
        assert here == online
        assert f"hf:org/absent is not in the cache, and {variable} is set" in absent
        assert "model.safetensors and config.json from http" in absent
        assert f"{variable} is set. Unset it" in push


@pytest.mark.slow
def test_failures_are_one_paragraph_each(pushed, tmp_path):
    files = files_of(pushed, "org/camvid")
    pushed.put("org/secret", files)
    pushed.private.add("org/secret")
    pushed.put("org/cut", files)
    pushed.cut.add("org/cut")
    pushed.put("org/bare", {"README.md": b"# nothing"})
    evil = {"model.safetensors": b"\xff" * 64, "config.json": b"{}"}
    pushed.put("org/evil", evil)
    pushed.locked.add("org/locked")
    calls = {
        "logits(hrseg.from_pretrained('org/absent'))": "hf:org/absent is not on the hub, or not for",
        "logits(hrseg.from_pretrained('org/secret'))": "log in with `hf auth login` or set HF_TOKEN",
        "logits(hrseg.from_pretrained('org/cut'))": "Could not fetch hf:org/cut",
        "logits(hrseg.from_pretrained('org/bare'))": "hf:org/bare holds no model.safetensors",
        "logits(hrseg.from_pretrained('org/evil'))": "not a readable checkpoint: its header",
        "logits(hrseg.from_pretrained('camvid'))": "'camvid' is no model of the Hugging Face hub",
        "logits(hrseg.from_pretrained('org/../x'))": "is no model of the Hugging Face hub",
    }
    *answers, _ = run(pushed.url, tmp_path / "home", *calls)
    for answer, words in zip(answers, calls.values(), strict=True):
        assert answer.startswith("refused: "), answer
        assert words in answer, answer
        assert "\n" not in answer
    push = "main(['weights', 'push', '%s', '--to', '%s'])"
    code, said = run(pushed.url, tmp_path / "home", push % (SHIPPED, "org/new"))
    assert code == 2
    assert "hf:org/new cannot be written: no user is logged in" in " ".join(said.split())
    code, said = run(pushed.url, tmp_path / "home", push % (SHIPPED, "org/locked"), token=TOKEN)
    assert code == 2
    assert "This account may not push hf:org/locked (403)" in " ".join(said.split())
    secret, nowhere, said = (
        *run(pushed.url, tmp_path / "home", "len(logits(hrseg.from_pretrained('org/secret')))", token=TOKEN)[:1],
        *run("http://127.0.0.1:9", tmp_path / "home", "logits(hrseg.from_pretrained('org/gone'))"),
    )  # fmt: skip
    assert secret == 50
    assert "hf:org/gone is not in the cache, and http://127.0.0.1:9 cannot be reached" in nowhere


def test_without_the_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install '.*\[hub\]'"):
        from_pretrained("org/name")


def test_weights_of_another_library_load_without_a_card(tmp_path, monkeypatch):
    network = hrseg.create_model("hrnet_w18_small_v1", num_classes=2)
    trunk = {k.removeprefix("backbone."): v.contiguous() for k, v in network.state_dict().items() if "backbone." in k}
    (tmp_path / "model.safetensors").write_bytes(save(trunk))
    (tmp_path / "config.json").write_text('{"architecture": "hrnet_w18_small"}')
    for module in ("hrseg.weights.foreign", "hrseg.weights.catalog", "hrseg.inference.load_model"):
        monkeypatch.setattr(f"{module}.pull", lambda _: tmp_path / "model.safetensors")
    target = hrseg.create_model("hrnet_w18_small_v1", num_classes=2)
    hrseg.load_weights(target, "hf:timm/hrnet_w18_small")
    assert torch.equal(target.backbone.conv1.weight, network.backbone.conv1.weight)
    with pytest.raises(WeightsError, match=r"config\.json lacks network"):
        open_model("hf:timm/hrnet_w18_small")


def test_terms_are_found_under_either_spelling():
    check_terms({"license": "MIT", "data_terms": "x"}, "a")
    check_terms({"licence": "MIT", "data_terms": "x"}, "a")


def test_a_page_of_an_imported_model_names_its_source(tmp_path):
    origin = {"source": "mmsegmentation", "files": {"fcn.pth": "0" * 64}, "resize": "by its source"}
    _, card = read_release(release(tmp_path, origin=origin, licence="apache-2.0", data_terms="x"))
    assert "Imported from a file of mmsegmentation (`fcn.pth`)" in page(card, "org/name")


def test_only_hf_names_are_looked_up_on_the_hub(monkeypatch):
    monkeypatch.setattr(client, "_client", lambda: pytest.fail("a path was looked up on the hub"))
    with pytest.raises(WeightsError, match="hf:org/name of the hub"):
        open_model("runs/demo")
