"""Sphinx configuration: Markdown by MyST, the furo theme, and reference pages made from the code.

    pip install ".[docs]" && sphinx-build -W --keep-going docs site

Nothing is fetched, by the build or by the pages: fonts are the system's, and the search runs in the browser.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import hrseg  # noqa: E402
from hrseg.cli.main import _parser  # noqa: E402
from hrseg.config.schema import OPTIONS, SECTIONS  # noqa: E402

project = "hrseg"
author = "The hrseg authors"
copyright = author
version = release = hrseg.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["images/README.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_custom_sections = ["Shape"]
napoleon_use_rtype = False
html_theme = "furo"
html_title = f"hrseg {version}"
html_static_path: list[str] = []
html_copy_source = False
pygments_style = "friendly"


def write_options(_: object) -> None:
    """Write reference/options.md from the schema, one table for each section."""
    lines = [
        "# Options",
        "",
        "Every option of a recipe, from the schema. On the command line: `hrseg fit --config RECIPE KEY=VALUE`; "
        "`hrseg config explain KEY` prints the same.",
    ]
    section = ""
    for key, option in OPTIONS.items():
        first, _, name = key.rpartition(".")
        if first != section:
            section = first
            lines += ["", f"## {section}", "", SECTIONS.get(section, ""), ""]
            lines += ["| option | default | meaning |", "| --- | --- | --- |"]
        kind = ", ".join(part for part in (option.kind, option.range) if part)
        cells = (f"`{name}`", f"`{option.default}`", f"{option.doc} *{kind[0].upper()}{kind[1:]}.*")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    _write("options.md", lines)


def write_commands(_: object) -> None:
    """Write reference/cli.md: the help page of every verb, as the terminal shows it at 100 columns."""
    lines = [
        "# Command line",
        "",
        "The help page of every verb; `hrseg VERB --help` prints the same.",
        "",
    ]
    os.environ["COLUMNS"] = "100"
    pages = [_parser()]
    for parser in pages:
        lines += [f"## {parser.prog}", "", "```text", parser.format_help().strip(), "```", ""]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                pages += action.choices.values()
    _write("cli.md", lines)


def _write(name: str, lines: list[str]) -> None:
    path, text = HERE / "reference" / name, "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: object) -> None:
    """Write the generated pages before Sphinx reads its sources."""
    app.connect("builder-inited", write_options)  # type: ignore[attr-defined]
    app.connect("builder-inited", write_commands)  # type: ignore[attr-defined]
