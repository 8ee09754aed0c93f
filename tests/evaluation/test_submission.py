"""Archives for the servers, on trees of a few small images."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.data.layouts import find_pairs
from hrseg.errors import ConfigError, DataError
from hrseg.evaluation.submission import SERVERS, submit
from hrseg.imaging import read_image, read_mask, write_mask
from hrseg.inference.predictor import Predictor
from hrseg.labels import load_labels

SIZE = (24, 40)
RNG = np.random.default_rng(5)
LABELS = {name: load_labels(name) for name in SERVERS}


class ByRed(torch.nn.Module):
    """The class of a pixel follows from its red."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        chosen = (image[:, 0] * 255).round().long() % self.num_classes
        return torch.nn.functional.one_hot(chosen, self.num_classes).permute(0, 3, 1, 2).float()


def by_red(server: str, labels=None) -> Predictor:
    labels = labels or LABELS[server]
    plain = {"device": "cpu", "precision": "fp32", "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Predictor(ByRed(labels.num_classes), labels, **plain)


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / "data"
    ids = [label.id for label in LABELS["cityscapes"].labels if label.id >= 0]
    for split, cities in {"val": ("ulm", "bad-honnef"), "test": ("bonn",)}.items():
        for city in cities:
            for frame in range(2):
                stem = f"{city}_{frame:06d}_000019"
                image = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
                put(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", image)
                mask = RNG.choice(ids, SIZE).astype(np.uint8)
                put(root / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", mask)
    return root


@pytest.fixture
def ade20k(tmp_path):
    root = tmp_path / "data"
    for folder, name in {"validation": "val", "testing": "test"}.items():
        for number in (1, 2, 3):
            stem = f"ADE_{name}_{number:08d}"
            image = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            place = root / f"images/{folder}/{stem}.jpg"
            put(place, image)
            if name == "val":
                mask = RNG.integers(0, 151, SIZE, dtype=np.uint8)
                put(root / f"annotations/{folder}/{stem}.png", mask)
    return root


def test_a_split_of_masks_without_labels_is_not_scored(cityscapes, tmp_path):
    for mask in (cityscapes / "gtFine/val").rglob("*.png"):
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(mask)
    done = submit(
        *("cityscapes", cityscapes, tmp_path / "out.zip"),
        predictor=by_red("cityscapes"),
        split="val",
        partial=True,
    )
    assert "Not scored" in str(done)
    assert "ranks by" not in str(done)
    assert "4 predictions" in str(done)


def stored(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        found = {}
        for name in archive.namelist():
            with archive.open(name) as file, Image.open(file) as image:
                assert image.mode == "L"
                found[name] = np.array(image)
    return found


def test_cityscapes_archive_is_what_the_server_wants(cityscapes, tmp_path):
    out = tmp_path / "c.zip"
    done = submit("cityscapes", cityscapes, out, predictor=by_red("cityscapes"), partial=True)
    files = stored(out)
    assert sorted(files) == ["bonn_000000_000019_labelIds.png", "bonn_000001_000019_labelIds.png"]
    for pair in find_pairs("cityscapes", cityscapes, "test"):
        red = read_image(pair.image)[..., 0]
        expected = np.array([label.id for label in LABELS["cityscapes"].classes])[red % 19]
        np.testing.assert_array_equal(files[f"{Path(pair.name).name}_labelIds.png"], expected)
    assert (done.count, done.scores) == (2, None)
    assert "2 predictions" in str(done)


def test_ade20k_archive_holds_ids_from_one(ade20k, tmp_path):
    submit("ade20k", ade20k, tmp_path / "a.zip", predictor=by_red("ade20k"), partial=True)
    files = stored(tmp_path / "a.zip")
    assert list(files) == [f"ADE_test_{number:08d}.png" for number in (1, 2, 3)]
    for name, ids in files.items():
        red = read_image(ade20k / f"images/testing/{Path(name).stem}.jpg")[..., 0]
        np.testing.assert_array_equal(ids, red % 150 + 1)


def test_the_local_score_is_that_of_the_benchmark(cityscapes, tmp_path, monkeypatch):
    pytest.importorskip("cityscapesscripts", reason="the benchmark's evaluator")
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official

    words = {"predictor": by_red("cityscapes"), "split": "val", "partial": True}
    done = submit("cityscapes", cityscapes, tmp_path / "c.zip", **words)
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        archive.extractall(tmp_path / "results")
    truth = sorted(map(str, cityscapes.glob("gtFine/val/*/*_labelIds.png")))
    arguments = official.args
    for name in ("evalInstLevelScore", "evalPixelAccuracy", "JSONOutput"):
        monkeypatch.setattr(arguments, name, False)
    monkeypatch.setattr(arguments, "quiet", True)
    monkeypatch.setattr(arguments, "predictionPath", str(tmp_path / "results"))
    monkeypatch.setattr(arguments, "predictionWalk", None)
    found = [official.getPrediction(arguments, path) for path in truth]  # by its own rule of names
    theirs = official.evaluateImgLists(found, truth, arguments)
    assert done.final == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    for name, iou in zip(done.names, done.scores["iou"].tolist(), strict=True):
        assert iou == pytest.approx(theirs["classScores"][name], nan_ok=True, abs=1e-12)
    assert f"ranks by mIoU: {100 * done.final:.2f}" in str(done)


def test_ade20k_is_ranked_by_the_mean_of_accuracy_and_miou(ade20k, tmp_path):
    words = {"predictor": by_red("ade20k"), "split": "val", "partial": True}
    done = submit("ade20k", ade20k, tmp_path / "a.zip", **words)
    both = done.scores["miou"], done.scores["pixel_accuracy"]
    assert done.final == pytest.approx(sum(both) / 2)


# From a folder


def predicted(root, tmp_path, server="cityscapes", ending="_mask", split="test") -> Path:
    run = by_red(server)
    for pair in find_pairs(server, root, split):
        result = run(pair.image)
        name = pair.image.stem if ending == "_mask" else Path(pair.name).name
        palette = LABELS[server].id_palette()
        ids = result.mask if "train" in ending else result.ids()
        write_mask(tmp_path / "out" / f"{name}{ending}.png", ids, palette)
        (tmp_path / "out" / f"{name}_overlay.png").write_bytes(b"not looked at")
    return tmp_path / "out"


@pytest.mark.parametrize("ending", ["_mask", "", "_labelIds", "_trainids"])
def test_a_folder_gives_the_archive_of_the_model(ending, cityscapes, tmp_path):
    folder = predicted(cityscapes, tmp_path, ending=ending)
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    submit("cityscapes", cityscapes, first, predictor=by_red("cityscapes"), partial=True)
    words = {"predictions": folder, "train_ids": ending == "_trainids", "partial": True}
    submit("cityscapes", cityscapes, second, **words)
    assert first.read_bytes() == second.read_bytes()


def spoil(kind: str, folder: Path) -> None:
    first = sorted(folder.glob("*_mask.png"))[0]
    ids = read_mask(first)
    if kind == "missing":
        first.unlink()
    elif kind == "twice":
        write_mask(folder / "again" / first.name, ids)
    elif kind == "size":
        write_mask(first, ids[:-1])
    elif kind == "void":
        ids[0, 0] = 3
        write_mask(first, ids)
    elif kind == "trainids":
        write_mask(first, ids % 19)
    elif kind == "color":
        put(first, np.zeros((*SIZE, 3), np.uint8))
    elif kind == "strange":
        write_mask(folder / "rome_000000_000001_mask.png", ids)
    elif kind == "damaged":
        first.write_bytes(first.read_bytes()[:60])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", r"1 of 2 images of split 'test' have no prediction in .*: bonn_000000_000019"),
        ("twice", "Two predictions for one image"),
        ("size", "bonn/bonn_000000_000019 is 23 x 40, the image 24 x 40"),
        ("void", r"holds 3, which Cityscapes .* does not score.*19 classes, from 7 to 33"),
        ("trainids", "If these are trainIds, add --trainids"),
        ("color", "is a picture of colors"),
        ("strange", "belong to no image of split 'test', such as rome_000000_000001_mask.png"),
        ("damaged", "cannot be read"),
    ],
)
def test_what_the_server_would_refuse_is_refused_and_nothing_is_written(kind, words, cityscapes, tmp_path):
    folder = predicted(cityscapes, tmp_path)
    spoil(kind, folder)
    out = tmp_path / "zips" / "c.zip"
    out.parent.mkdir()
    out.write_bytes(b"older")
    with pytest.raises(DataError, match=words):
        submit("cityscapes", cityscapes, out, predictions=folder, partial=True)
    assert [path.read_bytes() for path in out.parent.iterdir()] == [b"older"]


def test_a_split_that_lacks_images_is_refused(cityscapes, tmp_path):
    with pytest.raises(DataError, match=r"has 1525 images, .* holds 2 of them"):
        submit("cityscapes", cityscapes, tmp_path / "c.zip", predictor=by_red("cityscapes"))


def test_a_model_of_other_classes_is_refused(cityscapes, tmp_path):
    camvid = by_red("cityscapes", load_labels("camvid"))
    with pytest.raises(ConfigError, match=r"has 11 classes, Cityscapes .* 19: it has no"):
        submit("cityscapes", cityscapes, tmp_path / "c.zip", predictor=camvid, partial=True)
    assert not (tmp_path / "c.zip").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"server": "kitti", "predictions": "x"}, "Unknown server 'kitti'"),
        ({}, "either a model"),
        ({"predictions": "x", "out": "x.tar"}, "takes a zip archive"),
    ],
)
def test_words_that_cannot_work(words, message, cityscapes):
    with pytest.raises(ConfigError, match=message):
        submit(**{"server": "cityscapes", "root": cityscapes, "out": "c.zip", **words})
