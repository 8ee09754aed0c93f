"""Names of other code bases: hand-written pairs, whole networks there and back, and the lists of real files."""

import json
import lzma
from pathlib import Path

import pytest
import torch

from hrseg.errors import WeightsError
from hrseg.models import create_model
from hrseg.weights.foreign import translate
from hrseg.weights.formats import (
    FORMATS,
    MMSEG,
    OFFICIAL,
    PADDLE,
    SMP,
    WRAPPERS,
    head_of,
    recognize,
    rename,
)
from tests.weights import spellings

NAMES = Path(__file__).parents[1] / "reference" / "names.json.xz"
OCR = "ocr_distri_head.object_context_block"
# Published names, copied from the mapping tables and not made by any function.
PAIRS = [
    ("module.model.conv1.weight", WRAPPERS + OFFICIAL, "backbone.conv1.weight"),
    ("model.last_layer.0.bias", WRAPPERS + OFFICIAL, "head.last_layer.0.bias"),
    (f"{OCR}.f_pixel.3.0.weight", OFFICIAL, f"head.{OCR}.f_pixel.3.0.weight"),
    ("aux_head.3.weight", OFFICIAL, "head.aux_head.3.weight"),
    (
        "encoder.model.stage2.0.branches.0.1.bn2.bias",
        SMP,
        "backbone.stage2.0.branches.0.1.bn2.bias",
    ),
    ("decode_head.convs.0.bn.running_var", MMSEG, "head.last_layer.1.running_var"),
    ("decode_head.conv_seg.bias", MMSEG, "head.last_layer.3.bias"),
    ("decode_head.0.conv_seg.weight", MMSEG, "head.aux_head.3.weight"),
    ("decode_head.1.bottleneck.conv.weight", MMSEG, "head.conv3x3_ocr.0.weight"),
    (
        "decode_head.1.object_context_block.key_project.1.bn.weight",
        MMSEG,
        f"head.{OCR}.f_object.3.0.weight",
    ),
    (
        "decode_head.1.object_context_block.out_project.conv.weight",
        MMSEG,
        f"head.{OCR}.f_up.0.weight",
    ),
    (
        "decode_head.1.object_context_block.bottleneck.bn.weight",
        MMSEG,
        "head.ocr_distri_head.conv_bn_dropout.1.0.weight",
    ),
    ("backbone.conv_layer1_2._conv.weight", PADDLE, "backbone.conv2.weight"),
    ("backbone.conv_layer1_1._batch_norm._mean", PADDLE, "backbone.bn1.running_mean"),
    (
        "backbone.la1.bb_layer2_1.conv_down._conv.weight",
        PADDLE,
        "backbone.layer1.0.downsample.0.weight",
    ),
    (
        "backbone.la1.bb_layer2_4.conv3._batch_norm._variance",
        PADDLE,
        "backbone.layer1.3.bn3.running_var",
    ),
    ("backbone.tr1.transition_tr1_layer_1._conv.weight", PADDLE, "backbone.transition1.0.0.weight"),
    (
        "backbone.tr1.transition_tr1_layer_2._conv.weight",
        PADDLE,
        "backbone.transition1.1.0.0.weight",
    ),
    (
        "backbone.tr3.transition_tr3_layer_4._batch_norm.bias",
        PADDLE,
        "backbone.transition3.3.0.1.bias",
    ),
    (
        "backbone.st3.stage_st3_2.branches_func.bb_st3_2_branch_layer_1_4.conv2._conv.weight",
        PADDLE,
        "backbone.stage3.1.branches.0.3.conv2.weight",
    ),
    (
        "backbone.st2.stage_st2_1.fuse_func.residual_st2_1_layer_1_2._conv.weight",
        PADDLE,
        "backbone.stage2.0.fuse_layers.0.1.0.weight",
    ),
    (
        "backbone.st4.stage_st4_3.fuse_func.residual_st4_3_layer_4_1_3._batch_norm.weight",
        PADDLE,
        "backbone.stage4.2.fuse_layers.3.0.2.1.weight",
    ),
    ("head.conv_1._conv.bias", PADDLE, "head.last_layer.0.bias"),
    ("head.cls.weight", PADDLE, "head.last_layer.3.weight"),
    ("head.conv3x3_ocr._batch_norm.weight", PADDLE, "head.conv3x3_ocr.1.weight"),
    ("head.aux_head.1.bias", PADDLE, "head.aux_head.3.bias"),
    (
        "head.spatial_ocr.attention_block.f_object.1._conv.weight",
        PADDLE,
        f"head.{OCR}.f_object.2.weight",
    ),
    (
        "head.spatial_ocr.attention_block.f_down._batch_norm._mean",
        PADDLE,
        f"head.{OCR}.f_down.1.0.running_mean",
    ),
    (
        "head.spatial_ocr.conv1x1.0._conv.weight",
        PADDLE,
        "head.ocr_distri_head.conv_bn_dropout.0.weight",
    ),
    ("head.cls_head.bias", PADDLE, "head.cls_head.bias"),
]
# What each real file of tests/reference is: source → (row of the table, left out at most)
SOURCES = {
    "official": "official HRNet",
    "official_master": "official HRNet",
    "official_v11": "official HRNet",
    "official_torch04": "official HRNet",
    "classification": "ImageNet classification",
    "timm": "ImageNet classification",
    "smp": "smp with",
    "mmseg": "mmsegmentation",
    "paddleseg": "PaddleSeg",
    "csail": "CSAILVision",
}


def ocr_names(classes=3):
    """Names of the official OCR head of W48, spelled out."""
    pairs = {"conv3x3_ocr": ("0", "1"), "aux_head": ("0", "1")}
    for part in ("f_pixel", "f_object"):
        pairs[f"{OCR}.{part}"] = ("0", "1.0")
        pairs[f"{OCR}.{part} "] = ("2", "3.0")
    for part in (f"{OCR}.f_down", f"{OCR}.f_up", "ocr_distri_head.conv_bn_dropout"):
        pairs[part] = ("0", "1.0")
    names = [f"{part.strip()}.{conv}.weight" for part, (conv, _) in pairs.items()]
    for part, (_, norm) in pairs.items():
        leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        names += [f"{part.strip()}.{norm}.{leaf}" for leaf in leaves]
    names += [f"{part}.0.bias" for part in ("conv3x3_ocr", "aux_head")]
    names += [f"{part}.{leaf}" for part in ("aux_head.3", "cls_head") for leaf in ("weight", "bias")]
    return [f"head.{name}" for name in names]


@pytest.mark.parametrize(("theirs", "rules", "ours"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_published_names_become_ours(theirs, rules, ours):
    assert rename(theirs, rules) == ours


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["hrnet_w18_small_v1", "hrnet_w18_small_v2", "hrnet_w48"])
@pytest.mark.parametrize("spelling", ["official", "mmseg", "paddle"])
def test_every_name_of_a_network_comes_back_from_every_spelling(backbone, spelling):
    with torch.device("meta"):
        names = [*create_model(backbone).state_dict(), *ocr_names()]
    rules = {"official": OFFICIAL, "mmseg": MMSEG, "paddle": PADDLE}[spelling]
    there = {name: getattr(spellings, spelling)(name) for name in names}
    kept = {name: other for name, other in there.items() if other is not None}
    assert len(set(kept.values())) == len(kept)
    assert {rename(other, rules) for other in kept.values()} == set(kept)


def test_tensor_counts_are_those_of_the_published_files():
    with torch.device("meta"):
        names = list(create_model("hrnet_w48").state_dict())
    backbone = [name for name in names if name.startswith("backbone.")]
    assert len(names) == 1839
    assert len(backbone) == 1830
    assert sum(spellings.paddle(name) is not None for name in names) == 1533
    assert len({*backbone, *ocr_names()}) == 1890


@pytest.mark.slow
@pytest.mark.skipif(not NAMES.is_file(), reason="tests/reference/names.json.xz is not here")
def test_names_and_shapes_of_real_files_are_recognized_and_leave_nothing_over():
    seen = set()
    for tag, entry in json.loads(lzma.decompress(NAMES.read_bytes())).items():
        source, name = tag.split("/")
        with torch.device("meta"):
            raw = {key: torch.empty(shape) for key, shape in entry["tensors"]}
        with torch.device("cpu"):
            found = translate(_solid_norms(raw), tag)
        assert found.format.name.startswith(SOURCES[source]), tag
        assert all(key.startswith(("backbone.", "head.")) for key in found.state), tag
        head = "classification" if "classification" in name else found.format.head
        assert found.head == head, tag
        seen.add(source)
    assert {"official", "timm", "smp", "mmseg", "paddleseg"} <= seen


def _solid_norms(raw):
    """Conversions look at norms, so these need values."""
    return {k: torch.zeros(v.shape) if v.dim() < 2 else v for k, v in raw.items()}


def test_every_row_names_a_head_and_a_policy_and_says_why():
    for row in FORMATS:
        assert row.policy(None) == row.resize[None]
        assert row.reason
        assert row.signs
    assert len({row.name for row in FORMATS}) == len(FORMATS)


def test_official_ade20k_and_coco_stuff_align_corners():
    row = next(row for row in FORMATS if row.name == "official HRNetV2")
    assert [row.policy(count) for count in (19, 59, 150, 171)] == [
        "bilinear",
        "bilinear",
        "bilinear_aligned",
        "bilinear_aligned",
    ]


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        (["cbr.0.weight", "conv_last.weight"], "Give the encoder's file too"),
        (["encoder.conv1.weight", "decoder.x"], "another encoder than tu-hrnet"),
        (["layer2.0.conv1.weight"], "another family"),
        (["a", "b"], "Known sources: mmsegmentation OCR"),
    ],
)
def test_an_unknown_file_is_named_by_its_first_keys(keys, hint):
    with pytest.raises(WeightsError, match=f"begin with {keys[0]}.*{hint}"):
        recognize(keys, "x.pth")


def test_a_head_is_told_by_its_names():
    assert head_of(["head.last_layer.0.weight"]) == "v2"
    assert head_of(["head.classifier.weight"]) == "classification"
    assert head_of(["backbone.conv1.weight"]) is None
