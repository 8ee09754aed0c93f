import pytest

from hrseg.migrate.mmseg_versions import MMSegV0, MMSegV1

MODEL = {"decode_head": {"type": "FCNHead"}}
DATASET = {"type": "CityscapesDataset", "ann_file": "train.txt"}


def old(**content):
    return MMSegV0({"model": MODEL, **content}, "old.py")


def new(**content):
    return MMSegV1({"model": MODEL, "train_dataloader": {}, **content}, "new.py")


@pytest.mark.parametrize(
    "wrapped",
    [
        DATASET,
        {"type": "RepeatDataset", "times": 9, "dataset": DATASET},
        {"type": "ConcatDataset", "datasets": [{"dataset": DATASET}, {}]},
    ],
)
def test_datasets_are_found_inside_their_wrappers(wrapped):
    for config in (old(data={"train": wrapped}), new(train_dataloader={"dataset": wrapped})):
        assert config.dataset == DATASET
        assert [name for name in config.lists if name] == ["train.txt"]


def test_both_generations_say_the_same_of_batches_steps_and_schedule():
    v0 = old(
        data={"samples_per_gpu": 2, "workers_per_gpu": 4},
        lr_config={
            "policy": "poly",
            "power": 0.9,
            "min_lr": 1e-4,
            "warmup": "linear",
            "warmup_iters": 50,
        },
        optimizer={"type": "SGD"},
        optimizer_config={"type": "Fp16OptimizerHook", "grad_clip": {"max_norm": 1}},
        runner={"type": "IterBasedRunner", "max_iters": 800},
        evaluation={"interval": 80},
    )
    v1 = new(
        train_dataloader={"batch_size": 2, "num_workers": 4},
        param_scheduler=[
            {"type": "LinearLR", "start_factor": 1e-6, "end": 50},
            {"type": "PolyLR", "power": 0.9, "eta_min": 1e-4},
        ],
        optim_wrapper={
            "type": "AmpOptimWrapper",
            "optimizer": {"type": "SGD"},
            "clip_grad": {"max_norm": 1},
        },
        train_cfg={"max_iters": 800, "val_interval": 80},
    )
    for name in [
        "batch_size",
        "workers",
        "warmup_steps",
        "optimizer",
        "clip",
        "half",
        "steps",
        "epochs",
    ]:
        assert getattr(v0, name) == getattr(v1, name), name
    assert (v0.batch_size, v0.workers, v0.warmup_steps, v0.half, v0.steps) == (2, 4, 50, True, 800)
    assert {v.poly["power"] for v in (v0, v1)} == {0.9}
    assert {v.min_lr for v in (v0, v1)} == {1e-4}


def test_an_image_is_padded_with_black_only_behind_its_normalization():
    pad, norm = {"type": "Pad", "size": (8, 8)}, {"type": "Normalize", "mean": [1], "std": [2]}
    for steps, padding in (([norm, pad], "mean"), ([pad, norm], "black"), ([norm], "mean")):
        assert old(data={"train": {"pipeline": steps}}).padding == padding
    assert new(train_dataloader={"dataset": {"pipeline": [pad]}}).padding == "black"
    assert new().padding == "mean"


def test_a_config_that_says_nothing_leaves_all_open():
    for config in (old(), new()):
        assert config.mean_std is None
        assert config.test_size() is None
        assert (config.steps, config.epochs, config.clip, config.half) == (None, None, None, False)
    resize = {"type": "Resize", "scale": (512, 2048)}
    assert new(test_dataloader={"dataset": {"pipeline": [resize]}}).test_size() == (2048, 512)
    flip = {"type": "MultiScaleFlipAug", "img_scale": (2048, 1024)}
    assert old(data={"test": {"pipeline": [flip]}}).test_size() == (2048, 1024)
