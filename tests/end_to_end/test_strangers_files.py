"""Files of strangers through the command line: no network, no foreign file, and one broken file is that file's."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrseg.cli import EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.imaging import write_mask
from hrseg.labels import Label, LabelSet
from hrseg.weights import write_release
from tests.imaging.test_photographs import dds
from tests.imaging.test_rasters import ITSELF, SIDECARS, Server, hostile, raster

GOOD = ("a", "c", "d", "e")


@pytest.fixture
def model(tiny_network, tmp_path) -> str:
    labels = LabelSet("own", tuple(Label(i, i, f"c{i}", (i, 9 * i, i)) for i in range(3)))
    card = {"network": tiny_network.spec, "labels": labels.to_dict(), "mean": [0.5] * 3}
    write_release(tmp_path / "m.safetensors", tiny_network.state_dict(), card | {"std": [1] * 3})
    return str(tmp_path / "m.safetensors")


def predict(model: str, folder: Path) -> int:
    plain = ("--device", "cpu", "--precision", "fp32", "--engine", "torch")
    return main(["predict", str(folder), "--model", model, *plain, "--out", str(folder) + "_out"])


def dataset(root: Path) -> None:
    """Four pairs of images and masks that can be learned from."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    for number, name in enumerate(GOOD):
        pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}.png")
        mask = np.zeros((40, 60), np.uint8)
        mask[10 + number :, 20:] = 1
        write_mask(root / f"masks/{name}.png", mask)


def cut() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()[:2000]


def complex_numbers(path: Path) -> None:
    raster(path, np.zeros((40, 60, 1), np.complex64))


BROKEN = {
    "a kind that is not decoded": lambda path: path.write_bytes(dds(b"XXXX")),
    "cut": lambda path: path.write_bytes(cut()),
    "empty": lambda path: path.write_bytes(b""),
    "complex": complex_numbers,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_file_is_named_and_the_others_are_done(tmp_path, model, capsys, kind):
    root = tmp_path / "set"
    dataset(root)
    suffix = "tif" if kind == "complex" else "png"
    broken = root / f"images/b.{suffix}"
    BROKEN[kind](broken)
    write_mask(root / "masks/b.png", np.ones((40, 60), np.uint8))

    assert predict(model, root / "images") == EXIT_PARTIAL
    said = capsys.readouterr()
    assert f"b.{suffix}" in said.err
    assert sorted(p.name[0] for p in (root / "images_out").glob("*_mask.png")) == list(GOOD)
    # a data set with a broken file is for its user to mend
    assert main(["data", "check", str(root), "--workers", "1"]) == EXIT_USAGE
    said = capsys.readouterr()
    assert f"b.{suffix}" in said.out + said.err
    assert main(["data", "stats", str(root), "--workers", "1"]) == EXIT_PARTIAL
    said = capsys.readouterr()
    assert f"b.{suffix}" in said.out + said.err


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_mask_is_named_and_the_others_are_exported(tmp_path, capsys, kind):
    root = tmp_path / "set"
    dataset(root)
    suffix = "tif" if kind == "complex" else "png"
    BROKEN[kind](root / f"masks/b.{suffix}")
    Image.new("RGB", (60, 40)).save(root / "images/b.png")
    (root / "labels.yaml").write_text("classes: [ground, thing]\n")
    words = [
        "--to",
        "coco",
        "--images",
        str(root / "images"),
        "--labels",
        str(root / "labels.yaml"),
    ]
    out = tmp_path / "out.json"
    assert main(["data", "convert", str(root / "masks"), *words, "--out", str(out)]) == EXIT_PARTIAL
    said = capsys.readouterr()
    assert f"b.{suffix}" in said.out + said.err
    assert all(f'"{name}.png"' in out.read_text() for name in GOOD)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SIDECARS, *ITSELF])
def test_no_file_makes_a_verb_ask_the_network(tmp_path, model, capsys, kind):
    root = tmp_path / "set"
    dataset(root)
    with Server() as server:
        address = f"/vsicurl/{server.address}/a.tif"
        if kind in ITSELF:
            (root / "images/x.tif").write_text(ITSELF[kind](address))
        else:
            hostile(root / "images", kind, address)
        write_mask(root / "masks/x.png", np.eye(40, 60, dtype=np.uint8))
        code = predict(model, root / "images")
        assert code == (EXIT_PARTIAL if kind in ITSELF else 0)
        if kind not in ITSELF:
            masks = list((root / "images_out").glob("x_mask.*"))
            assert len(masks) == 1
        main(["data", "check", str(root), "--workers", "1"])
        main(["data", "stats", str(root), "--workers", "1"])
        capsys.readouterr()
        assert server.asked == []
