"""Pictures on disk, and the names of what sources give."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(shade: int = 0, size: tuple[int, int] = (4, 6)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)
    return path


def names(pictures: object) -> list[str]:
    return [picture.name for picture in pictures]  # type: ignore[attr-defined]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
