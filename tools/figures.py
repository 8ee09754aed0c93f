"""Figures of the source tree: its size, its imports, its names, and what two commands enter.

    python -m tools.figures                 the table for this tree
    python -m tools.figures --root CHECKOUT for another checkout, such as an earlier commit's
    python -m tools.figures --fast          without running the two commands

A module is a .py file under hrseg/ that is not an example; blank lines count as lines. Imports inside functions count,
those for type checkers only do not. "Files entered" are modules of hrseg of which a function ran: in `hrseg predict`
on one image after the model is open, in `hrseg fit` of the demo for one step from the start.
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

TABLES = {"convert.formats", "cli.main", "data.layouts", "data.layouts.__init__", "migrate"}
"""Importers of rows of a table, of which each is a module on purpose."""
RIDDLES = re.compile(r"(What|Which|Who|Whose|How|Why|Where|When|All there is|Everything there)\b")

TRACER = """
import sys, threading
from pathlib import Path
root, command = Path(sys.argv[1]).resolve(), sys.argv[2:]
sys.path.insert(0, str(root))
entered, package = set(), str(root / "hrseg")

def watch(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package) and not code.co_name.startswith("<"):
        entered.add(code.co_filename)
    if event == "return" and code.co_qualname == "Predictor.__init__":
        entered.clear()

threading.setprofile(watch)
sys.setprofile(watch)
from hrseg.cli import main
code = main(command)
sys.setprofile(None)
if not code:
    print("ENTERED", len(entered))
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args(arguments)
    print("| figure | value |\n| --- | --: |")
    for name, value in figures(options.root, run=not options.fast):
        print(f"| {name} | {value} |", flush=True)
    return 0


def figures(root: Path, run: bool = True) -> Iterator[tuple[str, object]]:
    """Yield name and value of each figure of a checkout."""
    modules = read_modules(root)
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    lengths = {name: len(text.splitlines()) for name, text in texts.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    imports = {name: imported(name, tree, modules) for name, tree in trees.items()}
    yield "modules", len(modules)
    yield "lines", f"{sum(lengths.values()):,}"
    yield "modules with one importer, in their own folder", len(with_one_importer(imports))
    longest = max(lengths, key=lambda name: lengths[name])
    middle = round(statistics.median(lengths.values()))
    yield "median / longest module", f"{middle} / {lengths[longest]} ({longest})"
    circles = in_circles(imports)
    yield "modules in import cycles", len(circles)
    yield "longest import chain", longest_chain(imports, circles)
    most, function = max((parameters(node), f"{name}.{node.name}") for name, node in functions(trees))
    yield "most parameters of a function", f"{most} ({function})"
    code, comments = map(sum, zip(*(count_lines(text) for text in texts.values()), strict=True))
    yield "comments per 100 code lines", f"{100 * comments / code:.1f}"
    tests = {path.stem for path in (root / "tests").rglob("test_*.py")}
    named = [name for name in modules if f"test_{name.rpartition('.')[2]}" in tests]
    yield "modules with a test file of their name", f"{100 * len(named) / len(modules):.0f} %"
    openings = [name for name, tree in trees.items() if RIDDLES.match(ast.get_docstring(tree) or "")]
    yield "module docstrings that begin with a question word", len(openings)
    if run:
        yield "files entered by predict, the model being open", entered(root, "predict")
        yield "files entered by fit", entered(root, "fit")


def read_modules(root: Path) -> dict[str, Path]:
    """Return dotted name below hrseg → file; "" is hrseg itself."""
    found = {}
    for path in sorted((root / "hrseg").rglob("*.py")):
        parts = path.relative_to(root / "hrseg").with_suffix("").parts
        if "examples" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, tree: ast.Module, modules: dict[str, Path]) -> set[str]:
    """Return the modules of hrseg that a module imports."""
    found = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hrseg":
            package = node.module.partition(".")[2]
            inside = (f"{package}.{alias.name}".lstrip(".") for alias in node.names)
            found |= {full if full in modules else package for full in inside}
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "hrseg"}
    return found - {name}


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only type checkers see."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from runtime_nodes(child)


def with_one_importer(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that one module of their own folder imports, and no other; rows of tables left out."""
    found = []
    for name in imports:
        importers = [other for other, targets in imports.items() if name in targets]
        folder = name.rpartition(".")[0]
        beside = [folder, *(other for other in importers if other.rpartition(".")[0] == folder)]
        if folder and len(importers) == 1 and importers[0] in beside and importers[0] not in TABLES:
            found.append(name)
    return found


def in_circles(imports: dict[str, set[str]]) -> set[str]:
    """Return the modules that import themselves by way of others."""
    found = set()
    for start in imports:
        seen: set[str] = set()
        ahead = [start]
        while ahead and start not in seen:
            new = imports[ahead.pop()] & imports.keys() - seen
            seen |= new
            ahead += new
        if start in seen:
            found.add(start)
    return found


def longest_chain(imports: dict[str, set[str]], circles: set[str]) -> int:
    """Return how many modules the longest chain of imports has, cycles left out."""
    lengths: dict[str, int] = {}

    def length(name: str) -> int:
        if name not in lengths:
            targets = imports[name] & imports.keys() - circles
            lengths[name] = 1 + max((length(target) for target in targets), default=0)
        return lengths[name]

    return max(length(name) for name in imports.keys() - circles)


def functions(trees: dict[str, ast.Module]) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield module and definition of every function."""
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                yield name, node


def parameters(node: ast.FunctionDef) -> int:
    """Count the parameters of a function, self and cls aside."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def count_lines(text: str) -> tuple[int, int]:
    """Return lines with code, docstrings and other lone strings aside, and comments, directives aside."""
    code: set[int] = set()
    comments = 0
    start = True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments += not re.match(r"#\s*(fmt|noqa|type|pragma|mypy):", token.string)
        elif token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            start = True
        elif token.type not in (tokenize.NL, tokenize.ENDMARKER):
            if not (start and token.type == tokenize.STRING):
                code |= set(range(token.start[0], token.end[0] + 1))
            start = False
    return len(code), comments


def entered(root: Path, verb: str) -> str:
    """Run a command of the checkout in a folder of its own, and count the modules whose functions ran."""
    root = root.resolve()
    with tempfile.TemporaryDirectory() as folder:
        command = [verb, str(root / "docs/images/street.jpg"), "--out", folder, "--engine", "torch"]
        if verb == "fit":
            small = [
                "data.scenes=4",
                "data.workers=0",
                "trainer.max_epochs=1",
                "trainer.val_every_epochs=1",
                "optim.warmup_steps=0",
            ]
            command = [verb, "--config", "demo", *small, f"run.dir={folder}"]
        done = subprocess.run(
            [sys.executable, "-c", TRACER, str(root), *command],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    found = re.search(r"ENTERED (.*)", done.stdout)
    return found[1] if found else f"failed: {(done.stderr.strip() or done.stdout.strip())[-200:]}"


if __name__ == "__main__":
    sys.exit(main())
