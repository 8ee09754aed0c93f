"""Weights in a source's own names, through our importer, into our network, give the source's own logits.

`originals.npz` holds what the original implementations answered, `names.json.xz` which tensors they save; both were
made by tools/reference_logits.py. Weights and images come from seeds, so no original is needed here.
"""

import json
import lzma
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hrseg.config import load_config
from hrseg.labels import load_labels
from hrseg.models import create_model
from hrseg.training.build import build_network
from hrseg.weights.foreign import translate
from hrseg.weights.load import load_translated
from tests.reference.one_network import as_mmseg, as_paddle
from tests.reference.seeded import SIZES, seeded_image, seeded_state, thinned

HERE = Path(__file__).parent
ORIGINALS = np.load(HERE / "originals.npz")
NAMES = json.loads(lzma.decompress((HERE / "names.json.xz").read_bytes()))
CASES = sorted({tuple(key.split("/")[:3]) for key in ORIGINALS if key.count("/") > 1})
HEAVY = {
    ("official", "hrnet_w48_v2", "bilinear_aligned"),
    ("official", "hrnet_w48_ocr", "bilinear"),
    ("official_master", "hrnet_w48_v2", "bilinear"),
    ("paddleseg", "hrnet_w48_v2", "bilinear_aligned"),
    ("paddleseg", "hrnet_w48_ocr", "bilinear_aligned"),
    ("smp", "hrnet_w48_branches", "nearest"),
}
TOLERANCE = 1e-4


def foreign_state(source, model):
    entry = NAMES[f"{source}/{model}"]
    shapes = {name: tuple(shape) for name, shape in entry["tensors"]}
    state = seeded_state(shapes, entry["negative_gammas"])
    if source == "csail":  # two files, whose names carry no prefix
        state = {name.split(".", 1)[1]: value for name, value in state.items()}
    return state


def as_tensors(state):
    return {name: torch.from_numpy(value) for name, value in state.items()}


@lru_cache(maxsize=1)
def imported(source, model):
    return translate(as_tensors(foreign_state(source, model)), f"{source}/{model}")


def build(foreign, backbone, policy, padding=None):
    with pytest.MonkeyPatch.context() as patch:  # no random numbers: all weights that are used come from a file
        for name in ("kaiming_uniform_", "kaiming_normal_"):
            patch.setattr(torch.nn.init, name, lambda tensor, **_: tensor)
        return create_model(
            backbone,
            foreign.head or "v2",
            foreign.num_classes or 3,
            policy,
            padding=padding or foreign.function["padding"],
        ).eval()


def outputs_of(network, size, head="v2"):
    image = torch.from_numpy(seeded_image(size))
    with torch.no_grad():
        branches = network.forward_branches(image)
        if head == "branches":
            return {"branch3": branches[3].numpy()}
        outputs = network.head(branches)
        outputs = outputs if isinstance(outputs, dict) else {"main": outputs}
        return {name: value.numpy() for name, value in outputs.items()}


def distance(ours, original):
    return np.abs(ours - original).max() / original.std()


@pytest.mark.parametrize(
    ("source", "model", "policy"),
    [pytest.param(*case, marks=pytest.mark.long) if case in HEAVY else case for case in CASES],
)
def test_imported_weights_give_the_original_logits(source, model, policy):
    foreign = imported(source, model)
    backbone, head = model.rsplit("_", 1)
    network = build(foreign, backbone, policy)
    bare = head == "branches"
    report = load_translated(network, foreign, new_head=bare, resize=policy)
    assert bool(report.new) == bare
    seen = 0
    for size in SIZES:
        for name, ours in outputs_of(network, size, head).items():
            key = f"{source}/{model}/{policy}/{size[0]}x{size[1]}/{name}"
            if key in ORIGINALS:
                assert distance(thinned(ours, size), ORIGINALS[key]) < TOLERANCE, key
                seen += 1
    assert seen


def test_sources_that_refuse_odd_sizes_are_those_that_fuse_by_nearest():
    even_only = {case for case in CASES if not any("/".join(case) + "/125x203/" in key for key in ORIGINALS)}
    assert even_only == {case for case in CASES if case[2] == "nearest"}


def test_one_network_in_three_formats_gives_the_same_logits():
    official = foreign_state("official", "hrnet_w18_small_v2_v2")
    names = [name for name, _ in NAMES["paddleseg/hrnet_w18_small_v2_v2"]["tensors"]]
    states = (official, as_mmseg(official), as_paddle(official, names))
    outputs = []
    for state, format_ in zip(states, ("official", "mmseg", "paddle"), strict=True):
        foreign = translate(as_tensors(state), format_)
        network = build(foreign, "hrnet_w18_small_v2", "bilinear", padding="symmetric")
        load_translated(network, foreign, compare=False)
        outputs.append(outputs_of(network, SIZES[1])["main"])
    assert all(distance(other, outputs[0]) < TOLERANCE for other in outputs[1:])
    key = "official/hrnet_w18_small_v2_v2/bilinear/125x203/main"
    assert distance(outputs[0], ORIGINALS[key]) < TOLERANCE


def test_a_timm_classifier_is_the_backbone_of_the_cityscapes_recipe():
    recipe = load_config("cityscapes_w48")
    network = build_network(recipe, load_labels("cityscapes"), load=False)
    foreign = imported("timm", "hrnet_w48_classification")
    report = load_translated(network, foreign)
    assert len(report.matched) == 1830
    assert len(report.new) == 9
    assert all(key.startswith("head.") for key in report.new)
    assert any("nearest" in note and "bilinear" in note for note in report.notes)
    own = network.state_dict()
    assert all(torch.equal(own[key], foreign.state[key]) for key in report.matched)


@pytest.mark.parametrize(
    ("source", "field", "value"),
    [
        ("official", "policy", "bilinear_aligned"),
        ("official", "policy", "nearest"),
        ("mmseg", "policy", "bilinear"),
        ("paddleseg", "padding", "symmetric"),
    ],
)
def test_what_names_cannot_show_changes_the_logits(source, field, value):
    """The tolerance above would not hide a wrong policy or padding: each moves the logits a hundred times as far."""
    model = "hrnet_w18_small_v2_v2"
    foreign = imported(source, model)
    own = {"policy": foreign.function["resize"], "padding": foreign.function["padding"]}
    network = build(foreign, "hrnet_w18_small_v2", **{**own, field: value})
    network.load_state_dict(foreign.state)
    ours = outputs_of(network, SIZES[1])["main"]
    original = ORIGINALS[f"{source}/{model}/{own['policy']}/125x203/main"]
    assert distance(ours, original) > 100 * TOLERANCE


def test_gammas_of_torch_04_taken_as_they_are_give_other_logits():
    model = "hrnet_w18_small_v1_v2"
    foreign = imported("official_master", model)
    raw = foreign_state("official_master", model)
    network = build(foreign, "hrnet_w18_small_v1", "bilinear")
    untouched = {
        key: torch.from_numpy(raw[key.split(".", 1)[1]])
        for key in foreign.state
        if key.startswith("backbone.") and key.split(".", 1)[1] in raw
    }
    network.load_state_dict({**foreign.state, **untouched})
    ours = outputs_of(network, SIZES[1])["main"]
    original = ORIGINALS[f"official_master/{model}/bilinear/125x203/main"]
    assert distance(ours, original) > 0.5
