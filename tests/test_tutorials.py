"""The commands of the documentation run: every ```bash block, page by page, as its reader would type them.

A page of nothing but `hrseg ...` runs in this process, which has imported torch already; others run in a shell.
Blocks marked ```sh need a download, a data set, a device or a service, or run in other tests; they are only parsed
(`test_docs`).
"""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from hrseg.cli import main
from hrseg.data.street import scene
from hrseg.data.synthetic import write_scenes

ROOT = Path(__file__).parents[1]


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if blocks(path, "bash")]
EXAMPLES = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if path.stem != "outputs"  # its examples are held by tests/inference/outputs/test_documented.py
    for number, block in enumerate(blocks(path, "python"))
]


@pytest.fixture
def folder(tmp_path):
    """Make the files that the pages name: small images, a raster, an archive, a data set."""
    for number, name in enumerate(("street.png", "photos/a.jpg", "photos/b.png", "more/day/c.jpg")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number, (64, 128))[0]).save(path)
    (tmp_path / "drone").symlink_to("photos")
    (tmp_path / "list.txt").write_text("photos/a.jpg\n")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "photos/b.png", "b.png")
    place = {"crs": "EPSG:25832", "transform": Affine(0.2, 0, 500000, 0, -0.2, 5800000)}
    for name in ("ortho.tif", "orthophoto.tif"):
        form = {"driver": "GTiff", "width": 128, "height": 96, "count": 3, "dtype": "uint8"}
        with rasterio.open(tmp_path / name, "w", **form, **place) as file:
            file.write(np.full((3, 96, 128), 90, np.uint8))
    write_scenes(tmp_path / "datasets" / "mine", "folder", {"train": 8, "val": 4}, (64, 128))
    images = tmp_path / "clone" / "docs" / "images"
    images.mkdir(parents=True)
    Image.open(ROOT / "docs" / "images" / "street.jpg").reduce(4).save(images / "street.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # a shell shows them only
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_page_run(page, folder, monkeypatch):
    text = "\n".join(blocks(page, "bash"))
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line]
    monkeypatch.chdir(folder)
    if not re.search("[$|&<>;]", text) and all(line[0] == "hrseg" for line in commands):
        for command in commands:
            assert main(command[1:]) == 0, command
        return
    program = folder / "bin" / "hrseg"  # a program, not a function of the shell: a page stops its server by `kill %1`
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hrseg "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=os.environ | {"HRSEG_CLONE": str(folder / "clone"), "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_in_python_run_or_compile(example, folder, monkeypatch):
    monkeypatch.chdir(folder)
    code = compile(example, "example", "exec")
    if "create_model" in example:  # the others name runs, tags or programs that are not here
        exec(code, {})
