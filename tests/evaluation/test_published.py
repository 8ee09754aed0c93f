import json

import pytest
import torch

from hrseg.config import load_config, published_recipes
from hrseg.data.datamodule import SegmentationData
from hrseg.data.layouts import LAYOUTS
from hrseg.errors import ConfigError, DataError
from hrseg.evaluation.published import ARCHIVES, plan_reproduction, reproduce
from hrseg.inference.protocols import PROTOCOLS, choose_protocol
from hrseg.training.build import build_network
from hrseg.weights import write_release
from hrseg.weights.catalog import is_tag, row_of
from tests.end_to_end.test_shipped_model import CAMVID, NEEDS_CAMVID

SHIPPED = "camvid_w18_small_v1"
TINY = """# A tiny recipe.
model: {backbone: hrnet_w18_small_v1}
data: {layout: synthetic, scenes: 8, scene_size: [32, 64], crop: [32, 64], workers: 0}
trainer: {max_epochs: 1, accelerator: cpu}
evaluation: {precision: fp32}
published:
  scores: {whole: SCORE, tta: 12.5}
  weights: WEIGHTS
  source: a test
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A recipe for drawn scenes, with the weights that it names."""
    monkeypatch.chdir(tmp_path)

    def write(score):
        path = tmp_path / "tiny.yaml"
        weights = tmp_path / "tiny.safetensors"
        path.write_text(TINY.replace("SCORE", str(score)).replace("WEIGHTS", str(weights)))
        config = load_config(path)
        labels = SegmentationData(layout="synthetic").labels
        torch.manual_seed(0)
        network = build_network(config, labels)
        card = {"network": network.spec, "labels": labels.to_dict()}
        card |= {"mean": list(config.data.mean), "std": list(config.data.std)}
        write_release(weights, network.state_dict(), card)
        return str(path)

    return write


def test_published_sections_name_protocols_and_weights_that_exist():
    names = published_recipes()
    assert SHIPPED in names
    for config in map(load_config, names):
        assert set(config.published.scores) <= set(PROTOCOLS)
        assert all(10 < score < 100 for score in config.published.scores.values())
        options = {**vars(config.evaluation)}
        del options["precision"]
        choose_protocol(**options)
        tag = config.published.weights
        if tag is not None:
            assert is_tag(tag)
            row = row_of(tag)
            assert (row.backbone, row.head) == (config.model.backbone, config.model.head)


def test_every_published_layout_says_where_its_data_come_from():
    assert set(ARCHIVES) == set(LAYOUTS) - {"folder"}
    assert all(row.files and row.page.startswith("http") for row in ARCHIVES.values())


@pytest.mark.slow
def test_a_plan_without_data_names_archives_folder_and_command():
    plan = plan_reproduction("cityscapes_w18_small_v1", ["data.root=/nowhere/cs"])
    assert plan.score == 70.3
    assert plan.protocol.name == "official_cityscapes"
    assert "/nowhere/cs" in plan.missing
    assert "leftImg8bit_trainvaltest.zip" in plan.missing
    assert "hrseg fit --config cityscapes_w18_small_v1" in plan.missing
    assert plan.command.startswith("hrseg validate --config cityscapes_w18_small_v1")
    assert "evaluation.protocol=official_cityscapes data.root=/nowhere/cs" in plan.command
    assert plan.passes == ((1024, 2048),)
    assert plan.multiply_adds == pytest.approx(33.39e9, rel=1e-3)
    assert plan.images == 500
    json.dumps(plan.to_dict())
    assert {name for name, _ in plan.rows()} >= {"published", "protocol", "weights", "cost"}


@pytest.mark.slow
def test_several_scales_cost_their_passes():
    plan = plan_reproduction("ade20k_w48_ohem", protocol="official_ade20k_ms")
    assert plan.score == 44.2
    assert len(plan.passes) == 2 * (1 + 1 + 1 + 2 + 4 + 6 + 6)
    assert set(plan.passes) == {(520, 520)}
    assert plan.weights is not None
    assert "non-commercial" in dict(plan.rows())["terms"]


@pytest.mark.slow
def test_what_is_missing_is_not_run():
    plan = plan_reproduction(SHIPPED, ["data.root=/nowhere"])
    assert plan.data is None
    with pytest.raises(DataError, match="nowhere"):
        reproduce(plan)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((SHIPPED, (), "tta"), "has no score for protocol 'tta'. It has: whole."),
        (("demo", (), None), "names no published score. Recipes that do:"),
        (("demmo", (), None), "Did you mean 'demo'?"),
    ],
)
def test_claims_that_nobody_made_are_refused(words, message):
    recipe, overrides, protocol = words
    with pytest.raises(ConfigError) as error:
        plan_reproduction(recipe, overrides, protocol=protocol)
    assert message in str(error.value)


def test_got_stands_beside_expected_and_off_is_off(tiny):
    off = reproduce(plan_reproduction(tiny(90.0)))
    assert not off.close
    assert str(off).startswith("expected 90.00, got ")
    assert "more than 0.3 points" in str(off)
    again = reproduce(plan_reproduction(tiny(round(off.got, 2))))
    assert again.close
    assert again.got == off.got
    values = json.loads(json.dumps(again.to_dict()))
    assert values["within_tolerance"]
    assert set(values["iou"]) == set(again.result.labels.names)


@pytest.mark.slow
def test_a_chosen_protocol_is_what_runs(tiny):
    path = tiny(50.0)
    whole = reproduce(plan_reproduction(path))
    outcome = reproduce(plan_reproduction(path, protocol="tta"))
    assert outcome.plan.score == 12.5
    assert "Protocol tta: scales 0.75 1 1.25" in outcome.result.text
    assert outcome.got != whole.got


@pytest.mark.slow
def test_without_weights_it_says_how_to_train_them_and_takes_ones_own(tiny, tmp_path):
    path = tiny(50.0)
    words = ["published.weights=null"]
    plan = plan_reproduction(path, words)
    assert "hrseg fit --config tiny" in plan.missing
    mine = plan_reproduction(path, words, model=str(tmp_path / "tiny.safetensors"))
    assert mine.missing is None
    assert reproduce(mine).got > 0


@NEEDS_CAMVID
def test_the_shipped_model_has_its_published_score():
    plan = plan_reproduction(SHIPPED, [f"data.root={CAMVID}", "data.workers=0"])
    assert plan.images == 101
    outcome = reproduce(plan)
    assert outcome.close, str(outcome)
