"""Is one model better than another: hrseg compare."""

import argparse
import json
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import WORDS, add_verb, positive
from hrseg.errors import ConfigError


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "compare", _compare, WORDS)
    text = "a checkpoint, a run's folder, a tag, or a ledger of hrseg validate"
    verb.add_argument("models", nargs="*", metavar="MODEL", help=text)
    verb.add_argument("--split", choices=("val", "test"), default="val", help="(val)")
    text = "bootstrap samples (2000)"
    verb.add_argument("--draws", type=positive, default=2000, metavar="N", help=text)
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    text = "also keep the ledgers here, one for each model"
    verb.add_argument("--out", "-o", type=Path, metavar="DIR", help=text)


def _compare(arguments: argparse.Namespace) -> int:
    """Compare models on the same images, and say how sure the difference is.

    Every model is scored on the split, then images are drawn anew with replacement, the same ones
    for all: the interval holds 95 % of the draws, and p is the chance that the sign of the
    difference to the first model is luck. Where the interval leaves out 0, the difference is real
    for images like these; runs with other seeds may differ by more.

      hrseg compare runs/demo runs/demo-2
      hrseg compare first.npz second.npz --json
    """
    from hrseg.evaluation.compare import table, text

    if len(arguments.models) < 2:
        raise ConfigError(
            f"A comparison needs two models or more, {len(arguments.models)} given. Such as: "
            "hrseg compare runs/a runs/b"
        )
    ledgers = [_ledger(model, arguments.split, arguments.overrides) for model in arguments.models]
    if arguments.out is not None:
        for number, ledger in enumerate(ledgers, start=1):
            stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in ledger.model)
            ledger.save(arguments.out / f"{number}_{stem}.npz")
    rows = table(ledgers, draws=arguments.draws)
    return say(json.dumps(rows, ensure_ascii=False) if arguments.json else text(rows))


def _ledger(model: str, split: str, words: list[str]) -> Any:
    from hrseg.evaluation.ledger import read_ledger

    if model.endswith(".npz"):
        return read_ledger(model)
    from hrseg.train.evaluation import evaluate

    return evaluate(model, split, words).ledger
