"""The whole command line on one page: one parser, one short function per verb.

A verb reads words, calls one library function and prints; its docstring is its help. Heavy imports sit
inside the functions, so help and completion answer at once. Only this file prints or exits.
"""

import argparse
import inspect
import json
import logging
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hrseg.errors import ConfigError, HrsegError, did_you_mean, unknown_choice

OK, OURS, YOURS, INTERRUPTED = 0, 1, 2, 130
BOLD, DIM = "1", "2"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: Words after "hrseg"; None takes them from the process.

    Returns:
        0 done; 1 a bug of ours (with its traceback), or some images of many were broken; 2 a mistake
        of the user; 130 interrupted.
    """
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("hrseg").setLevel(logging.INFO)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as done:  # argparse has printed a help page
        return int(done.code or 0)
    except HrsegError as error:
        _complain(str(error))
        return YOURS
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # head or less has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


# The verbs.


def _fit(arguments: argparse.Namespace) -> int:
    """Train a network by a recipe.

    The run folder (runs/NAME) keeps the best and the last checkpoint, the resolved config, scores and
    pictures. A recipe is a YAML file or the name of one that ships; `hrseg config list` shows them.

      hrseg fit --config camvid_w18_small_v2 data.root=/data/camvid
      hrseg fit --config my.yaml trainer.devices=2 trainer.strategy=ddp
      hrseg fit --config my.yaml --resume last
    """
    from hrseg.config import list_recipes, load_config_with_origins, to_yaml

    if arguments.config is None:
        raise ConfigError(
            "No recipe given, try: hrseg fit --config demo. "
            f"Recipes: {', '.join(list_recipes())}. Their titles: hrseg config list"
        )
    config, origins = load_config_with_origins(arguments.config, arguments.overrides)
    if arguments.print_config:
        return _say(to_yaml(config))
    from hrseg.train import fit, plan

    if arguments.dry_run:
        return _say(plan(config).text())
    text = f"# {shlex.join(['hrseg', *arguments.words])}\n{to_yaml(config, origins)}"
    result = fit(config, resume=arguments.resume, config_text=text)
    use = shlex.join(["hrseg", "predict", "IMAGE", "--model", str(result.run_dir / "best.ckpt")])
    return _say(f"{result.table}\nBest mIoU {100 * result.best_score:.2f} %. To use it: {use}")


def _validate(arguments: argparse.Namespace) -> int:
    """Measure a model on the validation split.

    Prints mIoU, the IoU of each class and pixel accuracy, at the size the masks have on disk. Data and
    options come from the model's own config; words change them.

      hrseg validate --model runs/demo/best.ckpt
      hrseg validate data.root=/data/camvid evaluation.window=[256,320]
    """
    from hrseg.config import to_yaml
    from hrseg.train import evaluate, evaluation_config

    if arguments.print_config:
        return _say(to_yaml(evaluation_config(arguments.model, arguments.overrides)))
    result = evaluate(arguments.model, arguments.split, arguments.overrides, arguments.out)
    return _say(result.text)


def _test(arguments: argparse.Namespace) -> int:
    """Measure a model on the test split, or write masks for a benchmark.

    Like validate, on data.test_split. With --out it also writes every mask as a PNG of dataset ids,
    as benchmark servers want them; images without masks are predicted and not scored.

      hrseg test --model runs/cityscapes_w48/best.ckpt --out submission
    """
    return _validate(arguments)


def _predict(arguments: argparse.Namespace) -> int:
    """Segment images: mask and overlay files.

    Writes NAME_mask.png (a palette image of class ids) and NAME_overlay.png (with a legend) for each
    image, and prints one line with its largest classes. A broken image is reported, the others are
    done, and the exit code is 1. Without --model, the model that ships is used.

      hrseg predict street.png
      hrseg predict photos/ 'more/*.jpg' --model runs/demo/best.ckpt --out masks
      hrseg predict photos/ --json | jq .classes
    """
    if not arguments.images:
        raise ConfigError(
            "No image given. Name images, folders or globs, such as: hrseg predict street.png photos/ "
            f"'more/*.jpg'. Masks and overlays go to {arguments.out}. More: hrseg predict --help"
        )
    from hrseg.inference.sources import expand
    from hrseg.runtime import open_predictor, predict_files

    paths = expand(arguments.images)
    predictor = open_predictor(
        arguments.model,
        device=arguments.device,
        precision=arguments.precision,
        window=arguments.window and tuple(arguments.window),
        overlap=arguments.overlap,
    )
    broken = 0
    for result in predict_files(predictor, paths, arguments.out):
        if arguments.json:
            print(json.dumps(result.to_dict(), ensure_ascii=False), flush=True)
        elif result.error is None:
            print(result.line(), flush=True)
        if result.error is not None:
            broken += 1
            _complain(str(result.error))
    if broken and len(paths) > 1:
        _complain(f"{broken} of {len(paths)} images failed; the others are in {arguments.out}")
    return OURS if broken else OK


def _config_list(_: argparse.Namespace) -> int:
    """List the recipes in ./configs and those that ship."""
    from hrseg.config import list_recipes

    recipes = list_recipes()
    wide = max(map(len, recipes), default=0)
    lines = (f"{_styled(f'{name:<{wide}}', BOLD)}  {title}" for name, title in recipes.items())
    return _say("\n".join(lines))


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
    dimmed = re.sub(r" # .*$", lambda match: _styled(match[0], DIM), text, flags=re.MULTILINE)
    return _say(dimmed)


def _config_explain(arguments: argparse.Namespace) -> int:
    """Say what an option means: its type, range and default.

    A section lists its options, and no name at all lists the sections.

      hrseg config explain data.crop
      hrseg config explain optim
    """
    from hrseg.config import explain

    text = explain(arguments.key, min(100, shutil.get_terminal_size().columns))
    first, _, rest = text.partition("\n")
    return _say(f"{_styled(first, BOLD)}\n{rest}")


def _models(arguments: argparse.Namespace) -> int:
    """List networks and trained models, or the cost of one.

    With a backbone, it is built and its parameters and multiply-adds are counted.

      hrseg models
      hrseg models hrnet_w48 --size 1024 2048
    """
    from hrseg.models import HEADS, create_model, list_models, summary
    from hrseg.weights import packaged_models

    if arguments.backbone is None:
        tables = {
            "Backbones": list_models(),
            "Heads": list(HEADS),
            "Trained models": list(packaged_models()),
        }
        return _say("\n\n".join(_paragraph(title, names) for title, names in tables.items()))
    network = create_model(arguments.backbone, arguments.head, arguments.classes)
    height, width = arguments.size
    cost = summary(network, (height, width))
    return _say(
        f"{_styled(arguments.backbone, BOLD)} with head {arguments.head}, {arguments.classes} classes\n"
        f"  parameters     {cost.parameters:,}\n"
        f"  multiply-adds  {cost.multiply_adds / 1e9:,.2f} G for one {height}x{width} image"
    )


def _data_demo(arguments: argparse.Namespace) -> int:
    """Write generated street scenes as a dataset.

    The scenes have exact masks and lie in one of the layouts that hrseg reads.

      hrseg data demo datasets/scenes --train 40 --val 10
    """
    from hrseg.data.synthetic import write_scenes

    splits = {"train": arguments.train, "val": arguments.val}
    size = (arguments.size[0], arguments.size[1])
    write_scenes(arguments.out, arguments.layout, splits, size=size, seed=arguments.seed)
    words = [f"data.layout={arguments.layout}", f"data.root={arguments.out}"]
    if arguments.layout == "folder":
        words.append(f"data.labels={arguments.out / 'labels.yaml'}")
    return _say(
        f"{arguments.train} train and {arguments.val} val scenes are in {arguments.out}\n"
        f"Train on them: hrseg fit --config demo {shlex.join(words)}"
    )


def _completion(arguments: argparse.Namespace) -> int:
    """Print a script that lets the shell complete words.

    It completes verbs, options, recipes and the keys of key=value words.

      eval "$(hrseg completion bash)"            in ~/.bashrc
      hrseg completion zsh > ~/.zfunc/_hrseg     with ~/.zfunc in fpath
      hrseg completion fish > ~/.config/fish/completions/hrseg.fish
    """
    from hrseg.completion import script

    return _say(script(_parser(), arguments.shell))


def _version(_: argparse.Namespace) -> int:
    """Print the versions of hrseg and of what it stands on."""
    from importlib import metadata

    lines = [
        f"hrseg {sys.modules['hrseg'].__version__}",
        f"  python         {sys.version.split()[0]}",
    ]
    for package in ("torch", "lightning", "albumentations", "omegaconf"):
        try:
            lines.append(f"  {package:<14} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"  {package:<14} not installed")
    return _say("\n".join(lines))


# The parser: one block per verb.

_ABOUT = """
Semantic segmentation around HRNetV2: train, look inside, predict.

  hrseg predict street.png                     mask and overlay, by the model that ships
  hrseg fit --config demo                      train on generated scenes, two minutes on a CPU
  hrseg fit --config cityscapes_w48 --dry-run  what a run would cost, without starting it
"""
_WORDS = """
key=value words set options of the recipe, anywhere after the verb; the last one wins:
  data.batch_size=2   data.crop=[512,512]   'loss.terms={ohem: 1, dice: 0.5}'
--data.batch_size=2 and --data.batch_size 2 mean the same. A value such as ${data.batch_size} links
to another option. All options: hrseg config explain
"""
_CODES = """
hrseg VERB --help tells more. Exit codes: 0 done, 2 your mistake, 1 ours or a broken image, 130
interrupted.
"""


class _Parser(argparse.ArgumentParser):
    """An argparse parser that complains like the rest of hrseg."""

    def error(self, message: str) -> NoReturn:
        choice = re.fullmatch(
            r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message
        )
        if choice:
            kind = choice[1].split("/")[-1].lstrip("-").lower()
            message = unknown_choice(kind, choice[2], re.findall(r"[\w.-]+", choice[3]))
        end = "" if message.endswith((".", "?")) else "."
        raise ConfigError(f"{message[:1].upper()}{message[1:]}{end} See: {self.prog} --help")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Bold headings on a terminal, and room for the words of an option."""

    def __init__(self, prog: str, **options: Any) -> None:
        columns = min(100, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=30, width=columns, **options)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += 2  # argparse forgets that verbs are indented once more

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and _styled(heading, BOLD))


_LOOK: dict[str, Any] = {"formatter_class": _Help, "allow_abbrev": False}


def _parser() -> argparse.ArgumentParser:
    """Build the whole parser; nothing heavy is imported."""
    parser = _Parser("hrseg", description=_ABOUT.strip(), epilog=_CODES.strip(), **_LOOK)
    parser.set_defaults(run=lambda _: _say(parser.format_help()))
    text = "print versions and stop"
    parser.add_argument("--version", action="store_const", const=_version, dest="run", help=text)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    verb = _add(verbs, "fit", _fit, _WORDS)
    verb.add_argument("-c", "--config", metavar="FILE", help="a YAML file or a recipe's name")
    verb.add_argument("--resume", metavar="last|FILE", help="go on from a checkpoint of this run")
    verb.add_argument("--dry-run", action="store_true", help="print sizes, steps and memory, stop")
    _add_words(verb, print_config=True)

    verb = _add(verbs, "validate", _validate, _WORDS)
    _add_model(verb)
    _add_words(verb, print_config=True)
    verb.set_defaults(split="val", out=None)

    verb = _add(verbs, "test", _test, _WORDS)
    _add_model(verb)
    verb.add_argument("-o", "--out", type=Path, metavar="DIR", help="also write masks here")
    _add_words(verb, print_config=True)
    verb.set_defaults(split="test")

    verb = _add(verbs, "predict", _predict)
    verb.add_argument("images", nargs="*", metavar="IMAGE", help="images, folders or globs")
    _add_model(verb)
    out, text = Path("hrseg_out"), "folder of the results (hrseg_out)"
    verb.add_argument("-o", "--out", type=Path, default=out, metavar="DIR", help=text)
    devices, text = ("auto", "cpu", "cuda"), "where to compute (auto)"
    verb.add_argument("--device", choices=devices, default="auto", help=text)
    precisions, text = ("auto", "fp32", "bf16"), "auto: bf16 where the device is quick at it (auto)"
    verb.add_argument("--precision", choices=precisions, default="auto", help=text)
    _add_size(verb, "--window", None, "slide a window of this size over the image")
    text = "fraction that neighbouring windows share (0.5)"
    verb.add_argument("--overlap", type=float, default=0.5, metavar="F", help=text)
    verb.add_argument("--json", action="store_true", help="print one JSON object a line")

    nouns = _add_group(verbs, "config", "Show and explain recipes and options.")
    _add(nouns, "list", _config_list)
    verb = _add(nouns, "show", _config_show, _WORDS)
    verb.add_argument("file", metavar="FILE", help="a YAML file or a recipe's name")
    verb.add_argument("--origin", action="store_true", help="say where each value came from")
    _add_words(verb)
    verb = _add(nouns, "explain", _config_explain)
    verb.add_argument("key", nargs="?", default="", metavar="KEY", help="an option or a section")

    verb = _add(verbs, "models", _models)
    verb.add_argument("backbone", nargs="?", metavar="BACKBONE", help="hrnet_w18_small_v2, say")
    verb.add_argument("--head", default="v2", help="(v2)")
    verb.add_argument("--classes", type=_positive, default=19, metavar="K", help="(19)")
    _add_size(verb, "--size", (512, 1024), "image size")

    nouns = _add_group(verbs, "data", "Make a dataset to try things on.")
    verb = _add(nouns, "demo", _data_demo)
    verb.add_argument("out", type=Path, metavar="OUT", help="the folder to create")
    layouts = ("folder", "camvid", "cityscapes", "ade20k")
    verb.add_argument("--layout", choices=layouts, default="folder", help="(folder)")
    verb.add_argument(
        "--train", type=_positive, default=40, metavar="N", help="training scenes (40)"
    )
    verb.add_argument(
        "--val", type=_positive, default=10, metavar="N", help="validation scenes (10)"
    )
    _add_size(verb, "--size", (128, 256), "scene size")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="other scenes (0)")

    verb = _add(verbs, "completion", _completion)
    verb.add_argument("shell", choices=("bash", "zsh", "fish"))
    _add(verbs, "version", _version)
    return parser


def _add(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], epilog: str = ""
) -> argparse.ArgumentParser:
    """Add a verb whose docstring is its help."""
    doc = inspect.getdoc(run) or name
    title = doc.partition("\n")[0].rstrip(".")
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=title[0].lower() + title[1:], description=doc, epilog=epilog.strip(), **_LOOK
    )
    verb.set_defaults(run=run, parser=verb)
    verb._positionals.title = "arguments"
    return verb


def _add_group(verbs: Any, name: str, title: str) -> Any:
    """Add a noun that has verbs of its own, and prints its help when alone."""
    summary = title[0].lower() + title[1:].rstrip(".")
    noun = verbs.add_parser(name, help=summary, description=title, **_LOOK)
    noun.set_defaults(run=lambda _: _say(noun.format_help()), parser=noun)
    return noun.add_subparsers(title="verbs", metavar="VERB")


def _add_model(verb: argparse.ArgumentParser) -> None:
    text = "a checkpoint, a .safetensors file or a tag (the model that ships)"
    verb.add_argument("-m", "--model", metavar="MODEL", help=text)


def _add_words(verb: argparse.ArgumentParser, print_config: bool = False) -> None:
    if print_config:
        text = "print the resolved config and stop"
        verb.add_argument("--print-config", action="store_true", help=text)
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="options to change")


def _add_size(
    verb: argparse.ArgumentParser, name: str, default: tuple[int, int] | None, text: str
) -> None:
    shown = f"{text} ({default[0]} {default[1]})" if default else text
    verb.add_argument(
        name, type=_positive, nargs=2, default=default, metavar=("H", "W"), help=shown
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


# Words in, text out.

_TAKE_WORDS = (["fit"], ["validate"], ["test"], ["config", "show"])
_WORD = re.compile(r"(?:--)?[A-Za-z_]\w*(?:\.\w+)+=|--\w+(?:\.\w+)+$")


def _parse(words: list[str]) -> argparse.Namespace:
    """Read the words; key=value words may stand anywhere after the verb."""
    overrides, others = [], []
    rest = iter(words)
    for word in rest:
        if not _WORD.match(word) or not any(words[: len(verb)] == verb for verb in _TAKE_WORDS):
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
        hint = did_you_mean(word.partition("=")[0], options)
        raise ConfigError(f"{verb} does not know '{word}'.{hint} See: {verb} --help")
    arguments.words = words
    arguments.overrides = [*overrides, *getattr(arguments, "overrides", []), *extra]
    return arguments


def _say(text: str) -> int:
    """Print to stdout, once even where several processes train together."""
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0:
        print(text.rstrip("\n"))
    return OK


def _complain(text: str) -> None:
    """Print to stderr as one wrapped paragraph, coloured on a terminal."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("hrseg: ", "bold red"), text))
        return
    for line in f"hrseg: {text}".splitlines():
        print(
            textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False),
            file=sys.stderr,
        )


def _styled(text: str, code: str) -> str:
    """Wrap text in a terminal style, unless the output is a file or NO_COLOR is set."""
    plain = "NO_COLOR" in os.environ or not sys.stdout.isatty()
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def _paragraph(title: str, names: Sequence[str]) -> str:
    text = textwrap.fill(
        ", ".join(names) or "none", 96, initial_indent="  ", subsequent_indent="  "
    )
    return f"{_styled(title, BOLD)}\n{text}"
