"""Recipes under construction: option values with the reasons for their differences from the source file."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hrseg.config import OPTIONS, SECTIONS
from hrseg.config.values import flow
from hrseg.errors import ConfigError
from hrseg.models.hrnet import VARIANTS

_WIDTH = 100


@dataclass
class Recipe:
    """Options and remarks of a translated recipe.

    Attributes:
        source: Name of the source file.
        kind: Its kind, such as "an official HRNet yaml".
        values: Option → value.
        reasons: Option → comment above the value.
        remarks: Differences that belong to no option.
        unread: Entries that the source's own code does not read.
        unknown: Entries without a counterpart, left out.
        own: Entries about files, logs and speed, or without effect in this file.
    """

    source: str
    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, why: str = "") -> None:
        """Set an option; `why` becomes the comment above it."""
        if key not in OPTIONS:
            raise KeyError(f"{key} is not an option")
        self.values[key] = value
        if why:
            self.reasons[key] = why

    def to_yaml(self) -> str:
        """Return the recipe as YAML: a header, then the values that differ from the defaults."""
        return "\n".join([*self._header(), *self._body(), *self._left_out()]) + "\n"

    @property
    def differences(self) -> int:
        """Number of comments about differences."""
        return len(self.reasons) + len(self.remarks)

    def _header(self) -> Iterable[str]:
        yield f"# Translated from {self.source} ({self.kind}); a comment stands where the meaning differs."
        for remark in self.remarks:
            yield "#"
            yield from _comment(remark, "")
        yield ""

    def _body(self) -> Iterable[str]:
        for section in SECTIONS:
            chosen = [
                key
                for key, row in OPTIONS.items()
                if key.partition(".")[0] == section
                and key in self.values
                and (self.values[key] != row.default or key in self.reasons)
            ]
            if chosen:
                yield f"{section}:"
            for key in chosen:
                if key in self.reasons:
                    yield from _comment(self.reasons[key], "  ")
                yield f"  {key.partition('.')[2]}: {flow(self.values[key])}"
            if chosen:
                yield ""

    def _left_out(self) -> Iterable[str]:
        if self.unread:
            yield from _comment(f"The source reads nowhere: {', '.join(self.unread)}.", "")
        if self.unknown:
            text = f"Left out, since it has no counterpart here: {', '.join(self.unknown)}."
            yield from _comment(text, "")
        if self.own:
            text = "Left out, since a run here sets it itself or the file switches it off"
            yield from _comment(f"{text}: {', '.join(self.own)}.", "")


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


@dataclass(frozen=True)
class Stage:
    """One stage of a source file: modules, blocks per branch, channels per branch."""

    modules: int
    blocks: tuple[int, ...]
    channels: tuple[int, ...]


def backbone_of(stages: Sequence[Stage], source: str) -> str:
    """Return the published backbone with these four stages, or raise ConfigError that names the source."""
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
