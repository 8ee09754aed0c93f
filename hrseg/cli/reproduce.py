"""Published scores, and the same measured here."""

import argparse
import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from hrseg.cli.terminal import BOLD, OK, OURS, say, styled
from hrseg.cli.words import WORDS, add_verb, add_words
from hrseg.errors import ConfigError

if TYPE_CHECKING:
    from hrseg.reproduce import Plan


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "reproduce", _reproduce, WORDS)
    verb.add_argument("recipe", metavar="RECIPE", nargs="?", help="a YAML file or a recipe's name")
    text = "which of the recipe's scores (the first)"
    verb.add_argument("--protocol", metavar="NAME", help=text)
    text = "your own checkpoint or tag instead of the published weights"
    verb.add_argument("-m", "--model", metavar="MODEL", help=text)
    verb.add_argument("--plan", action="store_true", help="only say what it would do")
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    add_words(verb)


def _reproduce(arguments: argparse.Namespace) -> int:
    """Measure a published score again.

    Prints the published number, its protocol, the weights, the data and their terms, the cost and the
    command. Where the data are there, it fetches the weights once, runs, and prints expected beside
    got; the exit code is 1 if they differ by more than the recipe allows. Without the data it says
    which archives go where, and the exit code is 0.

      hrseg reproduce camvid_w18_small_v1 data.root=/data/camvid
      hrseg reproduce ade20k_w48_ohem --protocol official_ade20k_ms --plan
      hrseg reproduce cityscapes_w48 --model runs/cityscapes_w48/best.ckpt
    """
    if arguments.recipe is None:
        from hrseg.config import published_recipes

        names = ", ".join(published_recipes())
        raise ConfigError(f"No recipe given. Recipes with a published score: {names}.")
    from hrseg.reproduce import plan_reproduction, reproduce

    plan = plan_reproduction(
        arguments.recipe, arguments.overrides, protocol=arguments.protocol, model=arguments.model
    )
    if not arguments.json:
        say(_text(plan))
    if arguments.plan or plan.missing is not None:
        if arguments.json:
            return say(json.dumps(plan.to_dict(), ensure_ascii=False))
        return say(f"\n{_wrapped(plan.missing)}") if plan.missing else OK
    outcome = reproduce(plan)
    if arguments.json:
        say(json.dumps(outcome.to_dict(), ensure_ascii=False))
    else:
        say(f"\n{outcome.result.text}\n\n{styled(outcome.text(), BOLD)}")
    return OK if outcome.close else OURS


def _text(plan: "Plan") -> str:
    lines = [styled(f"{plan.recipe}: {plan.title}" if plan.title else plan.recipe, BOLD)]
    for name, value in plan.facts():
        for i, part in enumerate([value] if name == "command" else _wrapped(value, 13).split("\n")):
            lines.append(f"  {'' if i else name:<10} {part}")
    return "\n".join(lines)


def _wrapped(text: str, indent: int = 0) -> str:
    width = min(100, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 100
    return textwrap.fill(
        text, max(40, width - indent), break_long_words=False, break_on_hyphens=False
    )
