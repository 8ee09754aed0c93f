import html
import json
import re
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


def an_onnx(path, nodes, constants=(), kind="UINT8", **card):
    """An ONNX file of these nodes, from "image" to "labels", with the card of a model of two classes."""
    from onnx import TensorProto, helper, save

    made = [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in dict(constants).items()]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("labels", getattr(TensorProto, kind), None)],
        made,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    labels = {"name": "two", "labels": [[0, 0, "sky", 1, 2, 3], [1, 1, "ground", 3, 2, 1]]}
    whole = {"format": 1, "labels": labels, "mean": [0.5] * 3, "std": [0.5] * 3}
    whole |= {"outputs": {"labels": "uint8"}, "precision": "fp32"} | card
    entry = model.metadata_props.add()
    entry.key, entry.value = "hrseg", json.dumps(whole)
    save(model, str(path))
    return path


BAND = ("Split", ["image"], ["a", "b", "c"], {"axis": 3, "num_outputs": 3})
FLAT = ("Squeeze", ["a", "axis"], ["flat"])
AXIS = {"axis": [3]}
ONNX = {
    "labels beyond the classes": ([BAND, FLAT, ("Identity", ["flat"], ["labels"])], AXIS),
    "labels with a band": ([BAND, ("Identity", ["a"], ["labels"])], {}),
    "four bands of memory": ([("Concat", ["image", "image"], ["labels"], {"axis": 3})], {}),
    "terabytes": ([("Expand", ["image", "size"], ["labels"])], {"size": [1 << 42, 1, 1, 1]}),
}


@pytest.mark.parametrize("how", ONNX)
def test_an_onnx_file_that_does_not_run_as_its_card_says_is_one_paragraph(tmp_path, how, capfd):
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    nodes, constants = ONNX[how]
    with pytest.raises(WeightsError, match="gives no labels of the 2 classes") as error:
        open_model(an_onnx(tmp_path / "m.onnx", nodes, constants))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800
    assert capfd.readouterr() == ("", "")  # the runtime says nothing of its own


def test_labels_beyond_the_classes_in_one_image_end_the_work(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    # the darkest image has labels of 0, as the one that the file is tried with would
    nodes = [BAND, FLAT, ("Div", ["flat", "k"], ["labels"])]
    path = an_onnx(tmp_path / "m.onnx", [*nodes[:2], ("Cast", ["k0"], ["k"], {"to": 2}), nodes[2]],
                   {**AXIS, "k0": [100]})  # fmt: skip
    predictor = Predictor(path)
    assert predictor(np.full((40, 50, 3), 30, np.uint8)).mask.max() == 0
    with pytest.raises(WeightsError, match="its labels go from 2 to 2"):
        predictor(np.full((40, 50, 3), 250, np.uint8))


def _card(text):
    return re.search(r'<hrseg value="([^"]*)"', text)[1]


def _classes(text):
    card = json.loads(html.unescape(_card(text)))
    card["labels"]["labels"] = card["labels"]["labels"][:1]
    return text.replace(_card(text), html.escape(json.dumps(card)))


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
OPENVINO = {
    "cut": lambda text: text[: len(text) // 2],
    "nested without end": lambda text: "<net>" * 200_000,
    "an offset outside": lambda text: re.sub(r'offset="\d+"', 'offset="1000000000000"', text, count=3),
    "a negative size": lambda text: re.sub(r' size="\d+"', ' size="-1"', text, count=3),
    "layers of one number": lambda text: re.sub(r'layer id="\d+"', 'layer id="1"', text),
    "edges from nowhere": lambda text: re.sub(r'from-layer="\d+"', 'from-layer="99999"', text),
    "pads that overflow": lambda text: text.replace('pads_begin="1, 1"', 'pads_begin="1, 1000000"'),
    "other outputs": lambda text: text.replace('"labels"', '"marks"'),
    "a card that is a list": lambda text: text.replace(_card(text), "[1]"),
    "labels beyond the classes": _classes,
}


@pytest.mark.parametrize("how", OPENVINO)
def test_a_hostile_xml_is_one_paragraph(exported, tmp_path, how):
    path = tmp_path / "m.xml"
    path.write_text(OPENVINO[how](exported[".xml"].read_text()))
    path.with_suffix(".bin").write_bytes(exported[".xml"].with_suffix(".bin").read_bytes())
    with pytest.raises(WeightsError, match=r"m\.xml") as error:
        open_model(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


def test_entities_of_an_xml_are_not_expanded(exported, tmp_path):
    path = tmp_path / "m.xml"
    head = f'<!DOCTYPE net [<!ENTITY a0 "x">{LAUGHS}<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    text = exported[".xml"].read_text().replace("?>", f"?>{head}", 1)
    path.write_text(text.replace('<net name="', '<net name="&a11;&f;', 1))
    path.with_suffix(".bin").write_bytes(exported[".xml"].with_suffix(".bin").read_bytes())
    assert open_model(path).labels.num_classes == 11
