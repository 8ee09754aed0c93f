import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hrseg.errors import DataError, WeightsError
from hrseg.evaluation.validate import evaluate
from hrseg.imaging import to_tensor
from hrseg.inference.exported import as_logits, check_program, to_pixels
from hrseg.inference.load_model import open_model
from hrseg.inference.predictor import Predictor


def test_pixels_come_back_exactly_from_what_normalization_made_of_them():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert np.array_equal(to_pixels(to_tensor(image, mean, std)[None], mean, std)[0], image)


def test_labels_and_probabilities_become_logits_that_say_the_same():
    labels = np.random.RandomState(0).randint(0, 5, (2, 7, 9)).astype(np.uint8)
    probability = np.random.RandomState(1).uniform(0.2, 1, labels.shape).astype(np.float32)
    probability[0, 0] = 0.2  # as likely as all others
    logits = as_logits({"labels": labels, "probability": probability}, 5)
    assert np.array_equal(logits.argmax(dim=1).numpy(), labels)
    assert np.allclose(logits.softmax(dim=1).amax(dim=1).numpy(), probability, atol=1e-6)


def test_labels_alone_vote_in_windows_and_mirrors(exported, release):
    image = torch.randint(0, 256, (64, 160, 3), dtype=torch.uint8).numpy()
    look = {"window": (64, 96), "flip": True, "merge": "logits"}
    voted = Predictor(exported[".onnx"], **look)(image).mask
    assert (voted == Predictor(release, precision="fp32", **look)(image).mask).mean() > 0.8


@pytest.mark.slow
def test_a_torch_file_says_what_it_cannot_take(exported):
    with pytest.raises(DataError, match="too small for a torch"):
        Predictor(exported[".pt2"])(np.zeros((20, 50, 3), np.uint8))


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_damaged_files_give_one_paragraph(exported, suffix, tmp_path):
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(exported[suffix].read_bytes()[:3000])
    path.with_suffix(".bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match="damaged") as error:
        open_model(path)
    assert "\n" not in str(error.value)


def test_a_file_of_another_program_is_told_apart(exported, tmp_path):
    import onnx

    model = onnx.load(str(exported[".onnx"]))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(WeightsError, match="not written by hrseg export"):
        open_model(tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="does not exist"):
        open_model(tmp_path / "missing.onnx")


def test_an_xml_without_its_weights_says_so(exported, tmp_path):
    path = tmp_path / "m.xml"
    path.write_bytes(exported[".xml"].read_bytes())
    with pytest.raises(WeightsError, match=r"m\.bin, belong beside it"):
        open_model(path)


class Loud:
    """Whoever unpickles this is heard."""

    def __reduce__(self):
        return (print, ("unpickled",))


def doctored(source: Path, out: Path, how: str) -> Path:
    """Copy a torch.export file and put in what could run."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if how == "pickle" and name.endswith("sample_inputs/model.pt"):
                torch.save(Loud(), out.with_suffix(".tmp"))
                content = out.with_suffix(".tmp").read_bytes()
            elif how == "tensor" and name.endswith("weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
            elif name.endswith("models/model.json"):
                content = content.replace(*CHANGES.get(how, (b"", b"")), 1)
            new.writestr(name, content)
        if how == "entry":
            new.writestr(f"{old.namelist()[0].split('/')[0]}/data/constants/opaque_0", b"")
    return out


SYMBOL = b"Symbol('s"
CHANGES = {
    "size": (SYMBOL, b"__import__('os').system('true') or " + SYMBOL),
    "function": (b"torch.ops.aten.relu_.default", b"torch.hub.load"),
    "name": (b'"name": "conv2d"', b'"name": "x = print()"'),
}


@pytest.mark.parametrize("how", ["pickle", "tensor", "entry", *CHANGES])
def test_torch_files_in_which_something_could_run_stay_shut(exported, tmp_path, how, capsys):
    path = doctored(exported[".pt2"], tmp_path / "bad.pt2", how)
    with pytest.raises(WeightsError, match="refused unread"):
        open_model(path)
    assert capsys.readouterr().out == ""


def test_our_own_torch_file_passes(exported):
    check_program(exported[".pt2"])
    with zipfile.ZipFile(exported[".pt2"]) as archive:
        card = next(name for name in archive.namelist() if name.endswith("hrseg.json"))
        assert json.loads(archive.read(card))["precision"] == "fp32"


def test_validate_takes_an_exported_file(exported, release, tmp_path):
    from hrseg.data.synthetic import write_scenes

    root = tmp_path / "scenes"
    write_scenes(root, layout="camvid", splits={"train": 1, "val": 3}, size=(64, 96))
    words = ["data.layout=camvid", f"data.root={root}", "data.workers=0"]
    words += ["trainer.accelerator=cpu"]
    theirs = evaluate(str(exported[".onnx"]), "val", words)
    ours = evaluate(str(release), "val", [*words, "evaluation.precision=fp32"])
    assert theirs.metrics["miou"] == pytest.approx(ours.metrics["miou"], abs=1e-3)
