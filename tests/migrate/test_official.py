import copy

import pytest
import yaml

from hrseg.config import load_config
from hrseg.errors import ConfigError
from hrseg.migrate import translate


def stage(modules, block, blocks, channels):
    return {
        "NUM_MODULES": modules,
        "BLOCK": block,
        "NUM_BLOCKS": blocks,
        "NUM_CHANNELS": channels,
        "FUSE_METHOD": "SUM",
    }


def extra(width):
    return {
        "FINAL_CONV_KERNEL": 1,
        "STAGE1": stage(1, "BOTTLENECK", [4], [64]),
        "STAGE2": stage(1, "BASIC", [4] * 2, [width, width * 2]),
        "STAGE3": stage(4, "BASIC", [4] * 3, [width, width * 2, width * 4]),
        "STAGE4": stage(3, "BASIC", [4] * 4, [width, width * 2, width * 4, width * 8]),
    }


# The values of the published W48 recipe for Cityscapes.
CITYSCAPES = {
    "GPUS": "(0,1,2,3)",
    "WORKERS": 4,
    "DATASET": {
        "DATASET": "cityscapes",
        "ROOT": "data/",
        "TEST_SET": "list/cityscapes/val.lst",
        "TRAIN_SET": "list/cityscapes/train.lst",
        "NUM_CLASSES": 19,
    },
    "MODEL": {
        "NAME": "seg_hrnet",
        "PRETRAINED": "pretrained_models/hrnetv2_w48_imagenet_pretrained.pth",
        "EXTRA": extra(48),
    },
    "LOSS": {"USE_OHEM": False, "OHEMTHRES": 0.9, "OHEMKEEP": 131072},
    "TRAIN": {
        "IMAGE_SIZE": [1024, 512],
        "BASE_SIZE": 2048,
        "BATCH_SIZE_PER_GPU": 3,
        "END_EPOCH": 484,
        "OPTIMIZER": "sgd",
        "LR": 0.01,
        "WD": 0.0005,
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "FLIP": True,
        "MULTI_SCALE": True,
        "IGNORE_LABEL": 255,
        "SCALE_FACTOR": 16,
    },
}


@pytest.fixture
def write(tmp_path):
    def _write(**changes):
        content = copy.deepcopy(CITYSCAPES)
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name:
                content[section][name] = value
            else:
                content[section] = value
        path = tmp_path / "old.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return _write


def resolved(path, tmp_path):
    recipe = translate(path)
    out = tmp_path / "new.yaml"
    out.write_text(recipe.to_yaml())
    return load_config(out), recipe.to_yaml()


def test_the_cityscapes_recipe_becomes_the_packaged_one(write, tmp_path):
    config, _ = resolved(write(), tmp_path)
    ours = load_config("cityscapes_w48")
    assert config.model == ours.model
    assert config.loss == ours.loss
    assert config.optim == ours.optim
    for name in ("crop", "base_size", "scale_min", "scale_max", "scale_step", "flip", "batch_size"):
        assert getattr(config.data, name) == getattr(ours.data, name), name
    assert config.trainer.max_epochs == 484
    assert config.trainer.devices == 4


def test_what_only_the_code_says_becomes_a_comment(write, tmp_path):
    _, text = resolved(write(LOSS__CLASS_BALANCE=True, TRAIN__LR_STEP=[90, 110]), tmp_path)
    assert "always weights the Cityscapes classes" in text
    assert "0.5 + integer(0..16) / 10, both ends" in text
    assert "(height, width); the source writes [width, height]" in text
    assert "reads nowhere: LOSS.CLASS_BALANCE true, TRAIN.LR_STEP [90, 110]" in " ".join(text.replace("#", "").split())


def test_a_missing_align_flag_is_read_by_its_branch(write, tmp_path):
    assert resolved(write(), tmp_path)[0].model.resize == "bilinear"
    newer = resolved(write(MODEL__NUM_OUTPUTS=1), tmp_path)[0]
    assert newer.model.resize == "bilinear_aligned"
    told = resolved(write(MODEL__NUM_OUTPUTS=1, MODEL__ALIGN_CORNERS=False), tmp_path)[0]
    assert told.model.resize == "bilinear"


def test_ocr_weights_and_head_factor(write, tmp_path):
    config, _ = resolved(
        write(
            MODEL__NAME="seg_hrnet_ocr",
            LOSS__BALANCE_WEIGHTS=[0.4, 1],
            TRAIN__NONBACKBONE_KEYWORDS=["cls", "aux", "ocr"],
            TRAIN__NONBACKBONE_MULT=10,
        ),
        tmp_path,
    )
    assert config.model.head == "ocr"
    assert config.loss.aux_weight == 0.4
    assert config.optim.head_lr_factor == 10


def test_ohem_and_fixed_scale(write, tmp_path):
    config, _ = resolved(
        write(LOSS={"USE_OHEM": True, "OHEMTHRES": 0.7, "OHEMKEEP": 1000}, TRAIN__MULTI_SCALE=False),
        tmp_path,
    )
    assert config.loss.terms == {"ohem": 1.0}
    assert config.loss.ohem_threshold == 0.7
    assert config.loss.ohem_min_kept == 1000
    assert (config.data.scale_min, config.data.scale_max) == (1, 1)


def test_the_second_stage_is_told_as_a_second_run(write, tmp_path):
    _, text = resolved(
        write(
            TRAIN__EXTRA_EPOCH=484,
            TRAIN__EXTRA_LR=0.001,
            DATASET__EXTRA_TRAIN_SET="list/cityscapes/trainval.lst",
        ),
        tmp_path,
    )
    flat = " ".join(text.replace("#", " ").split())
    assert "data.train_split=trainval optim.lr=0.001 trainer.max_epochs=484" in flat


def test_distilled_weights_keep_their_name(write, tmp_path):
    config, _ = resolved(write(MODEL__PRETRAINED="x/HRNet_W48_C_ssld_pretrained.pth"), tmp_path)
    assert config.model.weights == "hrnet_w48_ssld.paddle_in1k"


def test_unknown_entries_are_named(write, tmp_path):
    _, text = resolved(write(TRAIN__MY_OWN_TRICK=3), tmp_path)
    assert "no counterpart here: TRAIN.MY_OWN_TRICK" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MODEL__NAME": "pose_hrnet"}, "seg_hrnet, seg_hrnet_ocr"),
        ({"MODEL__EXTRA": extra(50)}, "none of the published"),
        ({"DATASET__DATASET": "kitti"}, "the official code knows"),
        ({"TRAIN__OPTIMIZER": "adam"}, "knows sgd"),
        ({"TRAIN__LR": "quick"}, "must be a number"),
        ({"TRAIN__IMAGE_SIZE": 512}, r"\[width, height\]"),
    ],
)
def test_what_has_no_counterpart_is_refused(write, change, words):
    with pytest.raises(ConfigError, match=words):
        translate(write(**change))


def test_scientific_notation_without_a_point_is_a_number(write, tmp_path):
    assert resolved(write(TRAIN__WD="5e-4"), tmp_path)[0].optim.weight_decay == 5e-4


def leaves(content, prefix=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def other(value):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [other(one) for one in value]
    if isinstance(value, str):
        return {"(0,1,2,3)": "(0,1)"}.get(value, f"{value}x")
    return value + (8 if value > 100 else 1)


FURTHER = {
    "PRINT_FREQ": 10,
    "OUTPUT_DIR": "output",
    "TEST": {"BASE_SIZE": 2048, "FLIP_TEST": False},
}
WHOLE = CITYSCAPES | FURTHER | {"TEST": {"IMAGE_SIZE": [2048, 1024], **FURTHER["TEST"]}}


@pytest.mark.parametrize("path", leaves(WHOLE), ids=".".join)
def test_no_entry_can_change_without_a_word(path, tmp_path):
    """Another value of any entry is another recipe, another remark, or refused."""
    texts = []
    for change in (lambda value: value, other):
        content = copy.deepcopy(WHOLE)
        section = content
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = change(section[path[-1]])
        file = tmp_path / "old.yaml"
        file.write_text(yaml.safe_dump(content))
        try:
            texts.append(translate(file).to_yaml())
        except ConfigError as error:
            texts.append(str(error))
    assert texts[0] != texts[1]


def test_the_branch_decides_how_pascal_context_is_measured(write, tmp_path):
    """Only the HRNet-OCR branch brings the short side to 520 first."""
    words = {
        "DATASET__DATASET": "pascal_ctx",
        "DATASET__NUM_CLASSES": 59,
        "TEST": {"IMAGE_SIZE": [480, 480], "BASE_SIZE": 520},
    }
    older, _ = resolved(write(**words), tmp_path)
    newer, _ = resolved(write(**words, LOSS__BALANCE_WEIGHTS=[1]), tmp_path)
    assert older.evaluation.protocol == "official_crop_v1"
    assert older.evaluation.window is None
    assert newer.evaluation.protocol == "official_crop"
    assert newer.evaluation.window == (480, 480)


def test_another_size_in_the_test_is_translated(write, tmp_path):
    config, _ = resolved(write(TEST={"IMAGE_SIZE": [1024, 1024], "BASE_SIZE": 1024}), tmp_path)
    assert config.evaluation.window == config.evaluation.stride == (1024, 1024)
    assert config.evaluation.base_size == 1024


@pytest.mark.parametrize("file", ["hrnet_w18_small_model_v1.pth", "hrnetv2_w48_imagenet_pretrained.pth"])
def test_imagenet_files_are_known_by_their_published_names(write, tmp_path, file):
    config, _ = resolved(write(MODEL__PRETRAINED=f"pretrained_models/{file}"), tmp_path)
    assert config.model.weights == "hrnet_w48.ms_in1k"
