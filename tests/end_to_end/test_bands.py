"""Images of other bands, from files to a trained network to its predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hrseg import Predictor, create_model
from hrseg.cli import main
from hrseg.config import load_config
from hrseg.errors import ConfigError, WeightsError
from hrseg.evaluation.validate import evaluate
from hrseg.imaging import read_bands, write_mask
from hrseg.labels import load_labels
from hrseg.training.build import build_network
from hrseg.training.fit import fit
from hrseg.weights import load_weights
from hrseg.weights.release import write_release

BANDS = {"tif": (4, "uint16"), "npy": (6, "float32")}


def write(root: Path, suffix: str) -> None:
    """Squares that only the last band shows; the others are noise."""
    bands, _ = BANDS[suffix]
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((48, 64), np.uint8)
            top, left = generator.integers(0, 24, 2)
            mask[top : top + 20, left : left + 30] = 1
            image = generator.random((48, 64, bands))
            image[..., -1] = 0.2 + 0.5 * mask + 0.05 * image[..., -1]
            place = root / "images" / split / f"{number}.{suffix}"
            if suffix == "npy":
                np.save(place, np.moveaxis(image, 2, 0).astype(np.float32))
            else:
                stored = (10000 * image).astype(np.uint16)
                pytest.importorskip("tifffile").imwrite(place, stored, photometric="minisblack")
            write_mask(root / "masks" / split / f"{number}.png", mask)
    (root / "labels.yaml").write_text(
        "classes:\n  - {id: 0, name: ground, color: [0, 0, 0]}\n  - {id: 1, name: square, color: [255, 0, 0]}\n"
    )


def words(root: Path, *more: str) -> list[str]:
    return [
        *("data.layout=folder", f"data.root={root}", f"data.labels={root / 'labels.yaml'}"),
        *("data.crop=[32,64]", "data.batch_size=2", "data.workers=0", "data.statistics=compute"),
        *("model.backbone=hrnet_w18_small_v1", "trainer.max_epochs=30", "trainer.accelerator=cpu"),
        *("trainer.precision=fp32", "evaluation.precision=fp32", "trainer.loggers=[csv]"),
        *("trainer.picture_every_epochs=30", "trainer.val_every_epochs=30"),
        *("optim.name=adamw", "optim.lr=0.003", "data.scale_min=1", "data.scale_max=1"),
        f"run.dir={root / 'runs'}",
        *more,
    ]


MORE = {
    "tif": ["data.bands=[0,1,2,3]", "data.value_range=10000"],
    "npy": ["data.bands=[5,0,1,2,3,4]"],
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", BANDS)
def test_from_files_to_predictions(tmp_path: Path, suffix: str, caplog, capsys) -> None:
    write(tmp_path, suffix)
    caplog.set_level("INFO")
    bands, _ = BANDS[suffix]
    config = load_config(None, words(tmp_path, *MORE[suffix]))
    result = fit(config)
    assert "data.mean=[" in caplog.text
    kept = torch.load(result.run_dir / "best.ckpt", weights_only=True)["hrseg"]
    assert len(kept["mean"]) == len(kept["std"]) == bands
    assert kept["bands"] == config.data.bands
    assert kept["config"]["data"]["statistics"] == "given"
    assert "statistics: given" in (result.run_dir / "config.yaml").read_text()
    shown = (result.run_dir / "pictures").iterdir()
    assert [path.name for path in shown] == ["epoch_0030.png"]

    order = list(config.data.bands)
    paths = sorted((tmp_path / "images" / "train").iterdir())
    pixels = np.concatenate([read_bands(path, order).reshape(-1, bands) for path in paths])
    assert kept["mean"] == pytest.approx((pixels / (config.data.value_range or 1)).mean(axis=0), abs=1e-5)

    assert result.best_score > 0.7  # only the last band says it
    predictor = Predictor(result.run_dir, precision="fp32")
    file = tmp_path / "images" / "val" / f"0.{suffix}"
    seen = predictor(file)
    assert (seen.image.dtype, seen.image.shape) == (np.uint8, (48, 64, 3))
    assert np.array_equal(predictor(read_bands(file, order)).mask, seen.mask)
    assert seen.overlay().shape[2] == 3
    assert evaluate(str(result.run_dir)).metrics["miou"] == pytest.approx(result.best_score)

    out = tmp_path / "out"
    assert main(["predict", str(file), "--model", str(result.run_dir), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} >= {"0_mask.png", "0_overlay.png"}
    capsys.readouterr()


def test_weights_of_rgb_start_other_bands(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = create_model("hrnet_w18_small_v1", num_classes=2)
    labels = load_labels("synthetic")
    write_release(
        tmp_path / "rgb.safetensors",
        old.state_dict(),
        {
            "network": dict(old.spec),
            "labels": {**labels.to_dict()},
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
    )
    new = create_model("hrnet_w18_small_v1", num_classes=2, in_channels=6)
    with pytest.raises(WeightsError, match=r"backbone\.conv1\.weight: \(64, 3, 3, 3\) in the file"):
        load_weights(new, tmp_path / "rgb.safetensors")
    report = load_weights(new, tmp_path / "rgb.safetensors", inflate_stem=True)
    assert "mean times 3/6 for each of 6 bands" in str(report)
    kernels, mean = new.state_dict()["backbone.conv1.weight"], old.backbone.conv1.weight.mean(dim=1)
    for band in range(6):
        assert torch.allclose(kernels[:, band], mean / 2)
    gray = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        one, two = old.eval()(gray.expand(-1, 3, -1, -1)), new.eval()(gray.expand(-1, 6, -1, -1))
    assert torch.allclose(one, two, atol=1e-4)


def test_network_follows_the_bands(tmp_path: Path) -> None:
    config = load_config(None, words(tmp_path, "data.bands=[3,1]"))
    assert build_network(config, load_labels("synthetic")).spec["in_channels"] == 2


REFUSED = {
    "data.mean has 3 numbers, data.std 3, and data.bands names 4": [
        "data.bands=[0,1,2,3]",
        "data.statistics=given",
    ],
    "RGB has 3 bands": ["data.mean=[0.5]", "data.statistics=given"],
    "data.bands is empty": ["data.bands=[]"],
    r"data\.photometric is 0\.5, which changes colors": [
        "data.bands=[0,1]",
        "data.photometric=0.5",
    ],
    r"data\.brightness_shift is 10": ["data.bands=[0,1]", "data.brightness_shift=10"],
    r"data\.value_range is 4, but images become RGB": ["data.value_range=4"],
    "synthetic scenes are RGB": ["data.bands=[0]", "data.layout=synthetic"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_go_together(tmp_path: Path, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, words(tmp_path, *REFUSED[message]))


def test_predictor_wants_the_bands_of_its_network() -> None:
    network = create_model("hrnet_w18_small_v1", num_classes=2, in_channels=4)
    with pytest.raises(ConfigError, match="The network sees 4 bands; mean has 3 numbers"):
        Predictor(network)
    predictor = Predictor(network, mean=(0.5,) * 4, std=(0.2,) * 4)
    assert predictor(np.zeros((32, 40, 4), np.uint16)).mask.shape == (32, 40)
    with pytest.raises(ValueError, match=r"uint8, uint16, float32 of shape \(H, W, 4\)"):
        predictor(np.zeros((32, 40, 3), np.uint8))
    with pytest.raises(ConfigError, match="resizes images as RGB of 8 bits"):
        Predictor(network, mean=(0.5,) * 4, std=(0.2,) * 4, protocol="lip")
