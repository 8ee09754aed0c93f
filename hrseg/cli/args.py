"""Argument parser and the options that several verbs share; a verb is a function whose docstring is its help."""

import argparse
import inspect
import re
import shutil
from collections.abc import Callable
from typing import Any, NoReturn

from hrseg.cli.console import BOLD, print_out, styled
from hrseg.errors import ConfigError, did_you_mean, unknown_choice

OVERRIDES_HELP = """
key=value words set options of the recipe, anywhere after the verb; the last one wins:
  data.batch_size=2   data.crop=[512,512]   'loss.terms={ohem: 1, dice: 0.5}'
--data.batch_size=2 and --data.batch_size 2 mean the same. A value such as ${data.batch_size} links
to another option. All options: hrseg config explain
"""


VERBS_ELSEWHERE = {
    **dict.fromkeys(("train", "finetune", "fine-tune", "learn"), "fit"),
    **dict.fromkeys(("infer", "inference", "segment", "detect", "run"), "predict"),
    **dict.fromkeys(("val", "valid"), "validate"),
    **dict.fromkeys(("eval", "score"), "evaluate"),
    **dict.fromkeys(("download", "fetch", "pull"), "weights pull"),
    **dict.fromkeys(("check", "convert", "split", "browse", "stats"), "data {}"),
    **dict.fromkeys(("annotate", "label"), "data convert"),
    **dict.fromkeys(("list", "zoo"), "weights list"),
    "demo": "fit --config demo",
    "speed": "benchmark",
    "deploy": "export",
    "import": "weights import",
    "visualize": "explain",
}
"""Verbs of other toolkits, or without their noun, and what they are here."""


class Heading(argparse.Action):
    """A line between the verbs of a help page; its dest is the text."""

    def __call__(self, *_: Any) -> None:
        """Do nothing: no argument reaches it."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises ConfigError."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, with a suggestion for an invalid choice."""
        choice = re.fullmatch(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            name, names = choice[1].split("/")[-1], re.findall(r"[\w.-]+", choice[3])
            known = VERBS_ELSEWHERE.get(choice[2], "") if name == "VERB" else ""
            if known:
                message = f"Unknown verb '{choice[2]}'. Here it is: hrseg {known.format(choice[2])}."
            elif name.startswith("-"):
                near = did_you_mean(choice[2], names)
                message = f"{name} does not take '{choice[2]}'. It takes: {', '.join(names)}.{near}"
            else:
                message = unknown_choice(name.lower(), choice[2], names)
        end = "" if message.endswith((".", "?")) else "."
        raise ConfigError(f"{message[:1].upper()}{message[1:]}{end} See: {self.prog} --help")


class Help(argparse.RawDescriptionHelpFormatter):
    """Help pages with bold headings on a terminal."""

    def __init__(self, prog: str, **options: Any) -> None:
        columns = min(100, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=30, width=columns, **options)

    def add_argument(self, action: argparse.Action) -> None:
        """Account for the indentation of verbs."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += 2  # argparse ignores the extra indentation of verbs

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, Heading):
            return f"\n{' ' * (self._current_indent - 2)}{styled(action.dest, BOLD)}\n"
        return super()._format_action(action)

    def start_section(self, heading: str | None) -> None:
        """Open a section with a bold heading."""
        super().start_section(heading and styled(heading, BOLD))


PARSER_OPTIONS: dict[str, Any] = {"formatter_class": Help, "allow_abbrev": False}


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], epilog: str = "", json: bool = True
) -> argparse.ArgumentParser:
    """Add a verb whose docstring is its help, with --json unless it prints no result."""
    doc = inspect.getdoc(run) or name
    title = doc.partition("\n")[0].rstrip(".")
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=title[0].lower() + title[1:],
        description=doc,
        epilog=epilog.strip(),
        **PARSER_OPTIONS,
    )
    verb.set_defaults(run=run, parser=verb)
    verb._positionals.title = "arguments"
    if json:
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
    return verb


def add_group(verbs: Any, name: str, title: str) -> Any:
    """Add a noun with verbs; without a verb it prints its help."""
    summary = title[0].lower() + title[1:].rstrip(".")
    noun = verbs.add_parser(name, help=summary, description=title, **PARSER_OPTIONS)
    noun.set_defaults(run=lambda _: print_out(noun.format_help()), parser=noun)
    return noun.add_subparsers(title="verbs", metavar="VERB")


def add_model(verb: argparse.ArgumentParser) -> None:
    """Add --model."""
    text = "a checkpoint, a .safetensors file or a tag (the model that ships)"
    verb.add_argument("-m", "--model", metavar="MODEL", help=text)


def add_device(verb: argparse.ArgumentParser) -> None:
    """Add --device and --precision."""
    text = "where to compute: auto, cpu, cuda, cuda:1, mps (auto)"
    verb.add_argument("--device", default="auto", metavar="DEVICE", help=text)
    precisions, text = ("auto", "fp32", "bf16"), "auto: bf16 where the device has fast bf16 (auto)"
    verb.add_argument("--precision", choices=precisions, default="auto", help=text)


def add_recipe(verb: argparse.ArgumentParser) -> None:
    """Add --config for verbs that take data and options from the model otherwise."""
    text = "data and options of this recipe instead of the model's own"
    verb.add_argument("-c", "--config", metavar="FILE", help=text)


def add_bits(verb: argparse.ArgumentParser) -> None:
    """Add --bits."""
    text = "significant bits of 16-bit files, 8 to 16 (the model's or the file's, else 16)"
    verb.add_argument("--bits", type=int, choices=range(8, 17), metavar="N", help=text)


def add_overrides(verb: argparse.ArgumentParser, print_config: bool = False) -> None:
    """Add key=value overrides, and optionally --print-config."""
    if print_config:
        text = "print the resolved config and stop"
        verb.add_argument("--print-config", action="store_true", help=text)
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="options to change")


def add_pattern(verb: argparse.ArgumentParser) -> None:
    """Add --masks, the pattern of mask paths."""
    text = "mask of an image below ROOT, such as 'masks/{stem}.jpg.png'; {name}, {folder} and {1} too"
    verb.add_argument("--masks", metavar="PATTERN", help=text)


def add_size(verb: argparse.ArgumentParser, name: str, default: tuple[int, int] | None, text: str) -> None:
    """Add an option of height and width."""
    shown = f"{text} ({default[0]} {default[1]})" if default else text
    verb.add_argument(name, type=positive, nargs=2, default=default, metavar=("H", "W"), help=shown)


def options_of(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return some options of the command line as keyword arguments of the same names."""
    return {name: getattr(arguments, name) for name in names}


def positive(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)
