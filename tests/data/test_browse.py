import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from hrseg.config import load_config
from hrseg.data.browse import recipe_facts, write_samples
from hrseg.data.dataset import Draw
from hrseg.errors import ConfigError
from hrseg.training.build import build_data


@pytest.fixture
def config():
    words = ["data.layout=synthetic", "data.scenes=4", "data.scene_size=[32,48]"]
    return load_config(None, [*words, "data.crop=[16,32]", "data.photometric=0.5", "trainer.max_epochs=1"])


def inside(page, kind):
    found = re.findall(rf"data:image/{kind};base64,([^\"]+)", page)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_the_page_shows_what_the_network_would_see(config, tmp_path):
    data = build_data(config)
    out = tmp_path / "p.html"
    write_samples(data.train_set, out, images=2, variants=3, title="a <b>")
    page = out.read_text()
    masks = inside(page, "png")
    assert len(masks) == len(inside(page, "jpeg")) == 2 * (1 + 3)
    index = next(i for i in range(4) if (data.train_set.read_trainids(data.train_pairs[i])[1] == masks[0]).all())
    for epoch in range(3):
        assert (masks[1 + epoch] == data.train_set[Draw(index, epoch=epoch)]["mask"].numpy()).all()


def test_the_page_needs_nothing_from_outside(config, tmp_path):
    out = tmp_path / "p.html"
    facts = recipe_facts("mine", config.data)
    write_samples(build_data(config).train_set, out, images=1, variants=1, title="<x>", facts=facts)
    page = out.read_text()
    assert "http" not in page
    assert "<h1>&lt;x&gt;</h1>" in page
    assert "16 × 32" in page
    assert all(name in page for name in ("road", "sky", "mine", "const LABELS"))
    assert not re.search(r"\{(title|style|rows|script)\}", page)


def test_an_empty_page_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match="empty"):
        write_samples(build_data(config).train_set, tmp_path / "p.html", images=0)
