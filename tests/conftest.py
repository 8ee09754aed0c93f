"""What many tests share: small networks, trained and exported ones too, and a fixed seed.

No data is downloaded anywhere.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # several processes share the cores; their children too
    _SHARE = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _SHARE)))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist ignores it, and so would their children

import pytest
import torch
from filelock import FileLock  # torch's own dependency

from hrseg.models import create_model
from tests.small import FINISHED, small


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _unsynced() -> Iterator[None]:
    """Do not wait for the disk at each of thousands of files: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture
def tiny_network() -> torch.nn.Module:
    """The smallest HRNet, three classes, in evaluation mode."""
    return create_model("hrnet_w18_small_v1", num_classes=3).eval()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished run of two epochs with a moving average."""
    from hrseg.training.fit import fit

    return fit(small(tmp_path_factory.mktemp("runs"), *FINISHED))


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, written as a release."""
    from hrseg.labels import load_labels
    from hrseg.weights import write_release

    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v1", "v2", 11)
    path = tmp_path_factory.mktemp("release") / "small.safetensors"
    labels = load_labels("camvid").to_dict()
    statistics = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    write_release(path, network.state_dict(), {"network": network.spec, "labels": labels, **statistics})
    return path


@pytest.fixture(scope="session")
def exported(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as .onnx (labels), .xml (labels, probability) and .pt2 (labels, logits); once for all processes."""
    pytest.importorskip("onnxruntime", reason="exporting needs the extra 'export'")
    pytest.importorskip("onnxscript", reason="exporting needs the extra 'export'")
    pytest.importorskip("openvino", reason="needs the extra 'openvino'")
    from hrseg.export.write import export_model

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported"
    folder.mkdir(exist_ok=True)
    made = {}
    for to, name, outputs in (
        ("onnx", "m.onnx", ("labels",)),
        ("openvino", "m.xml", ("probability", "labels")),
        ("torch", "m.pt2", ("labels", "logits")),
    ):
        made[name[1:]] = folder / name
        with FileLock(folder / f"{name}.lock"):
            if not (folder / name).exists():
                export_model(release, to, folder / name, outputs=outputs, max_images=3)
    return made


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of exported files as slow: exporting takes a minute in each process. Put the longest file first."""
    items.sort(key=lambda item: item.path.name != "test_tutorials.py")  # else it runs alone at the end
    for item in items:
        if "exported" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
