"""Two processes on the CPU (gloo) whose weights are sharded learn what one process learns."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import hrseg
from hrseg.errors import ConfigError
from hrseg.models import create_model
from hrseg.training.optim import norms_and_biases, parameter_groups
from hrseg.training.trainer import build_trainer
from tests.small import small

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from hrseg.models import create_model
from hrseg.training.optim import build_optimizer, norms_and_biases, parameter_groups
from hrseg.training.trainer import sharding

rank, port, precision, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
network = create_model("hrnet_w18_small_v1", num_classes=5)
plain = norms_and_biases(network)
images, masks = torch.load(f"{folder}/batch.pt")
sharded = FSDP(network, use_orig_params=True, device_id=torch.device("cpu"), **sharding(precision))
groups = parameter_groups(sharded, lr=0.1, weight_decay=0.01, no_decay=plain)
counts = {group["name"]: (len(group["params"]), group["weight_decay"]) for group in groups}
optimizer = build_optimizer("sgd", groups, lr=0.1)
sharded.train(precision != "fp32")  # with its own statistics each process would learn from other norms
loss = torch.nn.functional.cross_entropy(sharded(images[rank::2]).float(), masks[rank::2])
loss.backward()
norm = sharded.clip_grad_norm_(0.5)
optimizer.step()
buffers = {str(value.dtype) for name, value in sharded.named_buffers() if "running" in name}
with FSDP.summon_full_params(sharded):
    state = {name.replace("_fsdp_wrapped_module.", ""): value.clone() for name, value in sharded.named_parameters()}
if rank == 0:
    torch.save({"norm": float(norm), "counts": counts, "buffers": sorted(buffers), "state": state}, f"{folder}/out.pt")
dist.barrier()
dist.destroy_process_group()
"""


def two_processes(tmp_path, precision):
    torch.manual_seed(1)
    batch = torch.randn(4, 3, 64, 64), torch.randint(0, 5, (4, 64, 64))
    torch.save(batch, tmp_path / "batch.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    root = str(Path(hrseg.__file__).parents[1])
    runs = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), port, precision, str(tmp_path)],
            env={"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PATH": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [run.communicate(timeout=240)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    return batch, torch.load(tmp_path / "out.pt", weights_only=True)


@pytest.mark.slow
def test_two_sharded_processes_learn_what_one_process_learns(tmp_path):
    (images, masks), sharded = two_processes(tmp_path, "fp32")
    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v1", num_classes=5)
    groups = parameter_groups(network, lr=0.1, weight_decay=0.01, no_decay=norms_and_biases(network))
    assert sharded["counts"] == {g["name"]: (len(g["params"]), g["weight_decay"]) for g in groups}
    assert {decay for _, decay in sharded["counts"].values()} == {0.0, 0.01}
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    network.eval()
    nn.functional.cross_entropy(network(images), masks).backward()
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), 0.5))
    optimizer.step()
    assert norm > 0.5
    assert sharded["norm"] == pytest.approx(norm, rel=1e-4)
    for name, value in network.named_parameters():
        torch.testing.assert_close(sharded["state"][name], value.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_statistics_of_batch_norm_stay_in_float32(tmp_path):
    _, sharded = two_processes(tmp_path, "bf16")
    assert sharded["buffers"] == ["torch.float32"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluation.precision=fp32", "trainer.precision=bf16"), "validated as they are trained"),
        (("model.resize=nearest", "trainer.deterministic=true"), "Set model.resize=bilinear"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(tmp_path, monkeypatch, words, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = small(tmp_path, "trainer.accelerator=cuda", "trainer.strategy=fsdp", *words)
    with pytest.raises(ConfigError, match=message):
        build_trainer(config, None, [])
