"""Entry point of the command line: parser, overrides, exit codes.

A verb reads its arguments, calls one library function and prints. Heavy imports are inside the verbs, so that help and
completion are fast. Only this package prints or exits.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence

from hrseg.cli import config, data, evaluate, export, predict, serve, study, train, weights
from hrseg.cli.args import PARSER_OPTIONS, Heading, Parser, add_verb
from hrseg.cli.console import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    LogFormatter,
    print_error,
    print_out,
    print_result,
)
from hrseg.errors import ConfigError, HrsegError, did_you_mean, os_error_text

VERBS = (
    train.add,
    study.add,
    evaluate.add,
    evaluate.add_compare,
    train.add_explain,
    predict.add,
    evaluate.add_submit,
    export.add,
    export.add_benchmark,
    serve.add,
    evaluate.add_reproduce,
    config.add,
    export.add_models,
    weights.add,
    data.add,
)
"""Functions that add one verb each to the parser."""

GROUPS = {
    "train": ("fit", "study"),
    "use": ("predict", "serve", "export", "explain", "submit"),
    "measure": ("validate", "test", "evaluate", "compare", "reproduce", "benchmark"),
    "data": ("data",),
    "models and recipes": ("models", "weights", "config"),
    "shell": ("completion", "version"),
}
"""Headings of `hrseg --help` and their verbs."""
_OPTIONS_ELSEWHERE = {
    "--epochs": "trainer.max_epochs=N",
    "--batch-size": "data.batch_size=N",
    "--batch": "data.batch_size=N",
    "--lr": "optim.lr=X",
    "--gpus": "trainer.devices=N",
    "--devices": "trainer.devices=N",
    "--device": "trainer.accelerator=cpu or trainer.devices=N",
    "--imgsz": "data.crop=[H,W]",
    "--data": "data.root=FOLDER",
    "--name": "run.name=NAME",
    "--seed": "run.seed=N",
    "--workers": "data.workers=N",
    "--weights": "model.weights=FILE",
    "--pretrained": "model.weights=FILE",
    "--cfg": "--config",
}
"""Options of other toolkits' training commands, and what they are here."""
_IMAGES_ELSEWHERE = {
    **dict.fromkeys(("--source", "--input", "--image", "--images"), "the images as arguments, without an option"),
    **dict.fromkeys(("--weights", "--checkpoint", "--ckpt"), "--model"),
    **dict.fromkeys(("--output", "--save-dir", "--out-dir", "--project"), "--out"),
    "--imgsz": "no option: images keep their size",
    "--batch-size": "--batch",
    "--gpu": "--device cuda",
    "--half": "--precision bf16",
}
"""The same for commands that take images."""

_ABOUT = """
Semantic segmentation around HRNetV2: train, explain, predict.

  hrseg predict street.png                     mask and overlay, by the model that ships
  hrseg fit --config demo                      train on generated scenes, a minute on a CPU
  hrseg fit --config cityscapes_w48 --dry-run  what a run would cost, without starting it
"""
_CODES = """
More: hrseg VERB --help. Exit codes: 0 success, 1 some images failed or a bug of hrseg, 2 wrong
arguments or input, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: Arguments after "hrseg"; None takes those of the process.

    Returns:
        0 success; 1 some images of many failed, or a bug of hrseg (with its traceback); 2 wrong
        arguments or input; 130 interrupted.
    """
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LogFormatter("%(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        logging.getLogger("hrseg").setLevel(logging.INFO)
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # torchmetrics imports it, which builds its font cache
        code: int = arguments.run(arguments)
        sys.stdout.flush()  # raises BrokenPipeError here, not at exit
        return code
    except SystemExit as done:  # argparse has printed a help page
        return int(done.code or 0)
    except HrsegError as error:
        print_error(str(error))
        return EXIT_USAGE
    except KeyboardInterrupt:
        print_error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        print_error(os_error_text(error))
        return EXIT_USAGE


def _parser(headings: bool = True) -> argparse.ArgumentParser:
    """Build the parser of all verbs, without heavy imports."""
    parser = Parser("hrseg", description=_ABOUT.strip(), epilog=_CODES.strip(), **PARSER_OPTIONS)
    parser.set_defaults(run=lambda _: print_out(parser.format_help()))
    text = "print versions and stop"
    parser.add_argument("--version", action="store_const", const=_version, dest="run", help=text)
    parser.set_defaults(json=False)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for add in VERBS:
        add(verbs)
    verb = add_verb(verbs, "completion", _completion, json=False)
    verb.add_argument("shell", choices=("bash", "zsh", "fish"))
    add_verb(verbs, "version", _version)
    if headings:
        listed = {action.dest: action for action in verbs._choices_actions}
        verbs._choices_actions[:] = [
            action
            for title, names in GROUPS.items()
            for action in (Heading((), title), *(listed[name] for name in names))
        ]
    return parser


def _completion(arguments: argparse.Namespace) -> int:
    """Print a script that lets the shell complete words.

    It completes verbs, options, recipes and the keys of key=value words.

      eval "$(hrseg completion bash)"            in ~/.bashrc
      hrseg completion zsh > ~/.zfunc/_hrseg     with ~/.zfunc in fpath
      hrseg completion fish > ~/.config/fish/completions/hrseg.fish
    """
    from hrseg.cli.config import script

    return print_out(script(_parser(headings=False), arguments.shell))


def _version(arguments: argparse.Namespace) -> int:
    """Print the versions of hrseg and of the libraries it depends on."""
    from importlib import metadata

    versions = {"hrseg": sys.modules["hrseg"].__version__, "python": sys.version.split()[0]}
    for package in ("torch", "lightning", "albumentations", "omegaconf"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    first, *others = versions.items()
    return print_result(arguments, versions, "\n".join([" ".join(first), *(f"  {n:<14} {v}" for n, v in others)]))


_VERBS_WITH_OVERRIDES = (
    *(["fit"], ["study"], ["validate"], ["test"], ["evaluate"], ["explain"], ["compare"]),
    *(["reproduce"], ["config", "show"], ["data", "browse"], ["data", "audit"]),
)
_OVERRIDE = re.compile(r"(?:--)?[A-Za-z_]\w*(?:\.\w+)+=|--\w+(?:\.\w+)+$")


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse the command line; key=value overrides may be anywhere after the verb."""
    overrides, others = [], []
    rest = iter(words)
    for word in rest:
        if not _OVERRIDE.match(word) or not any(words[: len(verb)] == verb for verb in _VERBS_WITH_OVERRIDES):
            others.append(word)
        elif "=" in word:
            overrides.append(word.removeprefix("--"))
        else:
            value = next(rest, None)
            if value is None:
                raise ConfigError(f"{word} needs a value: {word.removeprefix('--')}=VALUE")
            overrides.append(f"{word.removeprefix('--')}={value}")
    arguments, extra = _parser().parse_known_args(others)
    strange = next((word for word in extra if word.startswith("-")), None)
    if strange is not None or (extra and "overrides" not in arguments):
        word = strange or extra[0]
        options = arguments.parser._option_string_actions if "parser" in arguments else ()
        verb = arguments.parser.prog if "parser" in arguments else "hrseg"
        name = word.partition("=")[0]
        elsewhere = _OPTIONS_ELSEWHERE if "overrides" in arguments else _IMAGES_ELSEWHERE
        known = elsewhere.get(name.replace("_", "-"))
        hint = f" Here it is {known}." if known else did_you_mean(name, options)
        raise ConfigError(f"{verb} has no argument '{word}'.{hint} See: {verb} --help")
    arguments.words = words
    arguments.overrides = [*overrides, *getattr(arguments, "overrides", []), *extra]
    return arguments
