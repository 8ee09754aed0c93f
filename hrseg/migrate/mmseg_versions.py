"""Facts that a recipe needs, from configs of mmsegmentation 0.x and 1.x."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Entries(dict[Any, Any]):
    """A mapping of the source, and those in it, that notes which of its values are read.

    Args:
        content: The mapping.
        name: Its dotted name, with a dot behind; empty for the whole source.
        seen: The dotted names that were read, shared by all mappings of a source.
    """

    def __init__(self, content: Mapping[Any, Any], name: str = "", seen: set[str] | None = None) -> None:
        self.name: str = name
        self.seen: set[str] = set() if seen is None else seen
        super().__init__({key: self._noted(part, f"{name}{key}") for key, part in content.items()})

    def _noted(self, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return Entries(value, f"{name}.", self.seen)
        if isinstance(value, (list, tuple)):
            return type(value)(self._noted(part, f"{name}.{i}") for i, part in enumerate(value))
        return value

    def __getitem__(self, key: Any) -> Any:
        self.seen.add(f"{self.name}{key}")
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a value, and note that it was read."""
        self.seen.add(f"{self.name}{key}")
        return super().get(key, default)

    def unread(self) -> Iterator[tuple[str, Any]]:
        """Yield dotted name and value of the values that were not read."""
        return ((name, value) for name, value in leaves(self, self.name) if name not in self.seen)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of what is no mapping and no list of mappings."""
    parts: Any = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value):
        parts = enumerate(value)
    else:
        yield name, value
    for key, part in parts:
        yield from leaves(part, f"{name}.{key}" if name else str(key))


_MIRRORS = {"horizontal": "data.flip", "vertical": "data.vflip"}
"""Direction of RandomFlip → option; of several directions it draws one, where the options draw each."""


def frozen_part(backbone: Any) -> str | None:
    """Return the value of model.freeze that equals a backbone's options; None, with nothing read, if none does."""
    if dict.get(backbone, "frozen_stages") == 4:  # stem and all stages, their norms evaluated
        backbone.get("frozen_stages"), backbone.get("norm_eval")
        return "backbone"
    norm: Any = dict.get(backbone, "norm_cfg")
    fixed = isinstance(norm, dict) and dict.get(norm, "requires_grad", True) is False
    # norm_eval alone keeps the statistics, and the norms' weights learn
    if fixed and dict.get(backbone, "norm_eval") is True:
        backbone.get("norm_eval"), norm.get("requires_grad")
        return "norms"
    return None


class MMSegConfig:
    """The facts of a config that a recipe needs; subclasses find them for one version."""

    def __init__(self, content: Entries, source: str) -> None:
        self.content, self.source = content, source
        self.model: Mapping[str, Any] = content["model"]
        heads = self.model["decode_head"]
        self.heads = list(heads) if isinstance(heads, (list, tuple)) else [heads]

    dataset: Mapping[str, Any]
    batch_size: int
    workers: int | None
    mean_std: tuple[Sequence[float], Sequence[float]] | None
    optimizer: Mapping[str, Any]
    paramwise: Mapping[str, Any]
    clip: Mapping[str, Any] | None
    poly: Mapping[str, Any]
    min_lr: float
    warmup_steps: int
    steps: int | None
    epochs: int | None
    half: bool
    resize_name: str
    padding: str  # "black" or "mean"
    channels: tuple[int, ...]  # of the branches
    lists: Any  # the files that name the training images

    def pipeline(self) -> list[Mapping[str, Any]]:
        """The training transforms, outermost first."""
        return [step for step in self.dataset.get("pipeline", ()) if isinstance(step, Mapping)]

    def step(self, name: str) -> Mapping[str, Any] | None:
        """The training transform of that type, if there is one."""
        return next((step for step in self.pipeline() if step.get("type") == name), None)

    def flips(self) -> dict[str, float]:
        """Return the option of each mirroring and its chance; a transform that is no such option stays unread."""
        found: dict[str, float] = {}
        steps: list[Any] = list(self.pipeline())
        for step in steps:
            if step.get("type") != "RandomFlip":
                continue
            direction = dict.get(step, "direction", "horizontal")
            chance = "prob" if "prob" in step else "flip_ratio"
            option = _MIRRORS.get(str(direction))
            value = dict.get(step, chance) or 0.0
            if option and option not in found and isinstance(value, int | float):
                step.get("direction"), step.get(chance)
                found[option] = float(value)
        return {"data.flip": 0.0} | found

    tested: Any  # the test dataset

    def test_size(self) -> tuple[int, int] | None:
        """Return the (long, short) side that the test pipeline resizes to; None where it does not."""
        pipeline = _innermost(self.tested).get("pipeline") or self.content.get("test_pipeline") or ()
        for step in (step for step in pipeline if isinstance(step, Mapping)):
            scale = step.get("scale") if step.get("type") == "Resize" else step.get("img_scale")
            if isinstance(scale, (list, tuple)) and len(scale) == 2:
                return max(scale), min(scale)
        return None


class MMSegV1(MMSegConfig):
    """mmsegmentation 1.x: train_dataloader, optim_wrapper, param_scheduler."""

    resize_name = "RandomResize"

    def __init__(self, content: Entries, source: str) -> None:
        super().__init__(content, source)
        loader = content["train_dataloader"]
        self.dataset = _innermost(loader.get("dataset", {}))
        self.lists = _lists(loader.get("dataset", {}))
        self.tested = (content.get("test_dataloader") or {}).get("dataset", {})
        # Images are normalized and padded when batches are made; a step of its own comes before.
        self.padding = "black" if self.step("Pad") else "mean"
        self.batch_size = loader.get("batch_size", 1)
        self.workers = loader.get("num_workers")
        norm = self.model.get("data_preprocessor") or content.get("data_preprocessor") or {}
        self.mean_std = (norm["mean"], norm["std"]) if {"mean", "std"} <= norm.keys() else None
        wrapper = content.get("optim_wrapper", {})
        self.optimizer = wrapper.get("optimizer") or content.get("optimizer", {})
        self.paramwise = wrapper.get("paramwise_cfg") or {}
        self.clip = wrapper.get("clip_grad")
        self.half = str(dict.get(wrapper, "type", "")).startswith("Amp")
        schedule = content.get("param_scheduler", [])
        rows = [schedule] if isinstance(schedule, Mapping) else list(schedule)
        self.poly = next((row for row in rows if row.get("type") == "PolyLR"), {})
        self.min_lr = float(self.poly.get("eta_min", 0.0))
        warm = next((row for row in rows if row.get("type") == "LinearLR"), {})
        self.warmup_steps = int(warm.get("end", 0))
        loop = content.get("train_cfg", {})
        self.steps, self.epochs = loop.get("max_iters"), loop.get("max_epochs")


class MMSegV0(MMSegConfig):
    """mmsegmentation 0.x: data, optimizer, lr_config, runner."""

    resize_name = "Resize"

    def __init__(self, content: Entries, source: str) -> None:
        super().__init__(content, source)
        data = content.get("data", {})
        self.dataset = _innermost(data.get("train", {}))
        self.lists = _lists(data.get("train", {}))
        self.tested = data.get("test", {})
        kinds = [step.get("type") for step in self.pipeline()]
        early = "Pad" in kinds and "Normalize" in kinds[kinds.index("Pad") :]
        self.padding = "black" if early else "mean"
        self.batch_size = data.get("samples_per_gpu", 1)
        self.workers = data.get("workers_per_gpu")
        norm = self.step("Normalize") or content.get("img_norm_cfg") or {}
        self.mean_std = (norm["mean"], norm["std"]) if {"mean", "std"} <= norm.keys() else None
        self.optimizer = content.get("optimizer", {})
        self.paramwise = self.optimizer.get("paramwise_cfg") or {}
        hooks = content.get("optimizer_config") or {}
        self.clip = hooks.get("grad_clip")
        self.half = "fp16" in content or str(dict.get(hooks, "type", "")).startswith("Fp16")
        policy = content.get("lr_config") or {}
        self.poly = policy if str(policy.get("policy", "")).lower() == "poly" else {}
        self.min_lr = float(self.poly.get("min_lr", 0.0))
        warms = dict.get(policy, "warmup")  # read where it is linear, see mmseg.IMPLIED
        self.warmup_steps = int(policy.get("warmup_iters", 0)) if warms else 0
        runner = content.get("runner") or {}
        self.steps, self.epochs = runner.get("max_iters"), runner.get("max_epochs")


def _innermost(dataset: Any) -> Mapping[str, Any]:
    """Look through RepeatDataset and the like."""
    while isinstance(dataset, Mapping) and isinstance(dataset.get("dataset"), Mapping):
        dataset = dataset["dataset"]
    if isinstance(dataset, Mapping) and isinstance(dataset.get("datasets"), list) and dataset["datasets"]:
        return _innermost(dataset["datasets"][0])
    return dataset if isinstance(dataset, Mapping) else {}


def _lists(dataset: Any) -> list[Any]:
    """Collect the list files of a dataset and of those inside it."""
    if isinstance(dataset, (list, tuple)):
        return [name for part in dataset for name in _lists(part)]
    if not isinstance(dataset, Mapping):
        return []
    inner = [*_lists(dataset.get("dataset")), *_lists(dataset.get("datasets"))]
    return [*inner, *(value for key, value in dataset.items() if key in ("ann_file", "split"))]
