"""Run one source: see the package's docstring."""

import argparse
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.reference.seeded import NUM_CLASSES, SIZES, seeded_image, seeded_state
from tools.references.cases import SOURCES, Case, cases


def main() -> None:
    """Build, fill, save and run every network of a source."""
    parser = argparse.ArgumentParser(prog="python -m tools.references", description=__doc__)
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("--checkout", type=Path, help="for sources that are no package")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--adopt", type=Path, help="run this official state (.npz) instead, as W48")
    words = parser.parse_args()
    warnings.simplefilter("ignore")  # the originals' own
    runner = importlib.import_module(f"tools.references.{SOURCES[words.source].module}")
    folder = words.out / words.source
    folder.mkdir(parents=True, exist_ok=True)
    if words.adopt:
        _adopt(Case(words.source, "hrnet_w48", "v2", "bilinear"), runner, words, folder)
        return
    about: dict[str, Any] = {"version": "", "files": {}, "shapes": {}, "refused": {}}
    arrays: dict[str, np.ndarray] = {}
    for case in cases(words.source):
        if words.only in case.key:
            _run(case, runner, words.checkout, folder, about, arrays)
            print(f"{case.key}: {', '.join(about['files'][case.model])}", flush=True)
    about["version"] = runner.version(words.checkout)
    np.savez_compressed(folder / "logits.npz", allow_pickle=False, **arrays)
    (folder / "about.json").write_text(json.dumps(about))


def _run(
    case: Case,
    runner: Any,
    checkout: Path | None,
    folder: Path,
    about: dict[str, Any],
    arrays: dict[str, np.ndarray],
) -> None:
    original = runner.build(case, NUM_CLASSES, checkout)
    shapes = original.shapes()
    original.load(seeded_state(shapes, original.negative_gammas))
    about["shapes"][case.model] = {
        "negative_gammas": original.negative_gammas,
        "tensors": [[name, list(shape)] for name, shape in shapes.items()],
    }
    if case.model not in about["files"]:
        about["files"][case.model] = original.save(folder, case.model)
    for height, width in SIZES:
        place = f"{case.model}/{case.policy}/{height}x{width}"
        try:
            outputs = original.logits(seeded_image((height, width)))
        except RuntimeError as error:  # a size that the original cannot take
            about["refused"][place] = str(error).splitlines()[0]
            continue
        arrays.update({f"{place}/{name}": value for name, value in outputs.items()})


def _adopt(case: Case, runner: Any, words: argparse.Namespace, folder: Path) -> None:
    original, state = runner.adopt(case, dict(np.load(words.adopt)), words.checkout)
    original.load(state)
    files = original.save(folder, "one_network")
    logits = original.logits(seeded_image(SIZES[0]))["main"]
    np.savez_compressed(folder / "one_network.npz", allow_pickle=False, main=logits)
    print(f"{case.source}: {', '.join(files)}", flush=True)


if __name__ == "__main__":
    main()
