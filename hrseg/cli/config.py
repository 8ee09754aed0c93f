"""Recipes and options: list, show, explain, import."""

import argparse
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import BOLD, DIM, say, styled
from hrseg.cli.words import WORDS, add_group, add_verb, add_words


def add(verbs: Any) -> None:
    """Add the verbs of this page."""
    nouns = add_group(verbs, "config", "Show and explain recipes and options.")
    add_verb(nouns, "list", _config_list)
    verb = add_verb(nouns, "show", _config_show, WORDS)
    verb.add_argument("file", metavar="FILE", help="a YAML file or a recipe's name")
    verb.add_argument("--origin", action="store_true", help="say where each value came from")
    add_words(verb)
    verb = add_verb(nouns, "explain", _config_explain)
    verb.add_argument("key", nargs="?", default="", metavar="KEY", help="an option or a section")
    verb = add_verb(nouns, "import", _config_import)
    verb.add_argument("file", type=Path, metavar="FILE", help="an official .yaml, an mmseg .py")
    text = "write the recipe here instead of printing it"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE.yaml", help=text)


def _config_list(_: argparse.Namespace) -> int:
    """List the recipes in ./configs and those that ship."""
    from hrseg.config import list_recipes

    recipes = list_recipes()
    wide = max(map(len, recipes), default=0)
    lines = (f"{styled(f'{name:<{wide}}', BOLD)}  {title}" for name, title in recipes.items())
    return say("\n".join(lines))


def _config_show(arguments: argparse.Namespace) -> int:
    """Print a recipe with everything resolved.

    First the files it extends, then itself, then key=value words, then links. The output is a recipe
    again.

      hrseg config show cityscapes_w48 optim.lr=0.02
      hrseg config show my.yaml --origin
    """
    from hrseg.config import load_config_with_origins, to_yaml

    config, origins = load_config_with_origins(arguments.file, arguments.overrides)
    text = to_yaml(config, origins if arguments.origin else None)
    dimmed = re.sub(r" # .*$", lambda match: styled(match[0], DIM), text, flags=re.MULTILINE)
    return say(dimmed)


def _config_explain(arguments: argparse.Namespace) -> int:
    """Say what an option means: its type, range and default.

    A section lists its options, and no name at all lists the sections.

      hrseg config explain data.crop
      hrseg config explain optim
    """
    from hrseg.config import explain

    text = explain(arguments.key, min(100, shutil.get_terminal_size().columns))
    first, _, rest = text.partition("\n")
    return say(f"{styled(first, BOLD)}\n{rest}")


def _config_import(arguments: argparse.Namespace) -> int:
    """Translate an old recipe: official HRNet yaml or mmsegmentation config.

    The file is read, never run. A comment stands wherever a value means something else here, and
    what has no counterpart is named at the end.

      hrseg config import seg_hrnet_w48_train_512x1024.yaml --out my.yaml
      hrseg config import configs/hrnet/fcn_hr48_4xb2-80k_cityscapes-512x1024.py
    """
    from hrseg.imaging import write_atomic
    from hrseg.translate import translate

    recipe = translate(arguments.file)
    text = recipe.to_yaml()
    if arguments.out is None:
        return say(text)
    with write_atomic(arguments.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    remarks = f"{recipe.differences} differences are explained in it"
    if recipe.unknown:
        remarks += f", {len(recipe.unknown)} entries have no counterpart"
    words = shlex.join(["hrseg", "fit", "--config", str(arguments.out), "--dry-run"])
    return say(f"{arguments.out} is written; {remarks}. To check it: {words}")
