"""The real download code against a stand-in of the hub on loopback."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

TAG = "hrnet_w18_small.ms_in1k"
SCRIPT = f"""
import hrseg, torch
network = hrseg.create_model("hrnet_w18_small_v1", num_classes=2)
try:
    print(hrseg.load_weights(network, "{TAG}"))
    print("stem", round(network.backbone.conv1.weight.sum().item(), 3))
except hrseg.HrsegError as error:
    print("refused:", error)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers what the hub's client asks for one file: its headers, then its bytes."""

    file: Path
    asked: list[str]

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        if self._answer():
            self.wfile.write(self.file.read_bytes())

    def _answer(self):
        self.asked.append(f"{self.command} {self.path}")
        found = self.path.split("?")[0] == f"/timm/{TAG}/resolve/main/model.safetensors"
        self.send_response(200 if found else 404)
        if found:
            content = self.file.read_bytes()
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Content-Length", "0")
        self.end_headers()
        return found

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path):
    timm = pytest.importorskip("timm")
    Hub.file, Hub.asked = tmp_path / "model.safetensors", []
    network = timm.create_model("hrnet_w18_small", pretrained=False)
    torch.nn.init.ones_(network.conv1.weight)
    save_file(network.state_dict(), Hub.file)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def load(endpoint, home, **more):
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HRSEG_CACHE": str(home),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout + done.stderr[-2000:] * (done.returncode != 0)


def test_a_tag_is_downloaded_once_and_loaded_into_the_backbone(hub, tmp_path):
    text = load(hub, tmp_path / "cache")
    # 64 x 3 x 3 x 3 ones: the served file, not another, is in the stem
    assert "stem 1728.0" in text
    assert f"{TAG} (ImageNet classification" in text
    assert "start fresh" in text
    first = sum(line.startswith("GET") and "resolve" in line for line in Hub.asked)
    assert "stem 1728.0" in load(hub, tmp_path / "cache")
    assert sum(line.startswith("GET") and "resolve" in line for line in Hub.asked) == first == 1


def test_without_a_connection_it_says_what_to_fetch_and_where(tmp_path):
    text = load("http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert f"refused: {TAG} is not in the cache" in text
    assert f"https://huggingface.co/timm/{TAG}" in text
