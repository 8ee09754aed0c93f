from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from hrseg.config import (
    OPTIONS,
    SECTIONS,
    config_from_dict,
    config_to_dict,
    explain,
    load_config,
    to_yaml,
)


def test_config_is_frozen_and_survives_the_round_trip(here: Path) -> None:
    config = load_config("run.yaml", ["evaluation.window=[64,96]", "loss.terms.ohem=1"])
    assert config.data.crop == (512, 1024)
    with pytest.raises(FrozenInstanceError):
        config.data.flip = 0.1  # type: ignore[misc]
    assert config_from_dict(config_to_dict(config)) == config
    (here / "again.yaml").write_text(to_yaml(config))
    assert load_config("again.yaml") == config


def test_every_option_explains_itself() -> None:
    for key, row in OPTIONS.items():
        text = explain(key)
        assert text.startswith(f"{key}\n")
        assert row.doc.endswith(".")
        assert row.kind in text
    for section in SECTIONS:
        names = [key.partition(".")[2] for key in OPTIONS if key.startswith(f"{section}.")]
        assert all(f"  {name} " in explain(section, 80) for name in names)
    assert all(section in explain() for section in SECTIONS)
