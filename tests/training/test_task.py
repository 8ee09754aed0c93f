import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from hrseg.config import EvaluationConfig, OptimConfig
from hrseg.data.datamodule import SegmentationData
from hrseg.errors import ConfigError, TrainingError
from hrseg.labels import LabelSet
from hrseg.losses import WeightedSum
from hrseg.metrics.confusion import ConfusionMatrix
from hrseg.training.build import build_run, build_task
from hrseg.training.task import SegmentationTask
from hrseg.training.trainer import build_trainer, quiet_lightning
from tests.small import small


@pytest.fixture(autouse=True)
def _quiet():
    quiet_lightning()


class Colors(nn.Module):
    """A network of one 1x1 convolution that follows the contract."""

    resize = "bilinear"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.spec = {"backbone": "colors", "num_classes": classes}
        self.head = nn.Conv2d(3, classes, 1)

    def forward(self, image):
        return self.head(image)

    def forward_all(self, image):
        return {"main": self.head(image)}

    def head_parameters(self):
        return self.head.parameters()


class Watch(pl.Callback):
    """Note learning rate and weights after each batch."""

    def __init__(self):
        self.rates, self.weights, self.averages = [], [], []

    def on_train_batch_start(self, trainer, task, batch, index):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, task, outputs, batch, index):
        self.weights.append(task.network.head.bias.detach().clone())
        if task.ema is not None:
            self.averages.append(task.ema.module.head.bias.detach().clone())


def data() -> SegmentationData:
    options = {"scenes": 6, "scene_size": (16, 24), "crop": (8, 8), "batch_size": 1}
    return SegmentationData(layout="synthetic", workers=0, **options)


def run(tmp_path, task, *words):
    watch = Watch()
    trainer = build_trainer(small(tmp_path, *words), None, [watch])
    trainer.fit(task, datamodule=data())
    return watch, trainer


def task(**optim) -> SegmentationTask:
    labels = data().labels
    return SegmentationTask(Colors(labels.num_classes), labels, optim=OptimConfig(**optim))


def test_schedule_counts_optimizer_steps_under_accumulation(tmp_path):
    watch, trainer = run(tmp_path, task(lr=1.0, poly_power=1.0), "trainer.accumulate=2", "trainer.max_epochs=2")
    assert trainer.global_step == 6  # six batches an epoch, two a step
    expected = [1 - step / 6 for step in range(6) for _ in range(2)]
    assert watch.rates == pytest.approx(expected)


def test_average_follows_each_optimizer_step(tmp_path):
    module = task(lr=0.1, ema_decay=0.5)
    old = module.ema.module.head.bias.clone()
    watch, _ = run(tmp_path, module, "trainer.accumulate=3", "trainer.max_epochs=1")
    assert torch.equal(watch.averages[0], old)
    assert torch.equal(watch.averages[1], old)
    assert torch.allclose(watch.averages[2], 0.1 * old + 0.9 * watch.weights[2])
    assert "ema.module.head.bias" in module.state_dict()


def test_validation_scores_the_average_where_there_is_one(tmp_path):
    module = task(lr=0.1, ema_decay=0.9)
    trainer = build_trainer(small(tmp_path), None, [])
    trainer.validate(module, datamodule=data(), verbose=False)
    before = module.result["matrix"]
    nn.init.normal_(module.network.head.weight, std=100)
    trainer.validate(module, datamodule=data(), verbose=False)
    assert torch.equal(module.result["matrix"], before)


def test_score_equals_a_loop_over_the_images(tmp_path):
    module = task()
    build_trainer(small(tmp_path), None, []).validate(module, datamodule=data(), verbose=False)
    matrix = ConfusionMatrix(module.labels.num_classes)
    for batch in data().val_dataloader():
        matrix.update(module.network(batch["image"]).argmax(1), batch["mask"])
    assert torch.equal(module.result["matrix"], matrix.compute()["matrix"])


def test_window_is_used(tmp_path, monkeypatch):
    seen = []
    original = Colors.forward
    monkeypatch.setattr(Colors, "forward", lambda self, x: (seen.append(tuple(x.shape)), original(self, x))[1])
    module = task()
    module.evaluation = EvaluationConfig(window=(64, 64), overlap=0.5, precision="fp32")
    wide = SegmentationData(layout="synthetic", scenes=4, scene_size=(64, 128), crop=(8, 8), batch_size=1, workers=0)
    build_trainer(small(tmp_path), None, []).validate(module, datamodule=wide, verbose=False)
    # starts at 0, 32 and 64; one after the other, since a CPU gains nothing by batches
    assert seen == [(1, 3, 64, 64)] * 3


def test_lost_loss_names_images_and_advice(tmp_path):
    module = task()
    nn.init.constant_(module.network.head.weight, float("nan"))
    with pytest.raises(TrainingError, match=r"loss is nan at step 0, on train/scene_0000\d"):
        run(tmp_path, module)


def test_auxiliary_weight_reaches_the_loss(tmp_path):
    config = small(tmp_path, "loss.terms={dice: 1}", "loss.aux_weight=0.2")
    module = build_task(config, data())
    assert isinstance(module.loss, WeightedSum)
    assert module.loss.aux_weight == 0.2


def test_checkpoint_card_is_plain(tmp_path):
    module = build_task(small(tmp_path), data())
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    card = checkpoint["hrseg"]
    assert set(card) == {"version", "config", "mean", "std", "network", "labels", "miou", "world"}
    assert card["network"]["backbone"] == "hrnet_w18_small_v1"
    assert LabelSet.from_dict(card["labels"]).names == module.labels.names


def test_compiled_task_keeps_its_key_names(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    module = SegmentationTask(Colors(5), data().labels, compiled=True)
    assert not [key for key in module.state_dict() if "_orig_mod" in key]


def test_scales_and_mirror_are_looked_at(tmp_path, monkeypatch):
    seen = []
    original = Colors.forward
    monkeypatch.setattr(Colors, "forward", lambda self, x: (seen.append(tuple(x.shape[-2:])), original(self, x))[1])
    labels = data().labels
    evaluation = EvaluationConfig(scales=[1.0, 0.5], flip=True, precision="fp32")
    module = SegmentationTask(Colors(labels.num_classes), labels, evaluation=evaluation)
    build_trainer(small(tmp_path), None, []).validate(module, datamodule=data(), verbose=False)
    assert seen == [(16, 24), (16, 24), (8, 12), (8, 12)]
    assert module.protocol.merge == "softmax"


def test_a_protocol_says_what_an_absent_class_does(tmp_path):
    labels = data().labels
    scores = {}
    for absent in ("skip", "zero"):
        torch.manual_seed(0)
        evaluation = EvaluationConfig(absent=absent, precision="fp32")
        module = SegmentationTask(Colors(labels.num_classes), labels, evaluation=evaluation)
        nn.init.constant_(module.network.head.weight, 0.0)
        nn.init.zeros_(module.network.head.bias)
        build_trainer(small(tmp_path), None, []).validate(module, datamodule=data(), verbose=False)
        scores[absent] = module.result
    assert scores["zero"]["absent_rule"] == "zero"
    counted = labels.num_classes - len(scores["skip"]["absent"])
    expected = scores["skip"]["miou"] * counted / labels.num_classes
    assert scores["zero"]["miou"] == pytest.approx(expected)


def test_an_unknown_protocol_is_refused_before_anything_runs():
    labels = data().labels
    with pytest.raises(ConfigError, match="Did you mean 'official_crop'"):
        SegmentationTask(
            Colors(labels.num_classes),
            labels,
            evaluation=EvaluationConfig(protocol="oficial_crop"),
        )


def test_cudnn_tries_its_algorithms_on_crops_only(tmp_path):
    seen = {"train": set(), "val": set()}

    class Look(pl.Callback):
        def on_train_batch_start(self, *args):
            seen["train"].add(torch.backends.cudnn.benchmark)

        def on_validation_batch_start(self, *args):
            seen["val"].add(torch.backends.cudnn.benchmark)

    labels = data().labels
    tuned = SegmentationTask(Colors(labels.num_classes), labels, autotune=True)
    trainer = build_trainer(small(tmp_path, "trainer.max_epochs=2"), None, [Look()])
    trainer.fit(tuned, datamodule=data())
    assert seen == {"train": {True}, "val": {False}}
    assert not torch.backends.cudnn.benchmark


@pytest.mark.slow
def test_checkpointing_learns_the_same_weights_and_average(tmp_path):
    words = ("trainer.max_epochs=1", "optim.ema_decay=0.9", "trainer.precision=bf16")
    states = []
    for level in ("none", "blocks"):
        config = small(tmp_path, *words, f"trainer.checkpointing={level}")
        run = build_run(config, tmp_path / level)
        run.trainer.fit(run.task, datamodule=run.data)
        states.append(run.task.state_dict())
    plain, again = states
    assert list(plain) == list(again)
    for name, value in plain.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(again[name])), name


def test_the_last_step_of_an_epoch_is_the_mean_of_the_batches_that_it_has(tmp_path):
    """Six batches, four a step: the second step has two, and its gradient is their mean, not half of it."""

    class Record(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            grads.append(module.network.head.bias.grad.clone())

    pl.seed_everything(0)
    module, kept = task(lr=1e-12), []
    for accumulate in (1, 4):
        grads: list[torch.Tensor] = []
        words = (f"trainer.accumulate={accumulate}", "trainer.max_epochs=1")
        trainer = build_trainer(small(tmp_path, *words), None, [Record()])
        trainer.fit(module, datamodule=data())
        kept.append(grads)
    single, several = kept
    assert len(several) == 2
    for step, batches in zip(several, (single[:4], single[4:]), strict=True):
        assert torch.allclose(step, torch.stack(batches).mean(dim=0), atol=1e-7)
