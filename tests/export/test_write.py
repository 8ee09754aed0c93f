import json
from pathlib import Path

import numpy as np
import pytest

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.data.street import scene
from hrseg.errors import ConfigError, MissingExtraError
from hrseg.export import write
from hrseg.export.onnx import quantize, save, to_half
from hrseg.export.parity import RuntimeParity
from hrseg.inference.predictor import Predictor

SIZES = [(64, 96), (97, 101), (33, 50)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_an_exported_file_gives_the_mask_of_its_checkpoint(exported, release, suffix, size):
    image = scene(1, size)[0]
    ours, theirs = Predictor(release, precision="fp32")(image), Predictor(exported[suffix])(image)
    assert (ours.mask != theirs.mask).mean() <= 1e-3
    if suffix == ".onnx":  # labels only
        assert np.allclose(theirs.confidence, 1)
    else:
        assert np.allclose(ours.confidence, theirs.confidence, atol=1e-4)
    assert theirs.labels.names == ours.labels.names


def test_certificate_and_card_say_what_was_measured(exported):
    import onnx

    told = json.loads(exported[".onnx"].with_name("m.onnx.certificate.json").read_text())
    assert set(told["runtimes"]) == {"onnxruntime", "openvino"}
    assert [97, 101] in told["sizes"]
    for found in told["runtimes"].values():
        assert found["changed_percent"] <= 0.01
        assert 0 < found["max_logit_difference"] < 1e-3 * found["logit_standard_deviation"]
    model = onnx.load(str(exported[".onnx"]))
    card = json.loads({prop.key: prop.value for prop in model.metadata_props}["hrseg"])
    assert card["classes"][3] == "road"
    assert card["palette"][3] == [128, 64, 128]
    assert (card["mean"], card["std"]) == ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
    assert card["outputs"] == {"labels": "uint8 (N, H, W): class numbers, places in classes and palette"}
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", "height", "width", 3]
    assert "Softmax" not in {node.op_type for node in model.graph.node}  # nobody asked for it


def test_file_declares_the_oldest_forms_that_hold_its_graph(exported, tmp_path):
    """As runtimes of 2021 read them."""
    import onnx

    model = onnx.load(str(exported[".onnx"]))
    assert (model.ir_version, model.opset_import[0].version) == (8, 15)
    half = onnx.load(str(save(to_half(model), tmp_path / "half.onnx")))
    images = [scene(i, (40, 56))[0] for i in range(2)]
    whole = onnx.load(str(quantize(exported[".onnx"], tmp_path / "int8.onnx", images)))
    whole = onnx.load(str(save(whole, tmp_path / "whole.onnx")))
    for precision in (half, whole):
        versions = [entry.version for entry in precision.opset_import if not entry.domain]
        assert (precision.ir_version, versions) == (8, [15])


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_no_file_names_folders_of_this_machine(exported, suffix):
    content = exported[suffix].read_bytes()
    assert str(Path(write.__file__).parents[2]).encode() not in content
    assert str(exported[suffix].parent).encode() not in content


def test_a_file_that_answers_otherwise_is_not_written(release, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write, "_write_onnx", lambda *_: write._Draft((exported[".onnx"],), {"onnxruntime": []}))
    wrong = {"onnxruntime": RuntimeParity(pixels=1000, changed=3, spread=1.0)}
    monkeypatch.setattr(write, "compare", lambda *_: wrong)
    assert main(["export", "--model", str(release), "--out", str(tmp_path / "x.onnx")]) == EXIT_USAGE
    assert "0.3000 % of 1,000 pixels change class" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_triton_repository_can_be_served_as_it_is(release, exported, tmp_path, monkeypatch):
    draft = write._Draft((exported[".onnx"],), {"onnxruntime": []})  # an ONNX file as any other
    monkeypatch.setattr(write, "_write_onnx", lambda *_: draft)
    monkeypatch.setattr(write, "compare", lambda *_: {"onnxruntime": RuntimeParity(pixels=1000, spread=1.0)})
    done = write.export_model(release, "triton", tmp_path / "street", outputs=("labels", "probability"), max_images=1)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    names = {"1/model.onnx", "config.pbtxt", "labels.txt", "certificate.json"}
    assert found == {f"street/{name}" for name in names}
    text = (tmp_path / "street/config.pbtxt").read_text()
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    for line in (
        'name: "street"',
        'backend: "onnxruntime"',
        '{ name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }',
        '{ name: "labels" data_type: TYPE_UINT8 dims: [ -1, -1 ] },',
        '{ name: "probability" data_type: TYPE_FP32 dims: [ -1, -1 ] }',
    ):
        assert line in text
    assert done.files[0] == tmp_path / "street/1/model.onnx"
    assert done.files[0].read_bytes() == exported[".onnx"].read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "No file named"),
        (["--out", "x.xml"], "writes .onnx files"),
        (["--out", "x.onnx", "--precision", "bf16"], "bf16 is for --to torch"),
        (["--out", "x.onnx", "--precision", "int8"], "int8 needs --calibrate"),
        (["--out", "x.onnx", "--calibrate", "photos"], "--calibrate is for int8"),
        (["--to", "torch", "--out", "x.pt2", "--precision", "int8"], "cannot hold int8"),
        (["--to", "triton", "--out", "a b"], "no name"),
        (["--out", "x.onnx", "--to", "onyx"], "Did you mean 'onnx'?"),
        (["--out", "x.pt2", "--to", "torch", "--profile", "plain"], "writes files of profile pixels"),
        (["--out", "x.onnx", "--size", "8", "8"], "--size 8 8 is outside 33 to 16384"),
        (["--out", "x.onnx", "--tile", "64"], "--tile is for --for deepness"),
        (["--out", "x.onnx", "--runtime", "x.tgz"], "--runtime is for --to web"),
        (["--out", "x.xml", "--to", "openvino", "--for", "deepness"], "--for deepness writes ONNX files"),
        (["--out", "x.onnx", "--for", "deepness", "--profile", "plain"], "chooses --profile itself"),
        (["--out", "x.onnx", "--for", "deepness", "--tile", "100"], "--tile 100 is no multiple of 32"),
        (["--out", "x.onnx", "--for", "deepness", "--resolution", "-1"], "--resolution -1 is no centimeters"),
        (["--out", "site", "--to", "web", "--outputs", "logits"], "--to web chooses --outputs itself"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_heavy(words, says, capsys):
    assert main(["export", *words]) == EXIT_USAGE
    assert says in " ".join(capsys.readouterr().err.split())


def test_missing_packages_are_named_with_their_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"\[export\]"):
        write.export_model(None, "onnx", tmp_path / "x.onnx")
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"\[openvino\]"):
        write.export_model(None, "openvino", tmp_path / "x.xml")


def test_an_exported_file_is_not_exported_again(exported, tmp_path):
    with pytest.raises(ConfigError, match="exported file already"):
        write.export_model(exported[".onnx"], "onnx", tmp_path / "x.onnx")


def test_examples_are_printed(capsys):
    for name in ("python", "openvino", "c++", "node"):
        assert main(["export", "--example", name]) == EXIT_OK
        assert len(capsys.readouterr().out.splitlines()) < 45
