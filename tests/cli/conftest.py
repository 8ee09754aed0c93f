"""A working folder for the command line, and functions in the place of what it calls."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hrseg


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(Path(hrseg.__file__).parents[1]))  # for subprocesses
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def fake(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    """Put functions in the place of a module's own, so that only the command line is tested."""
    real = importlib.import_module(f"hrseg.{module}")
    for name, function in functions.items():
        monkeypatch.setattr(real, name, function)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
