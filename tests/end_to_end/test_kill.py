"""A run that is killed without warning, four times at moments drawn by lot, ends like one that never was.

Each attempt is a fork of one small process: torch is imported once, and SIGKILL leaves no time to tidy up.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, random, signal, sys, warnings
from pathlib import Path
import lightning.pytorch as pl
import hrseg.training.build, hrseg.training.checkpoints
from hrseg.training.fit import fit
from tests.small import small

warnings.simplefilter("ignore")
root = Path(sys.argv[1])
WORDS = (
    "data.scenes=8", "data.batch_size=2", "trainer.deterministic=true", "optim.ema_decay=0.9",
    "trainer.save_every_steps=1", "trainer.max_epochs=2",
)
MOMENTS = {  # and how often each comes in a run of eight steps
    "on_train_batch_start": 8, "on_before_optimizer_step": 8, "on_train_batch_end": 8,
    "on_validation_start": 2, "on_validation_batch_end": 4, "on_train_epoch_end": 2,
    "on_save_checkpoint": 8, "writing": 8,
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder, kill=None, resume=None):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    if kill is not None:
        number, moment = kill
        calls = []

        def count(*args, **kwargs):
            calls.append(1)
            if len(calls) == number:
                die()

        if moment == "writing":
            original = hrseg.training.checkpoints.torch.save

            def half(content, file):
                original(content, file)
                if len(calls) == number - 1:
                    file.truncate(file.tell() // 2)
                count()

            hrseg.training.checkpoints.torch.save = half
        else:
            Kill = type("Kill", (pl.Callback,), {moment: count})
            build = hrseg.training.build.build_callbacks
            hrseg.training.build.build_callbacks = lambda *a: [*build(*a), Kill()]
    result = fit(small(folder, *WORDS), resume=resume)
    (folder / "digest").write_text(result.digest)
    os._exit(0)


assert attempt(root / "whole") == 0
whole = (root / "whole" / "digest").read_text()
draw = random.Random(5)
killed = 0
for turn in range(4):
    folder = root / str(turn)
    moment = draw.choice(list(MOMENTS))
    number = draw.randint(1, MOMENTS[moment])
    status = attempt(folder, (number, moment))
    killed += os.WIFSIGNALED(status)
    last = folder / "small" / "last.ckpt"
    if os.WIFSIGNALED(status):
        assert not (folder / "digest").exists()
        resume = "last" if last.exists() else None  # killed before the first checkpoint
        assert attempt(folder, resume=resume) == 0, (moment, number)
    same = (folder / "digest").read_text() == whole
    print(turn, moment, number, os.WIFSIGNALED(status), same, flush=True)
    assert same, (moment, number)
assert killed == 4, killed
print("equal", whole)
"""


@pytest.mark.slow
def test_four_killed_runs_end_with_the_weights_of_the_unbroken_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # the networks are too small for more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout
