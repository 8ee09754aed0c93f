"""hrseg predict with shards and a manifest, from words to files, with a tiny network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.cli import EXIT_OK, EXIT_PARTIAL, main
from hrseg.inference.outputs import OUTPUTS
from hrseg.inference.outputs.class_areas import read_table
from hrseg.inference.outputs.manifest import read_manifests
from hrseg.labels import Label, LabelSet
from hrseg.weights import write_release

LABELS = LabelSet("own", tuple(Label(10 * i, i, f"c{i}", (i, 9 * i, i)) for i in range(3)))


@pytest.fixture
def model(tiny_network, tmp_path):
    def write(name: str, shift: float = 0.0) -> str:
        state = {key: value.clone() for key, value in tiny_network.state_dict().items()}
        first = next(key for key, value in state.items() if value.is_floating_point())
        state[first] += shift
        card = {
            "network": tiny_network.spec,
            "labels": LABELS.to_dict(),
            "mean": [0.5] * 3,
            "std": [1] * 3,
        }
        write_release(tmp_path / f"{name}.safetensors", state, card)
        return str(tmp_path / f"{name}.safetensors")

    return write


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for place in ("a/x", "a/y", "b/x", "b/z", "b/w"):
        path = tmp_path / "photos" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return str(tmp_path / "photos")


def predict(model, photos, out, *words):
    torch.manual_seed(0)
    plain = ("--device", "cpu", "--precision", "fp32", "--out", str(out))
    return main(["predict", photos, "--model", model, *plain, *words])


def test_shards_give_what_one_machine_gives_and_are_summed_up(model, photos, tmp_path, capsys):
    kinds = ("--save", "mask", "entropy", "areas")
    path = model("m")
    assert predict(path, photos, tmp_path / "one", *kinds) == EXIT_OK
    for shard in ("1/2", "2/2"):
        assert predict(path, photos, tmp_path / "two", *kinds, "--shard", shard) == EXIT_OK
    done = capsys.readouterr()
    assert len(done.out.splitlines()) == 10
    assert predict(path, photos, tmp_path / "two", *kinds, "--resume") == EXIT_OK
    done = capsys.readouterr()
    assert done.out == ""
    assert "5 images done before and skipped" in done.err
    one = {p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("*.*")}
    for place, content in one.items():
        assert (tmp_path / "two" / place).read_bytes() == content, place
    assert read_table(tmp_path / "two" / "areas.json")["images"] == 5
    assert read_table(tmp_path / "two" / "areas-1-of-2.json")["images"] == 3


def test_a_broken_image_is_tried_again_and_another_model_does_all_again(model, photos, tmp_path, capsys):
    path = model("m")
    broken = tmp_path / "photos/a/broken.png"
    broken.write_bytes(b"\x89PNG")
    assert predict(path, photos, tmp_path / "out", "--resume") == EXIT_PARTIAL
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(broken)
    capsys.readouterr()
    assert predict(path, photos, tmp_path / "out", "--resume") == EXIT_OK
    assert capsys.readouterr().out.startswith(str(broken))
    assert predict(model("n", 1e-3), photos, tmp_path / "out", "--resume") == EXIT_OK
    assert "done again: 6 made with another model" in " ".join(capsys.readouterr().err.split())


def test_every_kind_at_once_from_the_command_line(model, photos, tmp_path, capsys):
    words = ("--save", *OUTPUTS, "--classes", "c2", "c0", "--pixel-size", "0.5", "--json")
    assert predict(model("m"), f"{photos}/a/x.png", tmp_path / "out", *words) == EXIT_OK
    record = json.loads(capsys.readouterr().out)
    assert list(record["files"]) == list(OUTPUTS)
    stored = np.load(tmp_path / "out" / "x_probabilities.npz")
    assert stored["classes"].tolist() == ["c2", "c0"]
    assert read_table(tmp_path / "out" / "x_areas.json")["square_meters"] == 150


# Killed without warning, at the moments when a file is forced to disk. Each attempt is a fork of one process, so that
# torch is imported once; SIGKILL leaves no time to tidy up.

SCRIPT = """
import os, signal, sys
import hrseg.cli, hrseg.inference.predict_files
from hrseg.inference.outputs import manifest as job

*words, = sys.argv[1:]
fsync = os.fsync


def attempt(number):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    calls = []

    def dying(file):
        calls.append(file)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    os.fsync = dying
    os._exit(hrseg.cli.main(words))


for number in (4, 7):
    assert attempt(number) == -signal.SIGKILL, number
print("at last", attempt(None))
"""


@pytest.mark.slow
def test_a_batch_killed_again_and_again_loses_and_doubles_nothing(model, photos, tmp_path, capsys):
    path, out = model("m"), tmp_path / "out"
    words = ("--save", "mask", "areas", "--resume")
    plain = ("--device", "cpu", "--precision", "fp32", "--out", str(out))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "predict", photos, "--model", path, *plain, *words],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # the network is too small for more
    )
    assert "at last 0" in done.stdout, done.stdout + done.stderr
    assert predict(path, photos, tmp_path / "whole", "--save", "mask", "areas") == EXIT_OK
    capsys.readouterr()
    lines = [line["name"] for line in read_manifests(out) if "name" in line]
    assert sorted(lines) == ["a/x", "a/y", "b/w", "b/x", "b/z"]
    for file in (tmp_path / "whole").rglob("*.*"):
        assert file.read_bytes() == (out / file.relative_to(tmp_path / "whole")).read_bytes()
    left = {file.name for file in out.rglob("*.*")}  # nothing half written, hidden or not
    assert left == {file.name for file in (tmp_path / "whole").rglob("*.*")} | {"manifest.jsonl"}
    assert predict(path, photos, out, *words) == EXIT_OK
    assert "5 images done before" in capsys.readouterr().err
