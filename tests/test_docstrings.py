"""Docstrings tell the truth: every documented argument exists, and public functions that raise say so."""

import ast
import re
from pathlib import Path

import pytest

import hrseg

FILES = sorted(Path(hrseg.__file__).parent.rglob("*.py"))


def documented(docstring):
    """Names listed under Args."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n|\n)*)", docstring + "\n", re.MULTILINE)
    return re.findall(r"^    (\w+):", section.group(1), re.MULTILINE) if section else []


def arguments_of(function):
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
    return {argument.arg for argument in every if argument}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_documented_arguments_exist(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
            known = arguments_of(init[0]) if init else fields
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            known = arguments_of(node)
        else:
            continue
        absent = set(documented(ast.get_docstring(node) or "")) - known
        assert not absent, f"{path.name}: {node.name} documents {sorted(absent)}, which it does not take"


def test_the_check_itself_finds_a_wrong_name():
    assert documented("Do.\n\nArgs:\n    a: One.\n        more: not one.\n    b: Two.\n\nReturns:\n    c: no") == [
        "a",
        "b",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_module_says_what_lives_there(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
