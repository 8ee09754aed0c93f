import argparse
import collections
import pathlib
import pickle

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hrseg.weights import read_checkpoint
from hrseg.weights.allowed_globals import Placeholder
from tests.weights.bad_files import torch_legacy, torch_zip


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
    assert found["path"].name in {"pathlib.PurePosixPath", "pathlib._local.PurePosixPath"}  # the latter by Python 3.13
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


def test_strings_of_python_2_open(tmp_path):
    # what cPickle of Python 2 writes for {"a": numpy.array([1.5, 0], "<f4")}
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\0K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        b"\x89U\x08\0\0\xc0?\0\0\0\0tbs."
    )
    (tmp_path / "a.pkl").write_bytes(content)
    assert read_checkpoint(tmp_path / "a.pkl")["a"].tolist() == [1.5, 0]


def test_no_name_of_a_file_reaches_python(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a name was looked up")

    content = pickle.dumps({"n": argparse.Namespace(a=1), "a": np.ones(3)}, 4)
    (tmp_path / "a.pdparams").write_bytes(content)
    monkeypatch.setattr(pickle, "Unpickler", never)
    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(argparse, "Namespace", never)
    assert read_checkpoint(tmp_path / "a.pdparams")["n"].content == {"a": 1}
