import numpy as np
import pytest

from hrseg.cli import main
from hrseg.errors import ConfigError, DataError
from hrseg.imaging import read_image, read_mask
from hrseg.inference.large import is_large, segment_large
from hrseg.inference.predict_files import predict_files
from hrseg.inference.predictor import Predictor
from hrseg.labels import Label, LabelSet

from .files import BUILT_FOR, Tiny, picture, tiny

tifffile = pytest.importorskip("tifffile")


def write(path, values, **form):
    form = {"photometric": "rgb" if values.shape[2] == 3 else "minisblack"} | form
    shape = {"tile": (64, 64), "compression": "zlib", "metadata": None, "planarconfig": "contig"}
    tifffile.imwrite(path, values, **shape, **form)
    return path


def read(path):
    return read_mask(path)


@pytest.mark.parametrize("blend", ["ramp", "cosine", "gaussian", "equal"])
def test_bands_give_what_the_image_in_memory_gives(tmp_path, blend):
    # a network that sees seven pixels: only those beside a window's rim may differ
    image = write(tmp_path / "a.tif", picture(300, 208))
    seen = []
    found = segment_large(
        *(tiny(blend=blend), image, tmp_path / "out"),
        max_memory=BUILT_FOR,
        kinds=("mask", "confidence", "overlay"),
        progress=lambda done, total: seen.append((done, total)),
    )
    whole = tiny(window=None)(picture(300, 208))
    mask = read(found.files["mask"])
    assert found.size == mask.shape == (300, 208)
    assert (mask == whole.mask).mean() > (0.9 if blend == "equal" else 0.97)
    assert seen[0] == (0, 300)
    assert seen[-1] == (300, 300)
    assert len(seen) > 4
    assert found.classes == pytest.approx(whole.shares(), abs=0.02)
    assert found.confidence == pytest.approx(float(whole.confidence.mean()), abs=0.01)
    confidence = read(found.files["confidence"])
    assert np.abs(confidence / 65535 - whole.confidence)[mask == whole.mask].mean() < 0.015
    assert read_image(found.files["overlay"]).shape[1] >= 208
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("a.tif", "out_confidence.png", "out_mask.png", "out_overlay.png")
    ]


def test_one_window_is_the_predictor_itself(tmp_path):
    image = write(tmp_path / "a.tif", picture(60, 50))
    found = segment_large(tiny(), image, tmp_path / "out", max_memory=BUILT_FOR, kinds=["mask"])
    assert np.array_equal(read(found.files["mask"]), tiny(window=None)(picture(60, 50)).mask)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("form", ["tif", "npy"])
def test_models_of_many_bands_read_them_in_bands_of_rows(tmp_path, dtype, form):
    values = picture(200, 60, bands=6, dtype=dtype)
    path = tmp_path / f"a.{form}"
    if form == "npy":
        np.save(path, values)
    else:
        write(path, values)
    predictor = tiny(bands=5)
    found = segment_large(predictor, path, tmp_path / "out", max_memory=BUILT_FOR)
    whole = tiny(bands=5, window=None)(path)
    assert (read(found.files["mask"]) == whole.mask).mean() > 0.97


def test_pixels_without_data_have_no_class_and_their_windows_are_not_run(tmp_path):
    values = np.maximum(picture(), 1)
    values[:, 100:] = 0
    image = write(tmp_path / "a.tif", values, extratags=[(42113, 2, 2, "0", True)])
    predictor = tiny()
    runs = []
    plain = predictor.inference.logits_fn
    predictor.inference.logits_fn = lambda x: runs.append(len(x)) or plain(x)
    found = segment_large(predictor, image, tmp_path / "out", max_memory=BUILT_FOR)
    mask = read(found.files["mask"])
    assert (mask[:, 100:] == 255).all()
    assert (mask[:, :100] < 5).all()
    assert sum(found.classes.values()) == pytest.approx(1)
    windows = predictor.inference.plan((300, 210))
    touched = sum(left < 100 for left, _ in windows.columns)
    assert sum(runs) == touched * len(windows.rows)


def test_ids_beyond_a_byte_take_two(tmp_path):
    rows = [Label(1000 * i, i, f"class {i}", (i, 0, 0)) for i in range(5)]
    predictor = Predictor(Tiny(), LabelSet("wide", tuple(rows)), device="cpu", window=(64, 64))
    image = write(tmp_path / "a.tif", picture())
    mask = read(segment_large(predictor, image, tmp_path / "o", max_memory=BUILT_FOR).files["mask"])
    assert mask.max() > 255
    assert set(np.unique(mask)) <= {0, 1000, 2000, 3000, 4000}


def test_scales_and_mirrors_work_in_windows(tmp_path):
    image = write(tmp_path / "a.tif", picture())
    predictor = tiny(window=None, protocol="tta", overlap=0.5)
    found = segment_large(predictor, image, tmp_path / "out", max_memory=BUILT_FOR)
    assert read(found.files["mask"]).shape == (300, 210)


def test_what_cannot_be_is_refused(tmp_path):
    image = write(tmp_path / "a.tif", picture())
    target = tmp_path / "out"
    with pytest.raises(ConfigError, match="'geojson' needs the whole image"):
        segment_large(tiny(), image, target, kinds=["geojson"])
    with pytest.raises(ConfigError, match="resizes whole images"):
        segment_large(tiny(window=None, protocol="mmseg_short512"), image, target)
    with pytest.raises(DataError, match="would overwrite"):
        segment_large(tiny(), write(tmp_path / "b_mask.png", picture()), tmp_path / "b")
    with pytest.raises(DataError, match=r"needs .* GiB in windows of 64 x 64"):
        segment_large(tiny(), image, target, max_memory=2**29)
    floats = write(tmp_path / "f.tif", picture(dtype="float32"))
    with pytest.raises(DataError, match="this model reads RGB of 8 bits"):
        segment_large(tiny(), floats, target, max_memory=BUILT_FOR)
    with pytest.raises(DataError, match="asks for 3"):
        segment_large(tiny(bands=5), image, target, max_memory=BUILT_FOR)
    with pytest.raises(DataError, match="Check the path"):
        segment_large(tiny(), tmp_path / "none.tif", target)
    assert not target.with_name("out_mask.png").exists()


def test_numbers_that_are_not_finite_are_refused_unless_they_are_nodata(tmp_path):
    values = picture(80, 60, bands=4, dtype="float32")
    values[3, 4] = np.nan
    plain = write(tmp_path / "a.tif", values)
    with pytest.raises(DataError, match="not finite"):
        segment_large(tiny(bands=4), plain, tmp_path / "out", max_memory=BUILT_FOR)
    told = write(tmp_path / "b.tif", values, extratags=[(42113, 2, 4, "nan", True)])
    found = segment_large(tiny(bands=4), told, tmp_path / "out", max_memory=BUILT_FOR)
    mask = read(found.files["mask"])
    assert np.argwhere(mask == 255).tolist() == [[3, 4]]


@pytest.fixture
def small_is_huge(monkeypatch):
    """Whatever has more than 40,000 pixels goes by bands."""
    monkeypatch.setattr("hrseg.inference.large.segment.LARGE_PIXELS", 40_000)
    monkeypatch.setattr("hrseg.inference.predict_files.LARGE_PIXELS", 40_000)


def test_files_that_are_huge_go_by_bands_the_others_do_not(tmp_path, small_is_huge):
    large = write(tmp_path / "large.tif", picture())
    small = write(tmp_path / "small.tif", picture(60, 50))
    assert [is_large(path) for path in (large, small)] == [True, False]
    (tmp_path / "no.tif").write_bytes(b"II*\0")
    assert not is_large(tmp_path / "no.tif")
    heard = []
    results = predict_files(
        *(tiny(), [large, small], tmp_path / "out"),
        max_memory=BUILT_FOR,
        progress=lambda done, total: heard.append(done),
    )
    assert [result.mask.name for result in results] == ["large_mask.png", "small_mask.png"]
    assert heard[-1] == 300


@pytest.mark.slow
def test_predict_takes_a_limit_and_says_how_to_write_it(tmp_path, small_is_huge, capsys):
    large = write(tmp_path / "large.tif", picture())
    words = ["predict", str(large), "--out", str(tmp_path / "out"), "--max-memory"]
    assert main([*words, "1024G", "--save", "mask", "confidence"]) == 0
    assert "large_confidence.png" in capsys.readouterr().out
    assert main([*words, "1024G", "--save", "geojson"]) == 1
    assert "mask, trainids, confidence, overlay" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "much"]) == 2
    assert "such as 1.5G" in capsys.readouterr().err


def test_a_result_never_overwrites_another_of_the_images(tmp_path, small_is_huge):
    large = write(tmp_path / "a.tif", picture())
    other = write(tmp_path / "a_mask.png", picture(60, 50))
    before = other.read_bytes()
    with pytest.raises(DataError, match="would overwrite"):
        list(predict_files(tiny(), [large, other], tmp_path, max_memory=BUILT_FOR))
    assert other.read_bytes() == before
    other.rename(tmp_path / "a_mask.tif")  # the image has no place, so its mask is another file
    found = list(predict_files(tiny(), [large, tmp_path / "a_mask.tif"], tmp_path))
    assert [one.error for one in found] == [None, None]
    assert (tmp_path / "a_mask.tif").read_bytes() == before
