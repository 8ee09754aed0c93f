"""Schema, loading and display of a run's configuration; imports OmegaConf and YAML, but not torch."""

from hrseg.config.checks import check_trainer_options
from hrseg.config.data import DataConfig
from hrseg.config.load import (
    PACKAGED_CONFIGS,
    config_from_dict,
    config_to_dict,
    data_config,
    find_config,
    find_yaml,
    list_recipes,
    list_titles,
    load_config,
    load_config_with_origins,
    published_recipes,
)
from hrseg.config.schema import (
    OPTIONS,
    SECTIONS,
    Config,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PublishedConfig,
    RunConfig,
    TrainerConfig,
)
from hrseg.config.show import explain, to_yaml

__all__ = [
    "OPTIONS",
    "PACKAGED_CONFIGS",
    "SECTIONS",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "PublishedConfig",
    "RunConfig",
    "TrainerConfig",
    "check_trainer_options",
    "config_from_dict",
    "config_to_dict",
    "data_config",
    "explain",
    "find_config",
    "find_yaml",
    "list_recipes",
    "list_titles",
    "load_config",
    "load_config_with_origins",
    "published_recipes",
    "to_yaml",
]
