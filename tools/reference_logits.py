"""Make the small files of tests/reference/ from what the original implementations answered.

    python -m tools.reference_logits FOLDER

FOLDER is what `tools.same_logits` (or `tools.references`, source by source) left there. Two files come out:
`originals.npz` with versions and stride-4 logits, and `names.json.xz` with the tensors each source would save, so
that the tests need none of the originals.
"""

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np

from tests.reference.seeded import SIZES, thinned
from tools.references.cases import SOURCES, Case, cases

TARGET = Path("tests/reference")
KEPT = ("main", "aux")
SAME_CODE = ("official_v11", "classification")
"""Sources whose names and functions another one repeats; the table of results holds them all the same."""


def main() -> None:
    """Gather, thin out and write."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference_logits", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    names: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for source in SOURCES:
        if source in SAME_CODE:
            continue
        about = json.loads((folder / source / "about.json").read_text())
        logits = np.load(folder / source / "logits.npz")
        arrays[f"{source}/version"] = np.array(about["version"])
        for case in cases(source):
            names[f"{source}/{case.model}"] = about["shapes"][case.model]
            arrays.update(_kept(case, logits))
    np.savez_compressed(TARGET / "originals.npz", allow_pickle=False, **arrays)
    text = json.dumps(names, separators=(",", ":"))
    (TARGET / "names.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))
    sizes = ", ".join(f"{file.name} {file.stat().st_size:,} bytes" for file in TARGET.glob("*.*z"))
    print(f"{len(arrays)} arrays of {len(names)} networks: {sizes}")


def _kept(case: Case, logits: Any) -> dict[str, np.ndarray]:
    places = {size: f"{case.model}/{case.policy}/{size[0]}x{size[1]}" for size in SIZES}
    outputs = ("branch3",) if case.head == "branches" else KEPT
    return {
        f"{case.source}/{place}/{name}": thinned(logits[f"{place}/{name}"], size)
        for size, place in places.items()
        for name in outputs
        if f"{place}/{name}" in logits
    }


if __name__ == "__main__":
    main()
