"""Folders are layers: a module imports lower rows and its own folder only, and no two modules import each other."""

import ast
from functools import cache
from pathlib import Path

from tools.figures import imported, in_circles, read_modules

ROOT = Path(__file__).parents[1]
LAYERS = (
    "errors",
    "config imaging ops",
    "labels",
    "models losses metrics viz",
    "weights",
    "data",
    "convert inference",
    "training",
    "evaluation benchmark export",
    "cluster explain migrate serve study",
    "integrations",
    "cli",
    "__main__",
)
"""Lowest first; folders of one row do not import each other."""
ROWS = {name: row for row, names in enumerate(LAYERS) for name in names.split()}


@cache
def imports() -> dict[str, set[str]]:
    """Return what each module imports, inside functions too; names below hrseg, "" is hrseg itself."""
    modules = read_modules(ROOT)
    return {n: imported(n, ast.parse(p.read_text()), modules) for n, p in modules.items()}


def folder(module: str) -> str:
    return module.partition(".")[0]


def test_every_folder_has_a_row():
    assert {folder(name) for name in imports()} - {""} == set(ROWS)


def test_imports_point_down():
    wrong = [
        f"{name} imports {target}"
        for name, targets in imports().items()
        for target in sorted(targets)
        if name and folder(name) != folder(target)
        if not folder(target) or ROWS[folder(target)] >= ROWS[folder(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    assert not in_circles(imports())
