"""One small network, exported once for all tests of this folder."""

from pathlib import Path

import pytest
import torch

from hrseg.labels import load_labels
from hrseg.models import create_model
from hrseg.weights import write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, written as a release."""
    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v1", "v2", 11)
    path = tmp_path_factory.mktemp("release") / "small.safetensors"
    labels = load_labels("camvid").to_dict()
    statistics = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    write_release(
        path, network.state_dict(), {"network": network.spec, "labels": labels, **statistics}
    )
    return path


@pytest.fixture(scope="session")
def files(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as .onnx (labels), .xml (labels, probability) and .pt2 (labels, logits)."""
    pytest.importorskip("onnxruntime", reason="exporting needs the extra 'export'")
    pytest.importorskip("onnxscript", reason="exporting needs the extra 'export'")
    pytest.importorskip("openvino", reason="needs the extra 'openvino'")
    from hrseg.export.write import export_model

    folder = tmp_path_factory.mktemp("exported")
    made = {}
    for to, name, outputs in (
        ("onnx", "m.onnx", ("labels",)),
        ("openvino", "m.xml", ("probability", "labels")),
        ("torch", "m.pt2", ("labels", "logits")),
    ):
        made[name[1:]] = export_model(
            release, to, folder / name, outputs=outputs, max_images=3
        ).files[0]
    return made
