"""Display of configs and options."""

from pathlib import Path

import pytest

from hrseg.config import explain, load_config_with_origins, to_yaml
from hrseg.errors import ConfigError


def test_every_line_shows_its_origin(here: Path) -> None:
    config, origins = load_config_with_origins("run.yaml", ["loss.terms.ohem=1"])
    lines = to_yaml(config, origins).splitlines()
    assert "  batch_size: 6                # run.yaml:1" in lines
    assert "  terms: {ohem: 1.0}       # command line" in lines
    assert "  name: run  # name of the config file" in lines
    assert all(" # " in line for line in lines if line.startswith(" "))


def test_explaining_an_unknown_key_suggests_one() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'data\.crop'\?"):
        explain("data.corp")
