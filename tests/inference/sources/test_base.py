import pytest

from hrseg.errors import ConfigError
from hrseg.inference.sources import Every


@pytest.mark.parametrize(("text", "expected"), [("3", [0, 3, 6, 9]), ("0.25s", [0, 3, 5, 8])])
def test_every_takes_frames_by_number_or_by_time(text, expected):
    selector = Every.read(text).selector()
    assert [i for i in range(10) if selector(i, i / 10)] == expected


@pytest.mark.parametrize("text", ["0", "x", "s", ".s", "-1", "1.5", "0s"])
def test_every_refuses_what_says_nothing(text):
    with pytest.raises(ConfigError, match="does not say which frames"):
        Every.read(text)
