"""From a study to its runs: one config for each variant and seed, and what is there of it already.

runs/STUDY/VARIANT/seed_0.yaml   the config, complete; hrseg fit --config FILE trains the same run alone
                  /seed_0.json   score, time, and whether it is finished
                  /seed_0/       the run's folder, as every run has one
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrseg.building.data import build_data
from hrseg.building.network import build_network
from hrseg.config import Config, config_to_dict, load_config, to_yaml
from hrseg.errors import ConfigError, HrsegError
from hrseg.imaging import write_atomic
from hrseg.models.summary import Summary, summary
from hrseg.study.definition import Study, check_word

FREE = ("run.", "data.root", "data.workers")
"""Beginnings of options that say where and how a run is done, not what it gives."""


@dataclass(frozen=True)
class Record:
    """What is known of one run.

    Attributes:
        finished: Whether it was trained to its end.
        seconds: Time spent so far, over all attempts.
        miou: Best score on the validation split, a fraction.
        folder: The run's folder.
        error: Why the last attempt failed.
    """

    finished: bool = False
    seconds: float = 0.0
    miou: float | None = None
    folder: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class StudyRun:
    """One variant with one seed.

    Attributes:
        variant: Its name.
        config: Complete, with the seed and the folder of this run.
    """

    variant: str
    config: Config

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
        return f"seed_{self.seed}"

    @property
    def config_file(self) -> Path:
        """Where the config is kept."""
        return self.parent / f"{self.name}.yaml"

    @property
    def record_file(self) -> Path:
        """Where the record is kept."""
        return self.parent / f"{self.name}.json"

    @property
    def record(self) -> Record:
        """What is known of it."""
        try:
            values = json.loads(self.record_file.read_text(encoding="utf-8"))
            record = Record(**{name: values[name] for name in Record.__dataclass_fields__})
        except FileNotFoundError:
            return Record()
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{self.record_file} is damaged. Remove it; what is trained is found again and not lost."
            ) from error
        gone = record.finished and not Path(record.folder or "").is_dir()
        return Record() if gone else record

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(self.parent.glob(f"{self.name}/last.ckpt")) or any(
            self.parent.glob(f"{self.name}-*/last.ckpt")
        )

    @property
    def state(self) -> str:
        """What is left to do, in one word or two."""
        if self.record.finished:
            return "finished"
        return "half done" if self.begun else "to do"

    def write_config(self) -> None:
        """Keep the config, from which the run is trained."""
        with write_atomic(self.config_file) as temporary:
            temporary.write_text(to_yaml(self.config), encoding="utf-8")

    def write_record(self, record: Record) -> None:
        """Keep what is known now."""
        with write_atomic(self.record_file) as temporary:
            temporary.write_text(f"{json.dumps(vars(record), indent=2)}\n", encoding="utf-8")

    def check_unchanged(self) -> None:
        """Refuse to join what was trained with other settings.

        Raises:
            ConfigError: Names the settings and the ways out.
        """
        if not self.config_file.exists() or self.state == "to do":
            return
        before, now = _flat(load_config(self.config_file)), _flat(self.config)
        changed = [
            f"{key} {before.get(key)} → {now[key]}"
            for key in now
            if before.get(key) != now[key] and not key.startswith(FREE)
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
        study: What is compared.
        overrides: Words that were added to all variants.
        folder: Where everything goes.
        runs: In the order in which they are trained: every variant's first seed, then every second.
        costs: Variant → parameters, and multiply-adds of one crop.
    """

    study: Study
    overrides: tuple[str, ...]
    folder: Path
    runs: tuple[StudyRun, ...]
    costs: Mapping[str, Summary]

    def text(self) -> str:
        """Say what would be trained."""
        wide = max(len(name) for name in ("variant", *self.study.variants))
        lines = [
            f"{self.study.name}: {len(self.study.variants)} variants of {self.study.recipe.stem}, "
            f"{len(self.runs)} runs in {self.folder}"
        ]
        if self.overrides or self.study.words:
            lines.append(f"all with {' '.join((*self.study.words, *self.overrides))}")
        lines += ["", f"{'variant':<{wide}}  seed  {'parameters':>12}  multiply-adds  state"]
        for run in self.runs:
            cost = self.costs[run.variant]
            lines.append(
                f"{run.variant:<{wide}}  {run.seed:>4}  {cost.parameters:>12,}  "
                f"{cost.multiply_adds / 1e9:>11.2f} G  {run.state:<9}  "
                f"{' '.join(self.study.variants[run.variant])}".rstrip()
            )
        return "\n".join(lines)


def plan_study(study: Study, overrides: Sequence[str] = ()) -> Plan:
    """Load every config, build every network once to count it, and look at what is there. Writes nothing.

    Args:
        study: What is compared.
        overrides: Words for all variants, after their own.

    Raises:
        HrsegError: A variant that cannot be built, or was trained with other settings before.
    """
    for word in overrides:
        check_word(word)
    runs: list[StudyRun] = []
    costs: dict[str, Summary] = {}
    configs: dict[str, Config] = {}
    for name, words in study.variants.items():
        try:
            configs[name] = load_config(study.recipe, [*study.words, *words, *overrides])
            costs[name] = _cost(configs[name])
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
        for name, config in configs.items():
            place = replace(config.run, dir=str(folder / name), name=f"seed_{seed}", seed=seed)
            runs.append(StudyRun(name, replace(config, run=place)))
    for run in runs:
        run.check_unchanged()
    return Plan(study, tuple(overrides), folder, tuple(runs), costs)


def _cost(config: Config) -> Summary:
    network = build_network(config, build_data(config).labels, load=False)
    return summary(network, config.data.crop)


def _flat(config: Config) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, values in config_to_dict(config).items()
        for name, value in values.items()
    }
