"""The door for weight files: good ones of every kind come out whole, bad ones stay shut."""

import argparse
import collections
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from hrseg.errors import WeightsError
from hrseg.weights import read_checkpoint
from hrseg.weights.allowed_globals import Placeholder
from hrseg.weights.checkpoint_io import NAMES, SLICES
from tests.weights.bad_files import MARK, torch_legacy, torch_zip, write_all

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


EVERY_TYPE = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool, torch.complex64),
)


def checkpoint():
    """Tensors as they occur: of every type, shared, of other strides, empty, scalars, in odd containers."""
    shared = torch.arange(24.0)
    state = collections.OrderedDict((str(t), torch.ones(2, 3).to(t)) for t in EVERY_TYPE)
    state |= {"a": shared.view(4, 6).t(), "b": shared[5:9], "empty": torch.empty(0, 4)}
    state |= {"scalar": torch.tensor(7), "parameter": torch.nn.Parameter(torch.randn(3))}
    return {
        "state_dict": state,
        "epoch": 484,
        "big": 2**100,
        "best": 0.81,
        "names": ("road", ["Weg", b"\0\xff", None, True]),
        "by_number": {0: {"a", "b"}, (1, 2): torch.Size([3])},
        "device": torch.device("cpu"),
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        return torch.equal(one.detach(), other.detach())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or str(one) == other


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_checkpoint_comes_out_as_it_was_written(write, tmp_path):
    value = checkpoint()
    if write is torch_legacy:  # the old format has no storage for this type
        del value["state_dict"]["torch.uint16"]
    (tmp_path / "a.pth").write_bytes(write(value))
    assert same(value, read_checkpoint(tmp_path / "a.pth"))


def test_tensors_are_on_the_cpu_and_may_be_changed(tmp_path):
    torch.save({"a": torch.ones(2), "n": argparse.Namespace()}, tmp_path / "a.pth")
    read_checkpoint(tmp_path / "a.pth")["a"].add_(1)


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_numpy_in_a_torch_file_comes_out_plain(write, tmp_path):
    meta = {
        "score": np.float64(81.6),
        "name": np.str_("road"),
        "palette": np.array([[1, 2], [3, 4]], dtype=">i2"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "flags": np.array([True, False]),
    }
    (tmp_path / "a.pth").write_bytes(write({"meta": meta, "state_dict": {"w": torch.ones(2)}}))
    found = read_checkpoint(tmp_path / "a.pth")["meta"]
    assert (found["score"], found["name"]) == (81.6, "road")
    assert found["palette"].tolist() == [[1, 2], [3, 4]]
    assert found["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["flags"].tolist() == [True, False]


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_known_classes_come_out_inert(write, tmp_path):
    value = {
        "arguments": argparse.Namespace(lr=0.01, steps=[1, 2]),
        "path": pathlib.PurePosixPath("a/b"),
        "counts": collections.defaultdict(int, {"road": 3}),
        "state_dict": {"w": torch.arange(3)},
    }
    (tmp_path / "a.pth").write_bytes(write(value))
    found = read_checkpoint(tmp_path / "a.pth")
    assert isinstance(found["arguments"], Placeholder)
    assert found["arguments"].name == "argparse.Namespace"
    assert found["arguments"].content == {"lr": 0.01, "steps": [1, 2]}
    assert found["path"].name == "pathlib.PurePosixPath"
    assert found["counts"] == {"road": 3}
    assert found["state_dict"]["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_config_of_omegaconf_comes_out_inert_beside_its_weights(write, tmp_path):
    config = OmegaConf.create({"model": {"width": 48, "stages": [1, 4, 3]}, "w": "${model.width}"})
    content = {"cfg": config, "list": config.model.stages, "state_dict": {"w": torch.arange(3)}}
    (tmp_path / "a.pth").write_bytes(write(content))
    found = read_checkpoint(tmp_path / "a.pth")
    assert found["state_dict"]["w"].tolist() == [0, 1, 2]
    assert found["cfg"].name == "omegaconf.dictconfig.DictConfig"
    assert found["list"].name == "omegaconf.listconfig.ListConfig"
    nodes = found["cfg"].content["_content"]
    assert nodes["w"].content["_val"] == "${model.width}"
    assert nodes["model"].content["_content"]["width"].content["_val"] == 48
    assert nodes["w"].content["_parent"] is found["cfg"]  # a circle
    assert "DictConfig" in repr(found["cfg"])


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


def test_strings_of_python_2_open(tmp_path):
    # what cPickle of Python 2 writes for {"a": numpy.array([1.5, 0], "<f4")}
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        b"\x89U\x08\0\0\xc0?\0\0\0\0tbs."
    )
    (tmp_path / "a.pkl").write_bytes(content)
    assert read_checkpoint(tmp_path / "a.pkl")["a"].tolist() == [1.5, 0]


def test_the_first_bytes_count_and_not_the_name(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "a.pth")
    torch.save({"a": torch.ones(3)}, tmp_path / "b.safetensors")
    assert read_checkpoint(tmp_path / "a.pth")["state_dict"]["a"].tolist() == [1, 1, 1]
    assert read_checkpoint(tmp_path / "b.safetensors")["a"].tolist() == [1, 1, 1]


def test_no_name_of_a_file_reaches_python(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a name was looked up")

    content = pickle.dumps({"n": argparse.Namespace(a=1), "a": np.ones(3)}, 4)
    (tmp_path / "a.pdparams").write_bytes(content)
    monkeypatch.setattr(pickle, "Unpickler", never)
    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(argparse, "Namespace", never)
    assert read_checkpoint(tmp_path / "a.pdparams")["n"].content == {"a": 1}
