import argparse
import collections

import pytest
import torch

from hrseg.weights import read_checkpoint
from tests.weights.bad_files import torch_legacy, torch_zip

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
