"""The examples need no hrseg: the Python ones run without it, compilers read the others where there are any."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hrseg.export
from hrseg.data.street import scene
from hrseg.inference.predictor import Predictor

EXAMPLES = Path(hrseg.export.__file__).parent / "examples"
WITHOUT = """
import runpy, sys
sys.path = [p for p in sys.path if p]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert "hrseg" not in sys.modules and "torch" not in sys.modules
"""
API = """
#include <cstddef>
#include <cstdint>
enum Level { ORT_LOGGING_LEVEL_WARNING };
enum Allocator { OrtArenaAllocator };
enum Memory { OrtMemTypeDefault };
namespace Ort {
struct Env { Env(Level, const char*); };
struct SessionOptions {};
struct RunOptions {};
struct MemoryInfo { static MemoryInfo CreateCpu(Allocator, Memory); };
struct Value {
  template <typename T>
  static Value CreateTensor(const MemoryInfo&, T*, size_t, const int64_t*, size_t);
  template <typename T> const T* GetTensorData() const;
};
struct Values { Value& operator[](size_t); };
struct Session {
  Session(Env&, const char*, const SessionOptions&);
  Values Run(const RunOptions&, const char* const*, const Value*, size_t, const char* const*, size_t);
};
}
"""
"""As much of ONNX Runtime's C++ interface as the example uses; the real headers are no part of its Python package."""


@pytest.mark.parametrize(("name", "suffix"), [("segment.py", ".onnx"), ("segment_openvino.py", ".xml")])
def test_the_python_examples_give_our_mask_and_import_no_hrseg(exported, release, tmp_path, name, suffix):
    image = scene(2, (97, 140))[0]
    Image.fromarray(image).save(tmp_path / "street.png")
    words = [str(EXAMPLES / name), str(exported[suffix]), "street.png", "--out", "masks"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("street.png ")
    mask = np.asarray(Image.open(tmp_path / "masks/street_mask.png"))
    assert (mask != Predictor(release, precision="fp32")(image).mask).mean() <= 1e-3


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_the_node_example_is_valid():
    done = subprocess.run(["node", "--check", EXAMPLES / "segment.mjs"], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here")
def test_the_cpp_example_is_valid(tmp_path):
    (tmp_path / "onnxruntime_cxx_api.h").write_text(API)
    words = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Werror", "-I", str(tmp_path)]
    done = subprocess.run([*words, EXAMPLES / "segment.cpp"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.*")), ids=lambda path: path.name)
def test_no_example_is_long_or_mentions_hrseg_as_a_module(path):
    text = path.read_text()
    assert len(text.splitlines()) < 45
    assert "import hrseg" not in text
