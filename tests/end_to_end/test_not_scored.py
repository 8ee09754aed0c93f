"""A validation split whose masks have no labeled pixel, as benchmarks publish their test masks."""

import contextlib
import csv
import io
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.config import config_to_dict, load_config
from hrseg.config.values import flow
from tests.small import WORDS

NOT_SCORED = "not one pixel of the masks has a class"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set with labels for training only, and a finished run on it."""
    root = tmp_path_factory.mktemp("unlabelled")
    draw = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (root / "data" / kind / split).mkdir(parents=True)
        for number in range(2):
            image = draw.integers(0, 256, (32, 64, 3), dtype=np.uint8)
            mask = np.full((32, 64), 255, np.uint8)
            if split == "train":
                mask[:, :32], mask[:, 32:] = 0, 1
            Image.fromarray(image).save(root / f"data/images/{split}/{number}.png")
            Image.fromarray(mask).save(root / f"data/masks/{split}/{number}.png")
    (root / "data" / "labels.yaml").write_text("classes: [a, b]\nignore: [255]\n")
    return root


def words(folder):
    kept = [word for word in WORDS if not word.startswith(("data.layout", "trainer.loggers"))]
    return [
        *(*kept, "data.layout=folder", f"data.root={folder / 'data'}", f"run.dir={folder}"),
        *("evaluation.absent=zero", "trainer.loggers=[csv,tensorboard]"),
    ]


@pytest.fixture(scope="module")
def run(folder):
    recipe = folder / "small.yaml"
    recipe.write_text(flow(config_to_dict(load_config(None, words(folder)))))
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("error")
        assert main(["fit", "--config", str(recipe), "trainer.early_stop_patience=1"]) == EXIT_OK
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder / "small"


def test_a_run_without_validation_labels_goes_to_its_end_without_a_score(run):
    printed = (run.parent / "printed.txt").read_text()
    assert printed.startswith("Nothing was scored")
    assert "last.ckpt" in printed
    assert {path.name for path in run.glob("*.ckpt")} == {"last.ckpt", "previous.ckpt"}
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name.startswith("val/")]
    assert {row[name] for row in rows for name in columns} == {""}
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert not [tag for tag in events.Tags()["scalars"] if tag.startswith("val/")]
    assert torch.load(run / "last.ckpt", weights_only=True)["hrseg"]["miou"] is None


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        ("validate", EXIT_OK),
        ("test", EXIT_OK),
        ("evaluate", EXIT_USAGE),
        ("compare", EXIT_USAGE),
        ("reproduce", EXIT_USAGE),
    ],
)
def test_every_verb_that_scores_says_that_nothing_was(run, folder, capsys, tmp_path, verb, code):
    model = str(run / "last.ckpt")
    arguments = {
        "validate": ["--model", model],
        "test": ["--model", model],
        "evaluate": [model, "--out", str(tmp_path / "report")],
        "compare": [model, model],
        "reproduce": [str(_published(run, tmp_path)), "--model", model],
    }[verb]
    assert main([verb, *arguments, "evaluation.absent=zero"]) == code
    said = capsys.readouterr()
    text = said.out + said.err
    assert NOT_SCORED in " ".join(text.split()).lower()
    assert not re.search(r"\bnan\b|\b0\.00\b|mIoU \d", text)
    assert not (tmp_path / "report").exists()


def _published(run, folder):
    recipe = folder / "published.yaml"
    text = (run / "config.yaml").read_text().split("\npublished:")[0]
    recipe.write_text(f"{text}\npublished:\n  scores: {{whole: 70}}\n")
    return recipe
