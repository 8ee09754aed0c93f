"""Definition of a study, from a YAML file or the command line, and the plan of its runs."""

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrseg.config import (
    PACKAGED_CONFIGS,
    Config,
    config_to_dict,
    find_config,
    find_yaml,
    list_titles,
    load_config,
    to_yaml,
)
from hrseg.config.values import read_yaml
from hrseg.data.split import check_folds
from hrseg.errors import ConfigError, HrsegError, did_you_mean, parse_json
from hrseg.imaging import set_aside, write_text
from hrseg.models.summary import Summary, summary
from hrseg.training.build import build_data, build_network
from hrseg.training.resume import flatten

FOLDER = "studies"
_FOLDERS = (Path("configs", FOLDER), PACKAGED_CONFIGS / FOLDER)
KEYS = ("recipe", "variants", "words", "seeds", "folds", "divide")
RESERVED_OPTIONS = {
    "run.name": "the variant's name",
    "run.seed": "the study's seeds (--seeds 0,1,2)",
}
"""Option that the study sets → what it is set from."""
FOLD_OPTIONS = ("data.train_split", "data.val_split")
"""Options that a study sets from its folds."""


@dataclass(frozen=True)
class Study:
    """Variants of one recipe.

    Attributes:
        name: Name of its folder.
        recipe: The recipe's file.
        variants: Name → key=value overrides of the recipe.
        words: Overrides for all variants, applied before their own.
        seeds: Each variant is trained once with each; empty is once, with the recipe's seed.
        folds: Each variant is trained once on the rest of each fold of `hrseg data split --folds`; 0 trains on the
            recipe's split.
        divide: Arguments of `hrseg data split` that make these folds, besides their number.

    Raises:
        ConfigError: Invalid names, overrides, seeds or folds.
    """

    name: str
    recipe: Path
    variants: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    folds: int = 0
    divide: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.variants:
            raise ConfigError(
                f"Study '{self.name}' has no variants. Name at least one, such as: variants: {{plain: []}}"
            )
        for kind, name in (("study", self.name), *(("variant", name) for name in self.variants)):
            if name in {"", ".", ".."} or Path(name).name != name or "\\" in name:
                raise ConfigError(
                    f"The {kind} '{name}' is not a folder name, and its runs go to a folder of that name. Choose "
                    "letters, digits and '_'."
                )
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ConfigError(
                f"The seeds of study '{self.name}' are {', '.join(map(str, self.seeds))}. They must be different "
                "whole numbers from 0 on."
            )
        if self.folds < 0 or self.folds == 1:
            raise ConfigError(f"Study '{self.name}' has {self.folds} folds. Give 2 or more, or 0 for none.")
        for word in (*self.words, *(w for words in self.variants.values() for w in words)):
            check_override(word, self.folds)


def check_override(word: str, folds: int = 0) -> None:
    """Raise ConfigError for an override that is not key=value, or of an option that the study sets."""
    key, equals, _ = word.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"'{word}' is not key=value, such as model.head=unet. All keys: hrseg config explain.")
    if key in RESERVED_OPTIONS:
        raise ConfigError(f"{key} is set by the study, from {RESERVED_OPTIONS[key]}. Remove '{word}'.")
    if folds and key in FOLD_OPTIONS:
        raise ConfigError(f"{key} is set by the study, from its folds. Remove '{word}', or the folds.")


def list_studies() -> dict[str, str]:
    """Return every study in ./configs/studies and in the package → first line of its header."""
    return list_titles(_FOLDERS)


def find_study(name: str | os.PathLike[str]) -> Path:
    """Find a study: as a path, then in ./configs/studies, then among the packaged ones, or raise ConfigError."""
    found = find_yaml(name, [Path(), *_FOLDERS])
    if found is not None:
        return found
    names = list(list_studies())
    raise ConfigError(
        f"There is no study '{os.fspath(name)}': not as a file, not in ./configs/{FOLDER} and not among the packaged "
        f"ones ({', '.join(names)}).{did_you_mean(Path(name).stem, names)} To compare variants of a recipe without "
        "a file, name each with --variant."
    )


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study file.

    Args:
        path: Name of a study, or a YAML file with `recipe`, `variants` and optionally `words`, `seeds`, `folds`
            and `divide`. The recipe is looked up beside the file first.

    Raises:
        ConfigError: The file is missing or not valid.

    Example:
        >>> list(read_study("exchange").variants)
        ['full', 'between_stages', 'final', 'branches_from_start']
    """
    file = find_study(path)
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} is not a study. It needs 'recipe: NAME' and 'variants:'.")
    for key in tree:
        if key not in KEYS:
            raise ConfigError(
                f"{file}: a study has no '{key}'. It has {', '.join(KEYS)}.{did_you_mean(str(key), KEYS)}"
            )
    recipe, variants = tree.get("recipe"), tree.get("variants")
    if not isinstance(recipe, str) or not isinstance(variants, dict):
        raise ConfigError(
            f"{file}: a study needs 'recipe: NAME' and 'variants:' with a list of words under each name, such as "
            "'unet: [model.backbone=resnet18, model.head=unet]'."
        )
    seeds = tree.get("seeds") or []
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"{file}: seeds is {seeds}. It must be a list of whole numbers, such as [0, 1].")
    folds = tree.get("folds", 0)
    if type(folds) is not int:
        raise ConfigError(f"{file}: folds is {folds}. It must be a whole number, such as 5.")
    return Study(
        name=file.stem,
        recipe=_recipe(recipe, file.parent),
        variants={str(name): _words(words, file) for name, words in variants.items()},
        words=_words(tree.get("words"), file),
        seeds=tuple(seeds),
        folds=folds,
        divide=_words(tree.get("divide"), file),
    )


def _recipe(name: str, beside: Path) -> Path:
    try:
        return find_config(name, beside)
    except ConfigError:
        return find_config(name)


def _words(value: Any, file: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    words = value if isinstance(value, list) else [value]
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(
                f"{file}: '{word}' is not a key=value word. Write words as on the command line, in quotes where they "
                "hold commas or colons: ['data.crop=[64,64]', 'loss.terms={ohem: 1}']."
            )
    return tuple(words)


def parse_variants(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Parse the variants of the command line: a name and its overrides, in one text each.

    Raises:
        ConfigError: A text that is not valid, or a duplicate name.

    Example:
        >>> parse_variants(["plain", "final model.exchange=final"])
        {'plain': (), 'final': ('model.exchange=final',)}
    """
    variants: dict[str, tuple[str, ...]] = {}
    for text in texts:
        try:
            name, *words = shlex.split(text)
        except ValueError as error:
            raise ConfigError(
                f"--variant '{text}' is not a name and key=value words. Right would be: "
                "--variant 'unet model.backbone=resnet18 model.head=unet'"
            ) from error
        if name in variants or "=" in name:
            problem = "is there twice" if name in variants else "begins with a word, not with a name"
            raise ConfigError(f"--variant '{text}': '{name}' {problem}. Right would be: --variant 'NAME key=value ...'")
        variants[name] = tuple(words)
    return variants


UNCOMPARED_OPTIONS = ("run.", "data.root", "data.workers")
"""Prefixes of options that do not change the result of a run."""


@dataclass(frozen=True)
class Record:
    """State of one run.

    Attributes:
        finished: Whether training is complete.
        seconds: Time of all attempts.
        miou: Best score on the validation split, or that after the last step on the fold; a fraction.
        folder: The run's folder.
        error: Error of the last attempt.
    """

    finished: bool = False
    seconds: float = 0.0
    miou: float | None = None
    folder: str | None = None
    error: str | None = None

    def check(self) -> None:
        """Raise TypeError for a value of another type, as in a damaged file."""
        whole = type(self.finished) is bool and type(self.seconds) in (int, float)
        score = self.miou is None or type(self.miou) in (int, float)
        texts = all(isinstance(text, str | None) for text in (self.folder, self.error))
        if not (whole and score and texts):
            raise TypeError(self)


@dataclass(frozen=True)
class StudyRun:
    """One variant with one seed on one fold (0: none); the config has the seed and the folder of this run."""

    variant: str
    config: Config
    fold: int = 0

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.run.seed

    @property
    def parent(self) -> Path:
        """The variant's folder."""
        return Path(self.config.run.dir)

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"seed_{self.seed}_fold_{self.fold}" if self.fold else f"seed_{self.seed}"

    @property
    def label(self) -> str:
        """The run in words."""
        return f"{self.variant} (seed {self.seed}{f', fold {self.fold}' if self.fold else ''})"

    @property
    def ledger_file(self) -> Path:
        """File with the counts of each image of the fold."""
        return self.parent / f"{self.name}.npz"

    @property
    def config_file(self) -> Path:
        """File of the config."""
        return self.parent / f"{self.name}.yaml"

    @property
    def record_file(self) -> Path:
        """File of the record."""
        return self.parent / f"{self.name}.json"

    @property
    def record(self) -> Record:
        """The record on disk; an empty one where there is none or the run's folder is missing."""
        try:
            values = parse_json(self.record_file.read_text(encoding="utf-8"))
            record = Record(**{name: values[name] for name in Record.__dataclass_fields__})
            record.check()
        except FileNotFoundError:
            return Record()
        except (ValueError, TypeError, KeyError):
            set_aside(self.record_file, "what is trained is found again.")
            return Record()
        gone = record.finished and not Path(record.folder or "").is_dir()
        return Record() if gone else record

    @property
    def started(self) -> bool:
        """Whether there is a checkpoint to resume."""
        return any(self.parent.glob(f"{self.name}/last.ckpt")) or any(self.parent.glob(f"{self.name}-*/last.ckpt"))

    @property
    def state(self) -> str:
        """State for the plan: finished, half done or to do."""
        if self.record.finished:
            return "finished"
        return "half done" if self.started else "to do"

    def write_config(self) -> None:
        """Write the config that the run is trained with."""
        write_text(self.config_file, to_yaml(self.config))

    def write_record(self, record: Record) -> None:
        """Write the record."""
        write_text(self.record_file, f"{json.dumps(vars(record), indent=2)}\n")

    def check_unchanged(self) -> None:
        """Raise ConfigError if the run was started with other settings."""
        if not self.config_file.exists() or self.state == "to do":
            return
        try:
            before = flatten(config_to_dict(load_config(self.config_file)))
        except ConfigError as error:
            set_aside(self.config_file, f"{error} It is written again from the study.")
            return
        now = flatten(config_to_dict(self.config))
        changed = [
            f"{key} {before.get(key)} → {now[key]}"
            for key in now
            if before.get(key) != now[key] and not key.startswith(UNCOMPARED_OPTIONS)
        ]
        if changed:
            raise ConfigError(
                f"Variant '{self.variant}' in {self.parent.parent} was trained with other settings: "
                f"{', '.join(changed[:5])}. Scores of both in one table would mislead. Give this study another --name, "
                f"or remove {self.parent}."
            )


@dataclass(frozen=True)
class Plan:
    """A study ready to be trained.

    Attributes:
        study: The study.
        overrides: Overrides of all variants, applied last.
        folder: Folder of all runs and the table.
        runs: In order of training: every variant with the first seed and fold, then with the next.
        costs: Variant → parameters, and multiply-adds of one crop.
    """

    study: Study
    overrides: tuple[str, ...]
    folder: Path
    runs: tuple[StudyRun, ...]
    costs: Mapping[str, Summary]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        runs = [
            {
                "variant": run.variant,
                "seed": run.seed,
                "fold": run.fold,
                "state": run.state,
                **vars(self.costs[run.variant]),
            }
            for run in self.runs
        ]
        return {"study": self.study.name, "recipe": self.study.recipe.stem, "folder": self.folder, "runs": runs}

    def text(self) -> str:
        """Return the plan as text."""
        wide = max(len(name) for name in ("variant", *self.study.variants))
        lines = [
            f"{self.study.name}: {len(self.study.variants)} variants of {self.study.recipe.stem}, "
            f"{len(self.runs)} runs in {self.folder}"
        ]
        if self.overrides or self.study.words:
            lines.append(f"all with {' '.join((*self.study.words, *self.overrides))}")
        fold = "  fold" if self.study.folds else ""
        lines += ["", f"{'variant':<{wide}}  seed{fold}  {'parameters':>12}  multiply-adds  state"]
        for run in self.runs:
            cost = self.costs[run.variant]
            lines.append(
                f"{run.variant:<{wide}}  {run.seed:>4}{f'  {run.fold:>4}' if fold else ''}  {cost.parameters:>12,}  "
                f"{cost.multiply_adds / 1e9:>11.2f} G  {run.state:<9}  "
                f"{' '.join(self.study.variants[run.variant])}".rstrip()
            )
        return "\n".join(lines)


def plan_study(study: Study, overrides: Sequence[str] = ()) -> Plan:
    """Load every config, build every network once to count it, and check existing runs. Writes nothing.

    Args:
        study: The study.
        overrides: Overrides of all variants, applied last.

    Raises:
        HrsegError: A variant that cannot be built, or was trained with other settings before.
    """
    for word in overrides:
        check_override(word, study.folds)
    runs: list[StudyRun] = []
    costs: dict[str, Summary] = {}
    configs: dict[str, Config] = {}
    for name, words in study.variants.items():
        try:
            configs[name] = load_config(study.recipe, [*study.words, *words, *overrides])
            costs[name] = _cost(configs[name])
            if study.folds:
                check_folds(configs[name].data, study.folds, study.divide)
        except HrsegError as error:
            raise type(error)(f"Variant '{name}' of study '{study.name}': {error}") from error
    folders = {Path(config.run.dir) / study.name for config in configs.values()}
    if len(folders) > 1:
        raise ConfigError(
            f"The variants of study '{study.name}' set run.dir differently. Set it once, after the study: "
            "run.dir=FOLDER"
        )
    folder = folders.pop()
    seeds = study.seeds or tuple(dict.fromkeys(config.run.seed for config in configs.values()))
    for seed in seeds:
        for fold in range(1, study.folds + 1) if study.folds else (0,):
            runs += [_run(name, config, folder / name, seed, fold) for name, config in configs.items()]
    for run in runs:
        run.check_unchanged()
    return Plan(study, tuple(overrides), folder, tuple(runs), costs)


def _run(variant: str, config: Config, parent: Path, seed: int, fold: int) -> StudyRun:
    data = config.data
    if fold:
        data = replace(data, train_split=f"fold_{fold}_train", val_split=f"fold_{fold}_val")
    run = StudyRun(variant, replace(config, data=data, run=replace(config.run, dir=str(parent), seed=seed)), fold)
    return replace(run, config=replace(run.config, run=replace(run.config.run, name=run.name)))


_COUNTED: dict[tuple[object, ...], Summary] = {}


def _cost(config: Config) -> Summary:
    """Count the network; variants that differ in data, loss or schedule share theirs."""
    labels = build_data(config).labels
    key = (repr(config.model), config.data.num_bands, config.data.crop, labels.num_classes)
    if key not in _COUNTED:
        _COUNTED[key] = summary(build_network(config, labels, load=False), config.data.crop)
    return _COUNTED[key]
