"""Recipes and options: list, show, explain."""

import argparse
import re
import shutil
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
