"""Processor time and peak memory of `hrseg predict` on one image, against `python -c "import torch"`.

    python -m tools.bench_image --megapixels 0.17 0.5 2 8 12 24 --rounds 5

Images are the street of docs/images/ enlarged. In each round `import torch` and every engine run once on every image,
in processes of their own, with Python's files compiled as after an installation. Printed are the median peak of
resident memory, the median of user and system seconds, and the median over the rounds of those seconds over the
import's: all of them, and without those of the first prediction on a model that is open (the start).
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from statistics import median

from PIL import Image

from tools.paired import ROOT, markdown, median_ratio

ENGINES = ("auto", "torch", "openvino")
Run = tuple[float, float]
"""Processor seconds, and GB."""
PREDICTION = """
import sys, time
from hrseg import Predictor
name, engine, model = sys.argv[1:]
predictor = Predictor(model or None, engine=engine)
start = time.process_time()
predictor(name).mask
print(time.process_time() - start, file=sys.stderr)
"""


def run(words: list[str], folder: str) -> tuple[Run, str]:
    """Run Python with these arguments in a folder; return what it took, and what it printed as errors.

    Raises:
        SystemExit: It failed.
    """
    with tempfile.TemporaryFile("w+") as errors:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": f"{folder}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, used = os.wait4(process.pid, 0)
        errors.seek(0)
        text = errors.read()
    if status:
        raise SystemExit(f"{' '.join(words)}: {text}")
    return (used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9), text


def draw(path: str, megapixels: float) -> None:
    """Write the street enlarged to about so many megapixels, 3 wide to 2 high."""
    height = round(math.sqrt(megapixels * 1e6 / 1.5))
    with Image.open(ROOT / "docs/images/street.jpg") as street:
        street.resize((height * 3 // 2, height), Image.Resampling.BICUBIC).save(path, quality=92)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.5, 2, 8, 12, 24])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--model", help="as for hrseg predict (the model that ships)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = ["--model", options.model] if options.model else []
    imports: list[float] = []
    found: dict[tuple[float, str], list[Run]] = {}
    alone: dict[tuple[float, str], list[float]] = {}
    ran = {}
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels:
            draw(f"{folder}/{megapixels}.jpg", megapixels)
        for engine in options.engines:  # compiles Python's files
            run(["-m", "hrseg", "predict", f"{options.megapixels[0]}.jpg", "--engine", engine, *model], folder)
        for _ in range(options.rounds):
            imports.append(run(["-c", "import torch"], folder)[0][0])
            for key in ((size, engine) for size in options.megapixels for engine in options.engines):
                words = ["-m", "hrseg", "predict", f"{key[0]}.jpg", "--engine", key[1], *model]
                taken, text = run(words, folder)
                found.setdefault(key, []).append(taken)
                ran[key] = re.findall(r"engine (\w+)", text)[-1]
                _, text = run(["-c", PREDICTION, words[3], ran[key], options.model or ""], folder)
                alone.setdefault(key, []).append(float(text.split()[-1]))
    rows = []
    for (megapixels, engine), runs in found.items():
        used, memory = zip(*runs, strict=True)
        name = f"{engine}: {ran[megapixels, engine]}" if engine == "auto" else engine
        start = [seconds - part for seconds, part in zip(used, alone[megapixels, engine], strict=True)]
        figures = (f"{median(memory):.2f}", f"{median(used):.1f}")
        ratios = (f"{median_ratio(used, imports):.2f}", f"{median_ratio(start, imports):.2f}")
        rows.append((f"{megapixels:g}", name, *figures, *ratios))
    heads = ("megapixels", "engine", "peak, GB", "processor s", "over `import torch`", "start over it")
    print("\n".join(markdown(heads, rows)))


if __name__ == "__main__":
    main()
