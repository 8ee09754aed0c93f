"""Every engine gives the network's logits, and says plainly where it cannot."""

import copy
import logging
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hrseg.errors import ConfigError
from hrseg.inference import backends
from hrseg.inference.backends import digest, open_engine, usable_cores
from hrseg.inference.predictor import Predictor
from hrseg.inference.prepare import Prepared, resolve_precision
from hrseg.models import create_model


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HRSEG_CACHE", str(tmp_path))
    return tmp_path / "engines"


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_openvino_agrees_with_torch_at_any_size_and_converts_nothing(tiny_network, cache, engine):
    pytest.importorskip("openvino")
    engine = open_engine(tiny_network, "cpu", "fp32", engine)
    assert engine.name == "openvino"
    for size in ((64, 96), (97, 70)):
        image = torch.randn(1, 3, *size).to(memory_format=torch.channels_last)
        with torch.no_grad():
            expected = tiny_network(image)
        logits = engine(image)
        assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
        assert engine.coarse(image).shape[-2:] == (-(-size[0] // 4), -(-size[1] // 4))
        engine.release()
        assert torch.equal(engine(image), logits)
    assert not cache.exists()


def test_what_a_call_returned_outlives_the_next(tiny_network):
    pytest.importorskip("openvino")
    coarse = open_engine(tiny_network, "cpu", "fp32", "openvino").coarse
    first = coarse(torch.randn(1, 3, 64, 64))
    kept = first.clone()
    coarse(torch.randn(1, 3, 64, 64))
    assert torch.equal(first, kept)


def test_threads_may_call_openvino_together(tiny_network):
    pytest.importorskip("openvino")
    coarse = open_engine(tiny_network, "cpu", "fp32", "openvino").coarse
    images = [torch.randn(1, 3, 64, 64) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(coarse, images))
    assert all(torch.equal(one, coarse(image)) for one, image in zip(found, images, strict=True))


def test_openvino_runs_bf16(tiny_network):
    pytest.importorskip("openvino")
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = tiny_network(image)
    logits = open_engine(tiny_network, "cpu", "bf16", "openvino")(image)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_what_cannot_be_written_is_converted_once(cache, monkeypatch):
    pytest.importorskip("openvino")
    network = OneConv(3, 2, 1).eval()
    image = torch.randn(1, 3, 64, 64)
    engine = open_engine(network, "cpu", "fp32", "openvino")
    with torch.no_grad():
        expected = network(image)
    assert (engine(image) - expected).abs().max() < 1e-5
    (kept,) = cache.glob("*.xml")
    assert kept.stem == digest(network)
    monkeypatch.setattr(backends, "_Stride4", None)  # a second conversion would fail
    again = open_engine(network, "cpu", "fp32", "openvino")
    assert torch.equal(again(image), engine(image))


class OneConv(torch.nn.Conv2d):
    """A network of one layer, which is converted in no time."""

    def forward_coarse(self, image):
        return self(image)

    def upsample(self, logits, size):
        return logits


def test_a_damaged_cache_is_made_anew(cache):
    pytest.importorskip("openvino")
    network = OneConv(3, 2, 1).eval()
    path = cache / f"{digest(network)}.xml"
    cache.mkdir()
    path.write_text("<net")
    image = torch.randn(1, 3, 64, 64)
    assert open_engine(network, "cpu", "fp32", "openvino")(image).shape == (1, 2, 64, 64)
    assert len(path.read_text()) > 100


def test_the_digest_changes_with_a_weight(tiny_network):
    pytest.importorskip("openvino")
    before = digest(tiny_network)
    with torch.no_grad():
        tiny_network.head.last_layer[3].bias[0] += 1
    assert digest(tiny_network) != before


def test_torch_runs_where_openvino_is_not_installed_or_would_convert(tiny_network, monkeypatch):
    assert isinstance(open_engine(tiny_network, "cpu", engine="torch"), Prepared)
    assert isinstance(open_engine(OneConv(3, 2, 1), "cpu"), Prepared)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    assert isinstance(open_engine(tiny_network, "cpu"), Prepared)


def test_one_size_is_compiled_for_itself_and_a_second_opens_all_sizes(tiny_network):
    pytest.importorskip("openvino")
    coarse = open_engine(tiny_network, "cpu", "fp32", "openvino").coarse
    small, large = torch.randn(1, 3, 64, 96), torch.randn(2, 3, 70, 90)
    first = coarse(small)
    assert coarse.compiled.input(0).get_partial_shape().is_static
    expected = open_engine(tiny_network, "cpu", "fp32", "openvino").coarse(large)
    assert torch.equal(coarse(large), expected)
    assert coarse.compiled.input(0).get_partial_shape().is_dynamic
    assert torch.equal(coarse(small), first)


@pytest.mark.parametrize(("pixels", "engine", "chosen"), [
    (300 * 400, "auto", "torch"), (300 * 400, "openvino", "openvino"), (10 * 300 * 400, "auto", "openvino"),
    (2000 * 3000, "auto", "openvino"), (None, "auto", "openvino"), (None, "torch", "torch"),
])  # fmt: skip
def test_torch_runs_what_is_done_before_openvino_has_started(shipped_network, pixels, engine, chosen):
    pytest.importorskip("openvino")
    predictor = Predictor(shipped_network, engine=engine, device="cpu", pixels=pixels)
    assert predictor.settings()["engine"] == chosen


@pytest.fixture(scope="module")
def shipped_network():
    return create_model("hrnet_w18_small_v2", num_classes=11, input_scale=1.5).eval()


def test_facts_name_the_engine_that_ran(tiny_network, monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    assert Predictor(tiny_network, device="cpu").settings()["engine"] == "torch"
    pytest.importorskip("openvino")
    chosen = Predictor(tiny_network, device="cpu", engine="openvino")
    assert chosen.settings()["engine"] == "openvino"


def test_torch_runs_where_openvino_fails_and_that_is_said_once(tiny_network, monkeypatch, caplog):
    def broken():
        raise RuntimeError("no plugin\nmore")

    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: "somewhere")
    monkeypatch.setattr(backends, "openvino_core", broken)
    assert isinstance(open_engine(tiny_network, "cpu"), Prepared)
    assert [r.message for r in caplog.records] == ["OpenVINO failed (no plugin); the torch engine runs instead."]
    with pytest.raises(ConfigError, match="precision"):
        open_engine(tiny_network, "cpu", "fp31")


def test_compile_without_a_compiler_says_so_once_and_runs_torch(tiny_network, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.WARNING):
        engine = open_engine(tiny_network, "cpu", "fp32", "compile")
    assert isinstance(engine, Prepared)
    (record,) = caplog.records
    assert "no-such-compiler" in record.message


def test_compile_that_fails_falls_back_for_good(tiny_network, monkeypatch, caplog):
    def broken(function, **_):
        def run(image):
            raise RuntimeError("no headers\nmore")

        return run

    monkeypatch.setattr(backends, "no_compiler", lambda device: "")
    monkeypatch.setattr(torch, "compile", broken)
    engine = open_engine(tiny_network, "cpu", "fp32", "compile")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = tiny_network(image)
    for _ in range(2):
        assert (engine(image) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert [r.message for r in caplog.records] == ["torch.compile failed (no headers); the torch engine runs instead."]


def test_on_a_gpu_compile_records_graphs_and_keeps_each_result(tiny_network, monkeypatch):
    """The device is replaced by this one, and the compiler by a function that reuses its memory, as graphs do."""
    options, memory = [], {}

    def compiled(function, **given):
        options.append(given["mode"])

        def run(image):
            result = function(image)
            return memory.setdefault("it", torch.empty_like(result)).copy_(result)

        return run

    here = backends.prepare
    monkeypatch.setattr(backends, "prepare", lambda network, device, *rest, **more: here(network, "cpu", *rest, **more))
    monkeypatch.setattr(backends, "no_compiler", lambda device: "")
    monkeypatch.setattr(torch, "compile", compiled)
    engine = open_engine(tiny_network, "cuda", "fp32", "compile")
    images = [torch.randn(1, 3, 64, 64) for _ in range(2)]
    results = [engine(image) for image in images]
    assert options == ["reduce-overhead"]
    for image, result in zip(images, results, strict=True):
        with torch.no_grad():
            expected = tiny_network(image)
        assert (result - expected).abs().max() < 1e-5 * expected.abs().max()


def test_on_a_gpu_the_default_is_plain_torch_in_bf16_and_channels_last(tiny_network, monkeypatch):
    asked, here = [], backends.prepare

    def prepare(network, device, precision):
        asked.append((str(device), resolve_precision(precision, device)))
        return here(network, "cpu", "bf16")

    monkeypatch.setattr(backends, "prepare", prepare)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    engine = open_engine(tiny_network, "cuda")
    assert asked == [("cuda", "bf16")]
    weights = [module.weight for module in engine.network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(weight.dtype == torch.bfloat16 for weight in weights)
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_graph_is_an_older_word_for_compile(tiny_network, monkeypatch, caplog):
    monkeypatch.setattr(backends, "no_compiler", lambda device: "a compiler")
    open_engine(tiny_network, "cpu", "fp32", "graph")
    assert [r.message for r in caplog.records] == ["torch.compile needs a compiler; the torch engine runs instead."]


def test_engines_are_refused_where_they_cannot_run(tiny_network):
    with pytest.raises(ConfigError, match="Did you mean 'openvino'"):
        open_engine(tiny_network, "cpu", engine="openvin")
    with pytest.raises(ConfigError, match="runs on the CPU"):
        open_engine(tiny_network, torch.device("cuda"), "fp32", "openvino")
    with pytest.raises(ConfigError, match="this Conv2d is none"):
        open_engine(torch.nn.Conv2d(3, 2, 1), "cpu", "fp32", "compile")


def test_a_quota_and_shared_cores_bound_the_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for number in range(4):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    quota = tmp_path / "cpu.max"
    assert usable_cores(tmp_path, quota) == 2
    quota.write_text("max 100000")
    assert usable_cores(tmp_path, quota) == 2
    quota.write_text("100000 100000")
    assert usable_cores(tmp_path, quota) == 1


AFTER = """
import os, signal, threading, torch
from hrseg.inference.backends import open_engine
from hrseg.models import create_model

heard = []
signal.signal(signal.SIGINT, lambda *what: heard.append(what))
opened = [open_engine(create_model("hrnet_w18_small_v1").eval(), "cpu", "fp32", "openvino")]
opened[0](torch.zeros(1, 3, 32, 32))
other = threading.Thread(target=opened.clear)
other.start()
other.join()
os.kill(os.getpid(), signal.SIGINT)
assert heard
"""


@pytest.mark.slow
def test_signals_are_heard_after_another_thread_has_dropped_the_engine():
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", AFTER], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)


_FORKED = """
import os, signal
import numpy as np, torch
from hrseg.errors import ConfigError
from hrseg.inference.predictor import Predictor
from hrseg.models import create_model

def tried(call):
    try:
        call()
    except ConfigError as error:
        return "refused" if "spawn" in str(error) else str(error)
    return "done"

torch.set_num_threads(2)
network = create_model("hrnet_w18_small_v1", num_classes=2)
opened = Predictor(network, device="cpu", engine="torch")
image = np.zeros((256, 256, 3), np.uint8)
print("parent", tried(lambda: opened(image)), flush=True)
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(60)  # ends a child that waits for ever, whatever happens to its parent
print("parent's", tried(lambda: opened(image)))
print("its own", tried(lambda: Predictor(network, device="cpu", engine="torch")))
torch.set_num_threads(1)
print("one thread", tried(lambda: opened(image)), flush=True)
os._exit(0)
"""
CPU = torch.device("cpu")


@pytest.fixture
def several(monkeypatch):
    """Several threads, and nothing opened before."""
    monkeypatch.setattr(backends, "_first_process", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    return monkeypatch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_instead_of_waiting_for_ever():
    # Threads that wait leave the cores to others.
    calm = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    words = [sys.executable, "-c", _FORKED]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, env=calm)
    assert done.stdout.splitlines() == [
        "parent done",
        "parent's refused",
        "its own refused",
        "one thread done",
    ], done.stderr
    assert done.returncode == 0


def test_a_process_may_open_and_use_as_many_as_it_likes(several):
    for home in [backends.ForkGuard(CPU), backends.ForkGuard(CPU)]:
        home.check("torch")


def test_only_threads_that_are_left_behind_are_refused(several):
    home = backends.ForkGuard(CPU)
    several.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ConfigError, match="gunicorn without --preload"):
        home.check("torch")
    several.setattr(torch, "get_num_threads", lambda: 1)
    home.check("torch")
    backends.ForkGuard(CPU).check("openvino")  # its own, of one thread
    with pytest.raises(ConfigError):
        home.check("openvino")
    with pytest.raises(ConfigError):
        backends.ForkGuard(torch.device("cuda"))


def test_a_child_whose_parent_opened_nothing_opens_its_own(several):
    several.setattr(os, "getpid", lambda: -1)
    backends.ForkGuard(CPU).check("openvino")


def test_pickling_and_copying_say_what_to_send_instead():
    network = create_model("hrnet_w18_small_v1", num_classes=2)
    predictor = Predictor(network, device="cpu", engine="torch")
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigError, match="open a predictor in each process"):
            call(predictor)
