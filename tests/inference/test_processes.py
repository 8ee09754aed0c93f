import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch

from hrseg.errors import ConfigError
from hrseg.inference import backends
from hrseg.inference.predictor import Predictor
from hrseg.models import create_model

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
    monkeypatch.setattr(backends, "_first", None)
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
