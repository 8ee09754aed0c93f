"""Each head that gives pixels, with options of the backbone, from a recipe to a prediction."""

import numpy as np
import pytest

from hrseg.errors import ConfigError
from hrseg.inference.load_model import open_model
from hrseg.inference.predictor import Predictor
from hrseg.training.fit import fit
from tests.small import small

WORDS = {
    "v2": ("model.style=tf_port", "model.downsample=max_pool"),
    "ocr": ("model.resize=bilinear_scaled", "model.padding=same", "model.exchange=between_stages"),
    "v1": ("model.exchange=full",),
    "c1": (
        "model.branches_from_start=true",
        "model.activation=leaky_relu",
        "model.downsample=max_pool",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", WORDS)
def test_a_run_is_opened_as_the_network_it_trained(head, tmp_path):
    config = small(tmp_path, f"model.head={head}", "trainer.max_epochs=1", *WORDS[head])
    result = fit(config)
    opened = open_model(result.run_dir / "best.ckpt")
    for word in WORDS[head]:
        name, value = word.removeprefix("model.").split("=")
        assert str(opened.network.spec[name]).lower() == value
    image = np.full((35, 61, 3), 90, dtype=np.uint8)
    assert Predictor(result.run_dir / "best.ckpt")(image).mask.shape == (35, 61)


@pytest.mark.slow
def test_one_image_with_a_head_that_averages_the_image_gets_advice_that_helps(tmp_path):
    words = ("model.backbone=resnet18", "model.head=deeplabv3", "data.batch_size=1")
    with pytest.raises(ConfigError, match=r"Set data\.batch_size=2 .* deeplabv3, always need two"):
        fit(small(tmp_path, *words))
