"""What the publishers wrote about their checkpoints, as rows of the catalog: one reader per publisher.

Addresses, scores and class counts are read from their tables, metafiles and recipes, never typed; the few facts that
no table states (how each family resizes and pads, the terms of the data) stand in the tables below.
"""

import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PACKAGED = Path(__file__).parents[1] / "hrseg" / "weights" / "packaged"
IMAGENET = ("0.485 0.456 0.406", "0.229 0.224 0.225")
HALF = ("0.5 0.5 0.5", "0.5 0.5 0.5")
"""PaddleSeg's Normalize, where a recipe names no mean."""
DATA = {
    "in1k": "non-commercial research and education; https://www.image-net.org/download.php",
    "cityscapes": "non-commercial use: research, teaching, personal; https://www.cityscapes-dataset.com/license/",
    "ade20k": "images for non-commercial research and education, annotations under BSD 3-Clause; "
    "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
    "voc": "images under Flickr's terms of use; http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    "pascal_context": "images under Flickr's terms of use; https://cs.stanford.edu/~roozbeh/pascal-context/",
    "lip": "ask its authors before any use beyond research; https://sysu-hcp.net/lip/",
    "coco_stuff": "images under Flickr's terms of use, annotations under CC BY 4.0; "
    "https://github.com/nightrome/cocostuff",
    "loveda": "academic use only, CC BY-NC-SA 4.0; https://github.com/Junjue-Wang/LoveDA",
    "potsdam": "ISPRS benchmark, for research with acknowledgement; "
    "https://www.isprs.org/education/benchmarks/UrbanSemLab/",
    "vaihingen": "ISPRS benchmark, for research with acknowledgement; "
    "https://www.isprs.org/education/benchmarks/UrbanSemLab/",
    "isaid": "academic use only; https://captain-whu.github.io/iSAID/",
}
NAMES = {
    "in1k": "ImageNet",
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "voc": "PASCAL VOC 2012",
    "pascal_context_59": "PASCAL-Context (59 classes)",
    "pascal_context_60": "PASCAL-Context (60 classes)",
    "lip": "LIP",
    "coco_stuff": "COCO-Stuff 10k",
    "loveda": "LoveDA",
    "potsdam": "ISPRS Potsdam",
    "vaihingen": "ISPRS Vaihingen",
    "isaid": "iSAID",
    "camvid": "CamVid",
}
CLASSES = {"cityscapes": 19, "voc": 21}
"""Where a recipe leaves the number to a file it extends."""
OFFICIAL = {
    "cs": ("cityscapes", "cityscapes"),
    "lip": ("lip", "lip"),
    "pascal": ("pascal_context_59", "pascal_ctx"),
    "cocostuff": ("coco_stuff", "cocostuff"),
    "ade20k": ("ade20k", "ade20k"),
}
"""How the official files are called → the data, and the folder of their recipes."""
Row = dict[str, Any]


def show(checkout: Path, path: str, branch: str = "HEAD") -> str:
    """Read one file of a git checkout."""
    command = ["git", "-C", str(checkout), "show", f"{branch}:{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tables(markdown: str) -> Iterator[dict[str, str]]:
    """Yield each row of each table as column → text."""
    columns: list[str] = []
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if "|" not in line:
            columns = []
        elif not columns:
            columns = cells
        elif not set(line) <= set("|:- "):
            yield dict(zip(columns, cells, strict=False))


def found_in(pattern: str, text: str, group: int = 1) -> str:
    """Return what a pattern finds, or stop: a publisher has changed a page."""
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"{pattern} is nowhere in: {text[:200]}")
    return match[group]


def row(tag: str, data: str, head: str, classes: int, **more: Any) -> Row:
    """Fill in what follows from the tag and the data."""
    backbone = re.sub(r"_(ocr|c1|ssld)$", "", tag.split(".")[0])
    terms = DATA[re.sub(r"_\d+$", "", data)]
    mean, std = more.pop("normalize", IMAGENET)
    values = {"padding": "symmetric", "sha256": "", "size": "", **more}
    return {
        "tag": tag,
        "source": more.get("source", tag.split(".")[1].split("_")[0]),
        "data": data,
        "backbone": backbone,
        "head": head,
        "num_classes": classes,
        "mean": mean,
        "std": std,
        "data_terms": f"{NAMES[data].split(' (')[0]}: {terms}",
        **{key: value for key, value in values.items() if key != "source"},
    }


def official(checkout: Path) -> Iterator[Row]:
    """Segmentation files that the HRNet-OCR branch links on GitHub."""
    branch = "HRNet-OCR"
    listing = ["git", "-C", str(checkout), "ls-tree", "-r", "--name-only", branch, "experiments"]
    recipes = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    found: dict[str, Row] = {}
    for cells in tables(show(checkout, "README.md", branch)):
        link = re.search(r"\[Github\]\((\S+?)\)", cells.get("Link", ""))
        ocr = "OCR" in cells.get("model", "")
        if not link or ocr != ("_ocr_" in link[1]):
            continue  # the 60-class OCR row links the plain 59-class file
        how = _how(cells["Multi-scale"] == "Yes", cells["Flip"] == "Yes")
        if link[1] in found:
            found[link[1]]["protocol"] += f"; {cells['mIoU']} with {how}"
            continue
        part = found_in(r"/hrnet_(?:ocr_)?([a-z0-9]+)_", link[1])
        data, folder = OFFICIAL[part]
        start = f"experiments/{folder}/seg_hrnet{'_ocr' * ocr}_w48_"
        texts = [show(checkout, name, branch) for name in recipes if name.startswith(start)]
        models = [yaml.safe_load(text) for text in texts if "cls60" not in text]
        (align,) = {model["MODEL"].get("ALIGN_CORNERS", True) for model in models}
        counts = {model["DATASET"]["NUM_CLASSES"] for model in models} - {60}
        trainval = "_trainval" * ("+ Val" in cells.get("Train Set", ""))
        found[link[1]] = row(
            f"hrnet_w48{'_ocr' * ocr}.official_{data}{trainval}",
            data,
            "ocr" if ocr else "v2",
            *counts,
            resize="bilinear_aligned" if align else "bilinear",
            score=cells["mIoU"],
            protocol=f"mIoU, {NAMES[data]} {cells.get('Test Set', 'Val').lower()}, {how}",
            url=link[1],
            licence="MIT",
            reference="https://github.com/HRNet/HRNet-Semantic-Segmentation/tree/HRNet-OCR",
        )
    yield from found.values()


def _how(scales: bool, flip: bool) -> str:
    return ("several scales" if scales else "one scale") + (" and flip" if flip else "")


def imagenet(checkout: Path) -> Iterator[Row]:
    """Classification files that are assets of a GitHub release."""
    for cells in tables(show(checkout, "README.md")):
        link = re.search(r"\((https://github\.com/\S+/releases/download/\S+?)\)", cells.get("Link", ""))
        if not link:
            continue
        width = cells["model"].split("-")[1].lower()
        ssld = "ssld" in cells["model"]
        error = float(cells["top-1 error"].rstrip("%"))
        yield row(
            f"hrnet_{width}{'_ssld' * ssld}.official_{'' if ssld else 'aug_'}in1k",
            "in1k",
            "classification",
            1000,
            resize="nearest",
            score=f"{100 - error:.1f}",
            protocol=f"top-1, ImageNet val, 224x224 (published as an error of {error} %)",
            url=link[1],
            licence="MIT",
            reference="https://github.com/HRNet/HRNet-Image-Classification",
        )


def timm(checkout: Path) -> Iterator[Row]:
    """Hub files of timm, measured by timm."""
    from timm.models import get_pretrained_cfg, list_pretrained

    results = list(csv.DictReader(io.StringIO(show(checkout, "results/results-imagenet.csv"))))
    for tag in list_pretrained("hrnet*"):
        config = get_pretrained_cfg(tag)
        assert config is not None, tag
        scores = {line["img_size"]: line for line in results if line["model"] == tag}
        size = str(config.input_size[-1])
        others = [f"; {v['top1']} at {k}x{k}" for k, v in scores.items() if k != size]
        made = row(
            tag,
            "in1k",
            "classification",
            config.num_classes,
            source="timm",
            resize="nearest",
            normalize=tuple(" ".join(map(str, v)) for v in (config.mean, config.std)),
            score=scores[size]["top1"],
            protocol=f"top-1, ImageNet val, {size}x{size}, central {config.crop_pct}" + "".join(others),
            url=f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors",
            licence={"mit": "MIT", "apache-2.0": "Apache-2.0"}[str(config.license)],
            reference=f"https://huggingface.co/{config.hf_hub_id}",
        )
        made["backbone"] = re.sub(r"_small$", "_small_v1", made["backbone"])
        yield made


def mmseg(configs: Path) -> Iterator[Row]:
    """Files of mmsegmentation's model zoo; a name ends in the first digits of the file's sha256."""
    widths = {"hr18s": "hrnet_w18_small_v2", "hr18": "hrnet_w18", "hr48": "hrnet_w48"}
    for folder, head, suffix in (("hrnet", "v2", ""), ("ocrnet", "ocr", "_ocr")):
        models = yaml.safe_load((configs / folder / "metafile.yaml").read_text())["Models"]
        for model in models:
            if "_hr" not in model["Name"]:
                continue  # ResNets
            url = model["Weights"]
            name = url.rsplit("/", 1)[1]
            recipe = configs / folder / f"{Path(model['Config']).name}"
            found = found_in(r"\d+k[_-](pascal_context_59|pascal_context|[a-z]+)", name)
            data = {"ade": "ade20k", "pascal_context": "pascal_context_60"}.get(found, found)
            schedule = found_in(r"[_-](\d+k)_", name)
            scores = model["Results"]["Metrics"]
            yield row(
                f"{widths[name.split('_')[1]]}{suffix}.mmseg_{data}_{schedule}",
                data,
                head,
                _mmseg_classes(recipe) or CLASSES[data],
                resize="bilinear_scaled",
                score=scores["mIoU"],
                protocol=f"mIoU, {NAMES[data]} val, one scale; {scores['mIoU(ms+flip)']} with several scales and flip",
                url=url,
                sha256=found_in(r"-([0-9a-f]{8})\.pth$", url),
                licence="Apache-2.0",
                reference=f"https://github.com/open-mmlab/mmsegmentation/tree/main/configs/{folder}",
            )


def _mmseg_classes(recipe: Path) -> int:
    """Read a recipe's number of classes; one that extends another width's takes it from there."""
    text = recipe.read_text()
    known = re.search(r"num_classes=(\d+)", text)
    base = re.search(r"^_base_ = '\./(\S+\.py)'", text, re.MULTILINE)
    if known or base is None:
        return int(known[1]) if known else 0
    return _mmseg_classes(recipe.parent / base[1])


def openmmlab(listing: Path) -> Iterator[Row]:
    """The official ImageNet files as OpenMMLab keeps them."""
    for name, url in json.loads(listing.read_text()).items():
        if not name.startswith("msra/hrnetv2_"):
            continue
        width = name.removeprefix("msra/hrnetv2_").replace("small", "small_v2")
        yield row(
            f"hrnet_{width}.openmmlab_in1k",
            "in1k",
            "classification",
            1000,
            resize="nearest",
            score="",
            protocol="a copy of the official ImageNet file, the start of mmsegmentation's recipes",
            url=url,
            sha256=found_in(r"-([0-9a-f]{8})\.pth$", url),
            licence="MIT",
            reference="https://github.com/open-mmlab/mmengine/blob/main/mmengine/hub/openmmlab.json",
        )


def openseg(checkout: Path) -> Iterator[Row]:
    """The official ImageNet files as openseg keeps them; its segmentation networks are others."""
    for cells in tables(show(checkout, "MODEL_ZOO.md")):
        link = re.search(r"\((\S+/hrnetv2_(w\d+)_imagenet_pretrained\.pth)\)", str(cells))
        if link:
            yield row(
                f"hrnet_{link[2]}.openseg_in1k",
                "in1k",
                "classification",
                1000,
                resize="nearest",
                score="",
                protocol="a copy of the official ImageNet file, the start of openseg's recipes",
                url=link[1],
                licence="MIT",
                reference="https://github.com/openseg-group/openseg.pytorch/blob/master/MODEL_ZOO.md",
            )


def paddle(checkout: Path) -> Iterator[Row]:
    """Files of PaddleSeg and of its remote-sensing benchmark."""
    pages = ("configs/fcn", "configs/ocrnet", "contrib/RSSegBenchmark")
    for page in pages:
        for cells in tables(show(checkout, f"{page}/README.md")):
            link = re.search(r"\[model\]\((\S+/(fcn|ocrnet)_hrnet_?(w\d+)_\S+?\.pdparams)\)", str(cells))
            if not link:
                continue
            url, kind, width = link[1], link[2], link[3]
            head, suffix = ("ocr", "_ocr") if kind == "ocrnet" else ("v2", "")
            data = found_in(r"_(cityscapes|voc|isaid|potsdam|vaihingen)", url)
            recipe = yaml.safe_load(_paddle_recipe(checkout, page, url.split("/")[-2]))
            score = next(v for k, v in cells.items() if k in ("mIoU", "mIoU(%)")).rstrip("%")
            more = cells.get("mIoU (ms+flip)", "").rstrip("%")
            more = f"; {more} with several scales and flip" if more else ""
            yield row(
                f"hrnet_{width}{suffix}.paddle_{data}",
                data,
                head,
                recipe["model"].get("num_classes") or CLASSES[data],
                resize="bilinear",
                padding="same",
                normalize=HALF,
                score=score,
                protocol=f"mIoU, {NAMES[data]} val, one scale{more}",
                url=url,
                licence="Apache-2.0",
                reference=f"https://github.com/PaddlePaddle/PaddleSeg/tree/develop/{page}",
            )


def _paddle_recipe(checkout: Path, page: str, name: str) -> str:
    folder = f"{page}/configs/fcn" if page.startswith("contrib") else page
    return show(checkout, f"{folder}/{name}.yml")


def csail(checkout: Path) -> Iterator[Row]:
    """The encoder and decoder pair of CSAILVision, and the ImageNet file that its code fetches."""
    recipe = yaml.safe_load(show(checkout, "config/ade20k-hrnetv2.yaml"))
    readme = show(checkout, "README.md")
    base = found_in(r"(http://sceneparsing\S+/model/pytorch)", readme)
    folder = recipe["DIR"].removeprefix("ckpt/")
    scores = re.findall(r"<td>(?:No|Yes)</td><td>([\d.]+)</td>", readme.split("HRNetV2</td>")[1])
    reference = "https://github.com/CSAILVision/semantic-segmentation-pytorch"
    files = (f"{part}_{recipe['TEST']['checkpoint']}" for part in ("encoder", "decoder"))
    yield row(
        "hrnet_w48_c1.csail_ade20k",
        "ade20k",
        "c1",
        recipe["DATASET"]["num_class"],
        resize="bilinear",
        score=scores[0],
        protocol=f"mIoU, ADE20K val, one scale; {scores[1]} with several scales",
        url=" ".join(f"{base}/{folder}/{name}" for name in files),
        licence="BSD-3-Clause",
        reference=reference,
    )
    yield row(
        "hrnet_w48.csail_in1k",
        "in1k",
        "classification",
        1000,
        resize="nearest",
        score="",
        protocol="a copy of the official ImageNet file, the start of CSAILVision's recipe",
        url=found_in(r"(http://\S+hrnetv2_w48-imagenet\.pth)", show(checkout, "mit_semseg/models/hrnet.py")),
        licence="BSD-3-Clause",
        reference=reference,
    )


def packaged() -> Iterator[Row]:
    """Models inside the package, by their cards."""
    for path in sorted(PACKAGED.glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        network, data = card["network"], card["labels"]["name"]
        yield {
            "tag": card["tag"],
            "source": "hrseg",
            "data": data,
            "backbone": network["backbone"],
            "head": network["head"],
            "num_classes": network["num_classes"],
            "resize": network["resize"],
            "padding": network.get("padding", "symmetric"),
            "mean": " ".join(map(str, card["mean"])),
            "std": " ".join(map(str, card["std"])),
            "score": card["score"]["miou"],
            "protocol": f"mIoU, {NAMES[data]} {card['score']['split']}, {card['score']['protocol']}",
            "url": f"package:{path.with_suffix('.safetensors').name}",
            "sha256": card["sha256"],
            "size": path.with_suffix(".safetensors").stat().st_size,
            "licence": card["license"],
            "data_terms": card["data_terms"],
            "reference": "docs/results.md",
        }
