"""mmsegmentation, from its own configuration files, in an environment with mmengine and mmcv-lite.

mmcv-lite lacks compiled operators that mmsegmentation imports for other models; an empty `mmcv.ops` stands in.
SyncBN is read as BN, which it is in evaluation.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from tests.reference.one_network import as_mmseg
from tools.references.cases import WIDTHS, Case
from tools.references.original import TorchOriginal


class _Operators(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


sys.modules.setdefault("mmcv.ops", _Operators("mmcv.ops"))

import mmseg.models  # noqa: E402
from mmengine import Config  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner import save_checkpoint  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402

BASES = {"v2": "fcn_hr18.py", "ocr": "ocrnet_hr18.py"}


class MMSeg(TorchOriginal):
    """An encoder-decoder; of a cascade, the first head's logits are auxiliary."""

    def __init__(self, network: Any, config: Config) -> None:
        super().__init__(network)
        self.config = config

    def run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the heads' outputs by our names."""
        maps, head = self.network.extract_feat(image), self.network.decode_head
        if not isinstance(head, torch.nn.ModuleList):
            return {"main": head(maps)}
        aux = head[0](maps)
        return {"aux": aux, "main": head[1](maps, aux)}

    def save(self, folder: Path, name: str) -> list[str]:
        """Write two checkpoints: as published (tensors and plain meta), and as a run of mmengine leaves it."""
        meta = {
            "mmseg_version": mmseg.__version__,
            "config": self.config.pretty_text,
            "CLASSES": ("road", "sky", "tree"),
            "PALETTE": [[128, 64, 128], [70, 130, 180], [107, 142, 35]],
            "seed": 0,
        }
        state = self.network.state_dict()
        save_checkpoint({"meta": meta, "state_dict": state}, str(folder / f"{name}.pth"))
        history = {"train/loss": HistoryBuffer(np.ones(3), np.ones(3))}
        hub = {"log_scalars": history, "runtime_info": {"iter": 3}, "resumed_keys": {}}
        run = {"meta": meta, "state_dict": state, "message_hub": hub}
        save_checkpoint(run, str(folder / f"{name}_iter_3.pth"))
        return [f"{name}.pth", f"{name}_iter_3.pth"]


def build(case: Case, num_classes: int, checkout: Path | None) -> MMSeg:
    """Build one case from mmsegmentation's base file of that head."""
    init_default_scope("mmseg")
    folder = Path(mmseg.__file__).parent / ".mim/configs/_base_/models"
    config = Config.fromfile(folder / BASES[case.head])
    model, width = config.model, WIDTHS[case.backbone]
    model.pretrained = None
    model.backbone.norm_cfg.type = "BN"
    channels = [width.channels * 2**i for i in range(4)]
    extra = model.backbone.extra
    extra.stage1.update(num_blocks=(width.stem_blocks,), num_channels=(width.stem_channels,))
    for branches, modules in enumerate(width.modules, start=2):
        extra[f"stage{branches}"].update(
            num_modules=modules,
            num_blocks=(width.blocks,) * branches,
            num_channels=tuple(channels[:branches]),
        )
    heads = model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]
    for head in heads:
        head.update(in_channels=channels, num_classes=num_classes)
        head.norm_cfg.type = "BN"
    heads[0].channels = sum(channels)
    return MMSeg(MODELS.build(model), config)


def adopt(case: Case, official: dict[str, np.ndarray], checkout: Path | None) -> tuple[MMSeg, dict[str, np.ndarray]]:
    """Build a network for an official state dict, and tell that in our names."""
    classes = official["last_layer.3.bias"].size
    return build(case, classes, checkout), as_mmseg(official)


def version(checkout: Path | None) -> str:
    """Say what ran."""
    return str(mmseg.__version__)
