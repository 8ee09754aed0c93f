"""Folders are layers: a module imports lower rows and its own folder only, and no two modules import each other."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hrseg

ROOT = Path(hrseg.__file__).parent
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
    "cli",
    "__main__",
)
"""Lowest first; folders of one row do not import each other."""
ROWS = {name: row for row, names in enumerate(LAYERS) for name in names.split()}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> dict[str, set[str]]:
    """Return what each module imports, inside functions too; packages stand for their `__init__`."""
    paths = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
    found = {}
    for name, path in paths.items():
        targets = set()
        for node in runtime_nodes(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hrseg"):
                inside = (f"{node.module}.{alias.name}" for alias in node.names)
                targets |= {full if full in paths else node.module for full in inside}
            elif isinstance(node, ast.Import):
                targets |= {a.name for a in node.names if a.name.startswith("hrseg")}
        found[name] = targets - {name}
    return found


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only type checkers see."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from runtime_nodes(child)


def folder(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_every_folder_has_a_row():
    assert {folder(name) for name in imports()} - {""} == set(ROWS)


def test_imports_point_down():
    wrong = [
        f"{name} imports {target}"
        for name, targets in imports().items()
        for target in sorted(targets)
        if name != "hrseg" and folder(name) != folder(target)
        if not folder(target) or ROWS[folder(target)] >= ROWS[folder(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set(targets) for name, targets in imports().items()}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    circles = [name for name in graph if reaches(graph, name, name)]
    assert not circles, "\n".join(circles)


def reaches(graph: dict[str, set[str]], start: str, goal: str) -> bool:
    seen, ahead = set(), [start]
    while ahead:
        for target in graph[ahead.pop()] & graph.keys():
            if target == goal:
                return True
            if target not in seen:
                seen.add(target)
                ahead.append(target)
    return False
