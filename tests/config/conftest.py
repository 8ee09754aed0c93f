"""A working folder with a recipe, and the error of a recipe."""

from pathlib import Path

import pytest

from hrseg.config import load_config
from hrseg.errors import ConfigError

BASE = "data: {layout: synthetic, batch_size: 6}\ntrainer: {max_epochs: 1}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with one valid recipe, run.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(BASE)
    return tmp_path


def refuse(path: str | None, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, words)
    return str(caught.value)
