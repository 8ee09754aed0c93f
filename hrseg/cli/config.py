"""Verbs of `hrseg config`, and shell completion scripts."""

import argparse
import csv
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import shtab

from hrseg.cli.args import OVERRIDES_HELP, add_group, add_overrides, add_verb
from hrseg.cli.console import BOLD, DIM, print_result, styled


def add(verbs: Any) -> None:
    """Add the verbs of this module."""
    nouns = add_group(verbs, "config", "Show and explain recipes and options.")
    add_verb(nouns, "list", _config_list)
    verb = add_verb(nouns, "show", _config_show, OVERRIDES_HELP)
    verb.add_argument("file", metavar="FILE", help="a YAML file or a recipe's name")
    verb.add_argument("--origin", action="store_true", help="show the origin of each value")
    add_overrides(verb)
    verb = add_verb(nouns, "explain", _config_explain)
    verb.add_argument("key", nargs="?", default="", metavar="KEY", help="an option or a section")
    verb = add_verb(nouns, "import", _config_import)
    verb.add_argument("file", type=Path, metavar="FILE", help="an official .yaml, an mmseg .py")
    text = "write the recipe here instead of printing it"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE.yaml", help=text)


def _config_list(arguments: argparse.Namespace) -> int:
    """List the recipes in ./configs and those that ship."""
    from hrseg.config import list_recipes

    recipes = list_recipes()
    wide = max(map(len, recipes), default=0)
    lines = (f"{styled(f'{name:<{wide}}', BOLD)}  {title}" for name, title in recipes.items())
    return print_result(arguments, {"recipes": recipes}, "\n".join(lines))


def _config_show(arguments: argparse.Namespace) -> int:
    """Print a recipe with everything resolved.

    First the files it extends, then itself, then key=value words, then links. The output is a recipe
    again.

      hrseg config show cityscapes_w48 optim.lr=0.02
      hrseg config show my.yaml --origin
    """
    from hrseg.config import config_to_dict, load_config_with_origins, to_yaml

    config, origins = load_config_with_origins(arguments.file, arguments.overrides)
    text = to_yaml(config, origins if arguments.origin else None)
    dimmed = re.sub(r" # .*$", lambda match: styled(match[0], DIM), text, flags=re.MULTILINE)
    return print_result(arguments, config_to_dict(config), dimmed)


def _config_explain(arguments: argparse.Namespace) -> int:
    """Explain an option: its meaning, type, range and default.

    A section lists its options, and no name at all lists the sections.

      hrseg config explain data.crop
      hrseg config explain optim
    """
    from hrseg.config import OPTIONS, explain

    text = explain(arguments.key, min(100, shutil.get_terminal_size().columns))
    first, _, rest = text.partition("\n")
    key = arguments.key.strip(".")
    rows = [row for row in OPTIONS.values() if key in ("", row.key, row.key.partition(".")[0])]
    options = [{"key": r.key, "type": r.kind, "range": r.range, "default": r.default, "doc": r.doc} for r in rows]
    return print_result(arguments, {"options": options}, f"{styled(first, BOLD)}\n{rest}")


def _config_import(arguments: argparse.Namespace) -> int:
    """Translate an old recipe: official HRNet yaml or mmsegmentation config.

    The file is read, never run. A comment stands wherever a value means something else here, and
    what has no counterpart is named at the end.

      hrseg config import seg_hrnet_w48_train_512x1024.yaml --out my.yaml
      hrseg config import configs/hrnet/fcn_hr48_4xb2-80k_cityscapes-512x1024.py
    """
    from hrseg.imaging import write_text
    from hrseg.migrate import translate

    recipe = translate(arguments.file)
    text = recipe.to_yaml()
    found = {"file": arguments.out, "recipe": text, "differences": recipe.differences, "unknown": recipe.unknown}
    if arguments.out is None:
        return print_result(arguments, found, text)
    write_text(arguments.out, text)
    remarks = f"{recipe.differences} differences are explained in it"
    if recipe.unknown:
        remarks += f", {len(recipe.unknown)} entries have no counterpart"
    words = shlex.join(["hrseg", "fit", "--config", str(arguments.out), "--dry-run"])
    return print_result(arguments, found, f"{arguments.out} is written; {remarks}. To check it: {words}")


# One shell function per kind of argument. In bash no space follows a lone key=, so that the value can.
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
    "tag": "tags",
    "tags": "tags",
    "targets": "weights",
    "files": "weights",
    "model": "weights",
}


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script for a shell: bash, zsh or fish."""
    from hrseg.config import OPTIONS, SECTIONS, list_recipes

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
    """Read the tags without the catalog's reader, which imports torch."""
    text = (resources.files("hrseg") / "weights" / "catalog.csv").read_text(encoding="utf-8")
    return [row["tag"] for row in csv.DictReader(text.splitlines())]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _actions(verb)
