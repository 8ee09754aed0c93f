"""The head that computes twice instead of keeping its wide map, in torch and in Triton's interpreter."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hrseg.kernels import recomputed as module
from hrseg.kernels.head import choose, using
from hrseg.kernels.recomputed import recomputed
from tests.kernels.test_head import branches_of, head_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def both(head, branches, aligned, fused):
    """Logits, gradients and running statistics of the plain head and of the other."""
    weights = torch.randn(len(branches[0]), 5, *branches[0].shape[-2:])
    results = []
    for form in ("plain", "other"):
        twin = copy.deepcopy(head)
        maps = [x.clone().requires_grad_() for x in branches]
        if form == "plain":
            with using("plain"):
                logits = twin(maps)["main"]
        else:
            logits = recomputed(maps, twin.last_layer, aligned, fused=fused)
        wanted = [*maps, *twin.parameters()]
        gradients = torch.autograd.grad((logits * weights).sum(), wanted)
        results.append([logits, *gradients, *twin.buffers()])
    return results


@pytest.mark.parametrize("policy", ["bilinear", "bilinear_aligned"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(24, 16), (13, 9)])
@pytest.mark.parametrize("width", [16, 18, 48])
def test_logits_gradients_and_statistics_are_the_plain_heads(
    monkeypatch, width, size, training, policy
):
    monkeypatch.setitem(module.BLOCK_BYTES, "cpu", 0)
    # In double precision: near zero a ReLU's gradient hangs on the last bit of a float32.
    head = head_of(width, policy).double().train(training)
    branches = [x.double() for x in branches_of(width, size)]
    plain, other = both(head, branches, policy == "bilinear_aligned", False)
    for one, two in zip(plain, other, strict=True):
        assert (one - two).abs().max() <= 1e-9 * max(1.0, one.abs().max().item())


@pytest.mark.parametrize(("policy", "training"), [("bilinear", True), ("bilinear_aligned", False)])
@pytest.mark.parametrize(("width", "size"), [(16, (13, 9)), (18, (8, 12)), (48, (5, 7))])
@pytest.mark.skipif(not INTERPRETED, reason="the next test runs it, under Triton's interpreter")
def test_triton_gives_the_same(monkeypatch, width, size, training, policy):
    from hrseg.kernels import triton_head

    monkeypatch.setattr(triton_head, "PIXELS", 128)  # large tiles, as each step costs a millisecond
    monkeypatch.setattr(triton_head, "WIDE", 128)
    monkeypatch.setattr(triton_head, "SPLITS", 2)
    head = head_of(width, policy).train(training)
    plain, other = both(head, branches_of(width, size), policy == "bilinear_aligned", True)
    assert (plain[0] - other[0]).abs().max() <= 1e-5 * plain[0].abs().max()
    for one, two in zip(plain[1:], other[1:], strict=True):
        # Near zero a ReLU's gradient hangs on the last bit, so single ones may differ.
        assert (one - two).float().norm() <= 2e-3 * one.float().norm() + 1e-4


def test_triton_in_its_interpreter():
    """Triton reads the variable when it is imported, and torch may have done that already."""
    pytest.importorskip("triton")
    words = ["-q", "-k", "test_triton_gives_the_same", Path(__file__).as_posix()]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert child.returncode == 0, child.stdout[-3000:]
    assert "6 passed" in child.stdout


def test_only_the_inputs_are_kept():
    head, branches = head_of(16), branches_of(16, (32, 32))
    maps = [x.requires_grad_() for x in branches]
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: (kept.append(x.numel()), x)[1], lambda x: x
    )
    with hooks:
        recomputed(maps, head.last_layer)
    assert max(kept) <= max(240 * 240, maps[0].numel())


@pytest.mark.parametrize("training", [True, False])
def test_the_head_takes_it_where_it_is_asked_to(training):
    head, branches = head_of(16).train(training), branches_of(16, (9, 7))
    with using("plain"):
        plain = copy.deepcopy(head)(branches)["main"]
    with using("recomputed"):
        assert choose(branches, head.last_layer, "bilinear") == "recomputed"
        assert torch.allclose(head(branches)["main"], plain, atol=1e-5)
        folded = torch.nn.Sequential(head.last_layer[0], torch.nn.Identity(), *head.last_layer[2:])
        assert choose(branches, folded, "bilinear") == "summed"
