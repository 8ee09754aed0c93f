"""Which HRNet a list of stages describes: both old formats spell the four stages out, here they are one name."""

from collections.abc import Sequence
from dataclasses import dataclass

from hrseg.errors import ConfigError
from hrseg.models.hrnet import VARIANTS


@dataclass(frozen=True)
class Stage:
    """One stage as the old files write it: modules, blocks per branch, channels per branch."""

    modules: int
    blocks: tuple[int, ...]
    channels: tuple[int, ...]


def backbone_of(stages: Sequence[Stage], source: str) -> str:
    """Return the backbone whose four stages these are.

    Args:
        stages: Stage 1 to 4.
        source: Named in the error.

    Raises:
        ConfigError: No published HRNet looks like this.
    """
    for name, row in VARIANTS.items():
        first = Stage(1, (row.stem_blocks,), (row.stem_channels,))
        later = [
            Stage(modules, (row.blocks,) * branches, tuple(row.channels(branches)))
            for branches, modules in enumerate(row.modules, start=2)
        ]
        if list(stages) == [first, *later]:
            return name
    last = stages[-1]
    modules = "/".join(str(stage.modules) for stage in stages[1:])
    raise ConfigError(
        f"{source} describes an HRNet of {last.channels[0]} channels with {modules} modules and "
        f"{last.blocks[0]} blocks, which is none of the published: {', '.join(VARIANTS)}. Change its stages to "
        "one of these."
    )
