import copy
import textwrap

import pytest

from hrseg import migrate
from hrseg.config import load_config
from hrseg.errors import ConfigError
from hrseg.migrate import mmseg, translate
from hrseg.migrate.python_files import read_python_config

# The two generations say the same recipe: W18-small (its "hr18s" is our small v2) on Cityscapes, 40k steps.
STAGES = """
dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(2, ), num_channels=(64, )),
    stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(2, 2), num_channels=(18, 36)),
    stage3=dict(num_modules=3, num_branches=3, block='BASIC', num_blocks=(2, 2, 2), num_channels=(18, 36, 72)),
    stage4=dict(num_modules=2, num_branches=4, block='BASIC', num_blocks=(2, 2, 2, 2),
                num_channels=(18, 36, 72, 144)))
"""
HEAD = """
dict(type='FCNHead', in_channels=[18, 36, 72, 144], in_index=(0, 1, 2, 3), channels=sum([18, 36, 72, 144]),
     input_transform='resize_concat', kernel_size=1, num_convs=1, concat_input=False, dropout_ratio=-1,
     num_classes=19, align_corners=False, loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0))
"""
NEW = f"""
crop_size = (512, 1024)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], size=crop_size),
    pretrained='open-mmlab://msra/hrnetv2_w18_small',
    backbone=dict(type='HRNet', extra={STAGES}),
    decode_head={HEAD},
    test_cfg=dict(mode='whole'))
train_dataloader = dict(batch_size=2, num_workers=3, dataset=dict(
    type='CityscapesDataset', data_root='data/cityscapes/', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]))
optim_wrapper = dict(type='OptimWrapper', clip_grad=None,
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
"""
OLD = f"""
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='Resize', img_scale=(2048, 1024), ratio_range=(0.5, 2.0)),
    dict(type='RandomCrop', crop_size=(512, 1024), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), dict(type='Normalize', **NORM),
    dict(type='Pad', size=(512, 1024), pad_val=0, seg_pad_val=255), dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_semantic_seg'])]
model = dict(type='EncoderDecoder', pretrained='open-mmlab://msra/hrnetv2_w18_small',
    backbone=dict(type='HRNet', extra={STAGES}), decode_head={HEAD}, test_cfg=dict(mode='whole'))
data = dict(samples_per_gpu=2, workers_per_gpu=3,
    train=dict(type='CityscapesDataset', data_root='data/cityscapes/', pipeline=train_pipeline))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005)
optimizer_config = dict()
lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=40000)
""".replace("**NORM", "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True")
NAME = "fcn_hr18s_4xb2-40k_cityscapes-512x1024.py"


def resolved(tmp_path, text, name=NAME):
    path = tmp_path / name
    path.write_text(text)
    recipe = translate(path)
    out = tmp_path / "new.yaml"
    out.write_text(recipe.to_yaml())
    return load_config(out), recipe


@pytest.mark.parametrize("text", [NEW, OLD], ids=["1.x", "0.x"])
def test_both_generations_become_one_recipe(tmp_path, text):
    config, recipe = resolved(tmp_path, text)
    assert (config.model.backbone, config.model.head) == ("hrnet_w18_small_v2", "v2")
    assert config.model.weights == "hrnet_w18_small_v2.ms_in1k"
    assert (config.data.layout, config.data.root) == ("cityscapes", "data/cityscapes")
    assert config.data.crop == (512, 1024)
    assert (config.data.base_size, config.data.base_short_side) == (2048, 1024)
    assert (config.data.scale_min, config.data.scale_max, config.data.scale_step) == (0.5, 2, 0)
    assert (config.data.max_class_share, config.data.flip) == (0.75, 0.5)
    assert (config.data.photometric, config.data.photometric_rule) == (1, "mmseg")
    assert (config.data.batch_size, config.data.workers, config.trainer.devices) == (2, 3, 4)
    assert (config.optim.lr, config.optim.weight_decay, config.optim.min_lr) == (0.01, 5e-4, 1e-4)
    assert config.loss.average == "all"
    assert (config.data.pad, config.data.flip_first) == ("mean", True)
    assert config.evaluation.protocol == "mmseg_whole"
    assert config.trainer.max_steps == 40000
    assert recipe.unknown == []


def test_the_normalization_is_told_in_0_to_1_where_it_is_another(tmp_path):
    other = NEW.replace("[123.675, 116.28, 103.53]", "[127.5, 127.5, 127.5]")
    config, _ = resolved(tmp_path, other)
    assert config.data.mean == (0.5, 0.5, 0.5)
    assert config.data.std == pytest.approx((0.229, 0.224, 0.225), abs=1e-6)


def test_ocr_heads_and_their_weights(tmp_path):
    ocr = HEAD.replace("FCNHead", "OCRHead")
    auxiliary = HEAD.replace("loss_weight=1.0", "loss_weight=0.4")
    config, _ = resolved(tmp_path, NEW.replace(HEAD, f"[{auxiliary}, {ocr}]"))
    assert config.model.head == "ocr"
    assert config.loss.aux_weight == pytest.approx(0.4)


def test_hard_pixels_classes_and_rates_of_the_head(tmp_path):
    text = NEW.replace(
        "dropout_ratio=-1",
        "sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000), dropout_ratio=0.1",
    )
    text = text.replace(
        "type='OptimWrapper',",
        "type='AmpOptimWrapper', paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.)), norm_decay_mult=0),",
    )
    config, recipe = resolved(tmp_path, text)
    assert config.loss.terms == {"ohem": 1.0}
    assert (config.loss.ohem_threshold, config.loss.ohem_min_kept) == (
        0.7,
        2 * 100000,
    )  # two images
    assert config.loss.average == "all"
    assert (config.optim.head_lr_factor, config.optim.no_decay_norms) == (10, True)
    assert config.trainer.precision == "fp16"
    assert any("dropout_ratio" in remark for remark in recipe.remarks)


def test_sliding_windows(tmp_path):
    text = NEW.replace(
        "test_cfg=dict(mode='whole')",
        "test_cfg=dict(mode='slide', crop_size=(480, 480), stride=(320, 320))",
    )
    config, _ = resolved(tmp_path, text)
    assert config.evaluation.protocol == "mmseg_slide"
    assert config.evaluation.window is None
    other = text.replace("stride=(320, 320)", "stride=(240, 240)")
    config, _ = resolved(tmp_path, other)
    assert (config.evaluation.window, config.evaluation.stride) == ((480, 480), (240, 240))


def test_a_dataset_without_a_layout_asks_for_a_folder(tmp_path):
    config, recipe = resolved(tmp_path, NEW.replace("CityscapesDataset", "MyDataset"))
    assert config.data.layout == "folder"
    assert "MyDataset has no layout here" in " ".join(recipe.to_yaml().replace("#", "").split())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("type='HRNet'", "type='ResNet'", "backbone ResNet"),
        ("kernel_size=1", "kernel_size=3", "kernel_size=3"),
        ("type='FCNHead'", "type='PSPHead'", "heads PSPHead"),
        ("type='SGD'", "type='Adam'", "trains with Adam"),
        ("max_iters=40000, ", "", "neither max_iters nor max_epochs"),
        ("num_channels=(18, 36, 72, 144)", "num_channels=(20, 40, 80, 160)", "none of the publ"),
    ],
)
def test_what_has_no_counterpart_is_refused(tmp_path, old, new, words):
    path = tmp_path / NAME
    assert old in NEW
    path.write_text(NEW.replace(old, new))
    with pytest.raises(ConfigError, match=words):
        translate(path)


def test_unknown_parts_are_named(tmp_path):
    text = textwrap.dedent(NEW) + "custom_hooks = [dict(type='EMAHook')]\n"
    text = text.replace("dict(type='PhotoMetricDistortion')", "dict(type='RandomRotate')")
    _, recipe = resolved(tmp_path, text)
    assert recipe.unknown == ["transform RandomRotate", "custom_hooks.0.type EMAHook"]


def test_without_a_threshold_the_hardest_pixels_alone_are_kept(tmp_path):
    sampler = "sampler=dict(type='OHEMPixelSampler', thresh=None, min_kept=5000)"
    config, _ = resolved(tmp_path, NEW.replace("dropout_ratio=-1", sampler))
    assert (config.loss.ohem_threshold, config.loss.ohem_min_kept) == (0, 10_000)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ((2048, 1024), ("mmseg_whole", None, None)),  # as the images are
        ((2048, 512), ("mmseg_short512", None, None)),
        ((1333, 800), ("mmseg_short512", 1333, 800)),
    ],
)
def test_the_size_in_the_test_is_that_of_the_test_pipeline(tmp_path, scale, expected):
    pipeline = f"[dict(type='LoadImageFromFile'), dict(type='Resize', scale={scale}, keep_ratio=True)]"
    text = f"{NEW}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline}))\n"
    config, _ = resolved(tmp_path, text)
    chosen = config.evaluation
    assert (chosen.protocol, chosen.base_size, chosen.base_short_side) == expected
    flipped = f"[dict(type='MultiScaleFlipAug', img_scale={scale}, flip=False)]"
    older = OLD.replace("data = dict(", f"data = dict(test=dict(pipeline={flipped}), ")
    config, _ = resolved(tmp_path, older)
    chosen = config.evaluation
    assert (chosen.protocol, chosen.base_size, chosen.base_short_side) == expected


FURTHER = """
log_level = 'INFO'
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=4000))
"""
NEWER = (
    NEW.replace("clip_grad=None", "clip_grad=dict(max_norm=1.0, norm_type=2)")
    .replace(
        "dropout_ratio=-1",
        "dropout_ratio=0.1, sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=9)",
    )
    .replace("dict(mode='whole')", "dict(mode='slide', crop_size=(512, 512), stride=(320, 320))")
    .replace("type='OptimWrapper',", "type='OptimWrapper', paramwise_cfg=dict(norm_decay_mult=0),")
    .replace(
        "param_scheduler = [",
        "param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=500),",
    )
    + FURTHER
)
TWO_HEADS = f"[{HEAD}, {HEAD.replace('FCNHead', 'OCRHead')}]".replace("ratio=-1", "ratio=0.1")
OCR = NEW.replace(HEAD, TWO_HEADS) + FURTHER
OLDER = (
    OLD.replace("dropout_ratio=-1", "dropout_ratio=0.1").replace(
        "policy='poly',", "policy='poly', warmup='linear', warmup_iters=9, warmup_ratio=0.1,"
    )
    + FURTHER
)


def places(value, path=()):
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*path, key))
    elif isinstance(value, (list, tuple)) and any(isinstance(part, dict) for part in value):
        for place, part in enumerate(value):
            yield from places(part, (*path, place))
    else:
        yield path


def other(value):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (list, tuple)):
        return type(value)(other(part) for part in value)
    if isinstance(value, str):
        return f"{value}x"
    return 1 if value is None else value + 1


def changed(content, path, value):
    if not path:
        return value
    copied = copy.copy(content) if isinstance(content, dict) else list(content)
    copied[path[0]] = changed(content[path[0]], path[1:], value)
    return copied


def told(content):
    try:
        return mmseg.translate(content, NAME).to_yaml()
    except (ConfigError, TypeError, AttributeError) as error:  # migrate.translate tells the latter
        return str(error)


@pytest.mark.parametrize("text", [NEWER, OCR, OLDER], ids=["1.x", "ocr", "0.x"])
def test_no_entry_can_change_without_a_word(tmp_path, text):
    """Another value of any entry is another recipe, another remark, listed as left out, or refused."""
    (tmp_path / NAME).write_text(text)
    content = read_python_config(tmp_path / NAME)
    whole = told(content)
    silent = []
    for path in places(content):
        value = content
        for part in path:
            value = value[part]
        if told(changed(content, path, other(value))) == whole:
            silent.append((".".join(map(str, path)), value))
    assert silent == []


STRANGE = [None, -1, 10**400, "x", [], {"a": 1}]


@pytest.mark.slow
@pytest.mark.parametrize("text", [NEWER, OLDER], ids=["1.x", "0.x"])
def test_a_config_with_values_of_any_form_is_a_recipe_or_one_paragraph(tmp_path, text, monkeypatch):
    path = tmp_path / NAME
    path.write_text(text)
    content = read_python_config(path)
    monkeypatch.setattr(migrate, "config_from_dict", lambda *_, **__: None)  # slow, tested by itself
    messages = []
    nodes = {place[: depth + 1] for place in places(content) for depth in range(len(place))}
    for node in nodes:
        for value in STRANGE:
            strange = changed(content, node, value)
            monkeypatch.setitem(migrate._READERS, ".py", lambda _, strange=strange: strange)
            try:
                translate(path)
            except ConfigError as error:
                messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)


FLIP = "dict(type='RandomFlip', prob=0.5)"


@pytest.mark.parametrize(
    ("steps", "chances", "left_out"),
    [
        ("dict(type='RandomFlip', prob=0.3, direction='vertical')", (0.0, 0.3), False),
        (f"{FLIP}, dict(type='RandomFlip', prob=0.2, direction='vertical')", (0.5, 0.2), False),
        ("dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical'])", (0, 0), True),
        ("dict(type='RandomFlip', prob=[0.3, 0.2], direction='horizontal')", (0, 0), True),
        (f"{FLIP}, dict(type='RandomFlip', prob=0.4)", (0.5, 0), True),
    ],
)
def test_mirroring_of_either_axis_is_translated_and_a_drawn_axis_is_listed(tmp_path, steps, chances, left_out):
    config, recipe = resolved(tmp_path, NEW.replace(FLIP, steps))
    assert (config.data.flip, config.data.vflip) == chances
    assert any(".prob" in entry for entry in recipe.unknown) == left_out


@pytest.mark.parametrize(
    ("options", "part", "left_out"),
    [
        ("frozen_stages=-1, norm_eval=False", "none", []),
        ("frozen_stages=4, norm_eval=True", "backbone", []),
        ("norm_eval=True, norm_cfg=dict(type='BN', requires_grad=False)", "norms", []),
        ("norm_eval=True", "none", ["norm_eval"]),
        ("frozen_stages=2", "none", ["frozen_stages"]),
    ],
)
def test_frozen_weights_are_translated_where_the_effect_is_the_same(tmp_path, options, part, left_out):
    text = NEW.replace("dict(type='HRNet', ", f"dict(type='HRNet', {options}, ")
    config, recipe = resolved(tmp_path, text)
    assert config.model.freeze == part
    assert [entry.split()[0].rpartition(".")[2] for entry in recipe.unknown] == left_out
