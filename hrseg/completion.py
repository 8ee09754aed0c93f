"""Shell completion scripts, made by shtab from the argparse parser.

shtab knows verbs, options and choices. Recipes, tags of weights and the keys of key=value words are added here; they
are written into the script, so completing a word starts no Python.
"""

import argparse
import csv
from collections.abc import Iterator
from importlib import resources

import shtab

from hrseg.config import OPTIONS, SECTIONS, list_recipes

# A shell function per kind of word. In bash a lone key=  gets no space after it, so the value can follow.
_BASH = """
_hrseg_recipes() { compgen -W "RECIPES" -- "$1"; compgen -f -X '!*.yaml' -- "$1"; compgen -d -- "$1"; }
_hrseg_keys() { compgen -W "KEYS" -- "$1"; }
_hrseg_options() { compgen -W "OPTIONS" -- "$1"; }
_hrseg_tags() { compgen -W "TAGS" -- "$1"; }
_hrseg_weights() { compgen -W "TAGS" -- "$1"; compgen -f -- "$1"; }
"""
_BASH_TAIL = """
_hrseg_complete() {
  _shtab_hrseg "$@"
  [[ "${COMPREPLY[0]-}" == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o bashdefault -F _hrseg_complete hrseg
"""
_ZSH = """
_hrseg_recipes() { compadd -- RECIPES; _files -g '*.yaml'; }
_hrseg_keys() { compadd -S '' -- KEYS; }
_hrseg_options() { compadd -- OPTIONS; }
_hrseg_tags() { compadd -- TAGS; }
_hrseg_weights() { compadd -- TAGS; _files; }
"""
_FISH = "(string split ' ' '{}')"
_KINDS = {
    "config": "recipes",
    "study": "recipes",
    "file": "recipes",
    "overrides": "keys",
    "key": "options",
}
_KINDS |= {
    "tag": "tags",
    "tags": "tags",
    "targets": "weights",
    "files": "weights",
    "model": "weights",
}


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script for a shell: bash, zsh or fish."""
    words = {
        "recipes": " ".join(list_recipes()),
        "keys": " ".join(f"{key}=" for key in OPTIONS),
        "options": " ".join([*SECTIONS, *OPTIONS]),
        "tags": " ".join(_tags()),
    }
    words["weights"] = words["tags"]

    def fill(template: str) -> str:
        for kind, text in words.items():
            template = template.replace(kind.upper(), text)
        return template

    for action in _actions(parser):
        kind = _KINDS.get(action.dest)
        if kind is not None:
            name = f"_hrseg_{kind}"
            functions = {"bash": name, "zsh": name, "fish": _FISH.format(words[kind])}
            action.complete = functions  # type: ignore[attr-defined]
        elif action.dest in ("images", "resume"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest == "out":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    preamble = fill({"bash": _BASH, "zsh": _ZSH}.get(shell, ""))
    text: str = shtab.complete(parser, shell=shell, preamble=preamble)
    return text + _BASH_TAIL if shell == "bash" else text


def _tags() -> list[str]:
    """Read the tags alone; the catalogue's own reader would bring torch."""
    text = (resources.files("hrseg") / "weights" / "catalog.csv").read_text(encoding="utf-8")
    return [row["tag"] for row in csv.DictReader(text.splitlines())]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Walk the arguments of a parser and of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)
