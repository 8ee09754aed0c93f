"""Run the originals' test code on a toy network, and keep what it answers.

    python -m tools.reference_protocols official CHECKOUT     branch HRNet-OCR of HRNet-Semantic-Segmentation
    python -m tools.reference_protocols mmseg                 in an environment with mmsegmentation 1.2.2

Each writes tests/reference/protocols_NAME.npz: label maps, every eighth score, and the official mIoU. The official
code runs as it is, datasets and `testval` included, on image files written here; `np.int`, which numpy dropped, and
`.cuda()` are given back to it, and its configuration is a few plain values. tests/inference/test_protocols.py holds
`hrseg.inference.tta` against the files.
"""

import argparse
import functools
import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from tests.reference.toy import MMSEG, OFFICIAL, Case, toy_images, toy_network

OUT = Path(__file__).parents[1] / "tests/reference"
EVERY = 8
OFFSETS = {"ade20k": 1, "cocostuff": 1, "lip": 0}
"""What the datasets subtract from their label files."""
CITYSCAPES_IDS = np.array([7, 8, 11, 12, 13], dtype=np.uint8)
CLASSES = {
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "cocostuff": "COCOStuff",
    "lip": "LIP",
}


def official(checkout: Path) -> dict[str, np.ndarray]:
    """Run every official case."""
    np.int = int  # type: ignore[attr-defined]
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    config = ModuleType("config")
    config.config = SimpleNamespace(TRAIN=SimpleNamespace(RANDOM_BRIGHTNESS=False))  # type: ignore[attr-defined]
    sys.modules["config"] = config
    sys.path.insert(0, str(checkout / "lib"))
    _without_package("datasets", checkout / "lib/datasets")
    _without_package("core", checkout / "lib/core")
    function: Any = importlib.import_module("core.function")
    kept: dict[str, np.ndarray] = {}
    for case in OFFICIAL:
        module = importlib.import_module(f"datasets.{case.original}")
        dataset_class = getattr(module, CLASSES[case.original])
        seen: list[torch.Tensor] = []
        original = function.get_confusion_matrix

        def spy(label: Any, pred: Any, *rest: Any, o: Any = original, s: Any = seen) -> Any:
            s.append(pred)
            return o(label, pred, *rest)

        function.get_confusion_matrix = spy
        with tempfile.TemporaryDirectory() as folder:
            dataset = dataset_class(**_dataset(case, Path(folder)))
            loader = torch.utils.data.DataLoader(dataset, batch_size=1)
            miou = function.testval(_config(case), dataset, loader, _Model(case.classes))[0]
        function.get_confusion_matrix = original
        for index, scores in enumerate(seen):
            _keep(kept, case, index, scores / len(case.scales))
        kept[f"{case.name}.miou"] = np.array(miou)
    return kept


class _Model(torch.nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = toy_network(classes)

    def forward(self, image: torch.Tensor) -> Any:
        return self.network(image)


def _without_package(name: str, folder: Path) -> None:
    """Let modules of a package be imported without its __init__, which imports other modules' needs."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _config(case: Case) -> SimpleNamespace:
    return SimpleNamespace(
        MODEL=SimpleNamespace(NUM_OUTPUTS=1, ALIGN_CORNERS=case.aligned),
        DATASET=SimpleNamespace(NUM_CLASSES=case.classes),
        TRAIN=SimpleNamespace(IGNORE_LABEL=255),
        TEST=SimpleNamespace(SCALE_LIST=list(case.scales), FLIP_TEST=case.flip),
    )


def _dataset(case: Case, folder: Path) -> dict[str, Any]:
    """Write a case's files, and say how the official dataset opens them."""
    listing = "val.lst" if case.original == "cityscapes" else "testval.lst"
    lines = []
    for index, (image, mask) in enumerate(toy_images(case)):
        city = case.original == "cityscapes"
        mask = CITYSCAPES_IDS[mask] if city else mask + OFFSETS[case.original]
        cv2.imwrite(str(folder / f"{index}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / f"{index}_label.png"), mask)
        lines.append(f"{index}.png {index}_label.png")
    (folder / listing).write_text("\n".join(lines) + "\n")
    return {
        "root": f"{folder}/",
        "list_path": listing,
        "num_classes": case.classes,
        "multi_scale": False,
        "flip": False,
        "ignore_label": 255,
        "base_size": case.base,
        "crop_size": case.crop,
    }


def mmseg() -> dict[str, np.ndarray]:
    """Run every case of mmsegmentation: its resize, its windows, its results and its merge."""
    importlib.import_module("tools.references.mmseg")  # an empty mmcv.ops, where mmcv is the lite one
    from mmcv.transforms import Resize
    from mmseg.models.segmentors import BaseSegmentor, EncoderDecoder, SegTTAModel
    from mmseg.structures import SegDataSample

    mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    kept: dict[str, np.ndarray] = {}
    for case in MMSEG:
        network = toy_network(case.classes)

        def decode(inputs: torch.Tensor, _: Any, n: Any = network, c: Case = case) -> torch.Tensor:
            size = inputs.shape[2:]
            return torch.nn.functional.interpolate(n(inputs), size, mode="bilinear", align_corners=c.aligned)

        stride = tuple(2 * side // 3 for side in case.crop)
        me = SimpleNamespace(
            test_cfg=SimpleNamespace(stride=stride, crop_size=case.crop),
            out_channels=case.classes,
            encode_decode=decode,
            align_corners=case.aligned,
        )
        slide = functools.partial(EncoderDecoder.slide_inference, me)
        infer: Any = slide if case.original == "slide" else decode
        for index, (image, _) in enumerate(toy_images(case)):
            samples = []
            for scale in case.scales:
                options = {"scale": case.base} if case.base else {"scale_factor": scale}
                resized = Resize(**options, keep_ratio=True)({"img": image[..., ::-1]})["img"]
                for flip in (False, True) if case.flip else (False,):
                    values = cv2.flip(resized, 1) if flip else resized
                    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
                    tensor = (tensor[[2, 1, 0]].float() - mean) / std
                    sample = SegDataSample()
                    meta: dict[str, Any] = {"ori_shape": image.shape[:2], "img_path": ""}
                    meta |= {"flip": flip, "flip_direction": "horizontal" if flip else None}
                    sample.set_metainfo(meta)
                    logits = infer(tensor[None], [dict(meta)])
                    samples += BaseSegmentor.postprocess_result(me, logits, [sample])
            scores = samples[0].seg_logits.data
            labels = samples[0].pred_sem_seg.data
            if len(samples) > 1:
                views = [sample.seg_logits.data.softmax(dim=0) for sample in samples]
                module = SimpleNamespace(out_channels=case.classes)
                merger = SimpleNamespace(module=module)
                merged = SegTTAModel.merge_preds(merger, [samples])
                labels = merged[0].pred_sem_seg.data
                scores = torch.stack(views).mean(dim=0)
            _keep(kept, case, index, scores[None])
            kept[f"{case.name}.{index}.labels"] = labels.reshape(image.shape[:2]).numpy().astype(np.uint8)
    return kept


def _keep(kept: dict[str, np.ndarray], case: Case, index: int, scores: torch.Tensor) -> None:
    kept[f"{case.name}.{index}.labels"] = scores[0].argmax(dim=0).numpy().astype(np.uint8)
    kept[f"{case.name}.{index}.scores"] = scores[0, :, ::EVERY, ::EVERY].numpy().astype(np.float32)


def main() -> None:
    """Read the words and write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", choices=("official", "mmseg"))
    parser.add_argument("checkout", type=Path, nargs="?", help="for official")
    words = parser.parse_args()
    torch.set_grad_enabled(False)
    kept = official(words.checkout) if words.source == "official" else mmseg()
    path = OUT / f"protocols_{words.source}.npz"
    np.savez_compressed(path, **kept)  # type: ignore[arg-type]
    print(f"{path}: {len(kept)} arrays, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
