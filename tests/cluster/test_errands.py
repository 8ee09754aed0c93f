"""What goes to the workers, and what room a cluster has; no cluster is needed."""

import builtins
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest

from hrseg.cluster.errands import LARGEST, errands_of, portable
from hrseg.cluster.machines import Room, joined, need_ray, room
from hrseg.errors import ConfigError, MissingExtraError
from hrseg.inference.sources import Clip, Picture


def node(alive=True, **has):
    return {"Alive": alive, "Resources": {name: float(value) for name, value in has.items()}}


# Errands


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (1, 2), (24, 2), (5000, 3)])
def test_errands_hold_every_picture_once_in_order_and_travel(count, workers):
    pictures = [Picture(f"{i}.png", f"{i}", Path(f"{i}.png")) for i in range(count)]
    known = {"0": [{"name": "0", "made": "x"}]}
    errands = errands_of(pictures, workers, known, first=7)
    assert [one for errand in errands for one in errand.pictures] == pictures
    assert [errand.number for errand in errands] == list(range(7, 7 + len(errands)))
    assert max([len(errand.pictures) for errand in errands], default=0) <= LARGEST
    assert sum(len(errand.known) for errand in errands) == (count > 0)
    assert pickle.loads(pickle.dumps(errands)) == errands


def test_few_pictures_are_spread_over_all_workers():
    pictures = [Picture(f"{i}", f"{i}", Path(f"{i}")) for i in range(24)]
    assert len(errands_of(pictures, 2, {})) == 12
    assert len(errands_of(pictures, 2, {}, largest=1)) == 24


def test_paths_are_those_of_the_shared_disk_and_addresses_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable(Picture("a.png", "a", Path("a.png"))).path == tmp_path / "a.png"
    address = Picture("s3://bucket/a.png", "a", fetch=bytes)
    assert portable(address) is address


@pytest.mark.parametrize(
    "picture",
    [
        Picture("a.mp4#0.00s", "a/0", pixels=np.zeros((2, 2, 3), np.uint8), clip=Clip("a", 25)),
        Picture("a.zip/b.png", "a/b", fetch=bytes),
        Picture("stdin", "stdin", fetch=bytes),
    ],
    ids=lambda picture: picture.name,
)
def test_what_one_machine_reads_is_refused(picture):
    with pytest.raises(ConfigError, match="Predict it without --ray"):
        portable(picture)


# Room


@pytest.mark.parametrize(
    ("nodes", "words", "expected"),
    [
        ([node(CPU=1), node(CPU=1)], {}, Room(2, 1)),
        ([node(CPU=16), node(CPU=4)], {}, Room(5, 4)),  # 4 + 1 of the smallest machine's size
        ([node(CPU=16), node(CPU=4)], {"workers": 2}, Room(2, 8)),
        ([node(CPU=0), node(CPU=8)], {}, Room(1, 8)),  # a head that gives nothing
        ([node(CPU=8), node(CPU=8, alive=False)], {}, Room(1, 8)),
        ([node(CPU=16, GPU=4), node(CPU=6, GPU=2), node(CPU=32)], {}, Room(6, 3, 1)),
        ([node(CPU=16, GPU=4)], {"workers": 3}, Room(3, 4, 1)),
        ([node(CPU=16, GPU=4)], {"device": "cpu"}, Room(1, 16)),
    ],
)
def test_machines_are_divided_among_workers(nodes, words, expected):
    assert room(nodes, **words) == expected


@pytest.mark.parametrize(
    ("nodes", "words", "sentence"),
    [
        ([node(CPU=2)], {"workers": 3}, "3 workers do not fit: the Ray cluster has 2 CPUs"),
        ([node(CPU=9, GPU=1)], {"workers": 2}, "has 1 GPUs"),
        ([node(CPU=2)], {"device": "cuda"}, "no GPU on its 1 machines"),
        ([node(CPU=0)], {}, "no CPU to give"),
    ],
)
def test_too_little_room_is_said(nodes, words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        room(nodes, **words)


@pytest.mark.parametrize("address", ["head", "ray://head:10001", ":6379", "head:0", "head:99999"])
def test_addresses_that_are_none(address):
    with pytest.raises(ConfigError, match=r"such as 10\.0\.0\.1:6379"), joined(address):
        pass


def test_an_address_where_nobody_listens_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match="No Ray cluster at"), joined(f"127.0.0.1:{port}"):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **words):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *rest, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'hrseg\[ray\]'"):
        need_ray()
