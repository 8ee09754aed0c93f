"""Division of machines among workers, and connections that fail; no cluster is needed."""

import builtins
import socket

import pytest

from hrseg.cluster.resources import ClusterResources, connected, divide, import_ray
from hrseg.errors import ConfigError, MissingExtraError


def node(alive=True, **has):
    return {"Alive": alive, "Resources": {name: float(value) for name, value in has.items()}}


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([node(CPU=1), node(CPU=1)], {}, ClusterResources(2, 1)),
        (
            [node(CPU=16), node(CPU=4)],
            {},
            ClusterResources(5, 4),
        ),  # 4 + 1 of the smallest machine's size
        ([node(CPU=16), node(CPU=4)], {"workers": 2}, ClusterResources(2, 8)),
        ([node(CPU=0), node(CPU=8)], {}, ClusterResources(1, 8)),  # a head that gives nothing
        ([node(CPU=8), node(CPU=8, alive=False)], {}, ClusterResources(1, 8)),
        ([node(CPU=16, GPU=4), node(CPU=6, GPU=2), node(CPU=32)], {}, ClusterResources(6, 3, 1)),
        ([node(CPU=16, GPU=4)], {"workers": 3}, ClusterResources(3, 4, 1)),
        ([node(CPU=16, GPU=4)], {"device": "cpu"}, ClusterResources(1, 16)),
    ],
)
def test_machines_are_divided_among_workers(nodes, options, expected):
    assert divide(nodes, **options) == expected


@pytest.mark.parametrize(
    ("nodes", "options", "sentence"),
    [
        ([node(CPU=2)], {"workers": 3}, "3 workers do not fit: the Ray cluster has 2 CPUs"),
        ([node(CPU=9, GPU=1)], {"workers": 2}, "has 1 GPUs"),
        ([node(CPU=2)], {"device": "cuda"}, "no GPU on its 1 machines"),
        ([node(CPU=0)], {}, "no CPU to give"),
    ],
)
def test_too_small_clusters_are_refused(nodes, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        divide(nodes, **options)


@pytest.mark.parametrize("address", ["head", "ray://head:10001", ":6379", "head:0", "head:99999"])
def test_malformed_addresses_are_refused(address):
    with pytest.raises(ConfigError, match=r"such as 10\.0\.0\.1:6379"), connected(address):
        pass


def test_an_address_where_nothing_listens_fails_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match="No Ray cluster at"), connected(f"127.0.0.1:{port}"):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install '.*\[ray\]'"):
        import_ray()
