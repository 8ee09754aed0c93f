"""The door for weight files: good ones of every kind come out whole, bad ones stay shut."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hrseg.errors import WeightsError
from hrseg.weights import read_checkpoint
from hrseg.weights.checkpoint_io import NAMES, SLICES
from tests.weights.bad_files import MARK, write_all

# Opens each file of the current folder in one process that may take 1 GB more than it has; prints what it
# said and how much its memory grew.
GUARDED = """
import json, resource, sys
from pathlib import Path
import hrseg.weights.checkpoint_io as files
files.read_checkpoint("good.pth")
files.load_file("good.safetensors")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 10**9
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answers = {}
for name in json.loads(sys.argv[1]):
    try:
        files.read_checkpoint(name)
        answers[name] = "opened"
    except files.WeightsError as error:
        answers[name] = str(error)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
print(json.dumps({"answers": answers, "grown": grown}))
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    words = write_all(folder)
    torch.save({"a": torch.ones(3)}, folder / "good.pth")
    save_file({"a": torch.ones(3)}, folder / "good.safetensors")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", GUARDED, json.dumps(list(words))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, words, json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
class TestBadFiles:
    @pytest.mark.slow
    def test_each_is_one_paragraph_that_says_what_it_is(self, zoo):
        _, words, result = zoo
        for name, word in words.items():
            answer = result["answers"][name]
            assert word in answer, (name, answer)
            assert name.partition("\0")[0] in answer, (name, answer)
            assert "\n" not in answer, (name, answer)
            assert answer.endswith("."), (name, answer)

    @pytest.mark.slow
    def test_none_runs_code(self, zoo):
        assert not (zoo[0] / MARK).exists()

    def test_none_takes_much_memory(self, zoo):
        assert zoo[2]["grown"] < 400_000  # KB; of files of 100 MB and declared sizes of 40 GB

    def test_the_hostile_ones_are_hostile(self, zoo, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pickle.loads((zoo[0] / "evil.pkl").read_bytes())
        assert (tmp_path / MARK).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path):
    torch.save({}, tmp_path / "a.pth")
    (tmp_path / "a.pth").chmod(0)
    with pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickled_dictionary_of_arrays_opens_as_paddle_writes_it(protocol, tmp_path):
    arrays = {
        "conv.weight": np.random.default_rng(0).normal(size=(64, 32, 9)).astype(np.float32),
        "half": np.ones((300, 300), np.float16),
        "step": np.array(3),
        NAMES: {"conv.weight": "conv2d_0.w_0"},
    }
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(arrays, protocol))
    found = read_checkpoint(tmp_path / "a.pdparams")
    assert np.array_equal(found["conv.weight"].numpy(), arrays["conv.weight"])
    assert found["half"].dtype == torch.float16
    assert found["step"].item() == 3
    assert found[NAMES] == arrays[NAMES]


def test_arrays_that_paddle_cut_are_joined(tmp_path):
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    first, second = np.split(whole.ravel(), [5])
    table = {"w": {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.1"]}}
    content = {"w@@.0": first, "w@@.1": second, SLICES: table}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(content, 2))
    found = read_checkpoint(tmp_path / "a.pdparams")
    assert list(found) == ["w"]
    assert np.array_equal(found["w"].numpy(), whole)
    del content["w@@.1"]
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(WeightsError, match="slices of w are not complete"):
        read_checkpoint(tmp_path / "a.pdparams")


def test_the_first_bytes_count_and_not_the_name(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "a.pth")
    torch.save({"a": torch.ones(3)}, tmp_path / "b.safetensors")
    assert read_checkpoint(tmp_path / "a.pth")["state_dict"]["a"].tolist() == [1, 1, 1]
    assert read_checkpoint(tmp_path / "b.safetensors")["a"].tolist() == [1, 1, 1]
