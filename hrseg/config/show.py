"""Display of a config as YAML with the origin of each value, and of the schema option by option."""

import textwrap
from collections.abc import Mapping

from omegaconf import MISSING

from hrseg.config.load import config_to_dict, suggest
from hrseg.config.options import Option
from hrseg.config.schema import OPTIONS, SECTIONS, Config
from hrseg.config.values import flow
from hrseg.errors import ConfigError


def to_yaml(config: Config, origins: Mapping[str, str] | None = None) -> str:
    """Write a Config as YAML that `load_config` reads back, one line per option.

    Args:
        config: What to write.
        origins: From `load_config_with_origins`; each line then ends with its value's origin.
    """
    blocks = []
    for section, values in config_to_dict(config).items():
        lines = [f"  {name}: {flow(value)}" for name, value in values.items()]
        if origins is not None:
            wide = min(48, max(map(len, lines)))
            places = [_origin_of(f"{section}.{name}", origins) for name in values]
            lines = [f"{line:<{wide}}  # {place}" for line, place in zip(lines, places, strict=True)]
        blocks.append("\n".join([f"{section}:", *lines]))
    return "\n\n".join(blocks) + "\n"


def explain(key: str = "", width: int = 100) -> str:
    """Explain an option, or list the options of a section, or the sections.

    Args:
        key: "data.crop", "data", or empty for the list of sections.
        width: Of the text, in characters.

    Raises:
        ConfigError: No option or section has that name.

    Example:
        >>> print(explain("optim.momentum"))
        optim.momentum
          SGD momentum, without Nesterov. AdamW has its own betas.
        <BLANKLINE>
          type     a number
          range    at least 0, below 1
          default  0.9
        <BLANKLINE>
    """
    key = key.strip(".")
    if key in OPTIONS:
        row = OPTIONS[key]
        facts = [("type", row.kind), ("range", row.range), ("default", _default_text(row))]
        table = "\n".join(f"  {name:<8} {text}" for name, text in facts if text)
        doc = textwrap.fill(row.doc, width, initial_indent="  ", subsequent_indent="  ")
        return f"{key}\n{doc}\n\n{table}\n"
    if key == "":
        rows = [(name, "", doc) for name, doc in SECTIONS.items()]
        title = "Sections of a config. To list the options of one: hrseg config explain SECTION"
        return f"{title}\n\n{_table(rows, width)}\n"
    if key in SECTIONS:
        members = [row for row in OPTIONS.values() if row.key.startswith(f"{key}.")]
        rows = [(row.key.partition(".")[2], _default_text(row), row.doc) for row in members]
        return f"{key}: {SECTIONS[key]} (name, default, meaning)\n\n{_table(rows, width)}\n"
    raise ConfigError(f"There is no option or section '{key}'.{suggest(key)} Sections: {', '.join(SECTIONS)}.")


def _origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Return the origins of an option; a mapping may have several."""
    places = [origins[part] for part in origins if part == key or part.startswith(f"{key}.")]
    return ", ".join(dict.fromkeys(places)) or "default"


def _default_text(row: Option) -> str:
    return "required" if row.default == MISSING else flow(row.default)


def _table(rows: list[tuple[str, str, str]], width: int) -> str:
    """Format three columns; the last one is wrapped and indented."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = []
    for name, default, doc in rows:
        start = f"  {name:<{first}}  " + (f"{default:<{second}}  " if second else "")
        hanging = " " * len(start)
        lines.append(textwrap.fill(doc, width, initial_indent=start, subsequent_indent=hanging))
    return "\n".join(lines)
