from pathlib import Path

import pytest

import hrseg
from hrseg.weights import packaged_models

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.name for p in NOTEBOOKS.glob("*.ipynb")))
@pytest.mark.filterwarnings("ignore")  # Jupyter's own, about sockets and paths
def test_notebook_runs_from_top_to_bottom_and_shows_pictures(name, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs the notebook: pip install hrseg[test]")
    nbformat = pytest.importorskip("nbformat", reason="nbclient brings it")
    assert packaged_models()
    # the kernel is a process of its own; it shall see the hrseg under test
    monkeypatch.setenv("PYTHONPATH", str(Path(hrseg.__file__).parents[1]))
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "strip the outputs"
    for cell in notebook.cells:  # a ninth of the pixels shows the same
        cell.source = cell.source.replace("= hrseg.sample()", "= hrseg.sample()[::3, ::3].copy()")
    client = nbclient.NotebookClient(
        notebook,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    data = [out.get("data", {}) for out in outputs]
    pictures = [one for one in data if "image/png" in one or "<img " in one.get("text/html", "")]
    assert len(pictures) >= {"branches.ipynb": 7, "own_folder.ipynb": 2, "foreign_checkpoint.ipynb": 1}[name]
