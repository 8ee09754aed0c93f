"""Several processes on this machine: two nodes by torchrun and by SLURM's variables, and one that dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hrseg
from hrseg.errors import DataError
from hrseg.training.dry_run import plan
from hrseg.training.fit import fit
from tests.small import small

RUN = """
import os, sys
from pathlib import Path
from hrseg.cli import main
from tests.small import WORDS
import hrseg.errors
import hrseg.training.task

Path(f"pid{os.environ.get('LOCAL_RANK', 0)}").write_text(str(os.getpid()))
learn = hrseg.training.task.SegmentationTask.training_step


def step(self, batch, index):
    if {how!r} == "all" and self.global_step == 1:
        raise hrseg.errors.DataError("all ranks met this")
    if {how!r} and self.global_rank == {rank} and self.global_step == 1:
        if {how!r} == "kill":
            os.kill(os.getpid(), 9)
        raise RuntimeError("boom of one rank")
    return learn(self, batch, index)


hrseg.training.task.SegmentationTask.training_step = step
sys.exit(main(["fit", "--config", "demo", *WORDS, *sys.argv[1:], "data.scenes=10", "run.dir=runs",
               "optim.warmup_steps=0", "trainer.strategy=ddp", "trainer.deterministic=true"]))
"""
NODES = ("trainer.devices=1", "trainer.num_nodes=2")


def environment(**extra):
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    root = str(Path(hrseg.__file__).parents[1])
    return {**kept, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **extra}


def script(folder, how="", rank=0):
    path = folder / "run.py"
    text = RUN.replace("{how!r}", repr(how)).replace("{rank}", str(rank))
    path.write_text(text)
    return str(path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(words, folder, **extra):
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def digests(processes):
    """Wait for all, and return the hashes that they printed."""
    outputs = [process.communicate(timeout=200) for process in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), outputs
    lines = [line for out, _ in outputs for line in out.splitlines()]
    return [line.split()[-1] for line in lines if line.startswith("Weights sha256")]


def by_torchrun(folder):
    words = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=1"]
    words += ["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{free_port()}"]
    return digests([start([*words, script(folder), *NODES], folder) for _ in range(2)])


def by_slurm(folder):
    """As `srun` would, with its variables: one task on each of two nodes."""
    common = {
        **{"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "1"},
        **{"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "hrseg", "SLURM_NODELIST": "localhost"},
        **{"SLURM_LOCALID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())},
    }
    words = [script(folder), *NODES]
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)} for rank in range(2)]
    return digests([start(words, folder, **common, **rank) for rank in ranks])


@pytest.mark.slow
def test_two_nodes_train_one_network_whoever_starts_them(tmp_path):
    folders = [tmp_path / name for name in ("torchrun", "slurm")]
    for folder in folders:
        folder.mkdir()
    one, other = by_torchrun(folders[0]), by_slurm(folders[1])
    assert one == other
    assert len(one) == 1  # only the first process talks


@pytest.mark.slow
@pytest.mark.parametrize(("how", "rank"), [("raise", 1), ("kill", 0)])
def test_when_one_process_dies_the_other_stops(tmp_path, how, rank):
    process = start([script(tmp_path, how, rank), "trainer.devices=2"], tmp_path)
    _, errors = process.communicate(timeout=120)  # without a stop it would wait half an hour
    assert process.returncode != 0
    said = " ".join(errors.split())
    if how == "raise":
        assert "RuntimeError: boom of one rank" in errors
        assert "Another process of this run ended" in said
    if (how, rank) == ("kill", 1):
        assert "Process 1 of this run was killed (SIGKILL)" in said
    if how == "kill":
        assert "--resume last" in said
    pids = [int((tmp_path / f"pid{local}").read_text()) for local in (0, 1)]
    assert all(gone(pid) for pid in pids)


def gone(pid):
    """Wait a little for a process to end, as a child of another one may."""
    for _ in range(300):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.slow
def test_what_all_processes_met_is_said_once(tmp_path):
    process = start([script(tmp_path, "all"), "trainer.devices=2"], tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.count("all ranks met this") == 1
    assert "Another process" not in errors
    pids = [int((tmp_path / f"pid{local}").read_text()) for local in (0, 1)]
    assert all(gone(pid) for pid in pids)


def test_too_few_images_for_the_devices_are_refused_before_any_process_starts(tmp_path):
    config = small(tmp_path, "trainer.devices=4", "trainer.strategy=ddp", "data.scenes=6")
    for act in (plan, fit):
        with pytest.raises(DataError, match="6 training images do not fill one step: 4 x 2"):
            act(config)
    assert not list(tmp_path.iterdir())
