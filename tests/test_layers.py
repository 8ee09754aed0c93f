"""Imports point down: each file belongs to a row, and imports lower rows or its own folder only."""

import ast
from pathlib import Path

import hrseg

ROOT = Path(hrseg.__file__).parent
# The first match wins. Higher rows may import lower ones.
ROWS = [
    ("", 9),
    ("__main__", 9),
    ("cli", 8),
    ("completion", 6),
    ("translate", 3),
    ("study", 7),
    ("reproduce", 7),
    ("sharing", 6),
    ("submit", 6),
    ("train", 6),
    ("runtime", 6),
    ("cluster", 7),
    ("serve", 7),
    ("building", 5),
    ("task", 4),
    ("callbacks", 3),
    ("checkpoints", 3),
    ("guard", 2),
    ("gather", 3),
    ("runs", 3),
    ("data.datamodule", 3),
    ("export.write", 6),
    ("export.certificate", 3),
    ("export.looks", 3),
    ("export", 2),
    ("inference.prediction", 4),
    ("inference.predictor", 4),
    ("inference.outputs", 4),
    ("inference.huge", 4),
    ("inference.opening", 4),
    ("inference.engines", 3),
    ("inference.openvino_graph", 3),
    ("inference.pipeline", 4),
    ("inference.sources.web", 3),
    ("inference", 2),
    ("benchmark", 7),
    ("evaluation.write", 7),
    ("evaluation.page", 3),
    ("evaluation.figures", 3),
    ("evaluation", 2),
    ("explain.write", 7),
    ("explain.page", 3),
    ("explain", 2),
    ("kernels", 1),
    ("models", 2),
    ("weights.importer", 3),
    ("weights.shapes", 3),
    ("weights", 2),
    ("losses", 2),
    ("metrics", 1),
    ("optim", 2),
    ("viz", 2),
    ("pages", 1),
    ("config", 1),
    ("archived", -1),
    ("shares", 0),
    ("digests", 0),
    ("imaging", 0),
    ("data.labels", 1),
    ("data", 2),
    ("errors", -2),
    ("text", -2),
]


def row(module: str) -> int:
    name = module.removeprefix("hrseg").removeprefix(".")
    for prefix, number in ROWS:
        if name == prefix or (prefix and name.startswith(prefix + ".")):
            return number
    raise AssertionError(f"{module} has no row: give it one in {__file__}")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hrseg"):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("hrseg")}
    return found


def folder(module: str) -> str:
    return module.split(".")[1] if module.count(".") >= 1 else ""


def test_imports_point_down():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        name = module_name(path)
        for target in imports(path):
            down = row(target) < row(name)
            if name != "hrseg" and not down and folder(target) != folder(name):
                wrong.append(f"{name} (row {row(name)}) imports {target} (row {row(target)})")
    assert not wrong, "\n".join(wrong)


def test_nobody_inside_imports_the_bare_root():
    for path in ROOT.rglob("*.py"):
        assert "hrseg" not in imports(path), path
