import pytest

from hrseg.errors import ConfigError
from hrseg.migrate import translate


def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {backbone: hrnet_w18}\n")
    with pytest.raises(ConfigError, match="need no translation"):
        translate(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        translate(tmp_path / "gone.yaml")
