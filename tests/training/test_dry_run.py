import pytest

from hrseg.errors import ConfigError
from hrseg.training.dry_run import plan
from tests.small import small


def test_plan_counts_without_writing(tmp_path):
    config = small(tmp_path, "trainer.accumulate=2", "model.weights=gone.ckpt")
    planned = plan(config)
    assert planned.steps == (1, 2)
    assert planned.shapes == {"image": (2, 3, 32, 64), "mask": (2, 32, 64)}
    assert planned.cost.multiply_adds > 0
    assert "1,5" in planned.text()
    assert "about" in planned.text()
    assert not list(tmp_path.iterdir())


def test_plan_meets_the_mistakes_of_fit(tmp_path):
    for word in (
        "trainer.loggers=[cvs]",
        "trainer.options={profilr: simple}",
        "model.backbone=hrnet_w19",
    ):
        with pytest.raises(ConfigError, match="Did you mean"):
            plan(small(tmp_path, word))
