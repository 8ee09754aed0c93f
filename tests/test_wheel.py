"""What goes into the wheel: every file of the package, the recipes, and nothing else."""

import zipfile
from pathlib import Path

import pytest

import hrseg

ROOT = Path(hrseg.__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="the package is installed, without its sources"
)
NEEDED = (
    "hrseg/py.typed",
    "hrseg/configs/base/optim_sgd_poly.yaml",
    "hrseg/data/street.jpg",
    "hrseg/configs/studies/family.yaml",
    "hrseg/labels/builtin/cityscapes.csv",
    "hrseg/export/examples/segment.cpp",
    "hrseg/export/examples/segment.mjs",
    "hrseg/integrations/site/worker.js",
    "hrseg/serve/page/index.html",
    "hrseg/viz/templates/base.css",
    "hrseg/viz/templates/base.html",
    "hrseg/weights/catalog.csv",
    "hrseg/weights/packaged/hrnet_w18_small_v1.camvid.json",
    "hrseg/weights/packaged/hrnet_w18_small_v1.camvid.safetensors",
    "hrseg/weights/packaged/hrnet_w18_small_v2.camvid.json",
    "hrseg/weights/packaged/hrnet_w18_small_v2.camvid.safetensors",
)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Names in a wheel that is built as pip builds it, but for its metadata."""
    backend = pytest.importorskip("hatchling.build", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel = backend.build_wheel(str(folder))
    with zipfile.ZipFile(folder / wheel) as packed:
        return {name for name in packed.namelist() if ".dist-info/" not in name}


@pytest.mark.parametrize("name", NEEDED)
def test_what_runs_cannot_do_without_is_shipped(shipped, name):
    assert name in shipped


def test_every_file_of_the_package_and_every_recipe_is_shipped_and_nothing_else(shipped):
    def below(folder):
        found = (ROOT / folder).rglob("*")
        return {
            path.relative_to(ROOT).as_posix()
            for path in found
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
        }

    configs = {f"hrseg/{name}" for name in below("configs")}
    assert shipped == below("hrseg") | configs | {"hrseg/data/street.jpg"}
