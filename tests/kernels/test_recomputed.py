"""The head that computes twice instead of keeping its wide map, in torch and in Triton's interpreter."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrseg.kernels import wide_rows as module
from hrseg.kernels.head import choose, using
from hrseg.kernels.recomputed import recomputed
from tests.kernels.test_head import branches_of, head_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
INTERPRETER = pytest.mark.skipif(not INTERPRETED, reason="a later test runs it, interpreted")


def both(head, branches, aligned, fused, *, device="cpu", short=None):
    """Logits, gradients and running statistics of the plain head in double precision, and of the other as it is."""
    weights = torch.randn(
        len(branches[0]), head.last_layer[3].out_channels, *branches[0].shape[-2:]
    )
    results = []
    for form in ("plain", "other"):
        twin, maps = copy.deepcopy(head), branches
        if form == "plain":
            twin, maps = twin.double(), [x.double() for x in branches]
        twin, maps = twin.to(device), [x.to(device, copy=True).requires_grad_() for x in maps]
        if form == "plain":
            with using("plain"):
                logits = twin(maps)["main"]
        else:
            with torch.autocast(device, short, enabled=short is not None):
                logits = recomputed(maps, twin.last_layer, aligned, fused=fused)
        wanted = [*maps, *twin.parameters()]
        gradients = torch.autograd.grad((logits.double() * weights.to(device)).sum(), wanted)
        results.append([x.double().cpu() for x in (logits, *gradients, *twin.buffers())])
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


def clear_of_zero(width, size, classes, training, policy):
    """A head and branches with no wide value so near zero that single precision could change its sign."""
    for seed in range(100):
        torch.manual_seed(seed)
        head, branches = head_of(width, policy, classes).train(training), branches_of(width, size)
        twin, nearest = copy.deepcopy(head).double(), []
        twin.last_layer[1].register_forward_hook(
            lambda layer, given, out, keep=nearest: keep.append(out.abs().min().item())
        )
        with using("plain"), torch.no_grad():
            twin([x.double() for x in branches])
        if nearest[0] > 1e-5:
            return head, branches
    raise AssertionError("every seed has a value near zero")


def assert_same(plain, other, tolerance):
    for one, two in zip(plain, other, strict=True):
        assert one.shape == two.shape
        # Before a norm by batch, the bias has no gradient but rounding errors.
        assert (one - two).norm() <= tolerance * one.norm() + 1e-6


CASES = [  # width, size, classes, training, policy
    (18, (9, 5), 3, True, "bilinear"),
    (16, (6, 9), 19, True, "bilinear_aligned"),
    (48, (5, 4), 3, False, "bilinear"),
    (18, (5, 7), 19, False, "bilinear_aligned"),
]


@pytest.fixture
def small_tiles(monkeypatch):
    """Two images of more rows than a block and more pixels than a tile, in steps of a millisecond each."""
    from hrseg.kernels import triton_head

    monkeypatch.setitem(module.BLOCK_BYTES, "cpu", 0)
    monkeypatch.setattr(triton_head, "PIXELS", 32)
    monkeypatch.setattr(triton_head, "WIDE", 256)
    monkeypatch.setattr(triton_head, "SPLITS", 2)


@pytest.mark.parametrize("case", CASES, ids=str)
@INTERPRETER
def test_interpreted_triton_gives_the_same(small_tiles, case):
    head, branches = clear_of_zero(*case)
    plain, other = both(head, branches, case[-1] == "bilinear_aligned", True)
    assert_same(plain, other, 1e-5)


@INTERPRETER
def test_interpreted_triton_in_half_precision_is_near(small_tiles):
    """Not in bfloat16, whose bits the interpreter multiplies as whole numbers."""
    head, branches = clear_of_zero(*CASES[1])
    plain, other = both(head, branches, True, True, short=torch.float16)
    assert_same(plain, other, 0.03)


@pytest.mark.gpu
@pytest.mark.parametrize(("short", "tolerance"), [(None, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_triton_on_a_gpu_gives_the_same(monkeypatch, case, short, tolerance):
    """Nobody has run it yet; where it passes, docs/speed.md may say so."""
    monkeypatch.setitem(module.BLOCK_BYTES, "cuda", 0)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    head, branches = clear_of_zero(*case)
    aligned = case[-1] == "bilinear_aligned"
    plain, other = both(head, branches, aligned, True, device="cuda", short=short)
    assert_same(plain, other, tolerance)


@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=INTERPRETER)])
def test_no_pass_writes_the_wide_map_interpreted_or_not(monkeypatch, fused):
    row = 4 * 2 * 240 * 8  # bytes
    monkeypatch.setitem(module.BLOCK_BYTES, "cpu", 16 * row)
    if fused:
        from hrseg.kernels import triton_head

        monkeypatch.setattr(triton_head, "PIXELS", 512)
        monkeypatch.setattr(triton_head, "WIDE", 256)
    head, branches = head_of(16), branches_of(16, (96, 8))
    written = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            leaves = [x for x in tree_leaves(out) if torch.is_tensor(x)]
            written.extend(x.numel() for x in leaves if x.is_floating_point())
            return out

    maps = [x.requires_grad_() for x in branches]
    with Record():
        recomputed(maps, head.last_layer, fused=fused).sum().backward()
    # A block, and a coarse row enlarged on either side of it.
    assert max(written) <= 2 * 240 * 8 * (16 + 2 * 8)


def test_triton_in_its_interpreter():
    """Triton reads the variable when it is imported, and torch may have done that already."""
    pytest.importorskip("triton")
    words = ["-q", "-n", "0", "-k", "interpreted", Path(__file__).as_posix()]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert child.returncode == 0, child.stdout[-3000:]
    assert "7 passed" in child.stdout


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(
    ("capability", "short", "classes"),
    [(80, None, 19), (80, torch.bfloat16, 150), (90, torch.bfloat16, 19)],
)
def test_every_launch_compiles_for_gpus(monkeypatch, tmp_path, capability, short, classes):
    """Types, tiles and shared memory, without a GPU: what the interpreter never looks at."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not chosen
    types = {torch.float32: "*fp32", torch.bfloat16: "*bf16", int: "i32", float: "fp32"}
    shared = {}

    def compile_only(kernel, *given, grid, warmup, num_warps, num_stages, **constants):
        names = [name for name in kernel.arg_names if name not in constants]
        arguments = dict(zip(names, given, strict=True))
        constants |= {
            k: x for k, x in arguments.items() if isinstance(x, int) and x == 1
        }  # its habit
        signature = dict.fromkeys(kernel.arg_names, "constexpr")
        for name in arguments.keys() - constants.keys():
            x = arguments[name]
            signature[name] = types[x.dtype if torch.is_tensor(x) else type(x)]
        options = {"num_warps": num_warps, "num_stages": num_stages}
        source = ASTSource(kernel, signature, constants)
        done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        shared[kernel.__name__] = done.metadata.shared

    monkeypatch.setattr(triton.runtime.jit.JITFunction, "run", compile_only)
    head, branches = head_of(48, classes=classes), branches_of(48, (4, 4))
    with torch.autocast("cpu", short, enabled=short is not None):
        logits = recomputed([x.requires_grad_() for x in branches], head.last_layer, fused=True)
    logits.sum().backward()
    assert len(shared) == 4
    assert max(shared.values()) <= 99 * 1024  # the least of all GPUs since Ampere


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
