"""The contenders of `bench_training`: how each implementation trains on one batch, again and again.

A contender is a process that reads numbers of steps from standard input and answers with their time and its peak
memory. Each takes its batches from one iterator, so that the clock is the same for all:
hrseg's runs in Lightning's fit loop as `hrseg fit` does, the others in the loop that their own scripts have.
"""

import itertools
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.paired import serve_turns

Batches = Iterator[tuple[Any, Any]]
"""Images (N, 3, H, W) and masks (N, H, W)."""
IGNORE = 255
LR, MOMENTUM, DECAY = 1e-4, 0.9, 5e-4


@dataclass(frozen=True)
class Job:
    """What is trained, by every contender alike: SGD with momentum, bilinear resizing without aligned corners.

    Attributes:
        contender: A key of CONTENDERS.
        options: What tells the contender's rows apart, see its function.
        bf16: Whether the forward pass runs under autocast.
        backbone: Our name of the HRNet.
        classes: K.
        batch: (N, H, W).
        loss: "cross_entropy" or "ohem".
        device: "cpu" or "cuda".
        checkout: Of the official code.
        camvid: Folder of CamVid; None trains on one batch in memory.
        workers: Loader processes.
    """

    contender: str
    options: dict[str, Any]
    bf16: bool
    backbone: str
    classes: int
    batch: tuple[int, int, int]
    loss: str
    device: str
    checkout: str | None = None
    camvid: str | None = None
    workers: int = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the precision of the forward pass."""
        import torch

        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


def ours(job: Job, batches: Batches) -> None:
    """Train as `hrseg fit` does; options are words of a recipe."""
    import lightning.pytorch as pl
    import torch

    from hrseg.config import OptimConfig, load_config
    from hrseg.labels import load_labels
    from hrseg.losses import WeightedSum
    from hrseg.models import create_model
    from hrseg.training.callbacks import ProgressLines
    from hrseg.training.task import SegmentationTask
    from hrseg.training.trainer import build_trainer, quiet_lightning

    class Given(torch.utils.data.Dataset[dict[str, Any]]):
        """A million batches: whoever knows the end does not read ahead. The iterator's end ends the epoch."""

        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, index: int) -> dict[str, Any]:
            image, mask = next(batches)
            return {"image": image, "mask": mask, "name": ["image"] * len(image)}

    quiet_lightning()
    kind = "cuda" if job.device == "cuda" else "cpu"
    words = [f"trainer.accelerator={kind}", f"trainer.precision={'bf16' if job.bf16 else 'fp32'}"]
    words += [f"trainer.{name}={value}" for name, value in job.options.items()]
    quiet = "trainer.options={limit_val_batches: 0, num_sanity_val_steps: 0}"
    config = load_config(None, ["data.layout=synthetic", "trainer.max_epochs=1", quiet, *words])
    labels: Any = _Classes(load_labels("cityscapes"), job.classes)
    task = SegmentationTask(
        create_model(job.backbone, num_classes=job.classes),
        labels,
        WeightedSum({job.loss: 1.0}),
        optim=OptimConfig(lr=LR, momentum=MOMENTUM, weight_decay=DECAY),
        channels_last=config.trainer.channels_last,
        compiled=config.trainer.compile,
        checkpointing=config.trainer.checkpointing,
    )
    watching: list[pl.Callback] = [ProgressLines()]
    loader = torch.utils.data.DataLoader(Given(), batch_size=None)
    build_trainer(config, None, watching).fit(task, loader, loader)


class _Classes:
    """Labels of as many classes as the job has; a training step asks for nothing else."""

    def __init__(self, labels: Any, count: int) -> None:
        self.labels = labels
        self.num_classes = count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.labels, name)


def plain(job: Job, batches: Batches) -> None:
    """Train hrseg's network as a tutorial would: torch's own layers, loss and optimizer with their defaults."""
    import torch
    import torch.nn.functional as F

    from hrseg.losses.terms import LOSSES
    from hrseg.models import create_model
    from hrseg.ops.fused_head import using

    network: Any = create_model(job.backbone, num_classes=job.classes).to(job.device).train()

    def loss(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with job.autocast(), using("plain"):
            logits = network.forward_all(image)["main"]
        size = (mask.shape[-2], mask.shape[-1])
        logits = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
        if job.loss == "cross_entropy":
            return F.cross_entropy(logits, mask, ignore_index=IGNORE)
        return LOSSES[job.loss].function(logits, mask, ignore_index=IGNORE)

    _loop(network, loss, job, batches)


def official(job: Job, batches: Batches) -> None:
    """Train the official network with the official loss; both come from the checkout."""
    import torch

    from tools.references.cases import Case
    from tools.references.official import Node
    from tools.references.official import network as build

    if job.checkout is None:
        raise SystemExit("The official contender needs --official CHECKOUT.")
    # One process: its synchronised norm is the plain one, which also runs on a CPU.
    torch.nn.SyncBatchNorm = torch.nn.BatchNorm2d  # type: ignore[assignment, misc]
    model = Node(NUM_OUTPUTS=1, ALIGN_CORNERS=False)
    settings = ModuleType("config")  # its own needs yacs
    settings.config = Node(MODEL=model, LOSS=Node(BALANCE_WEIGHTS=[1]))  # type: ignore[attr-defined]
    sys.modules["config"] = settings
    network = build(Case("official", job.backbone, "v2", "bilinear"), job.classes, Path(job.checkout))
    from core import criterion

    if job.loss == "ohem":
        score = criterion.OhemCrossEntropy(ignore_label=IGNORE, thres=0.9, min_kept=131072)
    else:
        score = criterion.CrossEntropy(ignore_label=IGNORE)
    network = network.to(job.device).train()

    def loss(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with job.autocast():
            value: torch.Tensor = score(network(image), mask).unsqueeze(0).mean()
        return value

    _loop(network, loss, job, batches)


def mmseg(job: Job, batches: Batches) -> None:
    """Train mmsegmentation's network by its own `loss`; option with_cp is its activation checkpointing."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from tools.references.cases import Case
    from tools.references.mmseg import build

    network: Any = build(Case("mmseg", job.backbone, "v2", "bilinear"), job.classes, None).network
    network = network.to(job.device).train()
    if job.loss == "ohem":
        from mmseg.models.utils import OHEMPixelSampler

        network.decode_head.sampler = OHEMPixelSampler(network.decode_head, 0.9, 131072)
    for module in network.modules():
        if hasattr(module, "with_cp"):
            module.with_cp = bool(job.options.get("with_cp"))

    def loss(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        samples = [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in mask]
        with job.autocast():
            losses = network.loss(image, samples)
        total: torch.Tensor = network.parse_losses(losses)[0]
        return total

    _loop(network, loss, job, batches)


def _loop(network: Any, loss: Callable[..., Any], job: Job, batches: Batches) -> None:
    import torch

    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    for image, mask in batches:
        image, mask = image.to(job.device), mask.to(job.device)
        optimizer.zero_grad()
        loss(image, mask).backward()
        optimizer.step()


CONTENDERS: dict[str, Callable[[Job, Batches], None]] = {
    "hrseg": ours,
    "plain": plain,
    "official": official,
    "mmseg": mmseg,
}


def in_memory(job: Job) -> Batches:
    """Yield one batch of noise again and again."""
    import torch

    torch.manual_seed(0)
    count, height, width = job.batch
    image = torch.randn(count, 3, height, width)
    coarse = torch.randint(0, job.classes, (count, math.ceil(height / 16), math.ceil(width / 16)))
    mask = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width].contiguous()
    return itertools.repeat((image, mask))


def loaded(job: Job) -> Batches:
    """Yield batches of CamVid by the recipe of small v1: hrseg's from its own loader, all others' from `Plain`."""
    import torch

    from hrseg.config import load_config
    from hrseg.data.datamodule import SegmentationData

    words = [f"data.root={job.camvid}", f"data.workers={job.workers}", f"data.batch_size={job.batch[0]}"]
    config = load_config("camvid_w18_small_v1", [*words, f"data.crop=[{job.batch[1]},{job.batch[2]}]"]).data
    data = SegmentationData(config)
    if job.contender == "hrseg":
        loader: Any = data.train_dataloader()
    else:
        plain: Any = Plain(config, data.train_pairs)
        loader = torch.utils.data.DataLoader(
            plain,
            job.batch[0],
            shuffle=True,
            num_workers=job.workers,
            drop_last=True,
            persistent_workers=job.workers > 0,
        )
    while True:
        for batch in loader:
            yield batch["image"], batch["mask"]


class Plain:
    """CamVid by PIL and albumentations, as a map-style dataset."""

    def __init__(self, config: Any, pairs: Any) -> None:
        from hrseg.data.transforms import jitter
        from tools.bench_data import albumentations_sample

        scales = (config.scale_min, config.scale_max)
        self.sample = albumentations_sample("camvid", tuple(config.crop), scales, [jitter(config.photometric)])
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.sample(self.pairs[index].image, self.pairs[index].mask)


def answering(job: Job, source: Batches) -> Batches:
    """Yield batches as often as standard input asks for, and answer after each turn."""
    before = _resident() if job.device == "cpu" else 0
    for line, answer in serve_turns():
        steps, waited = int(line), [0.0, 0.0]
        _wait(job)
        begin = _clocks()
        for _ in range(steps):
            start = _clocks()
            batch = next(source)
            waited = [sum_ + end - first for sum_, end, first in zip(waited, _clocks(), start, strict=True)]
            yield batch
        _wait(job)
        wall, processor = (end - first for end, first in zip(_clocks(), begin, strict=True))
        measured = {
            "wall": wall / steps,
            "cpu": processor / steps,
            "wall loader": waited[0] / steps,
            "cpu loader": waited[1] / steps,
            "memory": _peak(job) - before,
        }
        answer(measured)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _wait(job: Job) -> None:
    if job.device == "cuda":
        import torch

        torch.cuda.synchronize()


def _peak(job: Job) -> int:
    if job.device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Be one contender; the job is the only argument."""
    import torch

    values = json.loads(sys.argv[1])
    threads = values.pop("threads")
    if threads:
        torch.set_num_threads(threads)
    job = Job(**{**values, "batch": tuple(values["batch"])})
    if job.device == "cuda":
        torch.backends.cudnn.benchmark = True  # for all: official and mmsegmentation set it too
    sys.stdout = sys.stderr  # what libraries print is not an answer
    CONTENDERS[job.contender](job, answering(job, loaded(job) if job.camvid else in_memory(job)))


if __name__ == "__main__":
    main()
