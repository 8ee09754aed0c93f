"""Make the table source x network x policy x largest difference of docs/results.md, in one command.

    python -m tools.same_logits FOLDER --checkout official=PATH … --python mmseg=PATH … [--write]

Each original that is present runs by its own code (see `tools.references`) and leaves checkpoints in its own
format; our importer reads those, and our network answers the same images. FOLDER keeps the checkpoints, about
7 GB. An original that is not present has a row that says so. `--keep` compares what FOLDER holds already.

| source | wants |
| --- | --- |
| official | `--checkout`: HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR |
| official_v11, official_master | the same, branches pytorch-v1.1 and master |
| official_torch04 | the same as official |
| classification | HRNet/HRNet-Image-Classification |
| csail | CSAILVision/semantic-segmentation-pytorch |
| mmseg | `--python` with torch, mmsegmentation 1.2, mmengine, mmcv-lite 2.1, ftfy, regex |
| paddleseg | `--python` with paddlepaddle, paddleseg 2.8, setuptools |
| timm, smp | the packages, in hrseg's own environment |
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrseg.config import load_config
from hrseg.imaging import write_atomic
from hrseg.labels import load_labels
from hrseg.models import create_model
from hrseg.training.build import build_network
from hrseg.weights import load_weights
from hrseg.weights.convert import Foreign, read_foreign
from hrseg.weights.load import load_translated
from tests.reference.seeded import NUM_CLASSES, SIZES, seeded_image, seeded_state
from tools.references.cases import SOURCES, Case, cases

PAGE = Path("docs/results.md")
BEGIN, END = "<!-- same logits: begin -->", "<!-- same logits: end -->"
TOLERANCE = 1e-4
ADOPTERS = ("official", "mmseg", "paddleseg")
Pairs = dict[str, str]


def main() -> None:
    """Run, compare, write; the exit code tells whether every row is below the tolerance."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.same_logits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkout", action="append", default=[], metavar="SOURCE=PATH")
    parser.add_argument("--python", action="append", default=[], metavar="SOURCE=PATH")
    parser.add_argument("--keep", action="store_true", help="compare what the folder holds")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE}")
    words = parser.parse_args()
    folder: Path = words.folder
    absent: Pairs = {}
    if not words.keep:
        checkouts, pythons = (dict(word.split("=", 1) for word in pairs) for pairs in (words.checkout, words.python))
        absent = _run_originals(folder, checkouts, pythons)
    rows, worst = _table(folder, absent)
    header = ["| source | version | network | resize | 128x256 | 125x203 |"]
    header += ["| --- | --- | --- | --- | --: | --: |"]
    notes, also = _extra(folder)
    page = "\n".join([*header, *rows, "", notes])
    print(page)
    if words.write:
        _write(page)
    if max(worst, also) >= TOLERANCE:
        sys.exit(f"The largest difference, {max(worst, also):.1e}, is not below {TOLERANCE:.0e}.")


def _run_originals(folder: Path, checkouts: Pairs, pythons: Pairs) -> Pairs:
    """Run each original in its environment; return why some could not."""
    folder.mkdir(parents=True, exist_ok=True)
    absent: Pairs = {}
    checkouts.setdefault("official_torch04", checkouts.get("official", ""))
    for source in SOURCES:
        absent[source] = _launch(source, folder, checkouts, pythons)
    about = folder / "official" / "about.json"
    if not absent["official"] and about.exists():
        names = json.loads(about.read_text())["shapes"]["hrnet_w48_v2"]["tensors"]
        state = seeded_state({name: tuple(shape) for name, shape in names})
        np.savez(folder / "one_network.npz", allow_pickle=False, **state)
        for source in ADOPTERS:
            if not absent[source]:
                adopt = ("--adopt", str(folder / "one_network.npz"))
                _launch(source, folder, checkouts, pythons, *adopt)
    return {source: why for source, why in absent.items() if why}


def _launch(source: str, folder: Path, checkouts: Pairs, pythons: Pairs, *more: str) -> str:
    if SOURCES[source].wants == "checkout" and not checkouts.get(source):
        return f"no --checkout {source}=PATH"
    command = [pythons.get(source, sys.executable), "-m", "tools.references", source]
    command += ["--out", str(folder), *more]
    if checkouts.get(source):
        command += ["--checkout", checkouts[source]]
    print(f"running {source} …", file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _table(folder: Path, absent: Pairs) -> tuple[list[str], float]:
    rows: list[str] = []
    worst = 0.0
    for source, row in SOURCES.items():
        about_file = folder / source / "about.json"
        if source in absent or not about_file.exists():
            print(f"{source}: {absent.get(source, 'nothing in the folder')}", file=sys.stderr)
            rows.append(f"| {row.title} | not present when this table was made | | | | |")
            continue
        about = json.loads(about_file.read_text())
        logits = np.load(folder / source / "logits.npz")
        title, version = row.title, about["version"]
        for case in cases(source):
            cells, largest = _compare(case, folder / source, about, logits)
            worst = max(worst, largest)
            head = "" if case.head == "branches" else f" {case.head}"
            function = case.policy if row.padding == "symmetric" else f"{case.policy}, padding same"
            rows.append(f"| {title} | {version} | {case.backbone}{head} | {function} | {cells} |")
            print(rows[-1], file=sys.stderr)
            title = version = ""
    return rows, worst


def _compare(case: Case, folder: Path, about: Any, logits: Any) -> tuple[str, float]:
    """Give the two cells of a case; every file that the source wrote for it must hold the same tensors."""
    first: Foreign | None = None
    for file in about["files"][case.model]:
        foreign = read_foreign([folder / part for part in file.split("+")], resize=case.policy)
        if first is not None and not _equal(first.translated.state, foreign.translated.state):
            raise SystemExit(f"{folder / file} holds other tensors than its neighbors.")
        first = first or foreign
    if first is None:
        raise SystemExit(f"{case.key} has no file.")
    network = _ours(first)
    cells, worst = [], 0.0
    for height, width in SIZES:
        place = f"{case.model}/{case.policy}/{height}x{width}"
        if place in about["refused"]:
            cells.append("it refuses")
            continue
        outputs = _outputs(network, (height, width))
        names = [key.rsplit("/", 1)[1] for key in logits if key.startswith(f"{place}/")]
        distances = [_distance(outputs[name], logits[f"{place}/{name}"]) for name in names]
        cells.append(_short(max(distances)))
        worst = max(worst, *distances)
    return " | ".join(cells), worst


def _ours(foreign: Foreign) -> Any:
    spec = dict(foreign.spec)
    bare = spec["head"] == "none"
    if bare:
        spec.update(head="v2", num_classes=NUM_CLASSES)
    network = create_model(**spec).eval()
    load_translated(network, foreign.translated, new_head=bare, compare=False)
    return network


def _outputs(network: Any, size: tuple[int, int]) -> dict[str, np.ndarray]:
    image = torch.from_numpy(seeded_image(size))
    with torch.no_grad():
        branches = network.backbone(image)
        answer = network.head(branches)
    outputs = dict(answer) if isinstance(answer, dict) else {"main": answer}
    outputs.update({f"branch{i}": x for i, x in enumerate(branches)})
    return {name: value.numpy() for name, value in outputs.items()}


def _distance(ours: np.ndarray, original: np.ndarray) -> float:
    return float(np.abs(ours - original).max() / original.std())


def _short(number: float) -> str:
    return f"{number:.1e}".replace("e-0", "e-")


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    counters = "num_batches_tracked"
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first if not key.endswith(counters)
    )


def _extra(folder: Path) -> tuple[str, float]:
    """Two sentences: one network in three formats, and the ImageNet file under the Cityscapes recipe."""
    lines, worst = [], 0.0
    answers = [folder / source / "one_network.npz" for source in ADOPTERS]
    if all(file.exists() for file in answers):
        files = ("one_network.pth", "one_network.pth", "one_network.pdparams")
        ours = [_outputs(_ours(_open(folder / s / f)), SIZES[0])["main"] for s, f in zip(ADOPTERS, files, strict=True)]
        theirs = [np.load(file)["main"] for file in answers]
        worst = max(_distance(one, other) for one in ours for other in (*ours, *theirs))
        lines.append(
            "One hrnet_w48 written in the official, mmsegmentation's and PaddleSeg's format (there without its "
            "own padding): our three imports and the three originals' answers at 128x256 differ from one another "
            f"by at most {_short(worst)}."
        )
    backbone = folder / "timm" / "hrnet_w48_classification.safetensors"
    if backbone.exists():
        network = build_network(load_config("configs/cityscapes_w48.yaml"), load_labels("cityscapes"), load=False)
        report = load_weights(network, backbone)
        lines.append(
            f"A timm hrnet_w48 classifier as backbone of `configs/cityscapes_w48.yaml`: {len(report.matched):,} "
            f"tensors loaded, {len(report.new)} of the V2 head start fresh; {'; '.join(report.notes)}."
        )
    return "\n\n".join(lines), worst


def _open(file: Path) -> Foreign:
    return read_foreign(file, resize="bilinear", padding="symmetric")


def _write(table: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{PAGE} lacks the lines {BEGIN} and {END}; put them where the table goes.")
    text = f"{before}{BEGIN}\n{table}\n{END}{after}"
    with write_atomic(PAGE) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
